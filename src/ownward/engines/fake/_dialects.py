"""What the fake says, in OpenAI's and Anthropic's words: plain bodies, events of a stream, errors.

Pure: a call goes in, bytes come out. When they are sent is the server's business.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ownward.engines.fake._options import UsageMode

Endpoint = Literal["chat", "completions", "responses", "embeddings", "messages", "count_tokens"]

ENDPOINTS: dict[str, Endpoint] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "count_tokens",
}

_TEXT = "the quiet river carries small boats past old stone houses while children count white birds above green hills"
_EMBEDDING_SIZE = 8
TOOL_WORDS = ('{"query":', '"fake"}')  # the arguments of a tool call, as the two tokens of its answer

_OPENAI_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_ANTHROPIC_ERROR_TYPES = {**_OPENAI_ERROR_TYPES, 500: "api_error", 529: "overloaded_error"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One generation, decided: what is answered and what it counts."""

    serial: int
    endpoint: Endpoint
    model: str
    created_s: int
    is_stream: bool
    wants_stream_usage: bool
    usage: UsageMode
    input_tokens: int
    cached_tokens: int
    output_tokens: int  # of one choice
    is_cut_by_limit: bool
    choices: int
    words: tuple[str, ...]
    tool: str | None
    chunk_tokens: int
    other_tools: tuple[str, ...] = ()  # called beside `tool`, one after the other
    thinking: tuple[str, ...] = ()  # thought before the answer, one token a word
    embedding_inputs: int = 0
    wants_base64: bool = False

    @property
    def total_output_tokens(self) -> int:
        """Tokens generated over all choices, which is what a provider charges; thinking is generated as well."""
        return (self.output_tokens + len(self.thinking)) * self.choices

    @property
    def reported(self) -> tuple[int, int] | None:
        """Input and output tokens as the answer will claim them; None where it claims nothing.

        `wrong` claims three input tokens and one output token too many, and twice the output.
        """
        if self.usage == "missing" or (self.is_stream and self.usage == "honest" and not self._is_told_anyway):
            return None
        if self.usage == "wrong":
            return self.input_tokens + 3, 2 * self.total_output_tokens + 1
        return self.input_tokens, self.total_output_tokens

    @property
    def _is_told_anyway(self) -> bool:
        return self.wants_stream_usage or self.endpoint in {"messages", "responses"}

    def text(self, first: int, last: int) -> str:
        """Return tokens `first` (counted from 0) to before `last`, which joined give the answer."""
        words = self.words
        return "".join(
            (words[index % len(words)] if index == 0 else " " + words[index % len(words)])
            for index in range(first, last)
        )

    @property
    def thought(self) -> str:
        """What was thought, as one text."""
        return " ".join(self.thinking)

    @property
    def calls(self) -> list[tuple[str, str, str]]:
        """Every call as id, name and arguments."""
        names = (self.tool, *self.other_tools) if self.tool is not None else ()
        size = self.output_tokens // max(len(names), 1)
        return [
            (f"{self.serial}_{index}" if index else f"{self.serial}", name, self.text(0, size))
            for index, name in enumerate(names)
        ]


def sign(thinking: str) -> str:
    """Return the signature under a text of thinking, by which a later request shows that it came from here."""
    return "fake-" + hashlib.sha256(thinking.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def default_words() -> tuple[str, ...]:
    """Return the words that answers are made of where no reply is set."""
    return tuple(_TEXT.split())


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _data(value: object) -> bytes:
    return b"data: " + _dump(value) + b"\n\n"


def _event(name: str, value: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + _dump({"type": name, **value}) + b"\n\n"


def error_body(endpoint: Endpoint | None, status: int, message: str) -> bytes:
    """Return an error in the words of the dialect that was spoken to."""
    if endpoint in {"messages", "count_tokens"}:
        kind = _ANTHROPIC_ERROR_TYPES.get(status, "api_error")
        return _dump({"type": "error", "error": {"type": kind, "message": message}})
    kind = _OPENAI_ERROR_TYPES.get(status, "server_error")
    return _dump({"error": {"message": message, "type": kind, "param": None, "code": None}})


def models_body(models: tuple[str, ...]) -> bytes:
    """Return the list of models."""
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "ownward-fake"} for name in models]
    return _dump({"object": "list", "data": listed})


def plain_body(call: Call) -> bytes:
    """Return the whole answer to a call that does not stream."""
    return _dump(_PLAIN[call.endpoint](call))


def stream_events(call: Call) -> Iterator[tuple[bytes, int]]:
    """Yield the events of a streamed answer, each with the number of tokens it brings (0 for frames around them)."""
    return _STREAMS[call.endpoint](call)


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


def _with_usage(body: dict[str, Any], usage: dict[str, Any] | None) -> dict[str, Any]:
    return body if usage is None else {**body, "usage": usage}


def _finish(call: Call) -> str:
    if call.tool is not None:
        return "tool_calls"
    return "length" if call.is_cut_by_limit else "stop"


def _openai_frame(call: Call, kind: str, prefix: str) -> dict[str, Any]:
    return {"id": f"{prefix}-fake-{call.serial}", "object": kind, "created": call.created_s, "model": call.model}


