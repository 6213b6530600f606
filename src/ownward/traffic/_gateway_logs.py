"""Exports of gateways and observers: LiteLLM, Langfuse, LangSmith, Helicone, Portkey, OpenRouter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from ownward.traffic import _values as values
from ownward.traffic._format import Container, Context, Format, each_row, has
from ownward.traffic._rows import Row
from ownward.traffic._usage import Tokens, is_usage, read_usage
from ownward.traffic._values import NS_PER_S, BadValue
from ownward.traffic.records import TrafficRecord

_BOTH: frozenset[Container] = frozenset({"csv", "json"})
_OK = 200
_MULTIPLE = 300
_CLIENT_TAG = "User-Agent:"  # LiteLLM adds tags of the client's program to the user's own
_NO_MODEL_CALLS = (
    "create_batch",
    "retrieve_batch",
    "list_batch",
    "cancel_batch",
    "file",
    "mcp",
)  # in LiteLLM's call_type: what is kept and listed, and tools
_LANGFUSE_WRITTEN_1H = "input_cache_creation_1h"
_LANGFUSE_WRITTEN = (
    *("input_cache_creation", "input_cache_creation_5m", _LANGFUSE_WRITTEN_1H),
    "cache_creation_input_tokens",
)
_LANGSMITH_WRITTEN_1H = "ephemeral_1hr_input_tokens"
_LANGSMITH_WRITTEN = ("cache_creation", "cache_write", "ephemeral_5m_input_tokens", _LANGSMITH_WRITTEN_1H)


def _between_s(start_ns: int | None, end_ns: int | None) -> float | None:
    if start_ns is None or end_ns is None or end_ns < start_ns:
        return None
    return (end_ns - start_ns) / NS_PER_S


def _read_litellm(row: Row, context: Context) -> Iterable[TrafficRecord]:
    fields = row.fields
    kind = values.text(fields, "call_type") or ""
    if any(word in kind for word in _NO_MODEL_CALLS):
        if values.count(fields, "total_tokens", "prompt_tokens", default=0):
            raise BadValue(f"{kind} sums up a batch: import its output file, which has one row per request")
        return
    start_ns = values.instant_ns(fields, "startTime")
    started_at, arrival_s = context.place(start_ns)
    metadata = values.mapping(fields.get("metadata"))
    usage = values.mapping(metadata.get("usage_object")) or values.mapping(
        values.mapping(fields.get("response")).get("usage")
    )
    # the row's own counts; the usage object beside them tells what of the input was cached
    counted = {**usage, "prompt_tokens": values.count(fields, "prompt_tokens")}
    told = read_usage(usage if "input_tokens" in usage else counted) if is_usage(usage) else None
    messages = values.parsed(fields.get("messages"))
    request = values.mapping(fields.get("proxy_server_request"))
    body = values.mapping(request.get("body")) or request
    if not body and isinstance(messages, list) and messages:
        body = {"messages": messages}
    tags = values.parsed(fields.get("request_tags"))
    told_tags = [tag for tag in tags if not str(tag).startswith(_CLIENT_TAG)] if isinstance(tags, list) else []
    status = values.text(fields, "status")
    is_cache_hit = str(fields.get("cache_hit")).lower() == "true"
    yield TrafficRecord(
        row=row.number,
        source_row_id=values.text(fields, "request_id") or row.compute_digest(),
        started_at=started_at,
        arrival_s=arrival_s,
        input_tokens=values.count(fields, "prompt_tokens"),
        cached_input_tokens=told.cached_input_tokens if told else 0,
        cache_write_tokens=told.cache_write_tokens if told else 0,
        cache_write_1h_tokens=told.cache_write_1h_tokens if told else 0,
        output_tokens=values.count(fields, "completion_tokens"),
        workload=values.text({"tag": told_tags[0]}, "tag") if told_tags else None,
        session=values.text(fields, "session_id", "end_user"),
        model=values.text(fields, "model_group", "model"),
        charge_usd=Decimal(0) if is_cache_hit else values.usd(fields, "spend"),
        completed=None if status is None else status == "success",
        ttft_s=_between_s(start_ns, values.instant_ns(fields, "completionStartTime")),
        latency_s=_between_s(start_ns, values.instant_ns(fields, "endTime")),
        sketch=context.sketch(body),
    )


def _read_langfuse(row: Row, context: Context) -> Iterable[TrafficRecord]:
    fields = row.fields
    kind = values.text(fields, "type") or "GENERATION"
    if kind.upper() not in {"GENERATION", "EMBEDDING"}:
        return  # spans and events are no calls of a model
    started_at, arrival_s = context.place(values.instant_ns(fields, "start_time", "startTime"))
    usage = values.mapping(fields.get("usage_details") or fields.get("usageDetails") or fields.get("usage"))
    tokens = _langfuse_tokens(usage)
    cost = values.mapping(fields.get("cost_details") or fields.get("costDetails"))
    asked = values.parsed(fields.get("input"))
    body = {"messages": asked} if isinstance(asked, list) else values.mapping(asked)
    tools = values.parsed(fields.get("tool_definitions"))
    if tools and isinstance(body, dict):
        body = {"tools": tools, **body}
    charge = values.usd(fields, "total_cost", "totalCost", "calculatedTotalCost")
    yield TrafficRecord(
        row=row.number,
        source_row_id=values.text(fields, "id") or row.compute_digest(),
        started_at=started_at,
        arrival_s=arrival_s,
        input_tokens=tokens.input_tokens,
        cached_input_tokens=tokens.cached_input_tokens,
        cache_write_tokens=tokens.cache_write_tokens,
        cache_write_1h_tokens=tokens.cache_write_1h_tokens,
        output_tokens=tokens.output_tokens,
        workload=values.text(fields, "prompt_name", "promptName", "trace_name", "traceName"),
        session=values.text(fields, "session_id", "sessionId", "trace_id", "traceId"),
        model=values.text(fields, "provided_model_name", "model", "providedModelName"),
        charge_usd=charge if charge is not None else _sum(cost),
        completed=False if (values.text(fields, "level") or "").upper() == "ERROR" else None,
        ttft_s=values.seconds(fields, "time_to_first_token", "timeToFirstToken"),
        latency_s=values.seconds(fields, "latency"),
        sketch=context.sketch(body),
    )


def _langfuse_tokens(usage: Mapping[str, Any]) -> Tokens:
    """Return the counts of `usage_details`, whose parts add up: its `input` leaves cached and other parts out.

    Where `input` and `output` alone make the `total`, the parts are inside them after all.
    """
    if "input" not in usage and is_usage(usage):
        return read_usage(usage)
    inputs, outputs = values.count(usage, "input"), values.count(usage, "output", default=0)
    cached = values.count(usage, "input_cached_tokens", "input_cache_read", "cache_read_input_tokens", default=0)
    written = sum(values.count(usage, name, default=0) for name in _LANGFUSE_WRITTEN)
    if values.count(usage, "total", default=0) != inputs + outputs:
        inputs += sum(
            values.count(usage, name)
            for name in usage
            if name.startswith("input_") or name in {"cache_read_input_tokens", "cache_creation_input_tokens"}
        )
        outputs += sum(values.count(usage, name) for name in usage if name.startswith("output_"))
    return Tokens(inputs, cached, written, outputs, values.count(usage, _LANGFUSE_WRITTEN_1H, default=0))


def _sum(parts: Mapping[str, Any]) -> Decimal | None:
    if not parts:
        return None
    if "total" in parts:
        return values.usd(parts, "total")
    found = [values.usd(parts, name) for name in parts]
    return sum((one for one in found if one is not None), Decimal(0))


def _read_langsmith(row: Row, context: Context) -> Iterable[TrafficRecord]:
    fields = row.fields
    if (values.text(fields, "run_type") or "").lower() not in {"llm", "embedding"}:
        return  # chains and agents sum up the calls inside them
    start_ns = values.instant_ns(fields, "start_time")
    started_at, arrival_s = context.place(start_ns)
    extra = values.mapping(fields.get("extra"))
    metadata, asked = values.mapping(extra.get("metadata")), values.mapping(extra.get("invocation_params"))
    details = values.mapping(fields.get("prompt_token_details"))
    is_failed = values.text(fields, "error") is not None or values.text(fields, "status") == "error"
    unless_failed = 0 if is_failed else None
    body = {**values.mapping(fields.get("inputs")), **{name: asked[name] for name in ("tools",) if name in asked}}
    yield TrafficRecord(
        row=row.number,
        source_row_id=values.text(fields, "id") or row.compute_digest(),
        started_at=started_at,
        arrival_s=arrival_s,
        input_tokens=values.count(fields, "prompt_tokens", default=unless_failed),
        cached_input_tokens=values.count(details, "cache_read", default=0),
        cache_write_tokens=sum(values.count(details, name, default=0) for name in _LANGSMITH_WRITTEN),
        cache_write_1h_tokens=values.count(details, _LANGSMITH_WRITTEN_1H, default=0),
        output_tokens=values.count(fields, "completion_tokens", default=unless_failed),
        session=values.text(metadata, "session_id", "thread_id", "conversation_id") or values.text(fields, "trace_id"),
        model=values.text(metadata, "ls_model_name") or values.text(asked, "model", "model_name"),
        charge_usd=values.usd(fields, "total_cost"),
        completed=False if is_failed else None,
        ttft_s=_between_s(start_ns, values.instant_ns(fields, "first_token_time")),
        latency_s=_between_s(start_ns, values.instant_ns(fields, "end_time")),
        sketch=context.sketch(body),
    )


def _read_portkey(row: Row, context: Context) -> Iterable[TrafficRecord]:
    fields = row.fields
    started_at, arrival_s = context.place(values.instant_ns(fields, "created_at"))
    request, response = (values.mapping(fields.get(name)) for name in ("request", "response"))
    request = values.mapping(fields.get("request.body")) or values.mapping(request.get("body")) or request
    response = values.mapping(fields.get("response.body")) or values.mapping(response.get("body")) or response
    usage = values.mapping(response.get("usage"))
    units = {"prompt_tokens": fields.get("req_units"), "completion_tokens": fields.get("res_units")}
    model = values.text(fields, "ai_model") or values.text(request, "model")
    told = read_usage(usage if is_usage(usage) else units, model)
    metadata = values.mapping(fields.get("metadata"))
    cents = values.usd(fields, "cost")
    yield TrafficRecord(
        row=row.number,
        source_row_id=values.text(fields, "id", "trace_id") or row.compute_digest(),
        started_at=started_at,
        arrival_s=arrival_s,
        input_tokens=told.input_tokens,
        cached_input_tokens=told.cached_input_tokens,
        cache_write_tokens=told.cache_write_tokens,
        cache_write_1h_tokens=told.cache_write_1h_tokens,
        output_tokens=told.output_tokens,
        workload=values.text(metadata, "workload", "app", "feature") or values.text(fields, "prompt_slug"),
        session=values.text(metadata, "session_id", "conversation_id") or values.text(fields, "trace_id"),
        model=model,
        charge_usd=None if cents is None else cents / 100,  # docs.portkey.ai, logs export: "in cents (USD)"
        completed=values.truth(fields, "is_success"),
        latency_s=values.seconds(fields, "response_time", in_a_second=1e3),
        sketch=context.sketch(request),
    )


def _read_helicone(row: Row, context: Context) -> Iterable[TrafficRecord]:
    fields = row.fields
    start_ns = values.instant_ns(fields, "request_created_at")
    started_at, arrival_s = context.place(start_ns)
    status = values.number(fields, "response_status")
    body = values.mapping(fields.get("request_body"))
    usage = values.mapping(values.mapping(fields.get("response_body")).get("usage"))
    fresh = values.count(fields, "prompt_tokens")
    cached = values.count(fields, "prompt_cache_read_tokens", default=0)
    written, hour = values.count(fields, "prompt_cache_write_tokens", default=0), 0
    if is_usage(usage):
        told = read_usage(usage)
        inputs, cached = told.input_tokens, told.cached_input_tokens
        written, hour = told.cache_write_tokens, told.cache_write_1h_tokens
    else:
        # Helicone keeps the provider's own way of counting: Anthropic's prompt tokens leave the cache out
        is_outside = (values.text(fields, "provider") or "").upper() == "ANTHROPIC"
        inputs = fresh + cached + written if is_outside else fresh
    properties = values.mapping(fields.get("request_properties"))
    yield TrafficRecord(
        row=row.number,
        source_row_id=values.text(fields, "request_id", "response_id") or row.compute_digest(),
        started_at=started_at,
        arrival_s=arrival_s,
        input_tokens=inputs,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=hour,
        output_tokens=values.count(fields, "completion_tokens"),
        workload=values.text(
            properties, "app", "App", "workload", "feature", "Feature", "prompt_id", "Helicone-Prompt-Id"
        ),
        session=values.text(properties, "Helicone-Session-Id", "session"),
        model=values.text(fields, "model", "request_model", "response_model", "model_override"),
        charge_usd=values.usd(fields, "cost", "cost_usd", "costUSD"),
        completed=None if status is None else _OK <= status < _MULTIPLE,
        ttft_s=values.seconds(fields, "time_to_first_token", in_a_second=1e3),
        latency_s=values.seconds(fields, "delay_ms", "latency", in_a_second=1e3),
        sketch=context.sketch(body),
    )


def _with_own_key(fee_usd: Decimal | None, provider_usd: Decimal | None) -> Decimal | None:
    """Return what a request came to whose provider charged the user's own key, and OpenRouter a fee alone."""
    return fee_usd if provider_usd is None else (fee_usd or Decimal(0)) + provider_usd


