"""Bounded concurrency with a bounded first-in-first-out queue: what cannot wait is turned away at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ownward.gateway.errors import Overloaded

_LOOK_EVERY_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Spill:
    """What a request does that has waited `after_s`: `takes_place` takes it one elsewhere, and says whether it did."""

    after_s: float
    takes_place: Callable[[], bool]


class Slots:
    """The slots of one tier; `limit` None means that only the gateway's own limit holds."""

    __slots__ = ("_waiting", "in_use", "limit", "name", "queue_limit")

    def __init__(self, name: str, *, limit: int | None, queue_limit: int) -> None:
        """Start with every slot free."""
        self.name = name
        self.limit = limit
        self.queue_limit = queue_limit
        self.in_use = 0
        self._waiting: deque[asyncio.Future[bool | None]] = deque()

    @property
    def waiting(self) -> int:
        """How many requests are queued."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether a further request would be turned away."""
        return self.limit is not None and self.in_use >= self.limit and len(self._waiting) >= self.queue_limit

    @property
    def has_place(self) -> bool:
        """Whether a slot is free and nobody waits for it."""
        return self.limit is None or (self.in_use < self.limit and not self._waiting)

    def try_acquire(self) -> bool:
        """Take a slot if one is free and nobody waits for it."""
        if self.limit is not None and (self.in_use >= self.limit or self._waiting):  # as `has_place`, for each request
            return False
        self.in_use += 1
        return True

    async def acquire(self, *, timeout_s: float, spill: Spill | None = None) -> bool:
        """Take a slot, waiting in the queue for at most `timeout_s`; return False where `spill` took one elsewhere.

        Raises: Overloaded, at once when the queue is full, else when the time is over.
        """
        if self.try_acquire():
            return True
        if spill is not None and not spill.after_s and spill.takes_place():
            return False
        if self.is_full:
            raise Overloaded(self.name, queued=len(self._waiting), limit=self.limit, waited_s=0.0)
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool | None] = loop.create_future()  # None: the time is over
        self._waiting.append(turn)
        timer = loop.call_later(timeout_s, _expire, turn)
        looking = None if spill is None else _Looking(turn, spill)
        try:
            has_place = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self.release()  # the slot had just been handed over
            raise
        finally:
            timer.cancel()
            if looking is not None:
                looking.stop()
            if turn in self._waiting:
                self._waiting.remove(turn)
        if has_place is None:
            raise Overloaded(self.name, queued=len(self._waiting), limit=self.limit, waited_s=timeout_s)
        return has_place

    def release(self) -> None:
        """Give a slot back, to the first in the queue where there is one."""
        self.in_use -= 1
        if self._waiting:
            self._hand_over()

    def resize(self, *, limit: int | None, queue_limit: int) -> None:
        """Change the limits; requests in flight keep their slots."""
        self.limit = limit
        self.queue_limit = queue_limit
        self._hand_over()

    def _hand_over(self) -> None:
        while self._waiting and (self.limit is None or self.in_use < self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_use += 1
                turn.set_result(True)


def _expire(turn: asyncio.Future[bool | None]) -> None:
    if not turn.done():
        turn.set_result(None)


class _Looking:
    """Ends a wait as soon as there is a place elsewhere, for which it looks now and then until it is stopped."""

    __slots__ = ("_spill", "_timer", "_turn")

    def __init__(self, turn: asyncio.Future[bool | None], spill: Spill) -> None:
        self._turn = turn
        self._spill = spill
        self._timer = turn.get_loop().call_later(spill.after_s or _LOOK_EVERY_S, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        if self._turn.done():
            return
        if self._spill.takes_place():
            self._turn.set_result(False)
        else:
            self._timer = self._turn.get_loop().call_later(_LOOK_EVERY_S, self._look)


def split(whole: int, *, index: int, count: int) -> int:
    """Return a worker's share of a bound, so that all shares add up to it; at least 1.

    >>> [split(8, index=index, count=3) for index in range(3)]
    [3, 3, 2]
    """
    return max(1, whole // count + (index < whole % count))
