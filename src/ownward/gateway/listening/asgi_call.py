"""A request that another ASGI server received, with the interface of a call of our own listener."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from ownward.gateway.asgi import Headers, Message, Receive, Scope, Send
from ownward.gateway.listening.call import Call


class AsgiCall:
    """One request of another ASGI server; what is written waits until `drained`, since only a coroutine can send it.

    That server also decides how long a client may read nothing.
    """

    writes_directly: Final = False
    unread_bytes: Final = 0

    __slots__ = (
        "_leaving",
        "_on_gone",
        "_unsent",
        "is_gone",
        "keeps_alive",
        "on_write_pause",
        "receive",
        "scope",
        "send",
        "task",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin; nothing is read yet."""
        self.scope = scope
        self.receive = receive
        self.send = send
        self.task: asyncio.Task[Any] | None = asyncio.current_task()
        self.keeps_alive = True
        self.is_gone = False
        self.on_write_pause: Callable[[], None] | None = None
        self._on_gone: Callable[[], None] | None = None
        self._leaving: asyncio.Future[Message] | None = None
        self._unsent: list[Message] = []

    def take_body(self) -> bytes | None:
        """Return None: the body has to be received."""
        return None

    @property
    def on_gone(self) -> Callable[[], None] | None:
        """Called once if the client leaves, for which is watched as long as this is set."""
        return self._on_gone

    @on_gone.setter
    def on_gone(self, callback: Callable[[], None] | None) -> None:
        self._on_gone = callback
        if callback is not None:
            self._leaving = asyncio.ensure_future(self.receive())
            self._leaving.add_done_callback(self._leave)
        elif self._leaving is not None:
            self._leaving.cancel()

    def _leave(self, _: asyncio.Future[Message]) -> None:
        if self._on_gone is not None:
            self.is_gone = True
            self._on_gone()

    @property
    def is_write_paused(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._unsent)

    async def drained(self) -> None:
        """Send what waits, as fast as the client reads."""
        unsent, self._unsent = self._unsent, []
        for message in unsent:
            await self.send(message)

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Take a whole answer; its length is added to `headers`."""
        self.begin(status, [*headers, (b"content-length", b"%d" % len(body))])
        self.end(body)

    def begin(self, status: int, headers: Headers) -> None:
        """Take the head of an answer."""
        closing = () if self.keeps_alive else ((b"connection", b"close"),)
        self._unsent.append({"type": "http.response.start", "status": status, "headers": [*headers, *closing]})

    def write(self, data: bytes) -> None:
        """Take a piece of the body."""
        self._unsent.append({"type": "http.response.body", "body": data, "more_body": True})

    def end(self, data: bytes = b"") -> None:
        """Take the last piece."""
        self._unsent.append({"type": "http.response.body", "body": data, "more_body": False})

    def cut(self) -> None:
        """Do nothing: the connection is its server's."""


AnyCall = Call | AsgiCall


async def answer_other(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what is no HTTP request: nothing to do for a lifespan, no websockets."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1003})
