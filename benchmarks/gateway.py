"""What a gateway costs: CPU of a request, of a streamed chunk, added latency, memory; calling directly is zero.

    python benchmarks/gateway.py [--litellm-python PATH] [--out FILE]

The gateway is alone on core 0; a fake upstream and the clients share core 1. CPU is what the kernel charged the
gateway's processes. LiteLLM is measured where a Python is named that has `litellm[proxy]` installed. Prints one JSON
object; needs two cores and Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import importlib.metadata
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from ownward import ledger
from ownward.engines import FakeOptions, OutputLength, run_fake

CONNECTIONS = 64
GATEWAY_CORE, OTHER_CORE = 0, 1
CHUNKS_SHORT, CHUNKS_LONG = 8, 64
READY_S = 120.0

PLAN = """
schema = "ownward.plan/1"
name = "benchmark"
[tiers.metered]
kind = "rented"
model = "fake-model"
provider = "fake"
region = "eu"
[tiers.metered.price]
input_usd_per_mtok = "3"
output_usd_per_mtok = "15"
basis = "assumed"
source = "benchmark"
checked_on = 2026-11-21
[[tiers.metered.upstreams]]
name = "fake"
url = "{url}"
[workloads.chat]
label = "any"
strategy = {{ kind = "direct", tiers = ["metered"] }}
"""

OWNWARD = """
import pathlib, sys
from ownward import ledger, plan
from ownward.gateway import GatewaySettings, serve_app
folder = pathlib.Path(sys.argv[1])
with ledger.open(folder / "ledger.db") as opened:
    serve_app(
        plan=plan.loads((folder / "plan.toml").read_text(), file="plan.toml"), ledger=opened,
        settings=GatewaySettings(port=int(sys.argv[2]), requires_keys=sys.argv[3] == "keys"),
    )
"""

LITELLM = """
model_list:
  - model_name: chat
    litellm_params: {{model: openai/fake-model, api_base: "{url}/v1", api_key: none}}
