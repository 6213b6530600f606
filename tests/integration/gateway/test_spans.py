"""Spans: what they say, that they say no content, and that they go only where they may."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import subprocess
import sys
import time

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind, StatusCode

from ownward import config
from ownward.cli._spans import spans_of
from ownward.core import ConfigError, SystemClock
from ownward.engines import FakeOptions, FakeServer
from ownward.gateway import SpanWriter, make_span_writer
from ownward.gateway.watching import exporting
from ownward.plan import Upstream
from ownward.policy import ANY, LOCAL_ONLY, Place
from ownward.upstreams import Door
from waiting import until

CANARY = "canary-4417"


def writer_to(door, url, *, label=LOCAL_ONLY):
    """Return what writes spans to a collector on this machine."""
    return make_span_writer(door, url=url, headers=(), place=Place(is_local=True), label=label, clock=SystemClock())


@pytest.fixture
def memory():
    return InMemorySpanExporter()


@pytest.fixture
def writer(memory):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    yield SpanWriter(provider, SystemClock())
    provider.shutdown()


def test_a_request_is_a_span_and_each_call_one_below_it(lab, start, memory, writer):
    async def main():
        async with lab.Scripted(lab.whole(b"{}", status=500)) as bad, FakeServer(FakeOptions(tpot_s=0.001)) as good:
            plan = lab.plan_of(lab.tier("a", bad.base_url), lab.tier("b", good.base_url))
            async with start(plan, watchers=(writer,)) as running:
                await running.ask(body=lab.chat(stream=True))

    asyncio.run(main())
    failed, answered, request = memory.get_finished_spans()
    assert (request.name, request.kind) == ("POST /v1/chat/completions", SpanKind.SERVER)
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["ownward.workload"] == "chat"
    assert request.attributes["ownward.attempts"] == 2
    assert request.status.status_code is StatusCode.UNSET
    for call in (failed, answered):
        assert call.parent.span_id == request.context.span_id
        assert call.kind is SpanKind.CLIENT
        assert request.start_time <= call.start_time <= call.end_time <= request.end_time + 5_000_000
    assert (failed.name, failed.attributes["error.type"]) == ("chat a-model", "500")
    assert failed.status.status_code is StatusCode.ERROR
    assert answered.name == "chat b-model"
    assert answered.attributes[gen_ai_attributes.GEN_AI_OPERATION_NAME] == "chat"
    assert answered.attributes[gen_ai_attributes.GEN_AI_PROVIDER_NAME] == "fake"
    assert answered.attributes[gen_ai_attributes.GEN_AI_REQUEST_MODEL] == "b-model"
    assert answered.attributes[gen_ai_attributes.GEN_AI_USAGE_OUTPUT_TOKENS] == 16
    assert answered.attributes[gen_ai_attributes.GEN_AI_USAGE_INPUT_TOKENS] > 0
    assert answered.attributes["server.address"] == "127.0.0.1"
    assert answered.attributes["ownward.charge_usd"] == pytest.approx(0.000261)
    assert 0 < answered.attributes["ownward.ttft_s"] < 1


def test_a_call_says_what_it_read_from_a_cache_and_wrote_to_one(lab, start, memory, writer):
    """As `ownward import` reads spans: without what was written, a call would seem cheaper than it was."""
    usage = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 70}
    said = {"id": "m", "type": "message", "role": "assistant", "model": "x", "content": [], "usage": usage}

    async def main():
        async with lab.Scripted(lab.whole(json.dumps(said).encode())) as fake:
            tier = lab.tier("a", "", upstreams=(Upstream(name="a", url=fake.base_url, dialect="anthropic"),))
            async with start(lab.plan_of(tier), watchers=(writer,)) as running:
                body = {"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
                assert (await running.ask("/v1/messages", body=body)).status == 200

    asyncio.run(main())
    told = memory.get_finished_spans()[0].attributes
    counts = {name: told[f"gen_ai.usage.{name}"] for name in COUNTS}
    assert counts == dict(zip(COUNTS, (180, 100, 70, 5), strict=True))


COUNTS = ("input_tokens", "cache_read.input_tokens", "cache_creation.input_tokens", "output_tokens")


@pytest.mark.parametrize("carried", ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "nonsense", None])
def test_a_clients_trace_goes_on_where_it_names_one(lab, start, memory, writer, carried):
    async def main():
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), watchers=(writer,)) as running:
                headers = {} if carried is None else {"traceparent": carried}
                await running.ask(body=lab.chat(), headers=headers)

    asyncio.run(main())
    request = memory.get_finished_spans()[-1]
    if carried is not None and carried.startswith("00-"):
        assert f"{request.context.trace_id:032x}" == carried.split("-")[1]
        assert f"{request.parent.span_id:016x}" == carried.split("-")[2]
    else:
        assert request.parent is None


@pytest.mark.parametrize(
    ("model", "marked"),
    [("chat", StatusCode.ERROR), ("nobody", StatusCode.UNSET)],
    ids=["nobody was there to answer", "a fault of the client's"],
)
def test_a_request_is_marked_as_an_error_where_the_gateway_failed_it(lab, start, memory, writer, *, model, marked):
    async def main():
        async with start(lab.plan_of(lab.tier("a", "http://127.0.0.1:9")), watchers=(writer,)) as running:
            await running.ask(body=lab.chat() | {"model": model})

    asyncio.run(main())
    request = memory.get_finished_spans()[-1]
    assert request.attributes["error.type"]
    assert request.status.status_code is marked


def test_no_span_holds_a_word_of_a_request_an_answer_or_a_key(lab, start, memory, writer):
    async def main():
        says = json.dumps({"error": {"message": CANARY}}).encode()
        async with lab.Scripted(lab.whole(says, status=400)) as bad:
            async with start(lab.plan_of(lab.tier("a", bad.base_url)), watchers=(writer,)) as running:
                body = lab.chat(messages=[{"role": "user", "content": CANARY}], metadata={"x": CANARY})
                headers = {"authorization": f"Bearer {CANARY}", "cookie": CANARY, "tracestate": f"x={CANARY}"}
                await running.ask(body=body, headers=headers)
                await running.ask(body={**body, "model": CANARY}, headers=headers)
                await running.ask(body=CANARY.encode(), headers=headers)

    asyncio.run(main())
    spans = memory.get_finished_spans()
    assert len(spans) == 4
    assert CANARY not in "".join(span.to_json() for span in spans)


class Collected:
    """What a collector was sent."""

    def __init__(self, heard):
        self.requests = [(line, headers, ExportTraceServiceRequest.FromString(body)) for line, headers, body in heard]

    @property
    def names(self):
        return [
            span.name
            for _, _, sent in self.requests
            for resource in sent.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


def test_spans_reach_a_collector_here_through_the_door(lab, start, monkeypatch):
    async def main():
        async with lab.Scripted(lab.whole(b"")) as collector, FakeServer() as fake:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.base_url)
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a%20b")
            settings = config.Settings(telemetry=config.TelemetrySettings(spans=True))
            async with Door() as door, spans_of(settings, door) as watchers:
                async with start(lab.plan_of(lab.tier("a", fake.base_url)), watchers=watchers) as running:
                    await running.ask(body=lab.chat())
            collected = Collected(collector.heard)
            assert collected.names == ["chat a-model", "POST /v1/chat/completions"]
            ((line, headers, sent),) = collected.requests
            assert line == "POST /v1/traces HTTP/1.1"
            assert (headers["content-type"], headers["x-team"]) == ("application/x-protobuf", "a b")
            stated = {pair.key: pair.value.string_value for pair in sent.resource_spans[0].resource.attributes}
            assert stated["service.name"] == "ownward"

    asyncio.run(main())


def test_nothing_is_sent_unless_it_is_turned_on(lab, start, monkeypatch):
    async def main():
        async with lab.Scripted(lab.whole(b"")) as collector, FakeServer() as fake:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.base_url)
            async with Door() as door, spans_of(config.Settings(), door) as watchers:
                assert watchers == ()
                async with start(lab.plan_of(lab.tier("a", fake.base_url)), watchers=watchers) as running:
                    await running.ask(body=lab.chat())
            assert collector.heard == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("endpoint", "label", "may"),
    [
        ("http://127.0.0.1:9", "local_only", True),
        ("http://10.1.2.3:4318", "local_only", False),
        ("http://10.1.2.3:4318", "site", True),
        ("https://collector.example.com", "site", False),
        ("https://collector.example.com", "eu", False),
        ("https://collector.example.com", "any", True),
    ],
)
def test_a_collector_outside_the_label_is_refused_at_the_start(monkeypatch, endpoint, label, may):
    async def main():
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        settings = config.Settings(telemetry=config.TelemetrySettings(spans=True, label=label))
        async with Door() as door:
            if may:
                async with spans_of(settings, door) as watchers:
                    assert len(watchers) == 1
                return
            with pytest.raises(ConfigError, match="telemetry") as refused:
                async with spans_of(settings, door):
                    pass
            assert "no content" in str(refused.value)

    asyncio.run(main())


def test_a_name_that_leads_elsewhere_than_its_place_is_stopped_at_the_door(lab, start, caplog):
    """The address is checked again where the connection opens: a permit for this machine opens none to another."""

    async def main():
        caplog.set_level(logging.WARNING)
        async with Door() as door, FakeServer() as fake:
            writer = writer_to(door, "http://10.255.255.1:9/v1/traces")
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), watchers=(writer,)) as running:
                await running.ask(body=lab.chat())
            await writer.stop()
        assert "spans were not taken" in caplog.text

    asyncio.run(main())


def test_a_collector_that_is_down_is_said_once_and_stops_no_request(lab, start, caplog):
    async def main():
        caplog.set_level(logging.WARNING)
        async with Door() as door, FakeServer() as fake:
            writer = writer_to(door, "http://127.0.0.1:9/v1/traces", label=ANY)
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), watchers=(writer,)) as running:
                for _ in range(3):
                    assert (await running.ask(body=lab.chat())).status == 200
                flushing = asyncio.create_task(asyncio.to_thread(writer._provider.force_flush))
                await until(lambda: "spans were not taken" in caplog.text)
                assert (await running.ask(body=lab.chat())).status == 200
            await writer.stop()
            await flushing
        assert caplog.text.count("spans were not taken") == 1

    asyncio.run(main())


async def export_one(lab, start, door, collector, *, meanwhile=None):
    """Have the spans of one request sent to a collector; return how long the end of the writer took."""
    async with FakeServer() as fake:
        writer = writer_to(door, f"{collector.base_url}/v1/traces")
        async with start(lab.plan_of(lab.tier("a", fake.base_url)), watchers=(writer,)) as running:
            await running.ask(body=lab.chat())
        flushing = asyncio.create_task(asyncio.to_thread(writer._provider.force_flush))
        if meanwhile is not None:
            await meanwhile()
        else:
            await flushing
        began_s = time.monotonic()
        await writer.stop()
        await flushing
        return time.monotonic() - began_s


def answering(lab, *answers):
    """A collector that gives these answers in turn, and says when each came."""
    at_s, scripts = [], iter(answers)

    async def script(body, reader, writer):
        at_s.append(time.monotonic())
        await next(scripts)(body, reader, writer)

    return lab.Scripted(script), at_s


def test_spans_that_a_collector_asks_to_send_again_are_sent_again(lab, start, monkeypatch):
    """OTLP calls 429, 502, 503 and 504 retryable, after the wait that `Retry-After` says."""
    monkeypatch.setattr(exporting, "_FIRST_PAUSE_S", 0.01)
    said = [lab.whole(b"", status=429, headers={"Retry-After": "1"})]
    said += [lab.whole(b"", status=status) for status in (502, 503, 504, 200)]

    async def main():
        collector, at_s = answering(lab, *said)
        async with collector, Door() as door:
            await export_one(lab, start, door, collector)
        assert len({body for _, _, body in collector.heard}) == 1
        assert len(at_s) == 5
        assert at_s[1] - at_s[0] >= 1
        assert at_s[4] - at_s[1] < 1

    asyncio.run(main())


@pytest.mark.parametrize("status", [400, 401, 413, 500])
def test_spans_that_a_collector_refuses_for_good_are_not_sent_again(lab, start, caplog, status):
    async def main():
        collector, at_s = answering(lab, lab.whole(b"", status=status), lab.whole(b""))
        async with collector, Door() as door:
            await export_one(lab, start, door, collector)
        assert len(at_s) == 1
        assert f"it answered {status}; they are dropped" in caplog.text

    asyncio.run(main())


def test_spans_that_wait_to_be_sent_again_are_tried_once_more_at_the_end(lab, start):
    async def main():
        asks = lab.whole(b"", status=503, headers={"Retry-After": "100"})
        collector, at_s = answering(lab, asks, asks, asks)
        async with collector, Door() as door:
            took_s = await export_one(lab, start, door, collector, meanwhile=lambda: until(lambda: len(at_s) == 1))
        assert took_s < 2
        assert len(at_s) == 2

    asyncio.run(main())


def test_a_collector_that_never_answers_holds_up_no_end(lab, start, monkeypatch):
    monkeypatch.setattr(exporting, "LAST_S", 0.3)

    async def silent(body, reader, writer):
        await reader.read()

    async def main():
        collector, at_s = answering(lab, silent, silent)
        async with collector, Door() as door:
            took_s = await export_one(lab, start, door, collector, meanwhile=lambda: until(lambda: len(at_s) == 1))
        assert took_s < 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "http://127.0.0.1:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1/"}, "http://a:1/v1/traces"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://b/x"},
            "https://b/x",
        ),
    ],
)
def test_the_endpoint_is_what_opentelemetrys_variables_say(variables, url):
    assert config.resolve_span_destination(variables).url == url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://user:{CANARY}@a"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"authorization {CANARY}"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=a%0d%0a{CANARY}"),
    ],
)
def test_variables_that_cannot_be_are_told_without_their_secrets(name, value):
    with pytest.raises(ConfigError, match=name) as refused:
        config.resolve_span_destination({name: value})
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("OTEL_BSP_SCHEDULE_DELAY", "0", "schedule_delay_millis must be positive"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100000", "max_export_batch_size"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "many", "OTEL_ATTRIBUTE_COUNT_LIMIT must be a non-negative integer"),
    ],
)
def test_what_the_sdk_refuses_is_a_fault_of_the_environment_and_none_of_ours(monkeypatch, name, value, told):
    async def main():
        monkeypatch.setenv(name, value)
        settings = config.Settings(telemetry=config.TelemetrySettings(spans=True))
        async with Door() as door:
            with pytest.raises(ConfigError, match=told):
                async with spans_of(settings, door):
                    pass

    asyncio.run(main())


def test_headers_of_the_collector_are_not_shown():
    found = config.resolve_span_destination({"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{CANARY}"})
    assert found.headers == ((b"authorization", b"Bearer " + CANARY.encode()),)
    assert CANARY not in repr(found)


def test_the_gateway_does_not_load_the_sdk():
    code = "import ownward.gateway, sys; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"


def test_settings_are_immutable_and_off_by_default():
    settings = config.Settings()
    assert not settings.telemetry.spans
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.telemetry.spans = True
