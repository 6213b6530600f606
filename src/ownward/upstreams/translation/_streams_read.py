"""Streams of upstreams, read event by event."""

from __future__ import annotations

from typing import Any, Protocol

from ownward.upstreams._events import payload
from ownward.upstreams.translation._answers import explanation_of
from ownward.upstreams.translation._core import (
    Alive,
    Begun,
    CallBegun,
    CallPiece,
    Counted,
    Ended,
    Event,
    Failed,
    Over,
    PartOver,
    ReasoningPiece,
    RefusalPiece,
    TextPiece,
)
from ownward.upstreams.translation._counts import merge_anthropic_usage, read_anthropic_counts, read_openai_counts
from ownward.upstreams.translation._json import read_json, write_json
from ownward.upstreams.translation._members import UntranslatableAnswer, shown
from ownward.upstreams.translation._stops import read_chat_stop, read_messages_stop

_DONE = b"[DONE]"


class Reader(Protocol):
    """What makes events of our own from an upstream's."""

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

    __slots__ = ("_calls", "_has_begun", "_has_details", "_key")

    def __init__(self) -> None:
        """Start before the first chunk."""
        self._has_begun = False
        self._has_details = False
        self._key: object = None  # the call whose arguments are being told
        self._calls: set[object] = set()

    def read(self, event: bytes) -> list[Event]:
        """Return what one chunk says."""
        data = payload(event).strip()
        if not data:
            return [Alive()] if event.startswith(b":") else []
        if data == _DONE:
            return [Over()]
        chunk = _object_in(data)
        if chunk.get("error") is not None:
            return [_failure_in(chunk["error"])]
        found: list[Event] = []
        if not self._has_begun:
            self._has_begun = True
            found.append(Begun(answer_id=_text(chunk.get("id")), model=_text(chunk.get("model"))))
        for choice in _list(chunk.get("choices")):
            if not isinstance(choice, dict) or choice.get("index") not in (0, None):
                raise UntranslatableAnswer("the upstream's stream holds more than one choice")
            delta = choice.get("delta")
            if isinstance(delta, dict):
                found += self._read_delta(delta)
            if choice.get("finish_reason") is not None:
                stop, sequence = read_chat_stop(
                    choice["finish_reason"], choice.get("stop_reason"), has_calls=bool(self._calls)
                )
                found.append(Ended(stop=stop, stop_sequence=sequence))
        counts = read_openai_counts(chunk.get("usage"))
        if counts is not None:
            found.append(Counted(counts=counts))
        return found

    def _read_delta(self, delta: dict[str, Any]) -> list[Event]:
        found: list[Event] = list(self._read_reasoning(delta))
        if _text(delta.get("content")):
            found.append(TextPiece(text=delta["content"]))
        if _text(delta.get("refusal")):
            found.append(RefusalPiece(text=delta["refusal"]))
        for call in _list(delta.get("tool_calls")):
            found += self._read_call(call)
        return found

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
        index, call_id = call.get("index"), _text(call.get("id"))
        key = index if isinstance(index, int) else call_id or self._key
        found: list[Event] = []
        if key not in self._calls:
            name = _text(function.get("name"))
            if not name:
                raise UntranslatableAnswer("the upstream's stream begins a call without a name")
            self._calls.add(key)
            self._key = key
            found.append(CallBegun(call_id=call_id or f"call_{len(self._calls) - 1}", name=name))
        elif key != self._key:
            raise UntranslatableAnswer("the upstream's stream goes back to a call whose arguments were over")
        arguments = function.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            raise UntranslatableAnswer("the upstream's stream holds arguments that are no text")
        if arguments:
            found.append(CallPiece(arguments=arguments))
        return found


def _piece_of(entry: Any) -> ReasoningPiece | None:
    if not isinstance(entry, dict):
        return None
    form = _text(entry.get("format")) or None
    match entry.get("type"):
        case "reasoning.text":
            signature = _text(entry.get("signature")) or None
            return ReasoningPiece(signer="openai", text=_text(entry.get("text")), signature=signature, form=form)
        case "reasoning.summary":
            return ReasoningPiece(signer="openai", text=_text(entry.get("summary")), form=form)
        case "reasoning.encrypted":
            return ReasoningPiece(signer="openai", redacted=_text(entry.get("data")), form=form)
        case _:
            return None


class MessagesReader:
    """Reads the events of a message."""

    __slots__ = ("_kind", "_usage")

    def __init__(self) -> None:
        """Start before the first event."""
        self._usage: dict[str, Any] = {}
        self._kind = ""

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
                return self._begin_block(found.get("content_block"))
            case "content_block_delta":
                return self._read_delta(found.get("delta"))
            case "content_block_stop":
                return [PartOver()]
            case "message_delta":
                return self._end(found)
            case "message_stop":
                return [Over()]
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
                answer_id=_text(message.get("id")),
                model=_text(message.get("model")),
                counts=read_anthropic_counts(self._usage),
            )
        ]

    def _begin_block(self, block: Any) -> list[Event]:
        kind = self._kind = _text(block.get("type")) if isinstance(block, dict) else ""
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
                return []  # only documents with citations bring them, and those were refused
            case _:
                raise UntranslatableAnswer(f"the upstream answers with a piece of the type {shown(kind)}")

    def _end(self, found: dict[str, Any]) -> list[Event]:
        delta = found.get("delta")
        inner: dict[str, Any] = delta if isinstance(delta, dict) else {}
        self._usage = merge_anthropic_usage(self._usage, found.get("usage"))
        stop, sequence = read_messages_stop(inner.get("stop_reason"), inner.get("stop_sequence"))
        events: list[Event] = [Ended(stop=stop, stop_sequence=sequence, refusal=explanation_of(inner))]
        counts = read_anthropic_counts(self._usage)
        if counts is not None:
            events.append(Counted(counts=counts))
        return events