def _read_openrouter_activity(row: Row, context: Context) -> Iterable[TrafficRecord]:
    fields = row.fields
    started_at, arrival_s = context.place(values.instant_ns(fields, "created_at"))
    finish = values.text(fields, "finish_reason_normalized")
    is_cancelled = values.truth(fields, "cancelled")
    yield TrafficRecord(
        row=row.number,
        source_row_id=values.text(fields, "generation_id") or row.compute_digest(),
        started_at=started_at,
        arrival_s=arrival_s,
        input_tokens=values.count(fields, "tokens_prompt"),
        cached_input_tokens=values.count(fields, "tokens_cached", default=0),
        output_tokens=values.count(fields, "tokens_completion"),
        workload=values.text(fields, "app_name", "api_key_name"),
        session=values.text(fields, "user"),
        model=values.text(fields, "model_permaslug"),
        charge_usd=_with_own_key(values.usd(fields, "cost_total"), values.usd(fields, "byok_usage_inference")),
        completed=False if is_cancelled or finish == "error" else None if finish is None else True,
        ttft_s=values.seconds(fields, "time_to_first_token_ms", in_a_second=1e3),
        latency_s=values.seconds(fields, "generation_time_ms", in_a_second=1e3),
    )


def _read_openrouter_generation(row: Row, context: Context) -> Iterable[TrafficRecord]:
    fields = values.mapping(row.fields.get("data")) or row.fields
    started_at, arrival_s = context.place(values.instant_ns(fields, "created_at"))
    record_id = values.text(fields, "id")
    if record_id is None:
        raise BadValue("id is missing")
    yield TrafficRecord(
        row=row.number,
        source_row_id=record_id,
        started_at=started_at,
        arrival_s=arrival_s,
        input_tokens=values.count(fields, "native_tokens_prompt", "tokens_prompt"),  # native ones are billed
        cached_input_tokens=values.count(fields, "native_tokens_cached", default=0),
        output_tokens=values.count(fields, "native_tokens_completion", "tokens_completion"),
        workload=values.text(fields, "app_id"),
        session=values.text(fields, "external_user"),
        model=values.text(fields, "model"),
        charge_usd=_with_own_key(
            values.usd(fields, "total_cost"),
            values.usd(fields, "upstream_inference_cost") if values.truth(fields, "is_byok") else None,
        ),
        completed=False if values.truth(fields, "cancelled") else None,
        ttft_s=values.seconds(fields, "latency", in_a_second=1e3),
        latency_s=values.seconds(fields, "generation_time", in_a_second=1e3),
    )


