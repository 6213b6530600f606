"""What the fake says at OpenAI's responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ownward.engines.fake import _frames
from ownward.engines.fake._call import Call


def responses(call: Call) -> dict[str, Any]:
    """Return the whole answer of a response."""
    item = _responses_item(call, call.text(0, call.output_tokens), "completed")
    return _responses_frame(call, _responses_status(call), [item])


def responses_stream(call: Call) -> Iterator[tuple[bytes, int]]:
    """Yield a response's events, each with the number of tokens it brings."""
    number = 0

    def event(name: str, **fields: Any) -> bytes:
        nonlocal number
        number += 1
        return _frames.event(name, {"sequence_number": number - 1, **fields})

    place = {"item_id": f"msg_fake_{call.serial}", "output_index": 0, "content_index": 0}
    yield event("response.created", response=_responses_frame(call, "in_progress", [])), 0
    opened = {**_responses_item(call, "", "in_progress"), "content": []}
    yield event("response.output_item.added", output_index=0, item=opened), 0
    part = {"type": "output_text", "text": "", "annotations": []}
    yield event("response.content_part.added", **place, part=part), 0
    for first in range(0, call.output_tokens, call.chunk_tokens):
        last = min(first + call.chunk_tokens, call.output_tokens)
        yield event("response.output_text.delta", **place, delta=call.text(first, last), logprobs=[]), last - first
    text = call.text(0, call.output_tokens)
    yield event("response.output_text.done", **place, text=text, logprobs=[]), 0
    yield event("response.content_part.done", **place, part={**part, "text": text}), 0
    item = _responses_item(call, text, "completed")
    yield event("response.output_item.done", output_index=0, item=item), 0
    status = _responses_status(call)
    yield event(f"response.{status}", response=_responses_frame(call, status, [item])), 0


def _responses_frame(call: Call, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": f"resp_fake_{call.serial}",
        "object": "response",
        "created_at": call.created_s,
        "status": status,
        "model": call.model,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "error": None,
    }
    if status != "in_progress" and call.reported is not None:
        told_input, told_output = call.reported
        body["usage"] = {
            "input_tokens": told_input,
            "input_tokens_details": {"cached_tokens": call.cached_tokens},
            "output_tokens": told_output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": told_input + told_output,
        }
    return body


def _responses_item(call: Call, text: str, status: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "id": f"msg_fake_{call.serial}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [part],
    }


def _responses_status(call: Call) -> str:
    return "incomplete" if call.is_cut_by_limit else "completed"
