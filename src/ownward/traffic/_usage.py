"""Usage objects of every dialect into one: cached and written tokens inside input tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ownward.traffic import _values as values
from ownward.traffic._values import BadValue

_READ = ("cache_read_input_tokens", "prompt_cache_hit_tokens", "cached_tokens", "prompt_cached_tokens")
_OF_ANTHROPIC = frozenset({"cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation", "iterations"})
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


def read_usage(usage: Mapping[str, Any], model: str | None = None) -> Tokens:
    """Return the counts of a usage object: OpenAI's (chat or responses), Anthropic's, LiteLLM's, and their like.

    They are those that the gateway settles an answer of `model` for. OpenAI counts cached tokens inside its input, and
    so does LiteLLM, whose objects name `prompt_tokens` beside Anthropic's cache fields. Anthropic's own `input_tokens`
    stand beside them.
    Raises: BadValue, where a count is missing or none.
    """
    if "prompt_tokens" in usage:
        details = values.mapping(usage.get("prompt_tokens_details"))
        cached = values.count(details, "cached_tokens", default=0) or values.count(usage, *_READ, default=0)
        written = values.count(details, *_WRITTEN, default=0) or values.count(
            usage, "cache_creation_input_tokens", "prompt_cache_creation_tokens", default=0
        )
        minutes, hour = _lifetimes(details)
        written = written or minutes + hour
        read = values.count(usage, "prompt_tokens")
        output = _with_thinking(usage, read, values.count(usage, "completion_tokens", default=0), model)
        return Tokens(read, cached, written, output, min(hour, written))
    if not _OF_ANTHROPIC.isdisjoint(usage):
        parts = [one for one in values.mappings(usage.get("iterations")) if one.get("type") == "compaction"]
        each = [_read_beside(one) for one in (usage, *parts)]  # what summing up the context took is charged on top
        return Tokens(*(sum(counts) for counts in zip(*each, strict=True)))
    details = values.mapping(usage.get("input_tokens_details"))
    written = values.count(details, "cache_write_tokens", default=0)
    cached = values.count(details, "cached_tokens", default=0)
    read = values.count(usage, "input_tokens")
    output = _with_thinking(usage, read, values.count(usage, "output_tokens", default=0), model)
    return Tokens(read, cached, written, output, min(_lifetimes(details)[1], written))


def _read_beside(usage: Mapping[str, Any]) -> tuple[int, int, int, int, int]:
    """Return the fields of `Tokens` for counts whose input leaves out what was read from or written to a cache."""
    fresh, output = values.count(usage, "input_tokens"), values.count(usage, "output_tokens", default=0)
    cached = values.count(usage, "cache_read_input_tokens", default=0)
    minutes, hour = _lifetimes(usage)
    written = values.count(usage, "cache_creation_input_tokens", default=minutes + hour)
    # a stream states the lifetimes at its start, and in the sum at its end what the provider's tools added
    hour = written if hour and not minutes else min(hour, written)
    return fresh + cached + written, cached, written, output, hour


def _with_thinking(usage: Mapping[str, Any], read: int, written: int, model: str | None) -> int:
    """Return the output with what was thought beside it, where the total says so: xAI's reasoning, and Gemini's."""
    beside = values.count(usage, "total_tokens", default=0) - read - written
    thought = values.mapping(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    if beside > 0 and (
        "gemini" in (model or "").lower() or beside == values.count(thought, "reasoning_tokens", default=0)
    ):
        return written + beside
    return written


def _lifetimes(told: Mapping[str, Any]) -> tuple[int, int]:
    """Return what was written for minutes, and for the longer lifetime sold: Anthropic's hour, OpenAI's twelve."""
    parts: dict[str, Any] = {}
    for name in ("cache_creation", "cache_creation_token_details", "cache_write_tokens_details"):
        parts |= values.mapping(told.get(name))
    hour = values.count(parts, "ephemeral_1h_input_tokens", "ttl_12h_tokens", default=0)
    return values.count(parts, "ephemeral_5m_input_tokens", default=0), hour


def read_timings(timings: Mapping[str, Any], *, all_input_tokens: int | None = None) -> Tokens:
    """Return the counts of a llama.cpp `timings` object, whose `prompt_n` leaves cached tokens out.

    An older one does not tell `cache_n`: what `all_input_tokens`, which its answer counts, has more was cached.
    Raises: BadValue, where a count is missing or none.
    """
    read = values.count(timings, "prompt_n")
    cached = values.count(timings, "cache_n", default=max((all_input_tokens or read) - read, 0))
    return Tokens(read + cached, cached, 0, values.count(timings, "predicted_n"))


def need(usage: Mapping[str, Any], model: str | None = None) -> Tokens:
    """Return the counts, or raise BadValue where there are none at all."""
    if not is_usage(usage):
        raise BadValue("usage is missing")
    return read_usage(usage, model)
