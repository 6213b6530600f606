"""uvicorn's HTTP protocol with limits that it lacks: bytes and time of a request's head, connections.

It also tells the application at once when a client leaves, which saves a waiting task for each request, and
writes an answer that is whole with one system call where uvicorn takes two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ownward.gateway.settings import GatewaySettings

CONNECTION = "ownward.connection"
"""The key in `scope["extensions"]` under which the application finds the connection."""


def _answer(status: bytes, message: bytes) -> bytes:
    body = b'{"error": {"message": "' + message + b'", "type": "invalid_request_error", "code": null}}'
    head = b"HTTP/1.1 " + status + b"\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: "
    return head + str(len(body)).encode() + b"\r\n\r\n" + body


_TOO_LARGE = _answer(b"431 Request Header Fields Too Large", b"the request's headers are too large")
_TIMED_OUT = _answer(b"408 Request Timeout", b"the request's headers did not arrive in time")
_BUSY = _answer(b"503 Service Unavailable", b"too many connections are open")


def write_whole(send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
    """Write an answer's head and body at once; False where `send` has to be used: nothing was written then.

    `send` is the application's own; only uvicorn's can be passed by, and only before anything was sent, for a client
    that reads. `headers` are lower-case, hold `content-length` and no `connection`.
    """
    cycle = getattr(send, "__self__", None)
    if not isinstance(cycle, RequestResponseCycle):
        return False
    if cycle.response_started or cycle.disconnected or cycle.flow.write_paused or not cycle.keep_alive:
        return False
    if cycle.scope["method"] == "HEAD" or status not in STATUS_LINE:
        return False
    lines = [*cycle.default_headers, *headers]
    head = STATUS_LINE[status] + b"".join([b"%b: %b\r\n" % line for line in lines])
    if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1 or b"\0" in head:
        return False  # `send` refuses it
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.chunked_encoding, cycle.expected_content_length = False, 0
    cycle.transport.write(b"%b\r\n%b" % (head, body))
    cycle.message_event.set()
    cycle.on_response()
    return True


class BoundedHttp(HttpToolsProtocol):
    """One connection; the limits stand on a subclass made by `with_limits`.

    The application sets `on_gone`, which is called once if the client leaves; `is_gone` says that it has left.
    """

    max_header_bytes: ClassVar[int] = 64 * 1024
    header_timeout_s: ClassVar[float] = 30.0
    max_connections: ClassVar[int] = 12_000

    on_gone: Callable[[], None] | None = None
    is_gone = False
    _is_in_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    @classmethod
    def with_limits(cls, settings: GatewaySettings) -> type[BoundedHttp]:
        """Return the protocol with the settings' limits."""
        limits = {
            "max_header_bytes": settings.max_header_bytes,
            "header_timeout_s": settings.header_timeout_s,
            "max_connections": settings.max_connections,
        }
        return type("BoundedHttp", (cls,), limits)

    def connection_made(self, transport: Any) -> None:
        """Refuse a connection too many; begin the time for the first head."""
        super().connection_made(transport)
        self._extensions: dict[str, dict[object, object]] = {CONNECTION: self}  # type: ignore[dict-item]
        if len(self.connections) > self.max_connections:
            self._refuse(_BUSY)
            return
        self._head_timer = self.loop.call_later(self.header_timeout_s, self._refuse, _TIMED_OUT)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application."""
        self.is_gone = True
        super().connection_lost(exc)
        self._stop_timer()
        callback, self.on_gone = self.on_gone, None
        if callback is not None:
            callback()

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head that is not complete."""
        super().data_received(data)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.max_header_bytes:
                self._refuse(_TOO_LARGE)
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(self.header_timeout_s, self._refuse, _TIMED_OUT)

    def on_message_begin(self) -> None:
        """Start a head."""
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self._is_in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """End a head, large as it may be."""
        self._is_in_head = False
        if self._head_timer is not None:
            self._stop_timer()
        super().on_headers_complete()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, answer: bytes) -> None:
        self._stop_timer()
        if self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.write(answer)
        self.transport.close()
