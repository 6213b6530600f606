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
_MOST_TOKENS = 1 << 33
"""No answer has so many; a larger count is garbage, and the ledger's columns could not hold it."""


def read_openai_usage(usage: Json, model: object = None, *, of_embeddings: bool = False) -> Usage | None:
    """Return usage from an OpenAI-shaped object: chat, completions, embeddings or responses.

    Cached tokens stand inside the input. What was thought beside the completion is output (`count_thinking_in`).
    Embeddings are all input: some servers (Voyage's) state their total alone.
    """
    if _PLAIN_KEYS.issuperset(usage):
        found = _read_plain(usage)
        if found is not None:
            return found
    read = _whole(usage, "prompt_tokens", "input_tokens")
    if read is None and of_embeddings and not _has(usage, "prompt_tokens", "input_tokens"):
        read = _whole(usage, "total_tokens")
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
    cached, stored, for_an_hour = read_cache_of_openai(usage)
    return _checked(
        input_tokens=read,
        output_tokens=written,
        cached_input_tokens=cached or 0,
        cache_write_tokens=stored or 0,
        cache_write_1h_tokens=for_an_hour or 0,
        reasoning_tokens=reasoning,
    )


def read_cache_of_openai(usage: Json) -> tuple[int | None, int | None, int | None]:
    """Return the tokens read from a cache, those written to one, and of these those kept for an hour or longer.

    Each stands inside the input, under the first of its names that is stated: OpenAI's and OpenRouter's; DeepSeek's;
    Moonshot's, StepFun's and Together's (`cached_tokens` beside the counts); Alibaba's and LiteLLM's, who name as
    Anthropic does what they count as OpenAI does. What is stated and is no count is -1, which no usage takes.
    """
    inside = _object(usage, "prompt_tokens_details", "input_tokens_details")
    cached = _part(inside, "cached_tokens")
    if cached is None:
        cached = _part(usage, "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
    parts = _object(inside, "cache_creation", "cache_creation_token_details")
    for_an_hour = _part(parts, "ephemeral_1h_input_tokens")
    if for_an_hour is None:
        for_an_hour = _part(_object(inside, "cache_write_tokens_details"), "ttl_12h_tokens")
    stored = _part(inside, "cache_write_tokens", "cache_creation_input_tokens", "cache_creation_tokens")
    if stored is None:
        stored = _part(usage, "cache_creation_input_tokens")
    if stored is None and parts:
        stored = (for_an_hour or 0) + (_part(parts, "ephemeral_5m_input_tokens") or 0)
    return cached, stored, for_an_hour


def _read_plain(usage: Json) -> Usage | None:
    """Return usage that is no more than two counts and their sum, as engines state it; None of any other."""
    if usage.get("prompt_tokens_details") is not None:
        return None
    try:
        read, written, total = usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]
        if not (type(read) is type(written) is type(total) is int) or total != read + written or total > _MOST_TOKENS:
            return None
        return Usage(input_tokens=read, output_tokens=written)
    except (KeyError, BadInput):
        return None


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


def merge_anthropic_usage(before: Json, now: object) -> dict[str, Any]:
    """Return the usage of two events of one stream: counts grow, so that the larger of two is the later truth.

    Some servers repeat the input as 0 at the end, others state it only there. Moonshot's begins with the whole input,
    and ends with what of it was cached and what was not.
    """
    if not isinstance(now, dict):
        return dict(before)
    merged = {**before, **{key: value for key, value in now.items() if value is not None}}
    for key, value in before.items():
        if type(value) is int and type(merged[key]) is int:
            merged[key] = max(value, merged[key])
    begun, left, cached = _whole(before, "input_tokens"), _whole(now, "input_tokens"), _cached_beside(now)
    if begun is not None and left is not None and cached > _cached_beside(before) and left < begun:
        merged["input_tokens"] = left if left or begun >= cached else begun
    return merged


def _cached_beside(usage: Json) -> int:
    return sum(_whole(usage, name) or 0 for name in ("cache_read_input_tokens", "cache_creation_input_tokens"))


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
    cached = _part(usage, "cache_read_input_tokens") or 0
    parts = _object(usage, "cache_creation")
    for_an_hour = _part(parts, "ephemeral_1h_input_tokens") or 0
    for_minutes = _part(parts, "ephemeral_5m_input_tokens") or 0
    stored = _part(usage, "cache_creation_input_tokens")
    if stored is None:  # some servers state the parts alone
        stored = for_an_hour + for_minutes
    if min(cached, stored, for_an_hour, for_minutes) < 0:
        return None
    if stored > for_an_hour + for_minutes and for_an_hour:
        # A stream states the parts at its start, and what tools that the provider runs added in the sum at its end.
        if for_minutes:
            return None  # nothing says how long the rest is kept
        for_an_hour = stored
    thought = _whole(_object(usage, "output_tokens_details"), "thinking_tokens")
    return _checked(
        input_tokens=read + cached + stored,
        output_tokens=written,
        cached_input_tokens=cached,
        cache_write_tokens=stored,
        cache_write_1h_tokens=for_an_hour,
        reasoning_tokens=None if thought is None else min(thought, written),
    )


def are_llamacpp_timings(timings: object) -> bool:
    """Return whether these are the times that a llama.cpp adds to its answers; older ones state no `cache_n`.

    >>> are_llamacpp_timings({"prompt_n": 7, "predicted_n": 3})
    True
    """
    return isinstance(timings, dict) and None not in (_whole(timings, "prompt_n"), _whole(timings, "predicted_n"))


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


def _part(source: Json, *keys: str) -> int | None:
    """Return what stands under the first of these keys that is stated: a count, or -1 where it is none."""
    for key in keys:
        if source.get(key) is not None:
            value = _whole(source, key)
            return -1 if value is None else value
    return None


def _has(source: Json, *keys: str) -> bool:
    return any(source.get(key) is not None for key in keys)


def _object(source: Json, key: str, or_key: str = "") -> Json:
    value = source.get(key)
    if not isinstance(value, dict):
        value = source.get(or_key)
    return value if isinstance(value, dict) else _NOTHING
