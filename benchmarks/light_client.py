"""Clients that cost next to nothing, so that the server is what is measured: single, in an open loop, streams, wrk."""

# ruff: noqa: ASYNC110 - answers that are still out are polled for, which leaves the hot path bare

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EVENT = b"data: {"
_SENT_AT = re.compile(rb'"content": ?"(\d{20})"')
_LAST_CHUNK = b"0\r\n\r\n"
_OPENED_AT_ONCE = 200
_BEFORE_S = 0.05
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME, see timerfd_settime(2)
_LIBC = ctypes.CDLL(None, use_errno=True)


def run_on_light_loop(main: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function on uvloop where it is installed."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = None
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main())  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where and how a server is asked."""

    port: int
    path: str
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, *, is_stream: bool = False) -> bytes:
        """Return the request's body, about 330 bytes."""
        text = "What is the capital of France, and on which river does it lie? " * 4
        stated: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 4096,
        }
        return json.dumps({**stated, "stream": True} if is_stream else stated).encode()

    def request(self, *, is_stream: bool = False) -> bytes:
        """Return the bytes of one request."""
        body = self.body(is_stream=is_stream)
        stated = {"content-type": "application/json", "content-length": str(len(body)), **self.headers}
        lines = [f"POST {self.path} HTTP/1.1", "host: 127.0.0.1", *(f"{name}: {is_}" for name, is_ in stated.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def is_whole(answer: bytes) -> bool:
    """Return whether an HTTP answer has come to its end."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = _LENGTH.search(answer, 0, end + 2)
    if length is None:
        return answer.endswith(_LAST_CHUNK)
    return len(answer) >= end + 4 + int(length[1])


class OneConnection:
    """A blocking connection that asks and waits."""

    def __init__(self, port: int) -> None:
        """Connect."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes, *, until: bytes | None = None) -> tuple[float, bytes]:
        """Return the seconds to the whole answer, or to its first part that holds `until`, and the whole answer.

        Raises: RuntimeError, if the status is not 200.
        """
        start = time.perf_counter()
        self._socket.sendall(request)
        answer, seconds = b"", None
        while True:
            part = self._socket.recv(65536)
            answer += part
            if seconds is None and until is not None and until in answer:
                seconds = time.perf_counter() - start
            if is_whole(answer) or not part:
                break
        seconds = time.perf_counter() - start if seconds is None else seconds
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer[:600].decode("latin-1"))
        return seconds, answer

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()


class _OpenLoopConnection(asyncio.Protocol):
    def __init__(self, free: list[_OpenLoopConnection], times_s: list[float], failures: list[bytes]) -> None:
        self.free, self.times_s, self.failures = free, times_s, failures
        self.sent_at_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.free.append(self)

    def send(self, request: bytes) -> None:
        self.answer, self.sent_at_s = b"", time.perf_counter()
        self.transport.write(request)  # type: ignore[attr-defined]

    def connection_lost(self, exc: Exception | None) -> None:
        if self.sent_at_s is None and self in self.free:
            self.free.remove(self)
        self.failures.append(b"the server closed a connection: %a" % exc)

    def data_received(self, data: bytes) -> None:
        self.answer += data
        if is_whole(self.answer) and self.sent_at_s is not None:
            self.times_s.append(time.perf_counter() - self.sent_at_s)
            if not self.answer.startswith(b"HTTP/1.1 200"):
                self.failures.append(self.answer[:200])
            self.sent_at_s = None
            self.free.append(self)


class PreciseTimer:
    """Calls back at moments stated to the microsecond; timers of event loops go in milliseconds.

    Requests at random moments that are sent by the millisecond come in bunches: of 500 a second one in four would
    follow another within 50 us, where it should be one in forty.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        """Set no time yet. Linux alone."""
        self._loop, self._callback = loop, callback
        self._fd = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop.add_reader(self._fd, self._ring)

    def set(self, at_s: float) -> None:
        """Ring at `at_s` of `time.perf_counter`, which on Linux is the monotonic clock."""
        seconds, fraction = divmod(max(at_s, 1e-9), 1.0)
        times = (ctypes.c_long * 4)(0, 0, int(seconds), max(1, int(fraction * 1e9)))  # interval, first time
        if _LIBC.timerfd_settime(self._fd, _ABSOLUTE, times, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
            self._callback()

    def close(self) -> None:
        """Ring no more."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


def times_due(*, per_s: float, requests: int, seed: int, is_even: bool = False) -> list[float]:
    """Return the seconds at which requests come, at random (Poisson) or even times, `per_s` in the mean."""
    rng = random.Random(seed)
    return list(accumulate(1 / per_s if is_even else rng.expovariate(per_s) for _ in range(requests)))


def times_of_waiting_alone(due_s: Sequence[float], *, cpu_s: float) -> list[float]:
    """Return the seconds of each request where nothing but the others keeps it waiting for one core.

    Each takes `cpu_s` of it, in the order in which they come. Source: D. V. Lindley, The theory of queues with a single
    server, 1952: who comes next waits for what is left of the wait and the service before.

    >>> times_of_waiting_alone([0.0, 1.0, 1.5], cpu_s=1.0)
    [1.0, 1.0, 1.5]
    """
    times_s, free_at_s = [], 0.0
    for at_s in due_s:
        free_at_s = max(free_at_s, at_s) + cpu_s
        times_s.append(free_at_s - at_s)
    return times_s


async def run_open_loop(
    address: Address, *, per_s: float, requests: int, seed: int, is_even: bool = False, connections: int = 256
) -> tuple[list[float], int]:
    """Send `requests` at random (Poisson) or even times whatever the answers do; return their seconds and the failed.

    A request that finds all `connections` busy is not sent and counts as failed, so that the loop stays bounded.
    Times count from the moment a request is really written.
    """
    loop, request = asyncio.get_running_loop(), address.request()
    free: list[_OpenLoopConnection] = []
    times_s: list[float] = []
    failures: list[bytes] = []
    transports: list[asyncio.BaseTransport] = []
    for _ in range(connections):
        made, _ = await loop.create_connection(
            lambda: _OpenLoopConnection(free, times_s, failures), "127.0.0.1", address.port
        )
        transports.append(made)
    due_s = times_due(per_s=per_s, requests=requests, seed=seed, is_even=is_even)
    due_s.reverse()
    not_sent, all_sent = 0, asyncio.Event()
    start_s = time.perf_counter() + _BEFORE_S

    def send_due() -> None:
        nonlocal not_sent
        while due_s and start_s + due_s[-1] <= time.perf_counter():
            due_s.pop()
            if free:
                free.pop().send(request)
            else:
                not_sent += 1
        if due_s:
            timer.set(start_s + due_s[-1])
        else:
            all_sent.set()

    timer = PreciseTimer(loop, send_due)
    timer.set(start_s + due_s[-1])
    await all_sent.wait()
    timer.close()
    deadline_s = time.perf_counter() + 10
    while len(times_s) < requests - not_sent and time.perf_counter() < deadline_s:
        await asyncio.sleep(0.01)
    failed = requests - len(times_s) + len(failures)
    if failures:
        print(f"port {address.port}: {failures[0]!r}", file=sys.stderr)
    for transport in transports:
        transport.abort()  # type: ignore[attr-defined]
    return times_s, failed


@dataclass(slots=True, kw_only=True)
class StreamsSeen:
    """What streamed answers brought; `delays_s` are those of events from their sending at the upstream."""

    asked: int = 0
    whole: int = 0
    events: int = 0
    open_now: int = 0
    most_open: int = 0
    delays_s: array[float] = field(default_factory=lambda: array("d"))


class _StreamConnection(asyncio.Protocol):
    def __init__(self, request: bytes, seen: StreamsSeen, over: asyncio.Future[None]) -> None:
        self.request, self.seen, self.over = request, seen, over
        self.tail, self.is_open = b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        seen, text = self.seen, self.tail + data
        if not self.is_open and _EVENT in text:
            self.is_open = True
            seen.open_now += 1
            seen.most_open = max(seen.most_open, seen.open_now)
        seen.events += text.count(_EVENT)
        now_ns = time.monotonic_ns()
        seen.delays_s.extend([(now_ns - int(sent_ns)) * 1e-9 for sent_ns in _SENT_AT.findall(data)])
        self.tail = text[-(len(_EVENT) - 1) :]
        if text.endswith(_LAST_CHUNK):
            seen.whole += self.is_open
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self.seen.open_now -= self.is_open
        if not self.over.done():
            self.over.set_result(None)


async def run_streams(address: Address, *, streams: int, seen: StreamsSeen) -> None:
    """Open `streams` streams, a few hundred connections at a time, and wait until all are over."""
    loop, request = asyncio.get_running_loop(), address.request(is_stream=True)
    overs = []
    for index in range(streams):
        over: asyncio.Future[None] = loop.create_future()
        overs.append(over)
        await loop.create_connection(
            lambda over=over: _StreamConnection(request, seen, over), "127.0.0.1", address.port
        )
        seen.asked += 1
        if index % _OPENED_AT_ONCE == _OPENED_AT_ONCE - 1:
            await asyncio.sleep(0.05)
    await asyncio.wait_for(asyncio.gather(*overs), 300)


_WRK_SCRIPT = """
wrk.method = "POST"
wrk.body = %s
%s
done = function(summary, latency, requests)
  io.write(string.format('JSON {"requests": %%d, "duration_us": %%d, "status_errors": %%d, "socket_errors": %%d, ' ..
    '"p50_us": %%d, "p99_us": %%d}\\n', summary.requests, summary.duration, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


def run_wrk(address: Address, *, connections: int, seconds: float, cores: str) -> dict[str, int]:
    """Return what `wrk` counted in a closed loop, on the processor cores named `cores`."""
    headers = {"content-type": "application/json", **address.headers}
    lines = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items())
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(_WRK_SCRIPT % (json.dumps(address.body().decode()), lines))
        command = ["taskset", "-c", cores, "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
        command += ["--timeout", "30s", "-s", os.fspath(script), f"http://127.0.0.1:{address.port}{address.path}"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, int] = json.loads(re.findall(r"^JSON (.*)$", said, re.MULTILINE)[-1])
    return found
