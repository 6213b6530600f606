"""Streams whose events come closer together than anybody looks: read now and then, several events at a time.

A call to the system for each event that comes and one for each that goes are most of what a stream costs. An event
that comes after a pause goes on at once, so that no slow stream is ever late.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Gathered(Protocol):
    """A stream that can wait to be read."""

    def rest(self) -> None:
        """Take in nothing until `end_rest`."""
        ...

    def end_rest(self) -> None:
        """Take in what has come meanwhile."""
        ...


class Gathering:
    """The quick streams of one event loop: all that rest are read again together, at most `interval_s` later."""

    __slots__ = ("_resting", "_timer", "interval_s")

    def __init__(self, interval_s: float) -> None:
        """Take a stream for quick whose pieces come less than `interval_s` after each other."""
        self.interval_s = interval_s
        self._resting: list[Gathered] = []
        self._timer: asyncio.TimerHandle | None = None

    def hold(self, stream: Gathered, loop: asyncio.AbstractEventLoop) -> None:
        """Let a stream rest until the next reading."""
        stream.rest()
        self._resting.append(stream)
        if self._timer is None:
            self._timer = loop.call_later(self.interval_s, self._read_again)

    def _read_again(self) -> None:
        self._timer = None
        resting, self._resting = self._resting, []
        for stream in resting:
            stream.end_rest()