LITELLM = Format(
    name="litellm",
    title="LiteLLM SpendLogs (CSV, JSON or JSON Lines)",
    containers=_BOTH,
    recognises=has("request_id", "spend", "prompt_tokens", "completion_tokens", "startTime"),
    start=each_row(_read_litellm),
)
LANGFUSE = Format(
    name="langfuse",
    title="Langfuse observations export (CSV, JSON or JSON Lines)",
    containers=_BOTH,
    recognises=lambda fields: (
        ("usage_details" in fields or "usageDetails" in fields) and ("trace_id" in fields or "traceId" in fields)
    ),
    start=each_row(_read_langfuse),
)
LANGSMITH = Format(
    name="langsmith",
    title="LangSmith runs (CSV, JSON or JSON Lines)",
    containers=_BOTH,
    recognises=has("run_type", "start_time"),
    start=each_row(_read_langsmith),
)
PORTKEY = Format(
    name="portkey",
    title="Portkey logs export (CSV, JSON or JSON Lines)",
    containers=_BOTH,
    recognises=has("req_units", "res_units", "created_at"),
    start=each_row(_read_portkey),
)
HELICONE = Format(
    name="helicone",
    title="Helicone requests export (CSV, JSON or JSON Lines)",
    containers=_BOTH,
    recognises=has("request_created_at", "prompt_tokens", "completion_tokens"),
    start=each_row(_read_helicone),
)
OPENROUTER = Format(
    name="openrouter",
    title="OpenRouter activity export, one row per generation (CSV)",
    containers=_BOTH,
    recognises=has("generation_id", "tokens_prompt", "tokens_completion"),
    start=each_row(_read_openrouter_activity),
)
OPENROUTER_GENERATION = Format(
    name="openrouter-generation",
    title="OpenRouter generation records (JSON or JSON Lines)",
    containers=frozenset({"json"}),
    recognises=lambda fields: "native_tokens_prompt" in (values.mapping(fields.get("data")) or fields),
    start=each_row(_read_openrouter_generation),
)
