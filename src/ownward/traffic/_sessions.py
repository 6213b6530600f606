"""Traces of agents: Claude Code sessions and OpenTelemetry GenAI spans."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ownward.traffic import _values as values
from ownward.traffic._format import Context, Format, each_row
from ownward.traffic._rows import Row
from ownward.traffic._usage import need
from ownward.traffic._values import NS_PER_S
from ownward.traffic.records import TrafficRecord

# The convention's names, and those that instrumentations wrote before it had any.
_READ_FROM_CACHE = ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens")
_WRITTEN_TO_CACHE = (
    *("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens"),
    *("gen_ai.usage.cache_creation_input_tokens", "gen_ai.usage.cache_write_input_tokens"),
)
_PENDING = 256
_SYNTHETIC_MODEL = "<synthetic>"
_MODEL_OPERATIONS = frozenset({None, "chat", "text_completion", "generate_content", "embeddings"})


class _ClaudeCode:
    """Joins the lines of one answer (same message id and request id), which repeat its usage; the fullest counts.

    Claude Code writes a line for each block of an answer, the first ones while it still streams.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._pending: OrderedDict[str, TrafficRecord] = OrderedDict()
        self._repeats = 0

    @property
    def repeats(self) -> int:
        return self._repeats

    def convert(self, row: Row) -> Iterator[TrafficRecord]:
        fields = row.fields
        message = values.mapping(fields.get("message"))
        usage = values.mapping(message.get("usage"))
        model = values.text(message, "model")
        if fields.get("type") != "assistant" or not usage or model == _SYNTHETIC_MODEL:
            return  # what the user typed, tools returned or the program noted
        tokens = need(usage)
        message_id, request_id = values.text(message, "id"), values.text(fields, "requestId")
        answer = f"{message_id or ''}:{request_id or ''}" if message_id or request_id else row.compute_digest()
        earlier = self._pending.get(answer)
        if earlier is not None:
            self._repeats += 1
            if tokens.output_tokens > earlier.output_tokens:
                self._pending[answer] = replace(earlier, output_tokens=tokens.output_tokens)
            return
        started_at, arrival_s = self._context.place(values.instant_ns(fields, "timestamp"))
        self._pending[answer] = TrafficRecord(
            row=row.number,
            source_row_id=answer,
            started_at=started_at,
            arrival_s=arrival_s,
            input_tokens=tokens.input_tokens,
            cached_input_tokens=tokens.cached_input_tokens,
            cache_write_tokens=tokens.cache_write_tokens,
            cache_write_1h_tokens=tokens.cache_write_1h_tokens,
            output_tokens=tokens.output_tokens,
            workload="claude-code-subagent" if fields.get("isSidechain") is True else "claude-code",
            session=values.text(fields, "sessionId"),
            model=model,
            charge_usd=values.usd(fields, "costUSD"),
            completed=False if fields.get("isApiErrorMessage") is True else None,
        )
        if len(self._pending) > _PENDING:
            yield self._pending.popitem(last=False)[1]

    def finish(self) -> Iterable[TrafficRecord]:
        found = list(self._pending.values())
        self._pending.clear()
        return found


