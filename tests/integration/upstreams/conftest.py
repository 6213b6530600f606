"""A server on loopback that does exactly what a test tells it, byte for byte."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest

Script = Callable[["Visit"], Awaitable[None] | None]


@dataclass
class Visit:
    """One request as it came in, and the connection to answer on."""

    head: bytes
    body: bytes
    transport: asyncio.Transport
    number: int
    connection: int

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def answer(self, body: bytes = b"ok", *extra: bytes) -> None:
        lines = (b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), *extra)
        self.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)


@dataclass
class Served:
    """What a server saw."""

    origin: str = ""
    connections: int = 0
    closed: int = 0
    closed_at: list[float] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    transports: list[asyncio.Transport] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class _Protocol(asyncio.Protocol):
    def __init__(self, served: Served, script: Script) -> None:
        self.served, self.script, self.held = served, script, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.served.connections += 1
        self.number = self.served.connections
        self.served.transports.append(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.served.closed += 1
        self.served.closed_at.append(asyncio.get_running_loop().time())

    def data_received(self, data: bytes) -> None:
        self.held += data
        head, end, rest = self.held.partition(b"\r\n\r\n")
        if not end:
            return
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if len(rest) < length:
            return
        self.held = rest[length:]
        visit = Visit(head, rest[:length], self.transport, len(self.served.visits) + 1, self.number)
        self.served.visits.append(visit)
        result = self.script(visit)
        if result is not None:
            task = asyncio.ensure_future(result)
            self.served.tasks.add(task)
            task.add_done_callback(self.served.tasks.discard)


@pytest.fixture
def serve() -> Callable[..., AbstractAsyncContextManager[Served]]:
    """Return a context manager that serves a script on loopback until it is left."""

    @asynccontextmanager
    async def run(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Served]:
        served = Served()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Protocol(served, script), "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        served.origin = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        try:
            yield served
        finally:
            server.close()
            for task in list(served.tasks):
                task.cancel()
            await asyncio.gather(*served.tasks, return_exceptions=True)
            for transport in served.transports:
                transport.abort()
            await asyncio.sleep(0)

    return run


@pytest.fixture
def unused_origin() -> str:
    """An origin on loopback where nothing listens."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"
