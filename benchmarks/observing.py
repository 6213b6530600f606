"""What watching costs: processor time of counting, of a line of the log, of spans, and of looking for personal data.

`python -m benchmarks.observing`. Each part alone in this process, on a request that a real gateway served; the least of
five rounds, as other work beside it only adds. Writes benchmarks/results/observing-DATE.json, or `--out FILE`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import logging
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine_facts import new_record, write_record

from ownward import ledger, plan
from ownward.core import SystemClock
from ownward.engines import FakeServer
from ownward.gateway import GatewayServer, GatewaySettings, RequestLog, SpanWriter
from ownward.policy import DETECTOR_KINDS, LOCAL_ONLY, Detectors, Place, issue_permit
from ownward.upstreams import Door

ROOT = Path(__file__).resolve().parents[1]
_ROUNDS = 5
_PLAN = """
schema = "ownward.plan/1"
name = "observing"
[tiers.near]
kind = "owned"
model = "small"
engine = "adopted"
upstreams = [{{ name = "near-1", url = "{url}" }}]
[workloads.chat]
strategy = {{ tiers = ["near"] }}
"""


@dataclass
class Kept:
    """A watcher that keeps what it is told, to be told again and again."""

    exchange: Any = None
    more: Any = None

    def request_ended(self, exchange: Any, **more: Any) -> None:
        """Keep it."""
        self.exchange, self.more = exchange, more


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    out = parser.parse_args().out
    requests = asyncio.run(measure_watching())
    texts = measure_detection()
    for name, us in requests.items():
        print(f"{name:32} {us:7.2f} us a request")
    for name, us in texts.items():
        print(f"{name:32} {us:7.2f} us a KB")
    write_record({**new_record("observing"), "us_per_request": requests, "us_per_kb": texts}, out)


async def measure_watching() -> dict[str, float]:
    """Return microseconds of processor time for a request with one call."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002 - the SDK's signature
            return SpanExportResult.SUCCESS

    kept, found = Kept(), {}
    with tempfile.TemporaryDirectory() as folder:
        opened = ledger.open(Path(folder) / "ledger.db")
        async with FakeServer() as fake, Door() as door:
            stated = plan.loads(_PLAN.format(url=fake.base_url))
            settings = GatewaySettings(port=0)
            async with GatewayServer(
                plan=stated, ledger=opened, door=door, settings=settings, watchers=(kept,)
            ) as server:
                await ask(door, server.base_url)
                exchange, counting = kept.exchange, server.gateway.counting
                call = exchange.calls[0]
                counting.watchers = ()
                found["counting the call"] = least(lambda: counting.metrics.count_call("chat", call))
                found["counting the request"] = least(lambda: counting.request_ended(exchange))
                log = RequestLog()
                found["a line that nobody asked for"] = least(lambda: log.request_ended(exchange, **kept.more))
                found |= measure_lines(lambda: log.request_ended(exchange, **kept.more))
                provider = TracerProvider(shutdown_on_exit=False)
                provider.add_span_processor(BatchSpanProcessor(Nowhere()))
                writer = SpanWriter(provider, SystemClock())
                found["spans"] = least(lambda: writer.request_ended(exchange, **kept.more))
                await writer.stop()
                began = time.process_time()
                for _ in range(20):
                    await server.gateway.render_metrics()
                found["one scrape of /metrics"] = (time.process_time() - began) / 20 * 1e6
        opened.close()
    return found


async def ask(door: Door, base_url: str) -> None:
    """Have the gateway serve one request."""
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hello"}]}).encode()
    permit = issue_permit(label=LOCAL_ONLY, place=Place(is_local=True), upstream="gateway", origin=base_url, body=body)
    headers = [(b"content-type", b"application/json")]
    response = await door.send(permit, method="POST", target="/v1/chat/completions", headers=headers, body=body)
    async with response:
        await response.read(1 << 20)
    assert response.status == 200


def measure_lines(write: Callable[[], None]) -> dict[str, float]:
    """Return what a line costs in either form, its thread included."""
    from ownward.cli._logs import JsonLines, OneLine, PatientHandler

    logger, found = logging.getLogger("ownward.requests"), {}
    logger.propagate = False
    logger.setLevel(logging.INFO)
    for name, form in (("a line of JSON", JsonLines()), ("a line of text", OneLine())):
        handler = PatientHandler(io.StringIO(), most=1 << 30)
        handler.setFormatter(form)
        logger.addHandler(handler)
        found[name] = least(write)
        logger.removeHandler(handler)
        handler.close()
    return found


def measure_detection() -> dict[str, float]:
    """Return microseconds for a KB of each kind of text, with all detectors and a pattern of one's own."""
    detectors = Detectors(kinds=DETECTOR_KINDS, patterns={"staff_id": r"\bEMP-\d{4,8}\b"})  # type: ignore[arg-type]
    found = {}
    for name, text in texts().items():
        assert detectors.find(text) is None, name
        us = least(lambda body=text: list(detectors.scan(body)), times=1)  # type: ignore[misc]
        found[name] = us / (len(text) / 1024)
    hostile = (b"\\" * 60_000, b"\\u0041" * 10_000, b"@" + b"a." * 30_000, b"DE12 " * 12_000, b"4 " * 30_000,
               b"4" * 60_000, b"+1" * 30_000, b"00" * 30_000, b"EMP-" * 15_000)  # fmt: skip
    found["worst of the hostile"] = max(
        least(lambda body=text: list(detectors.scan(body)), times=1) / (len(text) / 1024)  # type: ignore[misc]
        for text in hostile
    )
    return found


def texts() -> dict[str, bytes]:
    """Return texts as requests hold them."""
    prose = (ROOT / "docs" / "reference" / "ledger.md").read_text("utf-8")
    code = (ROOT / "src" / "ownward" / "gateway" / "exchange.py").read_text("utf-8")
    dice = random.Random(1)
    return {
        "prose": json.dumps({"content": prose}).encode(),
        "code": json.dumps({"content": code}).encode(),
        "JSON in JSON in JSON": json.dumps({"a": json.dumps({"b": json.dumps({"c": prose})})}).encode(),
        "German, escaped": json.dumps({"content": "Größe über Straße für Mädchen " * 500}).encode(),
        "Japanese": json.dumps({"content": "日本語のテキストです。" * 500}, ensure_ascii=False).encode(),
        "a picture in base64": base64.b64encode(dice.randbytes(150_000)),
    }


def least(what: Callable[[], object], *, times: int = 2000) -> float:
    """Return the microseconds of processor time that `what` takes, the least of the rounds."""
    found = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        for _ in range(times):
            what()
        found.append((time.process_time() - began) / times * 1e6)
    return min(found)


if __name__ == "__main__":
    main()
