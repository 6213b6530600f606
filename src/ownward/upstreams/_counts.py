"""Token counts as upstreams spell them, read into ours; what is missing or cannot be is None."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ownward.core import BadInput
from ownward.pricing import Usage

Json = Mapping[str, Any]

_NOTHING: Json = MappingProxyType({})
_PLAIN_KEYS = frozenset({"completion_tokens", "prompt_tokens", "prompt_tokens_details", "total_tokens"})
_MOST_TOKENS = 1 << 40
"""No answer has so many; a larger count is garbage, and the ledger's columns could not hold it."""


def read_openai_usage(usage: Json, model: object = None) -> Usage | None:
    """Return usage from an OpenAI-shaped object: chat, completions, embeddings or responses.

    Cached tokens stand inside the input. What was thought beside the completion is output (`count_thinking_in`).
    """
    if _PLAIN_KEYS.issuperset(usage):
        found = _read_plain(usage)
        if found is not None:
            return found
    read = _whole(usage, "prompt_tokens", "input_tokens")
    written = _whole(usage, "completion_tokens", "output_tokens")
    if written is None and read is not None and not _has(usage, "completion_tokens", "output_tokens"):
        total = _whole(usage, "total_tokens")
        written = None if total is None else total - read  # embeddings state no output
    if read is None or written is None:
        return None
    thought = _object(usage, "completion_tokens_details", "output_tokens_details")
    reasoning = _whole(thought, "reasoning_tokens") if thought else None
    total = _whole(usage, "total_tokens")
    if total is not None and total > read + written:
        written = count_thinking_in(total, read, written, reasoning, model)
    inside = _object(usage, "prompt_tokens_details", "input_tokens_details")
    cached = _whole(inside, "cached_tokens") if inside else None
    if cached is None:
        cached = _whole(usage, "prompt_cache_hit_tokens")
    stored = _whole(inside, "cache_write_tokens") if inside else None
    return _checked(
        input_tokens=read,
        output_tokens=written,
        cached_input_tokens=cached or 0,
        cache_write_tokens=stored or 0,
        reasoning_tokens=reasoning,
    )


def _read_plain(usage: Json) -> Usage | None:
    """Return usage that is no more than two counts and their sum, as engines state it; None of any other."""
    if usage.get("prompt_tokens_details") is not None:
        return None
    try:
        read, written, total = usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]
    except KeyError:
        return None
    if not (type(read) is type(written) is type(total) is int) or total != read + written or total > _MOST_TOKENS:
        return None
    return _checked(input_tokens=read, output_tokens=written)


def count_thinking_in(total: int, read: int, written: int, reasoning: int | None, model: object) -> int:
    """Return the output tokens of an answer whose total holds more than both sides.

    The rest was thought where it is the reasoning that is stated (xAI states it beside the completion), and where a
    Gemini answers, whose OpenAI-compatible answers state it nowhere else. Any other total is wrong, not a charge.
    """
    is_thought = reasoning == total - read - written or (isinstance(model, str) and "gemini" in model.lower())
    return total - read if is_thought else written


def read_anthropic_usage(usage: Json) -> Usage | None:
    """Return usage from an Anthropic object, whose input tokens leave the cached ones out.

    What summing up the context took (`compaction` among the iterations) is charged beside the counts of the answer,
    and is added to them.
    """
    summaries = [_without_summaries(part) for part in _summaries(usage)]
    parts = [_without_summaries(usage), *summaries]
    if len(parts) == 1 or parts[0] is None:
        return parts[0]
    found = [part for part in parts if part is not None]
    if len(found) != len(parts):
        return None
    return _checked(
        input_tokens=sum(part.input_tokens for part in found),
        output_tokens=sum(part.output_tokens for part in found),
        cached_input_tokens=sum(part.cached_input_tokens for part in found),
        cache_write_tokens=sum(part.cache_write_tokens for part in found),
        cache_write_1h_tokens=sum(part.cache_write_1h_tokens for part in found),
        reasoning_tokens=found[0].reasoning_tokens,
    )


def _summaries(usage: Json) -> list[Json]:
    iterations = usage.get("iterations")
    if not isinstance(iterations, list):
        return []
    return [part for part in iterations if isinstance(part, dict) and part.get("type") == "compaction"]


def _without_summaries(usage: Json) -> Usage | None:
    read = _whole(usage, "input_tokens")
    written = _whole(usage, "output_tokens")
    if read is None or written is None:
        return None
    cached = _whole(usage, "cache_read_input_tokens") or 0
    parts = _object(usage, "cache_creation")
    for_an_hour = _whole(parts, "ephemeral_1h_input_tokens") or 0
    stored = _whole(usage, "cache_creation_input_tokens")
    if stored is None:  # some servers state the parts alone
        stored = for_an_hour + (_whole(parts, "ephemeral_5m_input_tokens") or 0)
    thought = _whole(_object(usage, "output_tokens_details"), "thinking_tokens")
    return _checked(
        input_tokens=read + cached + stored,
        output_tokens=written,
        cached_input_tokens=cached,
        cache_write_tokens=stored,
        cache_write_1h_tokens=for_an_hour,
        reasoning_tokens=None if thought is None else min(thought, written),
    )


def read_llamacpp_timings(timings: Json) -> Usage | None:
    """Return usage from llama.cpp's `timings`, whose `prompt_n` leaves the cached tokens out."""
    read = _whole(timings, "prompt_n")
    cached = _whole(timings, "cache_n")
    written = _whole(timings, "predicted_n")
    if read is None or cached is None or written is None:
        return None
    return _checked(input_tokens=read + cached, output_tokens=written, cached_input_tokens=cached)


def _checked(**counts: int | None) -> Usage | None:
    try:
        return Usage(**counts)  # type: ignore[arg-type]
    except BadInput:
        return None


def _whole(source: Json, key: str, or_key: str = "") -> int | None:
    """Return what stands under the first of two keys that is stated, if it is a count."""
    value = source.get(key)
    if value is None:
        value = source.get(or_key)
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


def _has(source: Json, *keys: str) -> bool:
    return any(source.get(key) is not None for key in keys)


def _object(source: Json, key: str, or_key: str = "") -> Json:
    value = source.get(key)
    if not isinstance(value, dict):
        value = source.get(or_key)
    return value if isinstance(value, dict) else _NOTHING
