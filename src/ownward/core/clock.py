"""Time as a value that is passed in: the wall for the record, the monotonic clock for durations."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """What our code asks of time."""

    def now(self) -> datetime:
        """Return the current UTC time, aware."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds from an arbitrary start that never run backwards."""
        ...


class SystemClock:
    """The machine's own clocks."""

    # Functions of C themselves, as each request asks a dozen times.
    now = staticmethod(partial(datetime.now, UTC))
    monotonic_s = staticmethod(time.monotonic)


class ManualClock:
    """A clock that a test or a simulation moves by hand."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        """Start at `start`, with zero monotonic seconds."""
        self._start = start
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        """Return the start plus what was advanced."""
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic_s(self) -> float:
        """Return the seconds advanced so far."""
        return self._elapsed_s

    def advance(self, seconds: float) -> None:
        """Move both clocks forward.

        Raises: ValueError, if `seconds` is negative.
        """
        if seconds < 0:
            message = f"a clock cannot be advanced by {seconds} s"
            raise ValueError(message)
        self._elapsed_s += seconds


def _find_sleepless() -> Callable[[], float]:
    if sys.platform == "win32":
        return time.monotonic
    wanted = "CLOCK_BOOTTIME" if sys.platform == "linux" else "CLOCK_MONOTONIC"  # which sleeps on Linux alone
    sleepless = partial(time.clock_gettime, getattr(time, wanted, time.CLOCK_MONOTONIC))
    try:
        sleepless()
    except OSError:  # a sandbox that knows fewer clocks
        return time.monotonic
    return sleepless


sleepless_s: Callable[[], float] = _find_sleepless()
"""Seconds from an arbitrary start that never run backwards, and go on while the machine sleeps.

Source: clock_gettime(2) of Linux and of macOS.
"""
