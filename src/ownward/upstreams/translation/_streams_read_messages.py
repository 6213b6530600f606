"""Streams of messages, read event by event."""

from __future__ import annotations

from typing import Any

from ownward.upstreams._counts import merge_anthropic_usage
from ownward.upstreams._events import data_of
from ownward.upstreams.translation._answers import explanation_of
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
    ReasoningPiece,
    TextPiece,
)
from ownward.upstreams.translation._counts import openai_tier, read_anthropic_counts
from ownward.upstreams.translation._in_turn import InTurn
from ownward.upstreams.translation._json import write_json
from ownward.upstreams.translation._members import UntranslatableAnswer, shown
from ownward.upstreams.translation._sources import read_citations
from ownward.upstreams.translation._stops import read_messages_stop
from ownward.upstreams.translation._streams_read import EveryEvent, failure_in, object_in, text_of

_NO_ARGUMENTS = CallPiece(arguments="{}")


def _index_of(found: dict[str, Any]) -> int:
    """Return which block an event is of; servers that do not number them tell one after the other."""
    index = found.get("index")
    return index if isinstance(index, int) else -1


class MessagesReader(EveryEvent):
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

    def read(self, event: bytes) -> list[Event]:
        """Return what one event says."""
        data = data_of(event).strip()
        if not data:
            return [Alive()] if event.startswith(b":") else []
        found = object_in(data)
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
                return [failure_in(found.get("error"))]
            case _:
                return []  # the dialect asks clients to pass over events they do not know

    def _begin(self, message: Any) -> list[Event]:
        if not isinstance(message, dict):
            raise UntranslatableAnswer("the upstream's stream begins with no message")
        self._usage = merge_anthropic_usage({}, message.get("usage"))
        return [
            Begun(
                answer_id=text_of(message.get("id")) or self._fallback_id,
                model=text_of(message.get("model")),
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
        kind = text_of(block.get("type")) if isinstance(block, dict) else ""
        match kind:
            case "text":
                return [TextPiece(text=block["text"])] if text_of(block.get("text")) else []
            case "thinking":
                text, signature = text_of(block.get("thinking")), text_of(block.get("signature")) or None
                # Even an empty block of thinking begins one: its signature may be all that comes.
                return [ReasoningPiece(signer="anthropic", text=text, signature=signature)]
            case "redacted_thinking":
                return [ReasoningPiece(signer="anthropic", redacted=text_of(block.get("data")))]
            case "tool_use":
                begun = CallBegun(call_id=text_of(block.get("id")), name=text_of(block.get("name")))
                arguments = block.get("input")
                # Anthropic begins with an empty object; a server that begins with a whole one tells no pieces.
                return [begun, CallPiece(arguments=write_json(arguments).decode("utf-8"))] if arguments else [begun]
            case _:
                raise UntranslatableAnswer(f"the upstream answers with a block of the type {shown(kind)}")

    def _read_delta(self, delta: Any) -> list[Event]:
        kind = delta.get("type") if isinstance(delta, dict) else None
        match kind:
            case "text_delta":
                return [TextPiece(text=text_of(delta.get("text")))]
            case "thinking_delta":
                return [ReasoningPiece(signer="anthropic", text=text_of(delta.get("thinking")))]
            case "signature_delta":
                return [ReasoningPiece(signer="anthropic", signature=text_of(delta.get("signature")))]
            case "input_json_delta":
                pieces = text_of(delta.get("partial_json"))
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