litellm_settings: {{telemetry: false}}
"""


class Caller(asyncio.Protocol):
    """One connection that asks again as soon as it has its answer."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.held = b""
        self.end: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        """Send the next request, or leave."""
        if self.load.left <= 0:
            self.transport.close()
            return
        self.load.left -= 1
        self.held, self.end, self.asked_s = b"", None, time.perf_counter()
        self.transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        """Take in a piece; ask again once the answer is whole."""
        self.held += data
        if self.end is None:
            head = self.held.find(b"\r\n\r\n")
            if head < 0:
                return
            if not self.held.startswith(b"HTTP/1.1 200"):
                self.load.fail(self.held)
                return
            length = self.held[:head].lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            self.end = head + 4 + int(length) if length else -1
        if (self.end < 0 and self.held.endswith(b"0\r\n\r\n")) or 0 <= self.end <= len(self.held):
            self.load.took_s.append(time.perf_counter() - self.asked_s)
            self.ask()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Note the end."""
        self.load.closed()


class Load:
    """A number of requests over a number of connections; `took_s` has each latency."""

    def __init__(self, request: bytes, *, count: int, connections: int) -> None:
        self.request, self.left, self.open = request, count, connections
        self.connections = connections
        self.took_s: list[float] = []
        self.ended: asyncio.Future[None]

    def closed(self) -> None:
        """Count a connection that is gone."""
        self.open -= 1
        if self.open == 0 and not self.ended.done():
            self.ended.set_result(None)

    def fail(self, said: bytes) -> None:
        """End everything with what a gateway said."""
        if not self.ended.done():
            self.ended.set_exception(RuntimeError(said[:500].decode("latin-1")))

    async def run(self, port: int) -> None:
        """Make all calls."""
        loop = asyncio.get_running_loop()
        self.ended = loop.create_future()
        for _ in range(self.connections):
            await loop.create_connection(lambda: Caller(self), "127.0.0.1", port)
        await self.ended


def request_of(*, stream: bool, key: str | None) -> bytes:
    """Return a chat request of about 350 bytes as it goes over the wire."""
    said = "Tell me of the sea, and of the ships that sail on it. " * 4
    body = json.dumps(
        {"model": "chat", "stream": stream, "max_tokens": 64, "messages": [{"role": "user", "content": said}]}
    ).encode()
    credentials = f"authorization: Bearer {key}\r\n" if key else ""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n{credentials}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and its children."""
    times = [member.cpu_times() for member in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def call(port: int, request: bytes, *, count: int, connections: int) -> Load:
    """Make the calls and return them."""
    load = Load(request, count=count, connections=connections)
    asyncio.run(load.run(port))
    return load


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[psutil.Process]:
    """Start a gateway on its core and wait until it takes connections; stop it at the end."""
    with tempfile.TemporaryFile() as log:
        started = subprocess.Popen(["taskset", "-c", str(GATEWAY_CORE), *command], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + READY_S
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                if started.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(log.read()[-2000:].decode("utf-8", "replace"))
                time.sleep(0.05)
            yield psutil.Process(started.pid)
        finally:
            started.terminate()
            try:
                started.wait(15)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


def measure(
    port: int, process: psutil.Process, fake: Any, *, key: str | None, plain: int, streams: int
) -> dict[str, Any]:
    """Return the figures of one gateway."""
    fake.set_options(FakeOptions(output_tokens=OutputLength.parse("16")))
    ask = request_of(stream=False, key=key)
    call(port, ask, count=min(plain, 300), connections=CONNECTIONS)
    began_s, began_cpu_s = time.monotonic(), cpu_s(process)
    call(port, ask, count=plain, connections=CONNECTIONS)
    plain_s, plain_cpu_s = time.monotonic() - began_s, cpu_s(process) - began_cpu_s
    alone = call(port, ask, count=max(200, plain // 20), connections=1)
    of_stream: dict[int, float] = {}
    stream = request_of(stream=True, key=key)
    for chunks in (CHUNKS_SHORT, CHUNKS_LONG):
        fake.set_options(FakeOptions(tpot_s=0.02, output_tokens=OutputLength.parse(str(chunks))))
        began_cpu_s = cpu_s(process)
        call(port, stream, count=streams, connections=CONNECTIONS)
        of_stream[chunks] = (cpu_s(process) - began_cpu_s) / streams
    per_chunk_s = (of_stream[CHUNKS_LONG] - of_stream[CHUNKS_SHORT]) / (CHUNKS_LONG - CHUNKS_SHORT)
    return {
        "cpu_s_per_request": plain_cpu_s / plain,
        "requests_per_s": plain / plain_s,
        "cpu_s_per_streamed_chunk": per_chunk_s,
        "latency_p50_s_at_1_connection": statistics.median(alone.took_s),
        "rss_bytes": sum(m.memory_info().rss for m in (process, *process.children(recursive=True))),
        "requests": plain,
        "streams": streams,
    }


def measure_all(litellm_python: str | None, *, plain: int) -> dict[str, Any]:
    """Return the figures of every gateway, direct calls first."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place, run_fake(FakeOptions()) as fake:
        os.sched_setaffinity(fake.pid, {OTHER_CORE})
        folder = Path(place)
        upstream_port = int(fake.base_url.rsplit(":", 1)[1])
        direct = call(upstream_port, request_of(stream=False, key=None), count=500, connections=1)
        found["direct"] = {"latency_p50_s_at_1_connection": statistics.median(direct.took_s)}
        (folder / "plan.toml").write_text(PLAN.format(url=fake.base_url))
        with ledger.open(folder / "ledger.db") as opened:
            key = opened.create_key("benchmark")
        for name, secret in (("ownward", None), ("ownward with keys", key)):
            port = free_port()
            command = [sys.executable, "-c", OWNWARD, place, str(port), "keys" if secret else "open"]
            with running(command, port) as process:
                found[name] = measure(port, process, fake, key=secret, plain=plain, streams=640)
        if litellm_python is not None:
            port = free_port()
            (folder / "litellm.yaml").write_text(LITELLM.format(url=fake.base_url))
            program = str(Path(litellm_python).with_name("litellm"))
            command = [litellm_python, program, "--config", f"{place}/litellm.yaml", "--port", str(port)]
            with running(command, port) as process:
                found["litellm"] = measure(port, process, fake, key="none", plain=max(300, plain // 20), streams=128)
    for figures in found.values():
        figures["added_latency_p50_s"] = (
            figures["latency_p50_s_at_1_connection"] - found["direct"]["latency_p50_s_at_1_connection"]
        )
    return found


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--litellm-python", default=None)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {OTHER_CORE})
    load_before = os.getloadavg()[0]
    record = {
        "schema": "ownward.gateway_benchmark/1",
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": _cpu_name(), "cores": os.cpu_count(), "kernel": platform.release(), "load": load_before},
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("ownward", "uvicorn", "uvloop", "httptools")},
        },
        "gateways": measure_all(arguments.litellm_python, plain=arguments.requests),
    }
    text = json.dumps(record, indent=1)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n")


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
