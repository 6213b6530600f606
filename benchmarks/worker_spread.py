"""How evenly the workers of one gateway spread calls over upstreams, and what telling each other costs.

    python -m benchmarks.worker_spread [--workers 1 4] [--upstreams 8] [--clients 16 64 256] [--seconds 5]

`ownward serve --workers N` with one tier that takes the upstream with the fewest calls in flight, over fakes whose
answers take from 0.05 to 0.95 s, drawn by the call's number from a seed. So many clients ask again as soon as they are
answered, each on a connection of its own. Every 10 ms it is noted how many calls run at each upstream. Writes
benchmarks/results/worker_spread-DATE.json, or `--out FILE`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from benchmarks.light_client import Address, run_on_light_loop
from benchmarks.light_upstream import ANSWER
from benchmarks.machine_facts import new_record, write_record

_PATH = "/v1/chat/completions"
_PLAN = """
schema = "ownward.plan/1"
name = "spread"
default_label = "any"
[tiers.t]
kind = "owned"
model = "bench"
engine = "adopted"
balance = "least_busy"
"""
_UPSTREAM = '[[tiers.t.upstreams]]\nname = "u{number}"\nurl = "http://127.0.0.1:{port}"\n'
_WORKLOAD = '[workloads.chat]\nmatch = { models = ["bench"] }\nstrategy = { kind = "direct", tiers = ["t"] }\n'
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)
_SHORTEST_S, _LONGEST_S = 0.05, 0.95
_LOOK_EVERY_S = 0.01
_READY_S = 60.0


class SlowUpstream(asyncio.Protocol):
    """Answers each request after a while; `running` counts the calls of one upstream."""

    def __init__(self, running: list[int], number: int, times: random.Random) -> None:
        """Start with nothing read."""
        self._running, self._number, self._times = running, number, times
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Begin a call once its body is whole."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]) if found else 1
        if len(body) < length:
            return
        self._buffer = b""
        self._running[self._number] += 1
        asyncio.get_running_loop().call_later(self._times.uniform(_SHORTEST_S, _LONGEST_S), self._answer)

    def _answer(self) -> None:
        self._running[self._number] -= 1
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_HEAD + ANSWER)


@contextlib.contextmanager
def serving(ports: list[int], workers: int) -> Iterator[tuple[int, int]]:
    """Run `ownward serve` over the upstreams; yield its port and its process id."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = "".join(_UPSTREAM.format(number=number, port=port) for number, port in enumerate(ports))
        (folder / "plan.toml").write_text(_PLAN + listed + _WORKLOAD)
        command = [sys.executable, "-m", "ownward", "serve", "--plan", "plan.toml", "--ledger", "ledger.db"]
        command += ["--port", "0", "--ready-file", "ready.json", "--workers", str(workers)]
        with (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            until_s = time.monotonic() + _READY_S
            while not (folder / "ready.json").exists():
                if process.poll() is not None or time.monotonic() > until_s:
                    raise RuntimeError((folder / "log.txt").read_text(errors="replace"))
                time.sleep(0.05)
            base_url = json.loads((folder / "ready.json").read_text())["base_url"]
            yield int(base_url.rpartition(":")[2]), process.pid
        finally:
            process.terminate()
            process.wait(30)


async def ask_again_and_again(request: bytes, port: int, answered: list[int], until_s: float) -> None:
    """Ask on one connection until the time is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < until_s:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head:
            raise RuntimeError(head.decode())
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
        answered[0] += 1
    writer.close()


def cpu_s(pid: int) -> float:
    """Return the processor time of a process and those below it."""
    parent = psutil.Process(pid)
    times = [one.cpu_times() for one in (parent, *parent.children(recursive=True))]
    return sum(one.user + one.system for one in times)


async def measure(*, workers: int, upstreams: int, clients: int, seconds: float) -> dict[str, Any]:
    """Return how many calls more than the least busy upstream the busiest had, over the looks."""
    loop = asyncio.get_running_loop()
    running, times, answered = [0] * upstreams, random.Random(1), [0]

    def make(number: int) -> SlowUpstream:
        return SlowUpstream(running, number, times)

    servers = [await loop.create_server(lambda n=n: make(n), "127.0.0.1", 0) for n in range(upstreams)]  # type: ignore[misc]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    looks: list[list[int]] = []
    with contextlib.ExitStack() as stack:
        port, pid = await asyncio.to_thread(stack.enter_context, serving(ports, workers))
        request = Address(port=port, path=_PATH, model="bench").request()
        until_s = time.monotonic() + 1 + seconds
        tasks = [asyncio.create_task(ask_again_and_again(request, port, answered, until_s)) for _ in range(clients)]
        await asyncio.sleep(1)
        began_s, before, cpu_before_s = time.monotonic(), answered[0], cpu_s(pid)
        while time.monotonic() < until_s:
            looks.append(running.copy())
            await asyncio.sleep(_LOOK_EVERY_S)
        calls, took_s, spent_s = answered[0] - before, time.monotonic() - began_s, cpu_s(pid) - cpu_before_s
        await asyncio.gather(*tasks)
        await asyncio.to_thread(stack.close)
    for server in servers:
        server.close()
    apart = [max(look) - min(look) for look in looks]
    mean = statistics.mean(sum(look) for look in looks) / upstreams
    return {
        "workers": workers,
        "upstreams": upstreams,
        "clients": clients,
        "calls_per_s": round(calls / took_s, 1),
        "in_flight_per_upstream_mean": round(mean, 2),
        "busiest_over_least_mean": round(statistics.mean(apart), 2),
        "busiest_over_least_p99": sorted(apart)[int(len(apart) * 0.99)],
        "busiest_over_mean": round(statistics.mean(max(look) for look in looks) / mean, 2),
        "cpu_us_per_call": round(spent_s / calls * 1e6),
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--upstreams", type=int, default=8)
    parser.add_argument("--clients", type=int, nargs="*", default=[16, 64, 256])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    rows = []
    for clients in arguments.clients:
        for workers in arguments.workers:
            more = {"workers": workers, "upstreams": arguments.upstreams, "clients": clients}
            rows.append(run_on_light_loop(lambda more=more: measure(**more, seconds=arguments.seconds)))  # type: ignore[misc]
            print(json.dumps(rows[-1]), flush=True)
    path = write_record({**new_record("worker_spread"), "rows": rows, "cores": os.cpu_count()}, arguments.out)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
