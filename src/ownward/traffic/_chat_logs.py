"""Logs of bodies: OpenAI chat, responses and batch files, llama.cpp's answers, chats without usage."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from ownward.traffic import _prompt
from ownward.traffic import _values as values
from ownward.traffic._events import answer_of_events
from ownward.traffic._format import Context, Format, each_row, has
from ownward.traffic._rows import Row
from ownward.traffic._usage import Tokens, is_usage, need, read_timings
from ownward.traffic._values import BadValue
from ownward.traffic.records import TrafficRecord, UsageBasis

_OK = 200
_MULTIPLE = 300
_OPEN_STREAMS = 256
_USUAL = frozenset({None, "auto", "default", "on_demand", "standard", "standard_only"})

REQUEST_NAMES = ("request", "request_body", "body", "input", "req", "requestBody")
RESPONSE_NAMES = ("response", "response_body", "output", "completion", "res", "responseBody")
TIME_NAMES = ("started_at", "request_created_at", "timestamp", "time", "created_at", "created", "ts", "start_time")


def record_of_bodies(
    row: Row,
    context: Context,
    *,
    request: Mapping[str, Any],
    response: Mapping[str, Any],
    instant_ns: int | None = None,
    record_id: str | None = None,
    completed: bool | None = None,
) -> TrafficRecord:
    """Return the record of a request body and its answer, either of which may be empty.

    Without usage the counts are estimated from the text. A llama.cpp answer's
    `timings` count before its usage, as only they tell cached tokens.
    """
    usage = values.mapping(response.get("usage"))
    timings = values.mapping(response.get("timings"))
    basis: UsageBasis = "upstream"
    if timings.get("prompt_n") is not None:
        told = values.count(usage, "prompt_tokens", default=0) or values.count(response, "tokens_evaluated", default=0)
        tokens = read_timings(timings, all_input_tokens=told)
    elif is_usage(usage):
        tokens = need(usage, values.text(response, "model") or values.text(request, "model"))
    elif request and completed is False and not any(response.get(name) for name in ("choices", "content", "output")):
        tokens = Tokens(0, 0, 0, 0)  # refused: nothing was read, and nothing charged
    elif request:
        tokens, basis = _estimate(request, response, context)
    else:
        raise BadValue("it holds neither a request nor its usage")
    created = instant_ns if instant_ns is not None else values.instant_ns(response, "created", "created_at")
    started_at, arrival_s = context.place(created)
    metadata = values.mapping(request.get("metadata"))
    # llama.cpp's `timings`, or vLLM's `metrics` where it is told to send them
    ttft_ms = values.number(timings, "prompt_ms")
    if ttft_ms is None:
        ttft_ms = values.number(values.mapping(response.get("metrics")), "time_to_first_token_ms")
    return TrafficRecord(
        row=row.number,
        source_row_id=record_id or values.text(response, "id") or row.compute_digest(),
        started_at=started_at,
        arrival_s=arrival_s,
        input_tokens=tokens.input_tokens,
        cached_input_tokens=tokens.cached_input_tokens,
        cache_write_tokens=tokens.cache_write_tokens,
        cache_write_1h_tokens=tokens.cache_write_1h_tokens,
        output_tokens=tokens.output_tokens,
        workload=values.text(row.fields, "workload", "app", "application") or values.text(metadata, "workload", "app"),
        session=values.text(row.fields, "session", "session_id", "conversation_id", "task_id")
        or values.text(metadata, "session_id", "conversation_id")
        or values.text(request, "user", "previous_response_id"),
        model=values.text(request, "model")
        or values.text(response, "model")
        or values.text(row.fields, "model")
        or values.text(values.mapping(row.fields.get("metadata")), "model"),
        charge_usd=values.usd(row.fields, "charge_usd", "cost", "cost_usd") or _cost(usage),
        completed=completed,
        usage_basis=basis,
        mode=_mode(response, usage),
        ttft_s=values.seconds(row.fields, "ttft_s") if ttft_ms is None else ttft_ms / 1e3,
        latency_s=values.seconds(row.fields, "latency_s"),
        sketch=context.sketch(request),
    )


def _mode(response: Mapping[str, Any], usage: Mapping[str, Any]) -> str | None:
    """Return how an answer says that it was served, where that is not the usual way."""
    if usage.get("speed") == "fast":
        return "fast"
    stated = values.text(response, "service_tier") or values.text(usage, "service_tier")
    return None if stated in _USUAL else stated


def _cost(usage: Mapping[str, Any]) -> Decimal | None:
    """Return what OpenRouter's usage says a call came to: with a key of one's own, its fee and the provider's part."""
    cost = values.usd(usage, "cost")
    if not values.truth(usage, "is_byok"):
        return cost
    provider = values.usd(values.mapping(usage.get("cost_details")), "upstream_inference_cost")
    return cost if provider is None else (cost or Decimal(0)) + provider


