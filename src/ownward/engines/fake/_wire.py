"""HTTP/1.1 as the fake serves it: one protocol object a connection, no framework between it and the socket.

It hears at once when a client leaves, and can end a connection by a close or a reset.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

_MAX_HEAD_BYTES = 64 * 1024
_MAX_BODY_BYTES = 256 * 1024 * 1024
_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    529: b"Overloaded",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRequest:
    """A request whose complete body has arrived; header names are lower case, in the order sent."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first value of the header called `name` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)


class Exchange:
    """One request on its connection, and the ways to answer it."""

    __slots__ = ("_connection", "is_chunked", "request")

    def __init__(self, connection: Connection, request: WireRequest) -> None:
        """Belong to `connection` until the answer ends."""
        self._connection = connection
        self.request = request
        self.is_chunked = False

    def start(
        self, status: int, content_type: bytes, headers: tuple[tuple[bytes, bytes], ...], length: int | None
    ) -> bytes:
        """Return the head of an answer; `length` None announces chunks."""
        self.is_chunked = length is None
        lines = [b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\n" % (status, _REASONS.get(status, b"Status"), content_type)]
        lines.extend(b"%s: %s\r\n" % pair for pair in headers)
        lines.append(
            b"transfer-encoding: chunked\r\n\r\n" if length is None else b"content-length: %d\r\n\r\n" % length
        )
        return b"".join(lines)

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket as they are."""
        self._connection.write(data)

    def chunk(self, data: bytes) -> bytes:
        """Return `data` as one chunk of a chunked body."""
        return b"%x\r\n%s\r\n" % (len(data), data)

    async def drained(self) -> None:
        """Wait until the client has taken enough for more to be written."""
        await self._connection.drained()

    def break_off(self, *, by_reset: bool) -> None:
        """End the connection in the middle of the answer."""
        self._connection.break_off(by_reset=by_reset)


Serve = Callable[[Exchange], Awaitable[None]]


class Connection(asyncio.Protocol):
    """A client's connection: parses one request after the other and serves each in a task."""

    def __init__(self, serve: Serve, connections: set[Connection]) -> None:
        """Serve requests with `serve`; stand in `connections` while open."""
        self._serve = serve
        self._connections = connections
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._may_write: asyncio.Event | None = None
        self._head: _Head | None = None
        self._stays_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its base class
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class's signature
        """Cancel the answer in the making: its client is gone."""
        self._connections.discard(self)
        self._transport = None
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Hold answers back: the client reads too slowly."""
        self._may_write = asyncio.Event()

    def resume_writing(self) -> None:
        """Let answers flow again."""
        if self._may_write is not None:
            self._may_write.set()
            self._may_write = None

    def data_received(self, data: bytes) -> None:
        """Collect bytes, and serve a request as soon as it is complete."""
        self._buffer += data
        if len(self._buffer) > _MAX_BODY_BYTES + _MAX_HEAD_BYTES:
            self.break_off(by_reset=False)
        elif self._task is None:
            self._advance()

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket; nothing happens when the client is gone."""
        if self._transport is not None:
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait while writing is paused."""
        if self._may_write is not None:
            await self._may_write.wait()

    def break_off(self, *, by_reset: bool) -> None:
        """Close, after what was written; or reset, so that the client's next read fails."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        if by_reset:
            raw = transport.get_extra_info("socket")
            if raw is not None:  # a duplicate shares the option; the loop's own object may not allow to set it
                with socket.socket(fileno=os.dup(raw.fileno())) as twin:
                    twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()

    def _advance(self) -> None:
        try:
            request = self._parse()
        except ValueError:
            self.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.break_off(by_reset=False)
            return
        if request is not None:
            self._task = asyncio.get_running_loop().create_task(self._answer(Exchange(self, request)))

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await self._serve(exchange)
        except BaseException:
            self.break_off(by_reset=False)
            raise
        finally:
            self._task = None
        if self._transport is None:
            return
        if not self._stays_open:
            self._transport.close()
        elif self._buffer:
            self._advance()

    def _parse(self) -> WireRequest | None:
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > _MAX_HEAD_BYTES:
                    raise ValueError("head too large")
                return None
            self._head = _Head.parse(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
            self._stays_open = self._head.stays_open
            if self._head.expects_continue:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = self._head
        if head.length is None:
            taken = _decode_chunks(self._buffer)
            if taken is None:
                return None
            body, used = taken
        else:
            if len(self._buffer) < head.length:
                return None
            used = head.length
            body = bytes(self._buffer[:used])
        del self._buffer[:used]
        self._head = None
        return WireRequest(method=head.method, target=head.target, headers=head.headers, body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    length: int | None  # None: a chunked body follows
    stays_open: bool
    expects_continue: bool

    @classmethod
    def parse(cls, raw: bytes) -> _Head:
        """Return the parsed head; ValueError where it is none."""
        first, *lines = raw.decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        headers = []
        length: int | None = 0
        connection = ""
        expects_continue = False
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError(line)
            name, value = name.strip().lower(), value.strip()
            headers.append((name, value))
            if name == "content-length" and length is not None:
                length = int(value)
            elif name == "transfer-encoding" and value.lower() == "chunked":
                length = None
            elif name == "connection":
                connection = value.lower()
            elif name == "expect":
                expects_continue = value.lower() == "100-continue"
        stays_open = connection != "close" if version == "HTTP/1.1" else connection == "keep-alive"
        return cls(
            method=method,
            target=target,
            headers=tuple(headers),
            length=length,
            stays_open=stays_open,
            expects_continue=expects_continue,
        )


def _decode_chunks(buffer: bytearray) -> tuple[bytes, int] | None:
    parts: list[bytes] = []
    at = 0
    while True:
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(bytes(buffer[at:end]).partition(b";")[0], 16)
        start = end + 2
        if size == 0:
            done = buffer.find(b"\r\n", start)  # trailers are not used by any client of ours
            return None if done < 0 else (b"".join(parts), done + 2)
        if len(buffer) < start + size + 2:
            return None
        parts.append(bytes(buffer[start : start + size]))
        at = start + size + 2
