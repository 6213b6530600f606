"""Usage objects of every dialect into one: cached and written tokens inside input tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ownward.traffic import _values as values
from ownward.traffic._values import BadValue

_READ = ("cache_read_input_tokens", "prompt_cache_hit_tokens", "cached_tokens", "prompt_cached_tokens")
_WRITTEN = ("cache_write_tokens", "cache_creation_input_tokens", "cache_creation_tokens")


@dataclass(frozen=True, slots=True)
class Tokens:
    """One request's counts; cached and written ones are inside the input, those for longer inside the written."""

    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    output_tokens: int
    cache_write_1h_tokens: int = 0


def is_usage(usage: Mapping[str, Any]) -> bool:
    """Return whether a mapping tells input and output tokens."""
    return any(name in usage for name in ("prompt_tokens", "input_tokens", "completion_tokens", "output_tokens"))


def read_usage(usage: Mapping[str, Any]) -> Tokens:
    """Return the counts of a usage object: OpenAI's (chat or responses), Anthropic's, LiteLLM's, and their like.

    OpenAI counts cached tokens inside its input, and so does LiteLLM, whose
    objects name `prompt_tokens` beside Anthropic's cache fields. Anthropic's own `input_tokens` stand beside them.
    Raises: BadValue, where a count is missing or none.
    """
    if "prompt_tokens" in usage:
        details = values.mapping(usage.get("prompt_tokens_details"))
        cached = values.count(details, "cached_tokens", default=0) or values.count(usage, *_READ, default=0)
        written = values.count(details, *_WRITTEN, default=0) or values.count(
            usage, "cache_creation_input_tokens", "prompt_cache_creation_tokens", default=0
        )
        output = values.count(usage, "completion_tokens", default=0)
        hour = _for_longer(details, written)
        return Tokens(values.count(usage, "prompt_tokens"), cached, written, output, hour)
    fresh = values.count(usage, "input_tokens")
    output = values.count(usage, "output_tokens", default=0)
    if "cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage:
        cached = values.count(usage, "cache_read_input_tokens", default=0)
        written = values.count(usage, "cache_creation_input_tokens", default=0)
        hour = _for_longer(usage, written)
        return Tokens(fresh + cached + written, cached, written, output, hour)
    details = values.mapping(usage.get("input_tokens_details"))
    written = values.count(details, "cache_write_tokens", default=0)
    cached = values.count(details, "cached_tokens", default=0)
    return Tokens(fresh, cached, written, output, _for_longer(details, written))


def _for_longer(told: Mapping[str, Any], written: int) -> int:
    """Return what was written for the longer lifetime that is sold: Anthropic's hour, OpenAI's twelve."""
    parts: dict[str, Any] = {}
    for name in ("cache_creation", "cache_creation_token_details", "cache_write_tokens_details"):
        parts |= values.mapping(told.get(name))
    return min(values.count(parts, "ephemeral_1h_input_tokens", "ttl_12h_tokens", default=0), written)


def read_timings(timings: Mapping[str, Any], *, all_input_tokens: int | None = None) -> Tokens:
    """Return the counts of a llama.cpp `timings` object, whose `prompt_n` leaves cached tokens out.

    An older one does not tell `cache_n`: what `all_input_tokens`, which its answer counts, has more was cached.
    Raises: BadValue, where a count is missing or none.
    """
    read = values.count(timings, "prompt_n")
    cached = values.count(timings, "cache_n", default=max((all_input_tokens or read) - read, 0))
    return Tokens(read + cached, cached, 0, values.count(timings, "predicted_n"))


def need(usage: Mapping[str, Any]) -> Tokens:
    """Return the counts, or raise BadValue where there are none at all."""
    if not is_usage(usage):
        raise BadValue("usage is missing")
    return read_usage(usage)