def _estimate(request: Mapping[str, Any], response: Mapping[str, Any], context: Context) -> tuple[Tokens, UsageBasis]:
    counter = context.count_tokens or _prompt.estimate_tokens
    answer = "\n".join(
        _prompt.message_text(values.mapping(choice.get("message")))
        for choice in values.mappings(response.get("choices"))
    )
    answer = answer or _prompt.message_text({"content": response.get("output", response.get("content"))})
    basis: UsageBasis = "counted" if context.count_tokens else "estimated"
    return Tokens(counter(_prompt.prompt_text(request)), 0, 0, counter(answer)), basis


def _read_logged(row: Row, context: Context) -> Iterable[TrafficRecord]:
    fields = row.fields
    request = next((found for name in REQUEST_NAMES if (found := values.mapping(fields.get(name)))), {})
    response = next((found for name in RESPONSE_NAMES if (found := values.mapping(fields.get(name)))), {})
    if not response:
        response = next((found for name in RESPONSE_NAMES if (found := answer_of_events(fields.get(name)))), {})
    if not response and ("usage" in fields or "timings" in fields or "choices" in fields):
        response = fields
    if not request and "messages" in fields:
        request = fields
    metrics = values.mapping(fields.get("metrics"))  # Braintrust's, beside the bodies
    if is_usage(metrics) and not is_usage(values.mapping(response.get("usage"))):
        response = {**response, "usage": metrics}
    told = values.text(fields, "status", "status_code", "response_status") or ""
    status = int(told) if told.isdecimal() and len(told) == len("200") else None
    yield record_of_bodies(
        row,
        context,
        request=request,
        response=response,
        instant_ns=values.instant_ns(fields, *TIME_NAMES),
        record_id=values.text(fields, "request_id", "id"),
        completed=None if status is None else _OK <= status < _MULTIPLE,
    )


