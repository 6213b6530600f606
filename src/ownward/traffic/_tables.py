"""Traces that are tables of tokens and times: our own columns, Azure, BurstGPT, Mooncake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ownward.traffic import _values as values
from ownward.traffic._format import Container, Context, Format, each_row, has
from ownward.traffic._rows import Row
from ownward.traffic._values import BadValue
from ownward.traffic.records import TrafficRecord

_BOTH: frozenset[Container] = frozenset({"csv", "json"})
_MOONCAKE_BLOCK_TOKENS = 512  # kvcache-ai/Mooncake, FAST25-release: one id a prefix block of 512 tokens


_FLAT_TIMES = ("started_at", "timestamp", "created_at", "created", "time", "ts", "start_time", "arrival_time")
_FLAT_INPUTS = ("input_tokens", "prompt_tokens", "input_toks", "tokens_in")
_FLAT_OUTPUTS = ("output_tokens", "completion_tokens", "output_toks", "tokens_out")


def _read_generic(row: Row, context: Context) -> Iterable[TrafficRecord]:
    fields = row.fields
    started_at, since_first_s = context.place(values.instant_ns(fields, "started_at"))
    arrival_s = values.number(fields, "arrival_s")
    blocks = values.identifiers(fields, "prefix_blocks")
    yield TrafficRecord(
        row=row.number,
        source_row_id=values.text(fields, "request_id") or row.compute_digest(),
        started_at=started_at,
        arrival_s=since_first_s if arrival_s is None else arrival_s,
        input_tokens=values.count(fields, "input_tokens"),
        cached_input_tokens=values.count(fields, "cached_input_tokens", default=0),
        cache_write_tokens=values.count(fields, "cache_write_tokens", default=0),
        cache_write_1h_tokens=values.count(fields, "cache_write_1h_tokens", default=0),
        output_tokens=values.count(fields, "output_tokens"),
        workload=values.text(fields, "workload"),
        session=values.text(fields, "session"),
        model=values.text(fields, "model"),
        charge_usd=values.usd(fields, "charge_usd"),
        completed=values.truth(fields, "completed"),
        ttft_s=values.seconds(fields, "ttft_s"),
        latency_s=values.seconds(fields, "latency_s"),
        priority=values.integer(fields, "priority"),
        prefix_blocks=blocks,
        prefix_block_tokens=values.count(fields, "prefix_block_tokens", default=0) or None,
    )


def _read_azure(row: Row, context: Context) -> Iterable[TrafficRecord]:
    instant_ns = values.instant_ns(row.fields, "TIMESTAMP")
    if instant_ns is None:
        raise BadValue("TIMESTAMP is missing")
    started_at, arrival_s = context.place(instant_ns)
    yield TrafficRecord(
        row=row.number,
        source_row_id=row.compute_digest(),
        started_at=started_at,
        arrival_s=arrival_s,
        input_tokens=values.count(row.fields, "ContextTokens"),
        output_tokens=values.count(row.fields, "GeneratedTokens"),
    )


def _read_burstgpt(row: Row, _context: Context) -> Iterable[TrafficRecord]:
    fields = row.fields
    arrival_s = values.number(fields, "Timestamp")
    if arrival_s is None:
        raise BadValue("Timestamp is missing")
    output_tokens = values.count(fields, "Response tokens")
    yield TrafficRecord(
        row=row.number,
        source_row_id=row.compute_digest(),
        arrival_s=arrival_s,
        input_tokens=values.count(fields, "Request tokens"),
        output_tokens=output_tokens,
        workload=values.text(fields, "Log Type"),
        session=values.text(fields, "Session ID"),
        model=values.text(fields, "Model"),
        completed=output_tokens > 0,  # the trace's own notice: failed requests have 0 response tokens
        latency_s=values.seconds(fields, "Elapsed time"),
    )


def _read_mooncake(row: Row, _context: Context) -> Iterable[TrafficRecord]:
    fields = row.fields
    timestamp_ms = values.number(fields, "timestamp")
    if timestamp_ms is None:
        raise BadValue("timestamp is missing")
    blocks = values.identifiers(fields, "hash_ids")
    yield TrafficRecord(
        row=row.number,
        source_row_id=row.compute_digest(),
        arrival_s=timestamp_ms / 1e3,
        input_tokens=values.count(fields, "input_length"),
        output_tokens=values.count(fields, "output_length"),
        prefix_blocks=blocks,
        prefix_block_tokens=_MOONCAKE_BLOCK_TOKENS if blocks else None,
    )


def _read_flat(row: Row, context: Context) -> Iterable[TrafficRecord]:
    fields = values.folded(row.fields)
    started_at, arrival_s = context.place(values.instant_ns(fields, *_FLAT_TIMES))
    yield TrafficRecord(
        row=row.number,
        source_row_id=values.text(fields, "request_id", "id") or row.compute_digest(),
        started_at=started_at,
        arrival_s=arrival_s,
        input_tokens=values.count(fields, *_FLAT_INPUTS),
        cached_input_tokens=values.count(fields, "cached_input_tokens", "cached_tokens", default=0),
        cache_write_tokens=values.count(fields, "cache_write_tokens", default=0),
        cache_write_1h_tokens=values.count(fields, "cache_write_1h_tokens", default=0),
        output_tokens=values.count(fields, *_FLAT_OUTPUTS),
        workload=values.text(fields, "workload", "app", "application"),
        session=values.text(fields, "session", "session_id", "conversation_id", "user"),
        model=values.text(fields, "model", "model_name"),
        charge_usd=values.usd(fields, "charge_usd", "cost_usd", "cost"),
        completed=values.truth(fields, "completed", "success", "is_success"),
        ttft_s=values.seconds(fields, "ttft_s"),
        latency_s=values.seconds(fields, "latency_s"),
    )


def _is_flat(fields: Mapping[str, Any]) -> bool:
    told = values.folded(fields)
    return all(any(name in told for name in names) for names in (_FLAT_TIMES, _FLAT_INPUTS, _FLAT_OUTPUTS))


AZURE = Format(
    name="azure",
    title="Azure LLM inference trace, 2023 or 2024 (CSV)",
    containers=_BOTH,
    recognises=has("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    start=each_row(_read_azure),
)
BURSTGPT = Format(
    name="burstgpt",
    title="BurstGPT trace (CSV)",
    containers=_BOTH,
    recognises=has("Timestamp", "Request tokens", "Response tokens"),
    start=each_row(_read_burstgpt),
)
MOONCAKE = Format(
    name="mooncake",
    title="Mooncake trace (JSON Lines or Parquet)",
    containers=_BOTH,
    recognises=has("timestamp", "input_length", "output_length"),
    start=each_row(_read_mooncake),
)
GENERIC = Format(
    name="trace",
    title="ownward's own columns: arrival_s or started_at, input_tokens, output_tokens (JSON Lines, CSV, Parquet)",
    containers=_BOTH,
    recognises=lambda fields: (
        has("input_tokens", "output_tokens")(fields) and ("arrival_s" in fields or "started_at" in fields)
    ),
    start=each_row(_read_generic),
)
FLAT = Format(
    name="usage-rows",
    title="flat rows of a time, input (prompt) and output (completion) tokens, cached ones inside (CSV, JSON Lines)",
    containers=_BOTH,
    recognises=_is_flat,
    start=each_row(_read_flat),
)
