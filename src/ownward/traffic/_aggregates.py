"""Exports that sum requests up: recognised, so that we can say why they cannot be planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ownward.traffic._format import Container, Format, has
from ownward.traffic._values import folded, mapping

_BOTH: frozenset[Container] = frozenset({"csv", "json"})
_WHY = "an aggregate of many requests per row, which cannot be planned per request."


def _is_openai_usage(fields: Mapping[str, Any]) -> bool:
    items = fields.get("data") if fields.get("object") == "page" else fields.get("results")
    if isinstance(items, list) and items and isinstance(items[0], Mapping):
        first = items[0]
        return first.get("object") == "bucket" or str(first.get("object", "")).startswith("organization.")
    kind = str(fields.get("object", ""))
    return (
        kind in {"bucket", "page"}
        or kind.startswith("organization.")
        or "num_model_requests" in fields
        or has("amount_value", "line_item")(fields)
    )


def _is_openrouter_daily(fields: Mapping[str, Any]) -> bool:
    items = fields.get("data")
    row = items[0] if isinstance(items, list) and items and isinstance(items[0], Mapping) else mapping(fields)
    return has("date", "usage", "requests", "prompt_tokens")(row)


def _is_other(fields: Mapping[str, Any]) -> bool:
    counts = {"requests", "num_requests", "n_requests", "request_count", "total_requests"}
    tokens = {"input_tokens", "prompt_tokens", "n_context_tokens_total", "total_input_tokens"}
    told = folded(fields).keys()
    return bool(counts & told) and bool(tokens & told)


def _is_anthropic_usage(fields: Mapping[str, Any]) -> bool:
    if "usage_date_utc" in fields or has("model_version", "usage_output_tokens")(fields):
        return True  # the console's CSV
    results = fields.get("results")
    return has("starting_at", "ending_at")(fields) and isinstance(results, list)


AGGREGATES: tuple[Format, ...] = (
    Format(
        name="openai-usage",
        title="an OpenAI organization usage or costs export",
        containers=_BOTH,
        recognises=_is_openai_usage,
        refusal=f"{_WHY} Log the answers' own usage instead, or export from a gateway (LiteLLM, Langfuse, Helicone)",
    ),
    Format(
        name="anthropic-usage",
        title="an Anthropic usage export",
        containers=_BOTH,
        recognises=_is_anthropic_usage,
        refusal=f"{_WHY} Log the answers' own usage instead, or export from a gateway (LiteLLM, Langfuse, Helicone)",
    ),
    Format(
        name="openrouter-daily",
        title="an OpenRouter /activity export",
        containers=_BOTH,
        recognises=_is_openrouter_daily,
        refusal=f"{_WHY} Export the activity as CSV, which has one row per generation",
    ),
    Format(
        name="litellm-daily",
        title="a LiteLLM daily spend table",
        containers=_BOTH,
        recognises=has("date", "api_requests", "prompt_tokens", "completion_tokens"),
        refusal=f"{_WHY} Export LiteLLM_SpendLogs, which has one row per request",
    ),
    Format(
        name="aggregate-rows",
        title="a table that counts requests",
        containers=_BOTH,
        recognises=_is_other,
        refusal=f"{_WHY} Export one row per request",
    ),
)