class _Logged:
    """Reads logged answers; the pieces of one stream, each of which tells the usage so far, are one request."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._streams: OrderedDict[str, TrafficRecord] = OrderedDict()
        self._repeats = 0

    @property
    def repeats(self) -> int:
        return self._repeats

    def convert(self, row: Row) -> Iterator[TrafficRecord]:
        records = _read_logged(row, self._context)
        if row.fields.get("object") != "chat.completion.chunk":
            yield from records
            return
        for record in records:
            earlier = self._streams.get(record.source_row_id)
            if earlier is None:
                self._streams[record.source_row_id] = record
            else:
                self._repeats += 1
                if record.output_tokens > earlier.output_tokens:
                    self._streams[record.source_row_id] = replace(earlier, output_tokens=record.output_tokens)
        if len(self._streams) > _OPEN_STREAMS:
            yield self._streams.popitem(last=False)[1]

    def finish(self) -> Iterable[TrafficRecord]:
        found = list(self._streams.values())
        self._streams.clear()
        return found


def _read_batch_output(row: Row, context: Context) -> Iterable[TrafficRecord]:
    response = values.mapping(row.fields.get("response"))
    if not response:
        error = values.mapping(row.fields.get("error"))
        raise BadValue(f"the batch request failed: {values.text(error, 'code', 'message') or 'no response'}")
    status = values.count(response, "status_code", default=_OK)
    yield record_of_bodies(
        row,
        context,
        request={},
        response=values.mapping(response.get("body")),
        record_id=values.text(row.fields, "id", "custom_id"),
        completed=_OK <= status < _MULTIPLE,
    )


def _read_batch_input(row: Row, context: Context) -> Iterable[TrafficRecord]:
    yield record_of_bodies(
        row,
        context,
        request=values.mapping(row.fields.get("body")),
        response={},
        record_id=values.text(row.fields, "custom_id"),
    )


def _read_chat(row: Row, context: Context) -> Iterable[TrafficRecord]:
    """Yield one record a turn of the assistant: what it was sent is all that stands before it."""
    fields = row.fields
    messages = values.mappings(fields.get("messages"))
    if not messages:
        raise BadValue("messages is empty")
    counter = context.count_tokens or _prompt.estimate_tokens
    started_at, arrival_s = context.place(values.instant_ns(fields, *TIME_NAMES))
    chat_id = values.text(fields, "id", "conversation_id", "session_id") or row.compute_digest()
    body = {name: fields[name] for name in ("tools", "functions", "response_format", "system") if name in fields}
    sketch = context.sketch(body | {"messages": messages})
    sent = counter(_prompt.prompt_text(body)) if body else 0
    turns = 0
    for message in messages:
        length = counter(_prompt.message_text(message))
        if message.get("role") == "assistant":
            yield TrafficRecord(
                row=row.number,
                source_row_id=f"{chat_id}#{turns}",
                started_at=started_at,
                arrival_s=arrival_s,
                input_tokens=sent,
                output_tokens=length,
                workload=values.text(fields, "workload"),
                session=chat_id,
                model=values.text(fields, "model"),
                usage_basis="counted" if context.count_tokens else "estimated",
                sketch=sketch,
            )
            turns += 1
        sent += length
    if not turns:  # a prompt without its answer
        yield TrafficRecord(
            row=row.number,
            source_row_id=f"{chat_id}#0",
            started_at=started_at,
            arrival_s=arrival_s,
            input_tokens=sent,
            output_tokens=0,
            workload=values.text(fields, "workload"),
            session=chat_id,
            model=values.text(fields, "model"),
            usage_basis="counted" if context.count_tokens else "estimated",
            sketch=sketch,
        )


def _is_logged(fields: Mapping[str, Any]) -> bool:
    if "timings" in fields or (
        "usage" in fields and ("choices" in fields or "messages" in fields or "model" in fields)
    ):
        return True
    has_request = any({"messages", "input", "prompt"} & set(values.mapping(fields.get(name))) for name in REQUEST_NAMES)
    has_response = any(
        {"usage", "choices", "timings", "output"} & set(values.mapping(fields.get(name))) for name in RESPONSE_NAMES
    )
    return has_request or has_response


BATCH_OUTPUT = Format(
    name="openai-batch-output",
    title="OpenAI Batch output file (JSON Lines)",
    containers=frozenset({"json"}),
    recognises=has("custom_id", "response"),
    start=each_row(_read_batch_output),
)
BATCH_INPUT = Format(
    name="openai-batch-input",
    title="OpenAI Batch input file (JSON Lines; no answers, so that output tokens are 0)",
    containers=frozenset({"json"}),
    recognises=has("custom_id", "body"),
    start=each_row(_read_batch_input),
)
LOGGED = Format(
    name="openai-log",
    title="logged OpenAI, Anthropic or llama.cpp answers, with or without their requests (JSON Lines)",
    containers=frozenset({"json"}),
    recognises=_is_logged,
    start=_Logged,
)
CHAT = Format(
    name="chat",
    title='chats as {"messages": [...], "tools"?} a line (JSON Lines; tokens estimated)',
    containers=frozenset({"json"}),
    recognises=has("messages"),
    start=each_row(_read_chat),
)
