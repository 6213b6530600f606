"""Streams of upstreams, read event by event."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from ownward.upstreams._events import payload
from ownward.upstreams.translation._answers import UNASKED, explanation_of, words_of
from ownward.upstreams.translation._called import Called, arguments_of, made_call_id
from ownward.upstreams.translation._core import (
    Alive,
    Begun,
    CallBegun,
    CallPiece,
    Cited,
    Counted,
    Ended,
    Event,
    Failed,
    Over,
    PartOver,
    Piece,
    ReasoningPiece,
    RefusalPiece,
    TextPiece,
)
from ownward.upstreams.translation._counts import (
    merge_anthropic_usage,
    openai_tier,
    read_anthropic_counts,
    read_openai_counts,
    usage_in,
)
from ownward.upstreams.translation._extra_content import FORM, THOUGHT, Thoughts, seal_extra
from ownward.upstreams.translation._in_turn import InTurn
from ownward.upstreams.translation._json import read_json, write_json
from ownward.upstreams.translation._members import UntranslatableAnswer, shown
from ownward.upstreams.translation._sources import read_citations, read_sources
from ownward.upstreams.translation._stops import read_chat_stop, read_messages_stop

_DONE = b"[DONE]"
_UNASKED = frozenset(UNASKED)
_NO_ARGUMENTS = CallPiece(arguments="{}")


class Reader(Protocol):
    """What makes events of our own from an upstream's."""

    def may_repeat(self, kind: type[Piece]) -> bool:
        """Return whether events like the last one need not be read while nothing else comes, but `note_repeated`."""
        ...

    def note_repeated(self, kind: type[Piece], words: str) -> None:
        """Note an event like the last one, with other words, that was told without being read."""
        ...

    def unread(self) -> None:
        """Forget the words of the last event, which was read to see what its kind means."""
        ...

    def read(self, event: bytes) -> list[Event]:
        """Return what one event of the upstream says.

        Raises: UntranslatableAnswer.
        """
        ...