def _chat(call: Call) -> dict[str, Any]:
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
    return _with_usage({**_openai_frame(call, "chat.completion", "chatcmpl"), "choices": choices}, _openai_usage(call))


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
        _data({**frame, "choices": [content(index, 0, mark)]}).split(b'"\\u0000"') for index in range(call.choices)
    ]
    produced = 0
    for choice, first, last in _steps(call):
        produced += last - first
        if is_running:
            yield (
                _data(
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
        yield _data({**frame, "choices": [finish(choice)]}), 0
    usage = None if call.usage == "running" else _openai_usage(call)
    told = _data({**frame, "choices": [], "usage": usage})
    if usage is not None and call.usage != "late":
        yield told, 0
    yield b"data: [DONE]\n\n", 0
    if usage is not None and call.usage == "late":
        yield told, 0


def _chat_stream(call: Call) -> Iterator[tuple[bytes, int]]:
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
        yield _data({**frame, "choices": [{"index": choice, "delta": delta, "finish_reason": None}]}), 0

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
            _data({**frame, "choices": [{"index": place, "delta": delta, "finish_reason": finish}]}) for place in places
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
        yield _data({**frame, "choices": [], "usage": usage}), 0
    yield b"data: [DONE]\n\n", 0


def _completions(call: Call) -> dict[str, Any]:
    choices = [
        {"index": index, "text": call.text(0, call.output_tokens), "finish_reason": _finish(call), "logprobs": None}
        for index in range(call.choices)
    ]
    return _with_usage({**_openai_frame(call, "text_completion", "cmpl"), "choices": choices}, _openai_usage(call))


def _completions_stream(call: Call) -> Iterator[tuple[bytes, int]]:
    def content(choice: int, _first: int, text: str) -> dict[str, Any]:
        return {"index": choice, "text": text, "finish_reason": None, "logprobs": None}

    def finish(choice: int) -> dict[str, Any]:
        return {"index": choice, "text": "", "finish_reason": _finish(call), "logprobs": None}

    return _openai_stream(call, _openai_frame(call, "text_completion", "cmpl"), content, finish)


def _embeddings(call: Call) -> dict[str, Any]:
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


def _responses(call: Call) -> dict[str, Any]:
    item = _responses_item(call, call.text(0, call.output_tokens), "completed")
    return _responses_frame(call, _responses_status(call), [item])


def _responses_stream(call: Call) -> Iterator[tuple[bytes, int]]:
    number = 0

    def event(name: str, **fields: Any) -> bytes:
        nonlocal number
        number += 1
        return _event(name, {"sequence_number": number - 1, **fields})

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


def _messages(call: Call) -> dict[str, Any]:
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
    return _with_usage(body, _anthropic_usage(call))


def _messages_stream(call: Call) -> Iterator[tuple[bytes, int]]:
    opened = {**_messages(call), "content": [], "stop_reason": None}
    begun = _anthropic_usage(call, 1)
    if begun is not None and call.usage != "late":
        opened["usage"] = begun
    else:
        opened.pop("usage", None)
    yield _event("message_start", {"message": opened}), 0
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
        yield _event("content_block_start", {"index": index, "content_block": block}), 0
        if block is blocks[0]:
            yield _event("ping", {}), 0
        for first in range(0, tokens, call.chunk_tokens):
            last = min(first + call.chunk_tokens, tokens)
            text = call.text(first, last)
            delta: dict[str, Any] = {"type": "text_delta", "text": text}
            if call.tool is not None:
                delta = {"type": "input_json_delta", "partial_json": text}
            yield _event("content_block_delta", {"index": index, "delta": delta}), last - first
        yield _event("content_block_stop", {"index": index}), 0
        index += 1
    ended: dict[str, Any] = {"delta": {"stop_reason": _anthropic_stop(call), "stop_sequence": None}}
    usage = _anthropic_usage(call)
    if usage is not None:
        ended["usage"] = usage if call.usage in {"always", "late"} else {"output_tokens": usage["output_tokens"]}
    yield _event("message_delta", ended), 0
    yield _event("message_stop", {}), 0


def _thinking_events(call: Call) -> Iterator[tuple[bytes, int]]:
    block = {"type": "thinking", "thinking": "", "signature": ""}
    yield _event("content_block_start", {"index": 0, "content_block": block}), 0
    for index, word in enumerate(call.thinking):
        delta = {"type": "thinking_delta", "thinking": f" {word}" if index else word}
        yield _event("content_block_delta", {"index": 0, "delta": delta}), 1
    signed = {"type": "signature_delta", "signature": sign(call.thought)}
    yield _event("content_block_delta", {"index": 0, "delta": signed}), 0
    yield _event("content_block_stop", {"index": 0}), 0


def _count_tokens(call: Call) -> dict[str, Any]:
    return {"input_tokens": call.input_tokens}


def _no_stream(call: Call) -> Iterator[tuple[bytes, int]]:
    raise AssertionError(f"{call.endpoint} does not stream")


_PLAIN: dict[Endpoint, Callable[[Call], dict[str, Any]]] = {
    "chat": _chat,
    "completions": _completions,
    "responses": _responses,
    "embeddings": _embeddings,
    "messages": _messages,
    "count_tokens": _count_tokens,
}
_STREAMS: dict[Endpoint, Callable[[Call], Iterator[tuple[bytes, int]]]] = {
    "chat": _chat_stream,
    "completions": _completions_stream,
    "responses": _responses_stream,
    "embeddings": _no_stream,
    "messages": _messages_stream,
    "count_tokens": _no_stream,
}
