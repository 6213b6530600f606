"""The few members that are read of an answer's piece, an event or a whole body, in either dialect.

What an odd piece says is kept as far as it can be read; what it means for the answer stands in `usage`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ownward.upstreams._json import UNREADABLE, read_leniently

Json = dict[str, Any]

GAVE_UP = frozenset(
    {
        "error",  # Mistral, OpenRouter, vLLM
        "abort",  # vLLM, SGLang
        "insufficient_system_resource",  # DeepSeek
        "malformed_function_call",  # Gemini
        "function_call_filter: malformed_function_call",
        "unexpected_tool_call",
    }
)
"""Reasons with which no answer is whole, as their servers document them."""


class Delta(msgspec.Struct, gc=False):
    """What a choice says, or says more."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: Any = None
    function_call: Any = None
    refusal: Any = None
    audio: Any = None


class Choice(msgspec.Struct, gc=False):
    """One of its answers. Moonshot states a stream's usage here and not beside its choices."""

    delta: Delta | None = None
    message: Delta | None = None
    text: Any = None
    finish_reason: Any = None
    usage: Any = None


class Piece(msgspec.Struct, gc=False):
    """What we read of one event or body, in either dialect."""

    id: Any = None
    model: Any = None
    type: Any = None
    choices: list[Choice] | None = None
    usage: Any = None
    timings: Any = None
    error: Any = None
    response: Any = None
    message: Any = None
    delta: Any = None
    status: Any = None
    stop_reason: Any = None
    content: Any = None
    output: Any = None
    service_tier: Any = None
    data: msgspec.Raw = msgspec.Raw()
    results: msgspec.Raw = msgspec.Raw()
    input_tokens: Any = None
    incomplete_details: Any = None


class _Form(msgspec.Struct, gc=False):
    object: Any = None


_decode = msgspec.json.Decoder(Piece).decode
_decode_form = msgspec.json.Decoder(_Form).decode
_decode_any = msgspec.json.Decoder().decode


def parse_piece(data: bytes) -> Piece | None:
    """Return what a piece says; None where it is not a JSON object, by anybody's reading."""
    try:
        return _decode(data)
    except UNREADABLE:
        pass
    # Perhaps a shape we do not expect: keep what can be read.
    try:
        found = _decode_any(data)
    except UNREADABLE:
        try:
            found = read_leniently(data)  # the client's own reader may take it, so it is no garbage
        except (ValueError, RecursionError):
            return None
    if not isinstance(found, dict):
        return None
    fields: Json = {key: found.get(key) for key in Piece.__struct_fields__ if key not in {"choices", "data", "results"}}
    for key in ("data", "results"):
        if found.get(key) is not None:
            fields[key] = msgspec.Raw(b"[]")  # it is there: more is not asked of it
    choices = found.get("choices")
    listed = None if not isinstance(choices, list) else [_read_choice(c) for c in choices if isinstance(c, dict)]
    return Piece(choices=listed, **fields)


def _read_choice(found: Json) -> Choice:
    delta, message = found.get("delta"), found.get("message")
    return Choice(
        delta=_read_delta(delta) if isinstance(delta, dict) else None,
        message=_read_delta(message) if isinstance(message, dict) else None,
        text=found.get("text"),
        finish_reason=found.get("finish_reason"),
        usage=found.get("usage"),
    )


def _read_delta(found: Json) -> Delta:
    return Delta(**{key: found.get(key) for key in Delta.__struct_fields__})


def is_flat_error(data: bytes) -> bool:
    """Return whether a piece is an error as FastChat's and vLLM's older servers tell it, without `error` around it."""
    try:
        return bool(_decode_form(data).object == "error")
    except UNREADABLE:
        return False


def carries_content(choice: Choice) -> bool:
    """Return whether a choice says anything that a client would show or run."""
    if choice.text:
        return True
    said = choice.delta or choice.message
    return said is not None and bool(
        said.content
        or said.reasoning_content
        or said.tool_calls
        or said.reasoning
        or said.refusal
        or said.function_call
        or said.audio
    )


def words_of_block(piece: Piece) -> str | None:
    """Return the words of an Anthropic event that says nothing but words; None of any other."""
    delta = piece.delta if piece.type == "content_block_delta" else None
    if not isinstance(delta, dict):
        return None
    return text_in(delta.get("text")) or text_in(delta.get("thinking")) or text_in(delta.get("partial_json"))


def words_of_chunk(choices: list[Choice]) -> str | None:
    """Return the words of choices that say nothing but words; None of any others."""
    if len(choices) != 1 or choices[0].finish_reason is not None or choices[0].usage is not None:
        return None
    said = choices[0].delta
    if said is None:
        return text_in(choices[0].text)
    return (
        text_in(said.content)
        or text_in(said.reasoning_content)
        or text_in(said.reasoning)
        or _arguments_of(said.tool_calls)
    )


def _arguments_of(calls: Any) -> str | None:
    """Return the arguments of the one call that an event tells more of; None of any other."""
    call = calls[0] if isinstance(calls, list) and len(calls) == 1 else None
    function = call.get("function") if isinstance(call, dict) else None
    return text_in(function.get("arguments")) if isinstance(function, dict) else None


def text_in(value: object) -> str | None:
    """Return a value that is text and not empty; None of any other."""
    return value if isinstance(value, str) and value else None
