"""One request on a connection and the answer to it, which goes out with one write where it is whole.

`receive` and `send` do the same by the messages of ASGI, for applications that know no other words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from ownward.gateway.asgi import Headers, Message, Scope

if TYPE_CHECKING:
    from ownward.gateway.listening.connection import HttpConnection

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
STATUS_LINES = {code: f"HTTP/1.1 {code} {_PHRASES.get(code, '')}\r\n".encode() for code in range(200, 1000)}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_BODILESS = frozenset({204, 304})
READ_AHEAD_BYTES = 256 * 1024
_DISCONNECT = "http.disconnect"


class BadAnswer(Exception):
    """The application said something that HTTP cannot carry: a fault of ours, never of a client."""


class Call:
    """One request being answered.

    `on_gone` is called once if the client leaves before the answer is whole, `on_write_pause` whenever
    `is_write_paused` changes: bytes have piled up for a client that does not read, or have left.
    """

    writes_directly: Final = True
    """Whether what is written goes to the client at once, without a task that sends it."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_connection",
        "_expects_continue",
        "_head",
        "_is_bodiless",
        "_is_chunked",
        "_left_bytes",
        "_status",
        "_waiter",
        "is_body_whole",
        "is_gone",
        "is_over",
        "keeps_alive",
        "on_gone",
        "on_write_pause",
        "scope",
        "task",
    )

    def __init__(
        self,
        connection: HttpConnection,
        scope: Scope,
        whole_body: bytes | None = None,
        *,
        keeps_alive: bool = True,
        expects_continue: bool = False,
    ) -> None:
        """Begin when the head is there; the body follows, where it is not there as well."""
        self._connection = connection
        self.scope = scope
        self.keeps_alive = keeps_alive
        self._expects_continue = expects_continue
        self._body: list[bytes] = [] if whole_body is None else [whole_body]
        self._body_bytes = 0 if whole_body is None else len(whole_body)
        self._waiter: asyncio.Future[None] | None = None
        self._status: int | None = None
        self._head = b""
        self._is_bodiless = scope["method"] == "HEAD"
        self._is_chunked = False
        self._left_bytes: int | None = None
        self.is_body_whole = whole_body is not None
        self.is_gone = False
        self.is_over = False
        self.on_gone: Callable[[], None] | None = None
        self.on_write_pause: Callable[[], None] | None = None
        self.task: asyncio.Task[None] | None = None

    # The request.

    async def receive(self) -> Message:
        """Return the next message, as ASGI has it."""
        while not (self._body or self.is_body_whole or self._has_ended()):
            self._ask_for_body()
            await self._wait()
        if not self._has_ended() and self._body_bytes >= 0:
            body = b"".join(self._body)
            self._body.clear()
            self._body_bytes = -1 if self.is_body_whole else 0
            self._connection.resume_reading()
            return {"type": "http.request", "body": body, "more_body": not self.is_body_whole}
        while not self._has_ended():
            await self._wait()
        return {"type": _DISCONNECT}

    def _has_ended(self) -> bool:
        return self.is_gone or self.is_over

    def take_body(self) -> bytes | None:
        """Return the whole body, where it is there and nothing of it was received yet."""
        if not self.is_body_whole or self._body_bytes < 0:
            return None
        parts = self._body
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._body_bytes = -1
        return body

    def _ask_for_body(self) -> None:
        if self._expects_continue and self._status is None:
            self._expects_continue = False
            self._connection.write(_CONTINUE)
        self._connection.resume_reading()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The answer.

    async def send(self, message: Message) -> None:
        """Take a message, as ASGI has it; wait while the client does not read.

        Raises: BadAnswer, if it cannot be sent as it is.
        """
        if self.is_gone:
            return
        if message["type"] == "http.response.start":
            self.begin(message["status"], message.get("headers", ()))
            return
        if self._status is None or self.is_over:
            raise BadAnswer(f"{message['type']} stands before the start of an answer, or after its end")
        body = message.get("body", b"")
        if message.get("more_body", False):
            self.write(body)
        else:
            self.end(body)
        if self._connection.is_write_paused:
            await self._connection.drained()

    @property
    def is_write_paused(self) -> bool:
        """Whether bytes wait for a client that does not read."""
        return self._connection.is_write_paused

    @property
    def unread_bytes(self) -> int:
        """How many bytes wait for the client here, those not counted that the system holds."""
        return self._connection.unread_bytes

    async def drained(self) -> None:
        """Return when the client has read most of what waits for it, or has left."""
        await self._connection.drained()

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer with one write; its length is added to `headers`, of which there is at least one.

        Raises: BadAnswer, if an answer was begun.
        """
        if self.is_gone:
            return
        if self._status is not None:
            raise BadAnswer("an answer was begun twice")
        lines = b"\r\n".join(map(b": ".join, headers))
        head = b"%b%b\r\ncontent-length: %d\r\n%b\r\n" % (STATUS_LINES[status], lines, len(body), self._closing_lines())
        self._status = status
        self._connection.write(head if self._is_bodiless else head + body)
        self._finish()

    def begin(self, status: int, headers: Headers) -> None:
        """Send the head of an answer; without a `content-length` its body goes out in chunks.

        It leaves together with the first piece, or when the event loop's turn ends.
        Raises: BadAnswer, if a header could end its line early, or the status is none.
        """
        if self._status is not None:
            raise BadAnswer("an answer was begun twice")
        line = STATUS_LINES.get(status)
        if line is None:
            raise BadAnswer(f"{status} is not an answer's status")
        lines, has_length = [], False
        for name, value in headers:
            lowered = name.lower()
            if lowered == b"content-length":
                has_length = True
                self._left_bytes = int(value)
            elif lowered == b"transfer-encoding":
                continue  # said below
            elif lowered == b"connection":
                self.keeps_alive = self.keeps_alive and value.lower() != b"close"
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        block = b"".join(lines)
        if block.count(b"\n") != len(lines) or block.count(b"\r") != len(lines) or b"\0" in block:
            raise BadAnswer("a header of an answer holds a line break")
        self._is_bodiless = self._is_bodiless or status in _BODILESS
        if not has_length and not self._is_bodiless:
            if self.scope["http_version"] == "1.1":
                self._is_chunked = True
                block += b"transfer-encoding: chunked\r\n"
            else:
                self.keeps_alive = False  # the body ends with the connection
        self._status = status
        self._head = b"%b%b%b\r\n" % (line, block, self._closing_lines())
        asyncio.get_running_loop().call_soon(self._send_head)

    def write(self, data: bytes) -> None:
        """Send a piece of the body; a stream in chunks goes out in the piece that came."""
        if self.is_gone or not data:
            return
        if self._is_chunked:
            if not self._is_bodiless:
                self._send(b"%x\r\n%b\r\n" % (len(data), data))
            return
        self._count(len(data))
        if not self._is_bodiless:
            self._send(data)

    def end(self, data: bytes = b"") -> None:
        """Send the last piece."""
        if self.is_gone:
            return
        if self._is_chunked and not self._is_bodiless:
            last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else _LAST_CHUNK
            self._send(last)
        else:
            self.write(data)
            if self._left_bytes and not self._is_bodiless:
                raise BadAnswer(f"an answer is {self._left_bytes} bytes shorter than it said")
        self._finish()

    def _send(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            data = head + data
        self._connection.write(data)

    def _send_head(self) -> None:
        if self._head and not self.is_gone:
            self._send(b"")

    @property
    def has_begun(self) -> bool:
        """Whether the answer's head is out."""
        return self._status is not None

    def cut(self) -> None:
        """Cut the connection."""
        self._connection.abort()

    def fail(self) -> None:
        """End an answer that the application gave up: with status 500, or by cutting what had begun."""
        if self.is_over or self.is_gone:
            return
        if self._status is None:
            self.keeps_alive = False
            body = b'{"error": {"message": "the gateway failed", "type": "server_error", "code": null}}'
            self.answer(500, [(b"content-type", b"application/json")], body)
        else:
            self.is_over = True
            self._connection.abort()

    def _closing_lines(self) -> bytes:
        date = self._connection.date_line
        if not self.keeps_alive:
            return date + b"connection: close\r\n"
        return date if self.scope["http_version"] == "1.1" else date + b"connection: keep-alive\r\n"

    def _count(self, size: int) -> None:
        if self._left_bytes is None:
            return
        if size > self._left_bytes and not self._is_bodiless:
            raise BadAnswer("an answer is longer than it said")
        self._left_bytes -= size

    def _finish(self) -> None:
        if self._head:
            self._send_head()
        self.is_over = True
        self._body.clear()
        self._wake()
        self._connection.on_answered(self)

    # The connection's side.

    def feed(self, data: bytes) -> None:
        """Take in a piece of the body; much that nobody asked for yet stops the reading."""
        if self.is_over:
            return
        self._body.append(data)
        self._body_bytes += len(data)
        if self._body_bytes > READ_AHEAD_BYTES:
            self._connection.pause_reading()
        self._wake()

    @property
    def unread_body_bytes(self) -> int:
        """How many bytes of its body came that nobody has taken."""
        return max(self._body_bytes, 0)

    def finish_body(self) -> None:
        """Note that the body is whole."""
        self.is_body_whole = True
        self._wake()

    def forget(self) -> None:
        """Let go of what refers back to this call, so that it is freed at once and not by the collector."""
        self.on_gone = self.on_write_pause = self.task = None

    def leave(self) -> None:
        """Note that the client left."""
        if self.is_over or self.is_gone:
            return
        self.is_gone = True
        self._wake()
        callback, self.on_gone = self.on_gone, None
        if callback is not None:
            callback()
