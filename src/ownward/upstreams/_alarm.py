"""The time that is up for a wait; one timer serves all waits on a connection, one after another."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Sleeper(Protocol):
    """Who waits; it is told when its time may be up, and looks itself whether it is."""

    def ring(self) -> None:
        """Give up, or set the alarm anew."""
        ...


class Alarm:
    """Rings at the time that was set last, or before it.

    A wait that ends in time leaves the timer as it is: the next one finds it set early enough, and only when it rings
    is it seen who waits by then.
    """

    __slots__ = ("_loop", "_sleeper", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set no timer yet."""
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._sleeper: Sleeper | None = None

    def set(self, at_s: float, sleeper: Sleeper) -> None:
        """Ring for `sleeper` at `at_s` of the event loop's clock, in the place of whom it was set for before."""
        self._sleeper = sleeper
        timer = self._timer
        if timer is None or timer.when() > at_s:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(at_s, self._ring)

    def unset(self) -> None:
        """Ring for nobody."""
        self._sleeper = None

    def close(self) -> None:
        """Ring no more."""
        self._sleeper = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._sleeper is not None:
            self._sleeper.ring()
