"""Spans of OpenTelemetry: one for each request and one below it for each call, by the conventions for generative AI.

They carry names, counts and times, and no word of a request or an answer. The SDK is the extra `otel`, loaded only
where spans are asked for; what it makes leaves through the outbound door, with a permit, or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ownward.core import Clock, ConfigError, Fault, MissingExtra, picousd_to_usd
from ownward.gateway.endpoints import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES
from ownward.gateway.watching.metrics import CallEnd, Outcome
from ownward.policy import Label, Place
from ownward.upstreams import Door

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from ownward.gateway.watching.watched import Watched

_NS = 1_000_000_000
_OPERATIONS = {
    CHAT.path: "chat",
    RESPONSES.path: "chat",
    MESSAGES.path: "chat",
    COMPLETIONS.path: "text_completion",
    EMBEDDINGS.path: "embeddings",
}


class SpanWriter:
    """Makes the spans of a request when it is over."""

    def __init__(self, provider: TracerProvider, clock: Clock, *, hurry: Callable[[], None] = lambda: None) -> None:
        """Take the SDK's provider, which samples and exports, and the gateway's clock.

        `hurry` is called on the event loop before the provider is shut down.
        """
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        from ownward import __version__

        self._provider = provider
        self._hurry = hurry
        self._clock = clock
        self._tracer = provider.get_tracer("ownward", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def request_ended(self, exchange: Watched, *, outcome: Outcome, latency_s: float) -> None:
        """Make the request's span and one for each of its calls."""
        from opentelemetry import trace

        now_ns = int(self._clock.now().timestamp() * _NS)
        now_s = self._clock.monotonic_s()
        started_ns = now_ns - int(latency_s * _NS)
        path = exchange.endpoint.path
        request = self._tracer.start_span(
            f"POST {path}",
            context=self._parent_of(exchange),
            kind=trace.SpanKind.SERVER,
            attributes=_stated(
                {
                    "http.request.method": "POST",
                    "http.route": path,
                    "http.response.status_code": exchange.status,
                    "ownward.request_id": exchange.request_id,
                    "ownward.workload": exchange.workload,
                    "ownward.label": str(exchange.label),
                    "ownward.outcome": outcome,
                    "ownward.attempts": exchange.attempts,
                    "ownward.hedge": exchange.hedge,
                    "ownward.queue_s": exchange.queue_s or None,
                    "ownward.reason": None if exchange.choice is None else exchange.choice.reason + exchange.outcome,
                    "error.type": exchange.error_kind,
                }
            ),
            start_time=started_ns,
        )
        if exchange.error_kind is not None and outcome in {"failed", "broken"}:
            request.set_status(trace.StatusCode.ERROR)
        inside = trace.set_span_in_context(request)
        for call in exchange.calls:
            call_started_ns = now_ns - int((now_s - call.started_s) * _NS)
            span = self._tracer.start_span(
                f"{_OPERATIONS.get(path, 'chat')} {call.target.tier.model}",
                context=inside,
                kind=trace.SpanKind.CLIENT,
                attributes=_stated(_of_call(call, path)),
                start_time=call_started_ns,
            )
            if call.state != "settled" and not call.is_beaten:
                span.set_status(trace.StatusCode.ERROR)
            span.end(call_started_ns + int(call.latency_s * _NS))
        request.end(now_ns)

    def _parent_of(self, exchange: Watched) -> Any:
        """Return the context that the client's `traceparent` names; a trace of our own where it names none."""
        carried = exchange.headers.get(b"traceparent")
        return self._propagator.extract({} if carried is None else {"traceparent": carried.decode("latin-1")})

    async def stop(self) -> None:
        """Have what waits exported, as far as the collector takes it in time."""
        self._hurry()
        await asyncio.to_thread(self._provider.shutdown)


def _of_call(call: CallEnd, path: str) -> dict[str, Any]:
    target, usage = call.target, call.usage
    host, _, port = target.origin.rpartition("://")[2].rpartition(":")
    return {
        "gen_ai.operation.name": _OPERATIONS.get(path, "chat"),
        "gen_ai.provider.name": target.tier.provider or target.tier.engine or "self_hosted",
        "gen_ai.request.model": target.tier.model,
        "gen_ai.usage.input_tokens": None if usage is None else usage.input_tokens,
        "gen_ai.usage.output_tokens": None if usage is None else usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": None if usage is None else usage.cached_input_tokens,
        "gen_ai.usage.cache_creation.input_tokens": None if usage is None else usage.cache_write_tokens,
        "server.address": host or target.origin.rpartition("://")[2],
        "server.port": int(port) if host and port.isdecimal() else None,
        "http.response.status_code": call.status,
        "error.type": None if call.state == "settled" or call.is_beaten else str(call.status or call.state),
        "ownward.tier": target.tier.name,
        "ownward.upstream": target.name,
        "ownward.attempt": call.number,
        "ownward.state": call.state,
        "ownward.hedge": call.is_hedge or None,
        "ownward.beaten": call.is_beaten or None,
        "ownward.ttft_s": call.ttft_s,
        "ownward.tpot_s": call.tpot_s,
        "ownward.charge_usd": None if call.charge_picousd is None else float(picousd_to_usd(call.charge_picousd)),
    }


def _stated(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def make_span_writer(
    door: Door, *, url: str, headers: Sequence[tuple[bytes, bytes]], place: Place, label: Label, clock: Clock
) -> SpanWriter:
    """Return what exports spans to the collector at `url` (OTLP over HTTP, protobuf), in batches, by this event loop.

    Sampling, batching and the service's name are the SDK's own `OTEL_…` variables.
    Raises: MissingExtra, if the SDK is not installed; ConfigError, if it refuses what one of them says.
    """
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise MissingExtra(needed_for="telemetry.spans", package="opentelemetry-sdk", extra="otel") from None
    try:
        from ownward.gateway.watching.exporting import DoorExporter
    except ImportError:
        raise MissingExtra(
            needed_for="telemetry.spans", package="opentelemetry-exporter-otlp-proto-common", extra="otel"
        ) from None
    exporter = DoorExporter(door, url=url, headers=headers, place=place, label=label, now=clock.now)
    try:
        resource = Resource.create()
        if str(resource.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "ownward"}))
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    except ValueError as error:  # it names the limit and its value, and what would be allowed
        message = f"holds what OpenTelemetry's SDK refuses: {error}"
        raise ConfigError(
            [Fault(file="environment", key="one of the OTEL_ variables", message=message)],
            next_step="Correct it, or unset it for the SDK's default",
        ) from None
    return SpanWriter(provider, clock, hurry=exporter.hurry)
