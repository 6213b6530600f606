"""What the fake says at OpenAI's chat completions, completions and embeddings."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

from ownward.engines.fake._call import Call
from ownward.engines.fake._frames import data, with_usage

_EMBEDDING_SIZE = 8


def chat(call: Call) -> dict[str, Any]:
    """Return the whole answer of a chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": call.text(0, call.output_tokens)}
    if call.tool is not None:
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": f"call_fake_{call_id}", "type": "function", "function": {"name": name, "arguments": arguments}}
                for call_id, name, arguments in call.calls
            ],
        }
    if call.thinking:
        message["reasoning_content"] = call.thought
    choices = [
        {"index": index, "message": message, "finish_reason": _finish(call), "logprobs": None}
        for index in range(call.choices)
    ]
    return with_usage({**_openai_frame(call, "chat.completion", "chatcmpl"), "choices": choices}, _openai_usage(call))


def chat_stream(call: Call) -> Iterator[tuple[bytes, int]]:
    """Yield a chat completion's events, each with the number of tokens it brings."""
    frame = _openai_frame(call, "chat.completion.chunk", "chatcmpl")
    if call.thinking or call.other_tools:
        yield from _chat_stream_of_parts(call, frame)
        return
    for choice in range(call.choices):
        delta: dict[str, Any] = {"role": "assistant", "content": ""}
        if call.tool is not None:
            function = {"name": call.tool, "arguments": ""}
            opened = {"index": 0, "id": f"call_fake_{call.serial}", "type": "function", "function": function}
            delta = {"role": "assistant", "content": None, "tool_calls": [opened]}
        yield data({**frame, "choices": [{"index": choice, "delta": delta, "finish_reason": None}]}), 0

    def content(choice: int, _first: int, text: str) -> dict[str, Any]:
        delta: dict[str, Any] = {"content": text}
        if call.tool is not None:
            delta = {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
        return {"index": choice, "delta": delta, "finish_reason": None}

    def finish(choice: int) -> dict[str, Any]:
        return {"index": choice, "delta": {}, "finish_reason": _finish(call)}

    yield from _openai_stream(call, frame, content, finish)


def _chat_stream_of_parts(call: Call, frame: dict[str, Any]) -> Iterator[tuple[bytes, int]]:
    """Yield the stream of an answer that thinks, or makes several calls."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        places = range(call.choices)
        return b"".join(
            data({**frame, "choices": [{"index": place, "delta": delta, "finish_reason": finish}]}) for place in places
        )

    yield chunk({"role": "assistant", "content": None}), 0
    for index, word in enumerate(call.thinking):
        yield chunk({"reasoning_content": f" {word}" if index else word}), call.choices
    if call.tool is None:
        for _, first, last in _steps(call):
            yield chunk({"content": call.text(first, last)}), last - first
    for index, (call_id, name, arguments) in enumerate(call.calls):
        opened = {"index": index, "id": f"call_fake_{call_id}", "type": "function"}
        yield chunk({"tool_calls": [{**opened, "function": {"name": name, "arguments": ""}}]}), 0
        for piece in arguments.split(" "):
            told = piece if arguments.startswith(piece) else f" {piece}"
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": told}}]}), call.choices
    yield chunk({}, _finish(call)), 0
    usage = _openai_usage(call)
    if usage is not None:
        yield data({**frame, "choices": [], "usage": usage}), 0
    yield b"data: [DONE]\n\n", 0


def completions(call: Call) -> dict[str, Any]:
    """Return the whole answer of a completion."""
    choices = [
        {"index": index, "text": call.text(0, call.output_tokens), "finish_reason": _finish(call), "logprobs": None}
        for index in range(call.choices)
    ]
    return with_usage({**_openai_frame(call, "text_completion", "cmpl"), "choices": choices}, _openai_usage(call))


def completions_stream(call: Call) -> Iterator[tuple[bytes, int]]:
    """Yield a completion's events, each with the number of tokens it brings."""

    def content(choice: int, _first: int, text: str) -> dict[str, Any]:
        return {"index": choice, "text": text, "finish_reason": None, "logprobs": None}

    def finish(choice: int) -> dict[str, Any]:
        return {"index": choice, "text": "", "finish_reason": _finish(call), "logprobs": None}

    return _openai_stream(call, _openai_frame(call, "text_completion", "cmpl"), content, finish)


def embeddings(call: Call) -> dict[str, Any]:
    """Return vectors that differ from each other."""
    data = []
    for index in range(call.embedding_inputs):
        vector = [round(((index + 1) * (position + 1)) % 7 / 7, 6) for position in range(_EMBEDDING_SIZE)]
        packed: Any = vector
        if call.wants_base64:
            packed = base64.b64encode(struct.pack(f"<{_EMBEDDING_SIZE}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": packed})
    body: dict[str, Any] = {"object": "list", "data": data, "model": call.model}
    if call.reported is not None:
        body["usage"] = {"prompt_tokens": call.reported[0], "total_tokens": call.reported[0]}
    return body


def _openai_stream(
    call: Call,
    frame: dict[str, Any],
    content: Callable[[int, int, str], dict[str, Any]],
    finish: Callable[[int], dict[str, Any]],
) -> Iterator[tuple[bytes, int]]:
    """Yield content events from a template: only the text changes from one to the next."""
    is_running = call.usage == "running"
    mark = "\x00"
    templates = [
        data({**frame, "choices": [content(index, 0, mark)]}).split(b'"\\u0000"') for index in range(call.choices)
    ]
    produced = 0
    for choice, first, last in _steps(call):
        produced += last - first
        if is_running:
            yield (
                data(
                    {
                        **frame,
                        "choices": [content(choice, first, call.text(first, last))],
                        "usage": _openai_usage(call, produced),
                    }
                ),
                last - first,
            )
        else:
            before, after = templates[choice]
            yield b"%s%s%s" % (before, json.dumps(call.text(first, last)).encode(), after), last - first
    for choice in range(call.choices):
        yield data({**frame, "choices": [finish(choice)]}), 0
    usage = None if call.usage == "running" else _openai_usage(call)
    told = data({**frame, "choices": [], "usage": usage})
    if usage is not None and call.usage != "late":
        yield told, 0
    yield b"data: [DONE]\n\n", 0
    if usage is not None and call.usage == "late":
        yield told, 0


def _steps(call: Call) -> Iterator[tuple[int, int, int]]:
    for first in range(0, call.output_tokens, call.chunk_tokens):
        last = min(first + call.chunk_tokens, call.output_tokens)
        for choice in range(call.choices):
            yield choice, first, last


def _openai_usage(call: Call, produced: int | None = None) -> dict[str, Any] | None:
    if call.reported is None:
        return None
    told_input, told_output = call.reported
    output = told_output if produced is None else produced
    return {
        "prompt_tokens": told_input,
        "completion_tokens": output,
        "total_tokens": told_input + output,
        "prompt_tokens_details": {"cached_tokens": call.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": len(call.thinking) * call.choices},
    }


def _finish(call: Call) -> str:
    if call.tool is not None:
        return "tool_calls"
    return "length" if call.is_cut_by_limit else "stop"


def _openai_frame(call: Call, kind: str, prefix: str) -> dict[str, Any]:
    return {"id": f"{prefix}-fake-{call.serial}", "object": kind, "created": call.created_s, "model": call.model}
