"""Streams of chat completions, read chunk by chunk."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ownward.upstreams._events import data_of
from ownward.upstreams.translation._answers import UNASKED, words_of
from ownward.upstreams.translation._called import NULL, Called, arguments_of, made_call_id
from ownward.upstreams.translation._core import (
    Alive,
    Begun,
    CallBegun,
    CallPiece,
    Cited,
    Counted,
    Ended,
    Event,
    Over,
    PartOver,
    Piece,
    ReasoningPiece,
    RefusalPiece,
    TextPiece,
)
from ownward.upstreams.translation._counts import read_openai_counts, usage_in
from ownward.upstreams.translation._extra_content import FORM, THOUGHT, Thoughts, seal_extra
from ownward.upstreams.translation._held import MOST_BYTES, PIECE_BYTES, too_much_held
from ownward.upstreams.translation._in_turn import InTurn
from ownward.upstreams.translation._members import UntranslatableAnswer
from ownward.upstreams.translation._reasoning import SHORT
from ownward.upstreams.translation._sources import read_sources
from ownward.upstreams.translation._stops import read_chat_stop
from ownward.upstreams.translation._streams_read import failure_in, list_of, object_in, text_of

_DONE = b"[DONE]"
_UNASKED = frozenset(UNASKED)


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
        "_held_bytes",
        "_latest",
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
        self._held_bytes = 0  # of all calls
        self._order: InTurn[int] = InTurn()  # of the calls, by their number
        self._calls: list[Called] = []
        self._latest: dict[object, int] = {}  # the number of the last call at each place
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
            self._hold(self._added_to, words)

    def _hold(self, call: Called, words: str) -> None:
        call.arguments.append(words)
        self._count(len(words))

    def _count(self, characters: int) -> None:
        self._held_bytes += characters + PIECE_BYTES
        if self._held_bytes > MOST_BYTES:
            raise too_much_held()

    def unread(self) -> None:
        """Forget the last arguments."""
        if self._added_to is not None:
            self._added_to.arguments.pop()

    def read(self, event: bytes) -> list[Event]:
        """Return what one chunk says."""
        self._added_to = None
        data = data_of(event).strip()
        if not data:
            return [Alive()] if event.startswith(b":") else []
        if data == _DONE:
            return [*self._end_calls(), *self._tell_extras(), *self._end_untold(), Over()]
        chunk = object_in(data)
        if chunk.get("error") is not None:
            return [failure_in(chunk["error"])]
        found: list[Event] = []
        if not self._has_begun and (chunk.get("id") or chunk.get("choices")):  # Azure begins with neither
            self._has_begun = True
            self._answer_id = text_of(chunk.get("id")) or self._answer_id
            tier = text_of(chunk.get("service_tier")) or None
            found.append(Begun(answer_id=self._answer_id, model=text_of(chunk.get("model")), service_tier=tier))
        for choice in list_of(chunk.get("choices")):
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
        if text_of(delta.get("refusal")):
            found.append(RefusalPiece(text=delta["refusal"]))
        if found and self._calls:
            found = [*self._end_calls(), *found]
        for call in list_of(delta.get("tool_calls")):
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
            self._count(len(sealed))
            self._extras.append(ReasoningPiece(signer="openai", redacted=sealed, form=FORM))

    def _tell_extras(self) -> list[Event]:
        told, self._extras = self._extras, []
        return told

    def _read_reasoning(self, delta: dict[str, Any]) -> list[Event]:
        details = delta.get("reasoning_details")
        if isinstance(details, list) and details:
            self._has_details = True
            return [piece for entry in details if (piece := _piece_of(entry)) is not None]
        shorter = text_of(delta.get("reasoning"))
        words = text_of(delta.get("reasoning_content")) or shorter
        if not words or self._has_details:
            return []
        return [ReasoningPiece(signer="openai", text=words, form=SHORT if shorter else None)]

    def _read_call(self, call: Any) -> list[Event]:
        if not isinstance(call, dict):
            raise UntranslatableAnswer("the upstream's stream holds a call that is not an object")
        inner = call.get("function")
        function: dict[str, Any] = inner if isinstance(inner, dict) else {}
        index, call_id, name = call.get("index"), text_of(call.get("id")), text_of(function.get("name"))
        place = self._place = index if isinstance(index, int) else call_id or self._place
        arguments = arguments_of(function)
        number = self._find_call(place, call_id, name, arguments)
        found: list[Event] = []
        if number is None:
            if not (call_id or name or arguments):
                return []
            number = len(self._calls)
            self._calls.append(Called(made_call_id(self._answer_id, number)))
            self._latest[place] = number
            found += self._end_whole_calls(is_awaited=True)
            self._order.begin(number, [])
        known = self._calls[number]
        known.learn(call_id, name)
        self._count(len(name))
        if call.get("extra_content") is not None:
            self._keep_extra(call["extra_content"], call_id=known.fix_id())
        if not known.arguments and arguments.strip() == NULL:
            arguments = ""
        if arguments:
            self._added_to = known
            self._hold(known, arguments)
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
        number = self._latest.get(place)
        if number is None:
            return None
        known = self._calls[number]
        if call_id and name and known.call_id:
            return number if call_id == known.call_id else None
        is_other = bool(name and arguments and not call_id) and known.is_told and known.is_whole()
        return None if is_other else number

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
        signer="openai", form=text_of(entry.get("format")) or None, given_id=text_of(entry.get("id")) or None
    )
    match entry.get("type"):
        case "reasoning.text":
            return replace(found, text=text_of(entry.get("text")), signature=text_of(entry.get("signature")) or None)
        case "reasoning.summary":
            return replace(found, text=text_of(entry.get("summary")), is_summary=True)
        case "reasoning.encrypted":
            return replace(found, redacted=text_of(entry.get("data")))
        case _:
            return None
