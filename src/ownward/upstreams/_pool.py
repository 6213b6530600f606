"""The connections of one origin: bounded, reused last in first out, waited for in turn."""

from __future__ import annotations

import asyncio
from collections import deque

from ownward.upstreams._connection import Connection


class Pool:
    """Counts the connections of one origin and keeps the idle ones.

    `keeps_after_stream`: whether the server keeps a connection after a chunked
    answer. llama.cpp does not and does not say so; None until it is known.
    Until `keeps_none_until` no connection is kept, since the server was seen to
    close one right after an answer, as it was used again.
    """

    __slots__ = ("_most", "idle", "keeps_after_stream", "keeps_none_until", "loop", "open_count", "waiting")

    def __init__(self, most: int, loop: asyncio.AbstractEventLoop) -> None:
        """Allow `most` connections at once, on one event loop."""
        self._most = most
        self.loop = loop
        self.open_count = 0
        self.keeps_after_stream: bool | None = None
        self.keeps_none_until = 0.0
        self.idle: list[Connection] = []
        self.waiting: deque[asyncio.Future[None]] = deque()

    def take_idle(self, now: float) -> Connection | None:
        """Return the connection used last that is still whole; close those found stale."""
        while self.idle:
            connection = self.idle.pop()
            if now < connection.idle_until and not connection.was_closed_by_peer(now):
                return connection
            connection.abort()
        return None

    def reserve(self) -> bool:
        """Count one more connection, if there is room."""
        if self.open_count >= self._most:
            return False
        self.open_count += 1
        return True

    def forget(self) -> None:
        """Count one connection less and let the next in line try."""
        self.open_count -= 1
        self.wake_one()

    def wake_one(self) -> None:
        """Let the next in line try."""
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def wait_turn(self) -> None:
        """Wait until a connection became free or was closed."""
        waiter = self.loop.create_future()
        self.waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.wake_one()  # the turn was given to us: pass it on
            raise
