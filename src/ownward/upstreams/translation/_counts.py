"""Token counts from one dialect to the other: OpenAI counts cached tokens inside the input, Anthropic beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ownward.upstreams._counts import count_thinking_in, read_cache_of_openai
from ownward.upstreams.translation._core import Counts


def read_openai_counts(usage: object, model: object = None) -> Counts | None:
    """Return the counts of a chat answer's usage, or None where it states none."""
    if not isinstance(usage, dict):
        return None
    read, written = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    if read is None or written is None:
        return None
    thought = usage.get("completion_tokens_details")
    reasoning = _count(thought.get("reasoning_tokens")) if isinstance(thought, dict) else None
    total = _count(usage.get("total_tokens"))
    if total is not None and total > read + written:
        written = count_thinking_in(total, read, written, reasoning, model)
    cached, stored, for_an_hour = map(_count, read_cache_of_openai(usage))
    return Counts(
        input_tokens=read,
        output_tokens=written,
        cached_tokens=cached,
        cache_write_tokens=stored,
        cache_write_1h_tokens=for_an_hour,
        reasoning_tokens=reasoning,
    )


def read_responses_counts(usage: object) -> Counts | None:
    """Return the counts of a response's usage, or None where it states none."""
    if not isinstance(usage, dict):
        return None
    read, written = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
    if read is None or written is None:
        return None
    thought = usage.get("output_tokens_details")
    cached, stored, for_an_hour = map(_count, read_cache_of_openai(usage))
    return Counts(
        input_tokens=read,
        output_tokens=written,
        cached_tokens=cached,
        cache_write_tokens=stored,
        cache_write_1h_tokens=for_an_hour,
        reasoning_tokens=_count(thought.get("reasoning_tokens")) if isinstance(thought, dict) else None,
    )


def usage_in(chunk: Mapping[str, Any]) -> object:
    """Return the usage that an event of a chat states, beside its choices or in one of them (Moonshot); else None."""
    usage, choices = chunk.get("usage"), chunk.get("choices")
    if usage is not None or not isinstance(choices, list):
        return usage
    return next((choice["usage"] for choice in choices if isinstance(choice, dict) and choice.get("usage")), None)


def read_anthropic_counts(usage: object) -> Counts | None:
    """Return the counts of a message's usage, or None where it states none."""
    if not isinstance(usage, dict):
        return None
    read = _count(usage.get("input_tokens"))
    if read is None:
        return None
    cached, stored = _count(usage.get("cache_read_input_tokens")), _count(usage.get("cache_creation_input_tokens"))
    thought, kept = usage.get("output_tokens_details"), usage.get("cache_creation")
    parts: dict[str, Any] = kept if isinstance(kept, dict) else {}
    for_an_hour = _count(parts.get("ephemeral_1h_input_tokens"))
    if stored is None and parts:
        stored = (for_an_hour or 0) + (_count(parts.get("ephemeral_5m_input_tokens")) or 0)
    return Counts(
        input_tokens=read + (cached or 0) + (stored or 0),
        output_tokens=_count(usage.get("output_tokens")) or 0,
        cached_tokens=cached,
        cache_write_tokens=stored,
        cache_write_1h_tokens=for_an_hour,
        reasoning_tokens=_count(thought.get("thinking_tokens")) if isinstance(thought, dict) else None,
    )


def write_chat_usage(counts: Counts) -> dict[str, Any]:
    """Return the usage of a chat answer."""
    usage: dict[str, Any] = {
        "prompt_tokens": counts.input_tokens,
        "completion_tokens": counts.output_tokens,
        "total_tokens": counts.input_tokens + counts.output_tokens,
    }
    details = {"cached_tokens": counts.cached_tokens, "cache_write_tokens": counts.cache_write_tokens}
    stated = {name: value for name, value in details.items() if value is not None}
    if stated:
        usage["prompt_tokens_details"] = stated
    if counts.reasoning_tokens is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": counts.reasoning_tokens}
    return usage


def write_responses_usage(counts: Counts) -> dict[str, Any]:
    """Return the usage of a response, whose details the dialect always states."""
    return {
        "input_tokens": counts.input_tokens,
        "input_tokens_details": {
            "cached_tokens": counts.cached_tokens or 0,
            "cache_write_tokens": counts.cache_write_tokens or 0,
        },
        "output_tokens": counts.output_tokens,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning_tokens or 0},
        "total_tokens": counts.input_tokens + counts.output_tokens,
    }


def write_messages_usage(counts: Counts) -> dict[str, Any]:
    """Return the usage of a message."""
    cached, stored = counts.cached_tokens, counts.cache_write_tokens
    usage: dict[str, Any] = {
        "input_tokens": max(counts.input_tokens - (cached or 0) - (stored or 0), 0),
        "output_tokens": counts.output_tokens,
    }
    if cached is not None:
        usage["cache_read_input_tokens"] = cached
    if stored is not None:
        usage["cache_creation_input_tokens"] = stored
    if counts.reasoning_tokens is not None:
        usage["output_tokens_details"] = {"thinking_tokens": counts.reasoning_tokens}
    return usage


_TIERS = {"standard": "default", "priority": "priority", "batch": "batch"}


def openai_tier(stated: object) -> str | None:
    """Return in OpenAI's words in which tier of service a message was made; None where it does not say."""
    return _TIERS.get(stated, stated) if isinstance(stated, str) else None


def anthropic_tier(stated: str | None) -> dict[str, str]:
    """Return the member of a message's usage that says so; none where Anthropic has no such tier (flex)."""
    told = next((ours for ours, theirs in _TIERS.items() if theirs == stated), None)
    return {} if told is None else {"service_tier": told}


def _count(value: object) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and value >= 0 else None