def _read_otel(row: Row, context: Context) -> Iterable[TrafficRecord]:
    for span, resource in _spans(row.fields):
        attributes = _attributes(span.get("attributes"))
        if values.text(attributes, "gen_ai.operation.name") not in _MODEL_OPERATIONS:
            continue  # an agent's or tool's span sums up those inside it
        if not any(name.startswith("gen_ai.usage.") for name in attributes):
            continue
        start_ns = values.instant_ns(span, "startTimeUnixNano", "start_time", "startTime", "start_time_unix_nano")
        end_ns = values.instant_ns(span, "endTimeUnixNano", "end_time", "endTime", "end_time_unix_nano")
        started_at, arrival_s = context.place(start_ns)
        body = {
            "system": values.parsed(attributes.get("gen_ai.system_instructions")),
            "messages": values.parsed(attributes.get("gen_ai.input.messages")),
            "tools": values.parsed(attributes.get("gen_ai.tool.definitions")),
        }
        told = {name: value for name, value in body.items() if value}
        sketch = context.sketch(_flat_messages(told)) if told else None
        where = values.mapping(span.get("context"))
        span_id = values.text(span, "spanId", "span_id") or values.text(where, "span_id")
        trace_id = values.text(span, "traceId", "trace_id") or values.text(where, "trace_id")
        service = None if sketch else values.text(resource, "service.name")
        yield TrafficRecord(
            row=row.number,
            source_row_id=f"{trace_id or ''}:{span_id}" if span_id else row.compute_digest(),
            started_at=started_at,
            arrival_s=arrival_s,
            # the convention counts cached and written tokens inside input_tokens
            input_tokens=values.count(attributes, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
            cached_input_tokens=values.count(attributes, *_READ_FROM_CACHE, default=0),
            cache_write_tokens=values.count(attributes, *_WRITTEN_TO_CACHE, default=0),
            output_tokens=values.count(
                attributes, "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", default=0
            ),
            workload=values.text(attributes, "gen_ai.agent.name") or service,
            session=values.text(attributes, "gen_ai.conversation.id") or trace_id,
            model=values.text(attributes, "gen_ai.request.model", "gen_ai.response.model"),
            completed=False if "error.type" in attributes else None,
            ttft_s=values.seconds(attributes, "gen_ai.response.time_to_first_chunk"),
            latency_s=None
            if start_ns is None or end_ns is None or end_ns < start_ns
            else (end_ns - start_ns) / NS_PER_S,
            sketch=sketch,
        )


def _spans(fields: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield each span with its resource's attributes: of an OTLP document, or a span by itself."""
    if "resourceSpans" not in fields:
        yield fields, _attributes(values.mapping(fields.get("resource")).get("attributes"))
        return
    for group in values.mappings(fields["resourceSpans"]):
        resource = _attributes(values.mapping(group.get("resource")).get("attributes"))
        for scope in values.mappings(group.get("scopeSpans")):
            for span in values.mappings(scope.get("spans")):
                yield span, resource


def _attributes(value: object) -> dict[str, Any]:
    """Return attributes as a mapping: OTLP writes a list of keys with typed values, others an object, nested or not."""
    if isinstance(value, Mapping):
        nested = value.get("gen_ai")
        return {**value, **_flat("gen_ai", nested)} if isinstance(nested, Mapping) else dict(value)
    return {str(one.get("key")): _plain(one.get("value")) for one in values.mappings(value)}


def _flat(name: str, value: object) -> dict[str, Any]:
    """Return nested attributes by their whole names."""
    if not isinstance(value, Mapping):
        return {name: value}
    return {full: one for key, item in value.items() for full, one in _flat(f"{name}.{key}", item).items()}


def _plain(value: object) -> Any:
    if not isinstance(value, Mapping):
        return value
    for name in ("stringValue", "intValue", "doubleValue", "boolValue"):
        if name in value:
            return value[name]
    if "arrayValue" in value:
        return [_plain(one) for one in values.mappings(values.mapping(value["arrayValue"]).get("values"))]
    if "kvlistValue" in value:
        return _attributes(values.mapping(value["kvlistValue"]).get("values"))
    return None


def _flat_messages(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body whose messages have their parts as content, as chat bodies do."""
    messages = [
        {"role": one.get("role"), "content": one.get("parts", one.get("content"))}
        for one in values.mappings(body.get("messages"))
    ]
    return {**body, "messages": messages}


def _is_claude_code(fields: Mapping[str, Any]) -> bool:
    return "sessionId" in fields and ("uuid" in fields or "message" in fields)


def _is_otel(fields: Mapping[str, Any]) -> bool:
    if "resourceSpans" in fields:
        return True
    attributes = fields.get("attributes")
    return any(name.startswith("gen_ai.") for name in _attributes(attributes))


CLAUDE_CODE = Format(
    name="claude-code",
    title="Claude Code session (JSON Lines)",
    containers=frozenset({"json"}),
    recognises=_is_claude_code,
    start=_ClaudeCode,
)
OTEL = Format(
    name="otel",
    title="OpenTelemetry GenAI spans (OTLP JSON, or one span per line)",
    containers=frozenset({"json"}),
    recognises=_is_otel,
    start=each_row(_read_otel),
)
