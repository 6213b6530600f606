"""Streams whose events come closer together than anybody looks: under load read now and then, several events at a time.

A call to the system for each event that comes and one for each that goes are most of what a stream costs, as packets
are of a network card's; it is moderated as theirs is, by how many events pass through this process.
"""

from __future__ import annotations

import asyncio
import itertools
from heapq import heappop, heappush
from math import inf
from typing import Final, Protocol

BEGINS_PER_S: Final = 4_000.0
"""Events a second up to which each goes on at once: they take less than a tenth of a processor core."""

FULL_PER_S: Final = 10_000.0
"""Events a second from which quick streams rest as long as they may."""

_LOOK_S = 0.05
_HALF_LIFE_S = 0.1
_MOST_AT_ONCE = 64  # two to four milliseconds of work
_CLOCK_TICK_S = 0.001  # of the event loop's timers, which may ring so much early
_GOLDEN = 0.6180339887498949
_TO_BEGIN = 3.0
_TO_STAY = 2.0


class Gathered(Protocol):
    """A stream that can wait to be read."""

    def rest(self) -> None:
        """Take in little until `end_rest`."""
        ...

    def end_rest(self) -> None:
        """Take in what has come meanwhile."""
        ...


class Gathering:
    """The streams of one event loop: how many events they bring, and which of them rest, `longest_s` at most.

    `rest_s` is how long a stream rests that begins to now. It grows with the load, so that no threshold makes it swing,
    and the load is counted in events, which stay as many when fewer reads bring them. Rests end together, since a
    process that is woken seldom works best, but of many streams in as many slots as it takes for 64 in each, and at
    most 64 in one turn of the event loop: other requests have theirs between them.
    """

    __slots__ = ("_counted", "_due", "_look_s", "_looked_s", "_numbers", "_timer", "_timer_s", "longest_s", "per_s",
                 "rest_s")  # fmt: skip

    def __init__(self, longest_s: float) -> None:
        """Begin with nothing counted."""
        self.longest_s = longest_s
        self.per_s = 0.0
        self.rest_s = 0.0
        self._counted = 0
        self._looked_s = self._look_s = -inf
        self._due: list[tuple[float, int, Gathered]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.Handle | None = None
        self._timer_s = 0.0

    def count(self, events: int, now_s: float) -> None:
        """Count what a stream has brought: the pieces its upstream sent, which are as many however they are read."""
        self._counted += events
        if now_s >= self._look_s:
            self._look(now_s)

    def wants(self, events: int, took_s: float, *, has_rested: bool) -> bool:
        """Return whether a rest would gather several events of a stream whose last `events` took so long to come.

        One that rests already goes on with fewer than it takes to begin.
        """
        return events * self.rest_s >= (_TO_STAY if has_rested else _TO_BEGIN) * took_s

    def hold(self, stream: Gathered, loop: asyncio.AbstractEventLoop, *, has_rested: bool) -> None:
        """Let a stream rest.

        Streams that begin together (an engine tells all of them in one step) end their first rest apart, and so the
        later ones.
        """
        number = next(self._numbers)
        now_s, rest_s = loop.time(), self.rest_s
        if not has_rested:
            rest_s *= 0.25 + 0.75 * (number * _GOLDEN % 1.0)
        stream.rest()
        slot_s = self.rest_s / (1 + len(self._due) // _MOST_AT_ONCE)
        due_s = max((now_s + rest_s) // slot_s * slot_s, now_s)  # never later than it may
        heappush(self._due, (due_s, number, stream))
        if self._timer is None or due_s < self._timer_s:
            self._wait(loop, due_s)

    def rest_s_at(self, now_s: float) -> float:
        """Return `rest_s`, where nothing has been counted lately too."""
        if now_s >= self._look_s:
            self._look(now_s)
        return self.rest_s

    def _look(self, now_s: float) -> None:
        """See how many events come."""
        passed_s = now_s - self._looked_s
        kept = 0.5 ** (passed_s / _HALF_LIFE_S)
        self.per_s = per_s = kept * self.per_s + (1 - kept) * self._counted / passed_s
        self._counted, self._looked_s, self._look_s = 0, now_s, now_s + _LOOK_S
        share = (per_s - BEGINS_PER_S) / (FULL_PER_S - BEGINS_PER_S)
        self.rest_s = self.longest_s * min(max(share, 0.0), 1.0)

    def _wait(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = due_s
        self._timer = loop.call_at(due_s, self._end_rests, loop)

    def _end_rests(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        due, now_s = self._due, loop.time()
        left = _MOST_AT_ONCE
        due_by_s = now_s + _CLOCK_TICK_S
        while due and left and due[0][0] <= due_by_s:
            heappop(due)[2].end_rest()
            left -= 1
        if not due:
            return
        if due[0][0] <= due_by_s:
            self._timer_s = now_s
            self._timer = loop.call_soon(self._end_rests, loop)
        else:
            self._wait(loop, due[0][0])
