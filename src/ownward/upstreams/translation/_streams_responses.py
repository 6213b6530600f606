"""Streams for clients of responses: items begun, told and done, every event numbered."""

from __future__ import annotations

from typing import Any

from ownward.upstreams.translation._core import (
    Alive,
    Asked,
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
    Reasoning,
    ReasoningPiece,
    RefusalPiece,
    Signer,
    Source,
    TextPiece,
)
from ownward.upstreams.translation._counts import write_responses_usage
from ownward.upstreams.translation._errors import failure_code, openai_error
from ownward.upstreams.translation._held import MOST_BYTES, PART_BYTES, PIECE_BYTES, too_much_held
from ownward.upstreams.translation._json import write_json
from ownward.upstreams.translation._reasoning import named_together
from ownward.upstreams.translation._responses import (
    call_item,
    call_prefix,
    item_id,
    message_item,
    reasoning_item,
    response_object,
    text_part,
)
from ownward.upstreams.translation._sources import annotation_of
from ownward.upstreams.translation._stops import responses_status
from ownward.upstreams.translation._streams_write import COMMENT, MARK, frame_of


class ResponsesWriter:
    """Writes the events of a response."""

    __slots__ = (
        "_annotations",
        "_answer_id",
        "_asked",
        "_call",
        "_counts",
        "_ended",
        "_held_bytes",
        "_items",
        "_kind",
        "_model",
        "_named",
        "_now_s",
        "_parts",
        "_pieces",
        "_repeated",
        "_sealed",
        "_sequence",
        "_signer",
        "_tier",
    )

    def __init__(self, asked: Asked, *, now_s: int) -> None:
        """Start before the first event; `now_s` is the time the answer is dated, in seconds since 1970."""
        self._asked = asked
        self._now_s = now_s
        self._sequence = 0
        self._answer_id = ""
        self._model = ""
        self._tier: str | None = None
        self._items: list[dict[str, Any]] = []
        self._kind: str | None = None  # what the open item is
        self._parts: list[dict[str, Any]] = []  # of the open message
        self._pieces: list[str] = []  # of the open part, reasoning or call
        self._held_bytes = 0  # of all that the last word repeats
        self._annotations: list[dict[str, Any]] = []  # of the open part
        self._call = CallBegun(call_id="", name="")
        self._named: ReasoningPiece | None = None  # what the open reasoning is called
        self._sealed: ReasoningPiece | None = None
        self._signer: Signer = "openai"
        self._ended: Ended | None = None
        self._counts: Counts | None = None
        self._repeated: dict[type[Piece], tuple[bytes, ...]] = {}

    @property
    def sequence_number(self) -> int:
        """The number of the next event."""
        return self._sequence

    @property
    def begun_response(self) -> dict[str, Any] | None:
        """The response as it is told where it fails, with the items that were whole by then; None before it begins."""
        return {**self._object("failed"), "output": [*self._items]} if self._sequence else None

    def say(self, kind: type[Piece], words: str) -> bytes | None:
        """Return the event of a further piece of the open part, reasoning or call."""
        frame = self._repeated.get(kind)
        if frame is None:
            frame = self._repeated[kind] = self._frame_of(kind)
        if not frame:
            return None
        head, middle, tail = frame
        self._hold(words)
        told = b"%b%d%b%b%b" % (head, self._sequence, middle, write_json(words), tail)
        self._sequence += 1
        return told

    def _hold(self, words: str) -> None:
        self._pieces.append(words)
        self._held_bytes += len(words) + PIECE_BYTES
        if self._held_bytes > MOST_BYTES:
            raise too_much_held()

    def _frame_of(self, kind: type[Piece]) -> tuple[bytes, ...]:
        """Return what stands before the number of a further piece, before its words and behind them."""
        number = self._sequence
        if kind is TextPiece and self._kind == "message" and self._pieces and self._parts_open == "output_text":
            told = self._tell_words("output_text", MARK)
        elif kind is ReasoningPiece and self._kind == "reasoning" and self._pieces and self._sealed is None:
            told = self._tell_reasoning(MARK)
        elif kind is CallPiece and self._kind == "call":
            told = self._tell_arguments(MARK)
        else:
            return ()
        self._sequence = number  # nothing of it was told
        frame = frame_of(told)
        head, found, middle = frame[0].partition(b'"sequence_number":%d' % number) if frame else (b"", b"", b"")
        return (head + found.rstrip(b"0123456789"), middle, frame[1]) if found else ()

    def write(self, event: Event) -> bytes:
        """Return the events that say one of ours."""
        self._repeated.clear()
        match event:
            case Begun():
                self._answer_id, self._model, self._tier = event.answer_id, event.model, event.service_tier
                begun = self._object("in_progress")
                return self._event("response.created", response=begun) + self._event(
                    "response.in_progress", response=begun
                )
            case TextPiece():
                return self._say("output_text", event.text)
            case Cited():
                return self._cite(event.source)
            case RefusalPiece():
                return self._say("refusal", event.text)
            case ReasoningPiece():
                return self._reason(event)
            case CallBegun():
                told = self._finish_item()
                self._kind, self._call = "call", event
                opened = call_item(self._id(call_prefix(event)), event, "", "in_progress")
                return told + self._added(opened)
            case CallPiece():
                self._hold(event.arguments)
                return self._tell_arguments(event.arguments)
            case PartOver():
                return self._finish_item() if self._kind != "message" else self._finish_part()
            case Ended():
                self._ended = event
                return self._say("refusal", event.refusal) if event.refusal else b""
            case Counted():
                self._counts = event.counts
                return b""
            case Failed():
                return self._fail(event)
            case Alive():
                return COMMENT
            case Over():
                return self._close()

    def _fail(self, event: Failed) -> bytes:
        """Return the end of a response that failed; the error's members stand again where clients raise them from."""
        told, begun = b"", self.begun_response
        if begun is not None:
            error = {"code": failure_code(event.kind, event.message), "message": event.message}
            told = self._event("response.failed", response={**begun, "error": error})
        again = openai_error(event.kind, event.message)
        return told + self._event("error", code=event.kind, message=event.message, param=None, **again)

    # Items.

    def _id(self, prefix: str) -> str:
        return item_id(self._answer_id, len(self._items), prefix)

    def _place(self, prefix: str) -> dict[str, Any]:
        return {"item_id": self._id(prefix), "output_index": len(self._items)}

    def _added(self, item: dict[str, Any]) -> bytes:
        return self._event("response.output_item.added", output_index=len(self._items), item=item)

    def _say(self, kind: str, text: str) -> bytes:
        told = b""
        if self._kind not in {None, "message"}:
            told += self._finish_item()
        if self._kind is None:
            self._kind = "message"
            told += self._added(message_item(self._id("msg"), [], "in_progress"))
        if self._pieces and self._parts_open != kind:
            told += self._finish_part()
        if not self._pieces:
            self._parts.append({"type": kind})
            self._held_bytes += PART_BYTES
            told += self._event("response.content_part.added", **self._part_place(), part=_part(kind, ""))
        self._hold(text)
        return told + self._tell_words(kind, text)

    def _cite(self, source: Source) -> bytes:
        """Return the citation of the open text; one that comes without a text begins an empty one."""
        told = b"" if self._kind == "message" and self._pieces else self._say("output_text", "")
        self._annotations.append(annotation_of(source))
        self._held_bytes += PART_BYTES
        number = len(self._annotations) - 1
        place = {**self._part_place(), "annotation_index": number, "annotation": self._annotations[-1]}
        return told + self._event("response.output_text.annotation.added", **place)

    def _tell_words(self, kind: str, text: str) -> bytes:
        logprobs: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
        return self._event(f"response.{kind}.delta", **self._part_place(), delta=text, **logprobs)

    def _tell_arguments(self, text: str) -> bytes:
        kind = "custom_tool_call_input" if self._call.is_custom else "function_call_arguments"
        return self._event(f"response.{kind}.delta", **self._place(call_prefix(self._call)), delta=text)

    def _tell_reasoning(self, text: str) -> bytes:
        place = {**self._place("rs"), "summary_index": 0}
        return self._event("response.reasoning_summary_text.delta", **place, delta=text)

    @property
    def _parts_open(self) -> str:
        return str(self._parts[-1]["type"])

    def _part_place(self) -> dict[str, Any]:
        return {**self._place("msg"), "content_index": len(self._parts) - 1}

    def _finish_part(self) -> bytes:
        if not self._pieces:
            return b""
        kind, text = self._parts_open, "".join(self._pieces)
        self._pieces.clear()
        self._parts[-1] = _part(kind, text, self._annotations)
        self._annotations = []
        done: dict[str, Any] = {"text": text, "logprobs": []} if kind == "output_text" else {"refusal": text}
        return self._event(f"response.{kind}.done", **self._part_place(), **done) + self._event(
            "response.content_part.done", **self._part_place(), part=self._parts[-1]
        )

    def _reason(self, event: ReasoningPiece) -> bytes:
        told = b""
        is_new = event.redacted is not None or (self._sealed is not None and bool(event.text))
        if self._kind != "reasoning" or is_new:
            told += self._finish_item()
            self._kind, self._signer = "reasoning", event.signer
            told += self._added(reasoning_item(self._id("rs"), Reasoning(text="", signer="openai")))
        self._named = named_together(self._named, event)
        if event.redacted is not None or event.signature is not None:
            self._sealed = event
        if event.text:
            place = {**self._place("rs"), "summary_index": 0}
            if not self._pieces:
                part = {"type": "summary_text", "text": ""}
                told += self._event("response.reasoning_summary_part.added", **place, part=part)
            self._hold(event.text)
            told += self._tell_reasoning(event.text)
        return told

    def _finish_item(self) -> bytes:
        match self._kind:
            case "message":
                told = self._finish_part()
                item = message_item(self._id("msg"), self._parts)
            case "reasoning":
                told, item = self._finish_reasoning()
            case "call":
                told, item = self._finish_call()
            case _:
                return b""
        told += self._event("response.output_item.done", output_index=len(self._items), item=item)
        self._items.append(item)
        self._held_bytes += PART_BYTES
        self._kind, self._parts, self._pieces, self._sealed, self._named = None, [], [], None, None
        return told

    def _finish_call(self) -> tuple[bytes, dict[str, Any]]:
        call, prefix, words = self._call, call_prefix(self._call), "".join(self._pieces)
        if call.is_custom:
            told = self._event("response.custom_tool_call_input.done", **self._place(prefix), input=words)
        else:
            words = words or "{}"
            said = {"name": call.name, "arguments": words}
            told = self._event("response.function_call_arguments.done", **self._place(prefix), **said)
        return told, call_item(self._id(prefix), call, words)

    def _finish_reasoning(self) -> tuple[bytes, dict[str, Any]]:
        text, sealed, named = "".join(self._pieces), self._sealed, self._named
        told = b""
        if text:
            place = {**self._place("rs"), "summary_index": 0}
            part = {"type": "summary_text", "text": text}
            told += self._event("response.reasoning_summary_text.done", **place, text=text)
            told += self._event("response.reasoning_summary_part.done", **place, part=part)
        whole = Reasoning(
            text=text,
            signer=self._signer,
            signature=None if sealed is None else sealed.signature,
            redacted=None if sealed is None else sealed.redacted,
            form=None if named is None else named.form,
            given_id=None if named is None else named.given_id,
            is_summary=named is not None and named.is_summary,
        )
        return told, reasoning_item(self._id("rs"), whole)

    # The whole.

    def _object(self, status: str) -> dict[str, Any]:
        return response_object(
            self._asked, answer_id=self._answer_id, model=self._model, status=status, now_s=self._now_s
        )

    def _close(self) -> bytes:
        told = self._finish_item()
        status, why = responses_status(None if self._ended is None else self._ended.stop)
        body = self._object(status)
        body["output"] = self._items
        if why is not None:
            body["incomplete_details"] = {"reason": why}
        if self._counts is not None:
            body["usage"] = write_responses_usage(self._counts)
        if self._tier is not None:
            body["service_tier"] = self._tier
        return told + self._event(f"response.{status}", response=body)

    def _event(self, kind: str, /, **fields: Any) -> bytes:
        data = write_json({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode("ascii"), data)


def _part(kind: str, text: str, annotations: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return text_part(text, annotations) if kind == "output_text" else {"type": "refusal", "refusal": text}
