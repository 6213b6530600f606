"""The client's side of a request: reading its body, noticing that it left, writing to it as fast as it reads.

What is written is the exchange's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ownward.gateway.errors import BodyTooLarge, BodyTooLate, TooManyInFlight
from ownward.gateway.json_body import LONG_BYTES
from ownward.gateway.listening.call import Call
from ownward.gateway.listening.keep_alive import StreamKeepAlive

if TYPE_CHECKING:
    from ownward.gateway.asgi import Headers, Receive
    from ownward.gateway.listening.asgi_call import AnyCall
    from ownward.gateway.settings import GatewaySettings
    from ownward.upstreams import Response

CLIENT_GONE = 499
"""The status recorded for a request whose client left; it is never sent."""


class ClientGone(Exception):
    """The client left before its request was whole."""


async def receive_body(
    receive: Receive, *, most_bytes: int, most_s: float, on_bytes: Callable[[int], None] | None = None
) -> bytes:
    """Return a body that is still to come, from its first byte on within `most_s`.

    `on_bytes` is told how many of it came, and may refuse the rest.
    Raises: BodyTooLarge; BodyTooLate; ClientGone.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(most_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                parts.append(message["body"])
                size += len(message["body"])
                if size > most_bytes:
                    raise BodyTooLarge(limit_bytes=most_bytes)
                if on_bytes is not None:
                    on_bytes(len(message["body"]))
                if not message["more_body"]:
                    return b"".join(parts)
    except TimeoutError:
        raise BodyTooLate(limit_s=most_s) from None


class Client:
    """One client while one request of it is served."""

    __slots__ = ("_call", "_keep_alive", "_paused_since_s", "_settings", "_streamed", "_unread_bytes")

    def __init__(self, call: AnyCall, settings: GatewaySettings) -> None:
        """Begin; nothing is read yet."""
        self._call = call
        self._settings = settings
        self._streamed: Response | None = None
        self._keep_alive: StreamKeepAlive | None = None
        self._paused_since_s: float | None = None
        self._unread_bytes = 0

    # Its request.

    def take_body(self, headers: Mapping[bytes, bytes]) -> bytes | None:
        """Return the whole body, where it is there; else `read_body` has to wait for it.

        Raises: BodyTooLarge.
        """
        limit = self._settings.max_body_bytes
        whole = self._call.take_body()
        if (len(whole) if whole is not None else int(headers.get(b"content-length", 0))) > limit:
            self.close_after_answer()
            raise BodyTooLarge(limit_bytes=limit)
        return whole

    async def read_body(self, on_bytes: Callable[[int], None]) -> bytes:
        """Return the whole body, once it is there; `on_bytes` is told how many of it came, and may refuse the rest.

        Raises: BodyTooLarge; BodyTooLate; TooManyInFlight; ClientGone.
        """
        settings = self._settings
        try:
            body = await receive_body(
                self._call.receive,
                most_bytes=settings.max_body_bytes,
                most_s=settings.body_timeout_s,
                on_bytes=on_bytes,
            )
        except (BodyTooLarge, BodyTooLate, TooManyInFlight):
            self.close_after_answer()
            raise
        if len(body) >= LONG_BYTES:
            await asyncio.sleep(0)
        return body

    def close_after_answer(self) -> None:
        """Take no further request on its connection."""
        self._call.keeps_alive = False

    # Its presence.

    @property
    def is_gone(self) -> bool:
        """Whether it left before it had its answer."""
        return self._call.is_gone

    def watch(self, headers_of_stream: Callable[[], Headers] | None = None) -> None:
        """Have the request's task cancelled when the client leaves, and a stream that it waits for kept alive.

        `headers_of_stream` tells the headers of one that begins with a comment; None where no stream was asked for.
        Raises: ClientGone, if it has left already.
        """
        if self._call.is_gone:
            raise ClientGone
        self._call.on_gone = self._on_gone
        if headers_of_stream is None or not (every_s := self._settings.stream_keep_alive_s):
            return
        if isinstance(self._call, Call):  # what another server carries is sent by a coroutine alone
            self._keep_alive = StreamKeepAlive(self._call, every_s=every_s, headers=headers_of_stream)

    def let_go(self) -> None:
        """Stop watching: its request is over."""
        self._streamed = self._keep_alive = None
        self._call.on_gone = None

    def _on_gone(self) -> None:
        if self._streamed is not None:
            self._streamed.pause()  # at once: what still comes would keep the event loop from ending the call
        if self._call.task is not None:
            self._call.task.cancel("the client left")

    def cut_if_stalled(self, now_s: float, most_s: float) -> None:
        """Cut its connection if bytes wait for it of which it has read none for longer than `most_s`."""
        call = self._call
        if not call.is_write_paused:
            self._paused_since_s = None
            return
        unread_before, self._unread_bytes = self._unread_bytes, call.unread_bytes
        if self._paused_since_s is None or self._unread_bytes < unread_before:
            self._paused_since_s = now_s
        elif now_s - self._paused_since_s > most_s:
            call.cut()

    # Its answer.

    def beat(self, now_s: float) -> None:
        """Send a comment where the stream that it waits for has been silent for long."""
        if self._keep_alive is not None:
            self._keep_alive.beat(now_s)

    @property
    def has_head(self) -> bool:
        """Whether the head of a stream went out with a comment, before anything was answered."""
        return self._keep_alive is not None and self._keep_alive.has_head

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer; its length and what ends the connection are added to `headers`."""
        call = self._call
        call.answer(status, headers, body)
        if call.is_write_paused:
            await call.drained()

    async def begin(self, status: int, headers: Headers) -> None:
        """Send the head of a stream."""
        if not self.has_head:
            self._call.begin(status, headers)

    async def write(self, data: bytes) -> None:
        """Send a piece of a stream; wait while the client does not read."""
        call = self._call
        if self._keep_alive is not None:
            self._keep_alive.has_written = True
        call.write(data)
        if call.is_write_paused:
            await call.drained()

    def direct_writer(self, response: Response) -> Callable[[bytes], None] | None:
        """Return a function that writes pieces of `response` as they arrive; None where each has to be awaited.

        While the client does not read, the upstream's connection is not read either: backpressure.
        """
        call = self._call
        if not call.writes_directly:
            return None

        def on_write_pause() -> None:
            if call.is_write_paused:
                response.pause()
            else:
                response.resume()

        self._streamed = response
        call.on_write_pause = on_write_pause
        if call.is_write_paused:
            response.pause()
        return call.write if self._keep_alive is None else self._noting(self._keep_alive)

    def _noting(self, keep_alive: StreamKeepAlive) -> Callable[[bytes], None]:
        write = self._call.write

        def take(data: bytes) -> None:
            keep_alive.has_written = True
            write(data)

        return take

    async def end(self, data: bytes) -> None:
        """Send the last piece of a stream."""
        self._call.on_write_pause = self._keep_alive = None
        self._call.end(data)
