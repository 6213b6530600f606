"""What the fake says at Anthropic's messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ownward.engines.fake._call import Call, sign
from ownward.engines.fake._frames import event, with_usage


def messages(call: Call) -> dict[str, Any]:
    """Return the whole answer to Anthropic's messages."""
    blocks: list[dict[str, Any]] = [{"type": "text", "text": call.text(0, call.output_tokens)}]
    if call.tool is not None:
        blocks = [
            {"type": "tool_use", "id": f"toolu_fake_{call_id}", "name": name, "input": {"query": "fake"}}
            for call_id, name, _ in call.calls
        ]
    if call.thinking:
        blocks.insert(0, {"type": "thinking", "thinking": call.thought, "signature": sign(call.thought)})
    body = {
        "id": f"msg_fake_{call.serial}",
        "type": "message",
        "role": "assistant",
        "model": call.model,
        "content": blocks,
        "stop_reason": _anthropic_stop(call),
        "stop_sequence": None,
    }
    return with_usage(body, _anthropic_usage(call))


def messages_stream(call: Call) -> Iterator[tuple[bytes, int]]:
    """Yield the events of Anthropic's messages, each with the number of tokens it brings."""
    opened = {**messages(call), "content": [], "stop_reason": None}
    begun = _anthropic_usage(call, 1)
    if begun is not None and call.usage != "late":
        opened["usage"] = begun
    else:
        opened.pop("usage", None)
    yield event("message_start", {"message": opened}), 0
    index = 0
    if call.thinking:
        yield from _thinking_events(call)
        index = 1
    blocks: list[dict[str, Any]] = [{"type": "text", "text": ""}]
    if call.tool is not None:
        blocks = [
            {"type": "tool_use", "id": f"toolu_fake_{call_id}", "name": name, "input": {}}
            for call_id, name, _ in call.calls
        ]
    tokens = call.output_tokens // len(blocks)
    for block in blocks:
        yield event("content_block_start", {"index": index, "content_block": block}), 0
        if block is blocks[0]:
            yield event("ping", {}), 0
        for first in range(0, tokens, call.chunk_tokens):
            last = min(first + call.chunk_tokens, tokens)
            text = call.text(first, last)
            delta: dict[str, Any] = {"type": "text_delta", "text": text}
            if call.tool is not None:
                delta = {"type": "input_json_delta", "partial_json": text}
            yield event("content_block_delta", {"index": index, "delta": delta}), last - first
        yield event("content_block_stop", {"index": index}), 0
        index += 1
    ended: dict[str, Any] = {"delta": {"stop_reason": _anthropic_stop(call), "stop_sequence": None}}
    usage = _anthropic_usage(call)
    if usage is not None:
        ended["usage"] = usage if call.usage in {"always", "late"} else {"output_tokens": usage["output_tokens"]}
    yield event("message_delta", ended), 0
    yield event("message_stop", {}), 0


def _thinking_events(call: Call) -> Iterator[tuple[bytes, int]]:
    block = {"type": "thinking", "thinking": "", "signature": ""}
    yield event("content_block_start", {"index": 0, "content_block": block}), 0
    for index, word in enumerate(call.thinking):
        delta = {"type": "thinking_delta", "thinking": f" {word}" if index else word}
        yield event("content_block_delta", {"index": 0, "delta": delta}), 1
    signed = {"type": "signature_delta", "signature": sign(call.thought)}
    yield event("content_block_delta", {"index": 0, "delta": signed}), 0
    yield event("content_block_stop", {"index": 0}), 0


def count_tokens(call: Call) -> dict[str, Any]:
    """Return how many tokens were counted."""
    return {"input_tokens": call.input_tokens}


def _anthropic_usage(call: Call, output: int | None = None) -> dict[str, Any] | None:
    """Return usage in Anthropic's way: cached tokens stand outside `input_tokens`."""
    if call.reported is None:
        return None
    told_input, told_output = call.reported
    return {
        "input_tokens": told_input - call.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": call.cached_tokens,
        "output_tokens": told_output if output is None else output,
        **({"output_tokens_details": {"thinking_tokens": len(call.thinking)}} if call.thinking else {}),
    }


def _anthropic_stop(call: Call) -> str:
    if call.tool is not None:
        return "tool_use"
    return "max_tokens" if call.is_cut_by_limit else "end_turn"
