"""Streams for clients of chat completions and of messages, written event by event."""

from __future__ import annotations

from typing import Any, Protocol

from ownward.upstreams.translation._core import (
    Alive,
    Begun,
    CallBegun,
    CallPiece,
    Cited,
    Counted,
    Counts,
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
from ownward.upstreams.translation._counts import anthropic_tier, write_chat_usage, write_messages_usage
from ownward.upstreams.translation._errors import anthropic_error, openai_error
from ownward.upstreams.translation._json import write_json
from ownward.upstreams.translation._reasoning import detail_of, named_together, signature_for_messages, write_block
from ownward.upstreams.translation._sources import chat_annotation_of, citation_of
from ownward.upstreams.translation._stops import chat_stop, messages_stop

COMMENT = b": the upstream is still at work\n\n"
MARK = "ownward: here stand the words"
_MARKED = write_json(MARK)
_NO_FRAME: tuple[bytes, ...] = ()


def frame_of(told: bytes, *, words: int = 1) -> tuple[bytes, ...]:
    """Return what stands around the words in an event that was written with `MARK` in their place, or nothing."""
    frame = told.split(_MARKED)
    return tuple(frame) if len(frame) == words + 1 else _NO_FRAME


class Writer(Protocol):
    """What makes a client's events from ours."""

    def write(self, event: Event) -> bytes:
        """Return what the client is told of one event; may be nothing."""
        ...

    def say(self, kind: type[Piece], words: str) -> bytes | None:
        """Return what `write` returns of a piece that is nothing but words; None where such a piece begins something.

        It is for pieces that follow one of their kind, and quicker: only the words are written anew.
        """
        ...


class _Repeating:
    """What writes a further piece of words by the frame of the one before it."""

    __slots__ = ("_repeated",)

    def __init__(self) -> None:
        self._repeated: dict[type[Piece], tuple[bytes, ...]] = {}  # to be emptied by all that is written otherwise

    def say(self, kind: type[Piece], words: str) -> bytes | None:
        """Return what is told of a further piece of text, reasoning or arguments; None where it begins something."""
        frame = self._repeated.get(kind)
        if frame is None:
            frame = self._repeated[kind] = self._frame_of(kind)
        return write_json(words).join(frame) if frame else None

    def _frame_of(self, kind: type[Piece]) -> tuple[bytes, ...]:
        raise NotImplementedError


class ChatWriter(_Repeating):
    """Writes the chunks of a chat completion: the role first, `[DONE]` last, usage only where it was asked for."""

    __slots__ = (
        "_calls",
        "_counts",
        "_frame",
        "_has_text",
        "_is_in_part",
        "_now_s",
        "_thoughts",
        "_wants_usage",
    )

    def __init__(self, *, wants_usage: bool, now_s: int) -> None:
        """Start before the first chunk; `now_s` is the time the answer is dated, in seconds since 1970."""
        self._wants_usage = wants_usage
        self._now_s = now_s
        self._frame: dict[str, Any] = {}
        self._counts: Counts | None = None
        self._calls = 0
        self._thoughts = 0
        self._is_in_part = False
        self._has_text = False
        super().__init__()

    def _frame_of(self, kind: type[Piece]) -> tuple[bytes, ...]:
        if kind is TextPiece and self._has_text:
            return frame_of(self._chunk({"content": MARK}))
        if kind is CallPiece and self._calls:
            return frame_of(self._pass_arguments(MARK))
        if kind is ReasoningPiece and self._is_in_part:
            return frame_of(self._reason(ReasoningPiece(signer="other", text=MARK)), words=2)
        return _NO_FRAME

    def write(self, event: Event) -> bytes:
        """Return the chunks that say one event."""
        self._repeated.clear()
        match event:
            case Begun():
                return self._begin(event)
            case TextPiece():
                self._has_text = True
                return self._chunk({"content": event.text})
            case Cited():
                return self._chunk({"annotations": [chat_annotation_of(event.source)]})
            case RefusalPiece():
                return self._chunk({"refusal": event.text})
            case ReasoningPiece():
                return self._reason(event)
            case CallBegun():
                self._calls += 1
                function = {"name": event.name, "arguments": ""}
                opened = {"index": self._calls - 1, "id": event.call_id, "type": "function", "function": function}
                return self._chunk({"tool_calls": [opened]})
            case CallPiece():
                return self._pass_arguments(event.arguments)
            case PartOver():
                return self._end_part()
            case Ended():
                told = self._chunk({"refusal": event.refusal}) if event.refusal else b""
                return told + self._chunk({}, finish=chat_stop(event.stop), sequence=event.stop_sequence)
            case Counted():
                self._counts = event.counts
                return b""
            case Failed():
                return b"data: " + write_json(openai_error(event.kind, event.message)) + b"\n\n"
            case Alive():
                return COMMENT
            case Over():
                return self._close()

    def _begin(self, event: Begun) -> bytes:
        frame = {
            "id": event.answer_id,
            "object": "chat.completion.chunk",
            "created": self._now_s,
            "model": event.model,
            "service_tier": event.service_tier,
        }
        self._frame = {name: value for name, value in frame.items() if value is not None}
        return self._chunk({"role": "assistant", "content": ""})

    def _end_part(self) -> bytes:
        self._thoughts += self._is_in_part
        self._is_in_part = False
        return b""

    def _pass_arguments(self, text: str) -> bytes:
        return self._chunk({"tool_calls": [{"index": self._calls - 1, "function": {"arguments": text}}]})

    def _reason(self, event: ReasoningPiece) -> bytes:
        delta: dict[str, Any] = {}
        if event.text:
            delta["reasoning_content"] = event.text
        elif event.signature is None and event.redacted is None:
            return b""
        after = self._has_text + self._calls
        delta["reasoning_details"] = [detail_of(self._thoughts, event, after=after, is_first=not self._is_in_part)]
        self._is_in_part = True
        return self._chunk(delta)

    def _chunk(self, delta: dict[str, Any], *, finish: str | None = None, sequence: str | None = None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        if sequence is not None:
            choice["stop_reason"] = sequence
        chunk = {**self._frame, "choices": [choice]}
        if self._wants_usage:
            chunk["usage"] = None
        return b"data: " + write_json(chunk) + b"\n\n"

    def _close(self) -> bytes:
        told = b""
        if self._wants_usage and self._counts is not None:
            usage = {**self._frame, "choices": [], "usage": write_chat_usage(self._counts)}
            told = b"data: " + write_json(usage) + b"\n\n"
        return told + b"data: [DONE]\n\n"


class MessagesWriter(_Repeating):
    """Writes the events of a message: block after block, each begun, told and stopped."""

    __slots__ = ("_counts", "_ended", "_has_begun", "_index", "_is_refusal", "_open", "_seals")

    def __init__(self) -> None:
        """Start before the first event."""
        self._index = -1
        self._open: str | None = None
        self._seals: ReasoningPiece | None = None  # what the open block of thinking ends with
        self._ended: Ended | None = None
        self._counts: Counts | None = None
        self._is_refusal = False
        self._has_begun = False
        super().__init__()

    def _frame_of(self, kind: type[Piece]) -> tuple[bytes, ...]:
        if kind is TextPiece and self._open == "text":
            return frame_of(self._delta("text_delta", text=MARK))
        if kind is ReasoningPiece and self._open == "thinking":
            return frame_of(self._delta("thinking_delta", thinking=MARK))
        if kind is CallPiece and self._open == "tool_use":
            return frame_of(self._delta("input_json_delta", partial_json=MARK))
        return _NO_FRAME

    def write(self, event: Event) -> bytes:
        """Return the events that say one of ours."""
        self._repeated.clear()
        match event:
            case Begun():
                return self._begin(event)
            case TextPiece():
                return self._in("text", {"type": "text", "text": ""}) + self._delta("text_delta", text=event.text)
            case Cited():
                told = self._in("text", {"type": "text", "text": ""})
                return told + self._delta("citations_delta", citation=citation_of(event.source))
            case RefusalPiece():
                self._is_refusal = True  # whatever the upstream says of its end
                return self._in("text", {"type": "text", "text": ""}) + self._delta("text_delta", text=event.text)
            case ReasoningPiece():
                return self._reason(event)
            case CallBegun():
                block = {"type": "tool_use", "id": event.call_id, "name": event.name, "input": {}}
                return self._stop() + self._in("tool_use", block)
            case CallPiece():
                return self._delta("input_json_delta", partial_json=event.arguments)
            case PartOver():
                return self._stop()
            case Ended():
                self._ended = event
                told = self.write(RefusalPiece(text=event.refusal)) if event.refusal else b""
                return told + self._stop()
            case Counted():
                self._counts = event.counts
                return b""
            case Failed():
                return _event("error", anthropic_error(event.kind, event.message))
            case Alive():
                return _event("ping", {}) if self._has_begun else COMMENT
            case Over():
                return self._close()

    def _begin(self, event: Begun) -> bytes:
        self._has_begun = True
        usage: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0}  # OpenAI's dialect tells its counts at the end
        if event.counts is not None:
            usage = write_messages_usage(event.counts)
        usage |= anthropic_tier(event.service_tier)
        message: dict[str, Any] = {
            "id": event.answer_id,
            "type": "message",
            "role": "assistant",
            "model": event.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        return _event("message_start", {"message": message})

    def _in(self, kind: str, block: dict[str, Any]) -> bytes:
        """Return what makes the block of this kind the open one."""
        if self._open == kind:
            return b""
        stopped = self._stop()
        self._index += 1
        self._open = kind
        return stopped + _event("content_block_start", {"index": self._index, "content_block": block})

    def _delta(self, kind: str, **fields: Any) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": {"type": kind, **fields}})

    def _stop(self) -> bytes:
        if self._open is None:
            return b""
        sealed = b""
        if self._open == "thinking":
            item = self._seals or ReasoningPiece(signer="openai")
            sealed = self._delta("signature_delta", signature=signature_for_messages(item))
        self._open = self._seals = None
        return sealed + _event("content_block_stop", {"index": self._index})

    def _reason(self, event: ReasoningPiece) -> bytes:
        if event.redacted is not None:
            return self._stop() + self._in("redacted_thinking", write_block(event)) + self._stop()
        told = self._in("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        if event.text:
            told += self._delta("thinking_delta", thinking=event.text)
        self._seals = named_together(self._seals, event)
        if event.signature is not None:
            told += self._stop()
        return told

    def _close(self) -> bytes:
        told = self._stop()
        ended = self._ended or Ended(stop=None)
        stop = "refusal" if self._is_refusal else messages_stop(ended.stop)
        delta: dict[str, Any] = {"stop_reason": stop, "stop_sequence": ended.stop_sequence}
        usage = {"output_tokens": 0} if self._counts is None else write_messages_usage(self._counts)
        told += _event("message_delta", {"delta": delta, "usage": usage})
        return told + _event("message_stop", {})


def _event(name: str, fields: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), write_json({"type": name, **fields}))