def _object_in(data: bytes) -> dict[str, Any]:
    try:
        found = read_json(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UntranslatableAnswer(f"the upstream sent an event of {len(data)} bytes that is no JSON object")
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise UntranslatableAnswer("the upstream's stream holds something else where a list belongs")
    return value


def _failure_in(error: object) -> Failed:
    if isinstance(error, dict):
        kind = _text(error.get("type")) or _text(error.get("code"))
        return Failed(kind=kind or "api_error", message=_text(error.get("message")) or kind or "it gave no reason")
    return Failed(kind="api_error", message=_text(error) or "it gave no reason")


class ChatReader:
    """Reads the chunks of a chat completion of one choice."""

    __slots__ = (
        "_added_to",
        "_answer_id",
        "_calls",
        "_extras",
        "_has_begun",
        "_has_details",
        "_has_ended",
        "_order",
        "_place",
        "_thoughts",
    )

    def __init__(self, fallback_id: str = "") -> None:
        """Start before the first chunk; `fallback_id` is what an answer without an id is called."""
        self._answer_id = fallback_id
        self._has_begun = False
        self._has_details = False
        self._has_ended = False
        self._order: InTurn[int] = InTurn()  # of the calls, by their number
        self._calls: list[Called] = []
        self._place: object = None  # of the last piece: what comes without a place belongs to its call
        self._thoughts = Thoughts()
        self._extras: list[Event] = []  # told where no part is open
        self._added_to: Called | None = None  # what the last event told more of

    def may_repeat(self, kind: type[Piece]) -> bool:
        """Return whether events like the last one need not be read: not where a call's end is waited for."""
        return kind is not CallPiece or not self._order.has_waiting

    def note_repeated(self, kind: type[Piece], words: str) -> None:
        """Note further arguments of the open call."""
        if kind is CallPiece and self._added_to is not None:
            self._added_to.arguments.append(words)

    def unread(self) -> None:
        """Forget the last arguments."""
        if self._added_to is not None:
            self._added_to.arguments.pop()

    def read(self, event: bytes) -> list[Event]:
        """Return what one chunk says."""
        self._added_to = None
        data = payload(event).strip()
        if not data:
            return [Alive()] if event.startswith(b":") else []
        if data == _DONE:
            return [*self._end_calls(), *self._tell_extras(), *self._end_untold(), Over()]
        chunk = _object_in(data)
        if chunk.get("error") is not None:
            return [_failure_in(chunk["error"])]
        found: list[Event] = []
        if not self._has_begun and (chunk.get("id") or chunk.get("choices")):  # Azure begins with neither
            self._has_begun = True
            self._answer_id = _text(chunk.get("id")) or self._answer_id
            tier = _text(chunk.get("service_tier")) or None
            found.append(Begun(answer_id=self._answer_id, model=_text(chunk.get("model")), service_tier=tier))
        for choice in _list(chunk.get("choices")):
            if not isinstance(choice, dict) or choice.get("index") not in (0, None):
                raise UntranslatableAnswer("the upstream's stream holds more than one choice")
            delta = choice.get("delta")
            if isinstance(delta, dict):
                found += self._read_delta(delta)
            if choice.get("finish_reason"):  # some servers write an empty text where null belongs
                self._has_ended = True
                stop, sequence = read_chat_stop(
                    choice["finish_reason"], choice.get("stop_reason"), has_calls=bool(self._calls)
                )
                found += self._end_calls()
                found += self._tell_extras()
                found.append(Ended(stop=stop, stop_sequence=sequence))
        counts = read_openai_counts(usage_in(chunk), chunk.get("model"))
        if counts is not None:
            found.append(Counted(counts=counts))
        return found

    def _end_untold(self) -> list[Event]:
        """Return the end of an answer of which the upstream's last word came without a reason."""
        if self._has_ended or not self._has_begun:
            return []
        return [Ended(stop=read_chat_stop(None, None, has_calls=bool(self._calls))[0])]

    def _read_delta(self, delta: dict[str, Any]) -> list[Event]:
        if not _UNASKED.isdisjoint(delta):
            for name in UNASKED:
                if delta.get(name):
                    raise UntranslatableAnswer(f"the upstream's stream holds {name}")
        found: list[Event] = list(self._read_reasoning(delta))
        content = delta.get("content")
        extra = delta.get("extra_content")
        if extra is not None:
            self._keep_extra(extra)
        if isinstance(content, str):
            if content:
                found += self._read_words(content, extra)
        elif content is not None:
            for kind, words in words_of(content):
                thinks = kind == "thinking"
                found.append(ReasoningPiece(signer="openai", text=words) if thinks else TextPiece(text=words))
        if delta.get("annotations"):
            found += [Cited(source=source) for source in read_sources(delta["annotations"])]
        if _text(delta.get("refusal")):
            found.append(RefusalPiece(text=delta["refusal"]))
        if found and self._calls:
            found = [*self._end_calls(), *found]
        for call in _list(delta.get("tool_calls")):
            found += self._read_call(call)
        return found

    def _read_words(self, content: str, extra: object) -> list[Event]:
        thinks, words = self._thoughts.words_in(content, extra)
        if not words:
            return []
        return [ReasoningPiece(signer="openai", text=words, form=THOUGHT) if thinks else TextPiece(text=words)]

    def _keep_extra(self, extra: object, *, call_id: str | None = None) -> None:
        sealed = seal_extra(extra, call_id=call_id)
        if sealed is not None:
            self._extras.append(ReasoningPiece(signer="openai", redacted=sealed, form=FORM))

    def _tell_extras(self) -> list[Event]:
        told, self._extras = self._extras, []
        return told

    def _read_reasoning(self, delta: dict[str, Any]) -> list[Event]:
        details = delta.get("reasoning_details")
        if isinstance(details, list) and details:
            self._has_details = True
            return [piece for entry in details if (piece := _piece_of(entry)) is not None]
        words = _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
        return [ReasoningPiece(signer="openai", text=words)] if words and not self._has_details else []

    def _read_call(self, call: Any) -> list[Event]:
        if not isinstance(call, dict):
            raise UntranslatableAnswer("the upstream's stream holds a call that is no object")
        inner = call.get("function")
        function: dict[str, Any] = inner if isinstance(inner, dict) else {}
        index, call_id, name = call.get("index"), _text(call.get("id")), _text(function.get("name"))
        place = self._place = index if isinstance(index, int) else call_id or self._place
        arguments = arguments_of(function)
        number = self._find_call(place, call_id, name, arguments)
        found: list[Event] = []
        if number is None:
            if not (call_id or name or arguments):
                return []
            number = len(self._calls)
            self._calls.append(Called(place, made_call_id(self._answer_id, number)))
            found += self._end_whole_calls(is_awaited=True)
            self._order.begin(number, [])
        known = self._calls[number]
        known.learn(call_id, name)
        if call.get("extra_content") is not None:
            self._keep_extra(call["extra_content"], call_id=known.fix_id())
        if arguments:
            self._added_to = known
            known.arguments.append(arguments)
        if known.is_told:
            told: list[Event] = [CallPiece(arguments=arguments)] if arguments else []
        else:
            told = self._begin_call(known) if known.name and known.arguments else []
        if told:
            found += self._order.tell(number, told)
            found += self._end_whole_calls(is_awaited=False)
        return found

    def _begin_call(self, call: Called) -> list[Event]:
        """Return a call's beginning, with what came of its arguments: no more of its name can come."""
        if not call.name:
            raise UntranslatableAnswer("the upstream's stream calls a tool without its name")
        call.is_told = True
        begun = CallBegun(call_id=call.fix_id(), name=call.name)
        return [*self._tell_extras(), begun, CallPiece(arguments="".join(call.arguments))]

    def _find_call(self, place: object, call_id: str, name: str, arguments: str) -> int | None:
        """Return the number of the call that a piece belongs to, None where it begins one.

        Some servers (Gemini's, Ollama) give every call the index 0: another id and a name tell them apart, or, without
        ids, a name with arguments behind a call whose arguments are whole.
        """
        for number in range(len(self._calls) - 1, -1, -1):
            known = self._calls[number]
            if known.place == place:
                if call_id and name and known.call_id:
                    return number if call_id == known.call_id else None
                is_other = bool(name and arguments and not call_id) and known.is_told and known.is_whole()
                return None if is_other else number
        return None

    def _end_calls(self) -> list[Event]:
        """Return what is left to tell of the calls: none goes on. One that takes nothing takes an empty object."""
        found: list[Event] = []
        if self._order.open is not None:
            for number, call in enumerate(self._calls):
                if not call.is_told:
                    call.arguments = call.arguments or ["{}"]
                    found += self._order.tell(number, self._begin_call(call))
        return found + self._order.end_all()

    def _end_whole_calls(self, *, is_awaited: bool) -> list[Event]:
        """Return what waited for calls whose arguments are whole, where another call waits or is about to."""
        found: list[Event] = []
        while (is_awaited or self._order.has_waiting) and self._order.open is not None:
            call = self._calls[self._order.open]
            if not (call.is_told and call.is_whole()):
                break
            found += self._order.end(self._order.open, [PartOver()])
        return found


def _piece_of(entry: Any) -> ReasoningPiece | None:
    if not isinstance(entry, dict):
        return None
    found = ReasoningPiece(
        signer="openai", form=_text(entry.get("format")) or None, given_id=_text(entry.get("id")) or None
    )
    match entry.get("type"):
        case "reasoning.text":
            return replace(found, text=_text(entry.get("text")), signature=_text(entry.get("signature")) or None)
        case "reasoning.summary":
            return replace(found, text=_text(entry.get("summary")), is_summary=True)
        case "reasoning.encrypted":
            return replace(found, redacted=_text(entry.get("data")))
        case _:
            return None


def _index_of(found: dict[str, Any]) -> int:
    """Return which block an event is of; servers that do not number them tell one after the other."""
    index = found.get("index")
    return index if isinstance(index, int) else -1


class MessagesReader:
    """Reads the events of a message."""

    __slots__ = ("_bare", "_calls", "_fallback_id", "_has_called", "_has_ended", "_order", "_ordered", "_usage")

    def __init__(self, fallback_id: str = "") -> None:
        """Start before the first event; `fallback_id` is what an answer without an id is called."""
        self._fallback_id = fallback_id
        self._usage: dict[str, Any] = {}
        self._order: InTurn[int] = InTurn()  # of the calls and what begins beside them, by their index
        self._ordered: set[int] = set()
        self._calls: set[int] = set()
        self._bare: set[int] = set()  # calls of which no argument was told
        self._has_called = False
        self._has_ended = False

    def may_repeat(self, kind: type[Piece]) -> bool:  # noqa: ARG002 - nothing is kept of any
        """Return that events like the last one need not be read."""
        return True

    def note_repeated(self, kind: type[Piece], words: str) -> None:
        """Keep nothing of it."""

    def unread(self) -> None:
        """Keep nothing of it."""

    def read(self, event: bytes) -> list[Event]:
        """Return what one event says."""
        data = payload(event).strip()
        if not data:
            return [Alive()] if event.startswith(b":") else []
        found = _object_in(data)
        match found.get("type"):
            case "message_start":
                return self._begin(found.get("message"))
            case "content_block_start":
                return self._place_block(_index_of(found), self._begin_block(found.get("content_block")))
            case "content_block_delta":
                return self._tell_block(_index_of(found), self._read_delta(found.get("delta")))
            case "content_block_stop":
                return self._end_block(_index_of(found))
            case "message_delta":
                return self._end(found)
            case "message_stop":
                return [*self._end_blocks(), *self._end_untold(), Over()]
            case "ping":
                return [Alive()]
            case "error":
                return [_failure_in(found.get("error"))]
            case _:
                return []  # the dialect asks clients to pass over events they do not know

    def _begin(self, message: Any) -> list[Event]:
        if not isinstance(message, dict):
            raise UntranslatableAnswer("the upstream's stream begins with no message")
        self._usage = merge_anthropic_usage({}, message.get("usage"))
        return [
            Begun(
                answer_id=_text(message.get("id")) or self._fallback_id,
                model=_text(message.get("model")),
                counts=read_anthropic_counts(self._usage),
                service_tier=openai_tier(self._usage.get("service_tier")),
            )
        ]

    def _tell_block(self, index: int, events: list[Event]) -> list[Event]:
        if any(isinstance(event, CallPiece) is not (index in self._calls) for event in events):
            raise UntranslatableAnswer(
                "the upstream's stream holds arguments outside of a call, or words inside of one"
            )
        if index not in self._ordered:
            return events
        if events:
            self._bare.discard(index)
        return self._order.tell(index, events)

    def _end_block(self, index: int) -> list[Event]:
        """Return what may be told at a block's end; a call that was told without arguments takes an empty object."""
        self._calls.discard(index)
        if index not in self._ordered:
            return [PartOver()]
        filled = self._order.tell(index, [_NO_ARGUMENTS]) if index in self._bare else []
        self._bare.discard(index)
        return filled + self._order.end(index, [PartOver()])

    def _end_blocks(self) -> list[Event]:
        """Return what is left to tell of blocks that nobody ended."""
        told: list[Event] = []
        while self._order.open is not None:
            told += self._end_block(self._order.open)
        return told

    def _end_untold(self) -> list[Event]:
        """Return the end of an answer of which the upstream's last word came without a reason."""
        if self._has_ended:
            return []
        return [Ended(stop=read_messages_stop(None, None, has_calls=self._has_called)[0])]

    def _place_block(self, index: int, events: list[Event]) -> list[Event]:
        """Return what may be told of a block's beginning; one that takes an open call's place ends that.

        Only blocks that begin beside a call wait: llama.cpp ends its thinking after the text that follows it, which
        is told meanwhile.
        """
        is_call = bool(events) and isinstance(events[0], CallBegun)
        self._has_called |= is_call
        (self._calls.add if is_call else self._calls.discard)(index)
        if not is_call and self._order.open is None:
            self._ordered.discard(index)
            return events
        ended = self._end_block(index) if index == self._order.open else []
        self._ordered.add(index)
        if is_call and len(events) == 1:
            self._bare.add(index)
        return ended + self._order.begin(index, events)

    def _begin_block(self, block: Any) -> list[Event]:
        kind = _text(block.get("type")) if isinstance(block, dict) else ""
        match kind:
            case "text":
                return [TextPiece(text=block["text"])] if _text(block.get("text")) else []
            case "thinking":
                text, signature = _text(block.get("thinking")), _text(block.get("signature")) or None
                # Even an empty block of thinking begins one: its signature may be all that comes.
                return [ReasoningPiece(signer="anthropic", text=text, signature=signature)]
            case "redacted_thinking":
                return [ReasoningPiece(signer="anthropic", redacted=_text(block.get("data")))]
            case "tool_use":
                begun = CallBegun(call_id=_text(block.get("id")), name=_text(block.get("name")))
                arguments = block.get("input")
                # Anthropic begins with an empty object; a server that begins with a whole one tells no pieces.
                return [begun, CallPiece(arguments=write_json(arguments).decode("utf-8"))] if arguments else [begun]
            case _:
                raise UntranslatableAnswer(f"the upstream answers with a block of the type {shown(kind)}")

    def _read_delta(self, delta: Any) -> list[Event]:
        kind = delta.get("type") if isinstance(delta, dict) else None
        match kind:
            case "text_delta":
                return [TextPiece(text=_text(delta.get("text")))]
            case "thinking_delta":
                return [ReasoningPiece(signer="anthropic", text=_text(delta.get("thinking")))]
            case "signature_delta":
                return [ReasoningPiece(signer="anthropic", signature=_text(delta.get("signature")))]
            case "input_json_delta":
                pieces = _text(delta.get("partial_json"))
                return [CallPiece(arguments=pieces)] if pieces else []
            case "citations_delta":
                return [Cited(source=source) for source in read_citations(delta.get("citation"))]
            case _:
                raise UntranslatableAnswer(f"the upstream answers with a piece of the type {shown(kind)}")

    def _end(self, found: dict[str, Any]) -> list[Event]:
        delta = found.get("delta")
        inner: dict[str, Any] = delta if isinstance(delta, dict) else {}
        self._usage = merge_anthropic_usage(self._usage, found.get("usage"))
        events: list[Event] = self._order.end_all()
        if inner.get("stop_reason"):
            self._has_ended = True
            stop, sequence = read_messages_stop(
                inner["stop_reason"], inner.get("stop_sequence"), has_calls=self._has_called
            )
            events.append(Ended(stop=stop, stop_sequence=sequence, refusal=explanation_of(inner)))
        counts = read_anthropic_counts(self._usage)
        if counts is not None:
            events.append(Counted(counts=counts))
        return events
