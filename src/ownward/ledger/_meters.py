"""How what was used within a minute is counted: a window that nothing passes, or a bucket that refills evenly.

Both count in whole microseconds and whole requests or tokens, know nothing of the database, and are told the time. What
is held for calls that run counts in full, however long they run.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

_MINUTE_US: Final = 60_000_000
_SLOT_US: Final = 1_000_000
_MOST_MINUTES_OWED: Final = 60
_JUMP_US: Final = 60_000_000
"""Clocks of hosts agree within seconds; one that is further behind was set back."""


@dataclass(slots=True)
class Bucket:
    """A minute's worth that may be taken at once and refills evenly: up to twice that in a minute after idleness.

    `used` is stored times a minute's microseconds, so that a refill by microseconds is a whole number.
    """

    used: int = 0
    at_us: int = 0
    held_by_others: int = 0
    held: int = 0
    is_changed: bool = False

    def pass_time(self, now_us: int, per_minute: int) -> None:
        """Refill.

        A clock that is behind another host's lets no time pass; from one that was set back, time passes anew.
        """
        if now_us > self.at_us:
            self.used = max(0, self.used - per_minute * (now_us - self.at_us))
            self.at_us = now_us
        elif now_us < self.at_us - _JUMP_US:
            self.at_us = now_us
            self.is_changed = True

    def wait_s(self, amount: int, per_minute: int) -> float:
        """Return how long a call of `amount` has to wait; 0, if it fits now."""
        missing = self.used + (self.held_by_others + self.held + amount - per_minute) * _MINUTE_US
        return max(missing, 0) / per_minute / 1e6

    def use(self, amount: int, per_minute: int) -> None:  # noqa: ARG002 - as a window has it
        """Count what was used, now."""
        self.used += amount * _MINUTE_US
        self.is_changed = True

    def remaining(self, per_minute: int) -> int:
        """Return what is left."""
        return max(0, per_minute - self.held_by_others - self.held - -(-self.used // _MINUTE_US))

    def reset_s(self, per_minute: int) -> float:
        """Return after how long it is full again, if nothing more is taken and what is held is used now."""
        return (self.used + (self.held_by_others + self.held) * _MINUTE_US) / per_minute / 1e6


@dataclass(slots=True)
class Window:
    """What the last minute holds: no 60 seconds, wherever they begin, hold more than what may be used in a minute.

    What is used within one second is counted as if it had been used at the last of its moments, so that a row stays
    small: it is free again 60 to 61 s later. A call that used more than a minute's worth is counted a minute's worth
    at a time, in this and the next minutes, for an hour at the most.
    """

    at_us: int = 0
    times_us: list[int] = field(default_factory=list)  # ascending
    amounts: list[int] = field(default_factory=list)
    held_by_others: int = 0
    held: int = 0
    is_changed: bool = False

    def pass_time(self, now_us: int, per_minute: int) -> None:  # noqa: ARG002 - as a bucket has it
        """Forget what is a minute past.

        A clock that is behind another host's lets no time pass; one that was set back takes with it what was counted.
        """
        if now_us < self.at_us - _JUMP_US:
            back_us = self.at_us - now_us
            self.times_us = [time_us - back_us for time_us in self.times_us]
            self.at_us = now_us
            self.is_changed = True
        self.at_us = max(self.at_us, now_us)
        over = bisect_right(self.times_us, self.at_us - _MINUTE_US)
        del self.times_us[:over], self.amounts[:over]

    def wait_s(self, amount: int, per_minute: int) -> float:
        """Return how long a call of `amount` has to wait, where no held call is given back; 0, if it fits now."""
        missing = sum(self.amounts) + self.held_by_others + self.held + amount - per_minute
        if missing <= 0:
            return 0.0
        free = next((i for i, freed in enumerate(accumulate(self.amounts)) if freed >= missing), None)
        if free is None:  # calls that run stand in its way
            return max(self._free_in_s(-1), missing * 60 / per_minute)
        return self._free_in_s(free)

    def use(self, amount: int, per_minute: int) -> None:
        """Count what was used, now."""
        time_us = self.at_us
        for _ in range(_MOST_MINUTES_OWED - 1):
            if amount <= per_minute:
                break
            self._add(time_us, per_minute)
            amount -= per_minute
            time_us += _MINUTE_US
        if amount:
            self._add(time_us, amount)
        self.is_changed = True

    def remaining(self, per_minute: int) -> int:
        """Return what is left."""
        return max(0, per_minute - self.held_by_others - self.held - sum(self.amounts))

    def reset_s(self, per_minute: int) -> float:  # noqa: ARG002 - as a bucket has it
        """Return after how long all of it is free again, if nothing more is taken and what is held is used now."""
        last_s = self._free_in_s(-1)
        return max(last_s, (_MINUTE_US + _SLOT_US) / 1e6) if self.held_by_others or self.held else last_s

    def _add(self, time_us: int, amount: int) -> None:
        times_us, slot = self.times_us, time_us // _SLOT_US
        index = bisect_right(times_us, time_us)
        if index and times_us[index - 1] // _SLOT_US == slot:
            times_us[index - 1] = time_us
            self.amounts[index - 1] += amount
        elif index < len(times_us) and times_us[index] // _SLOT_US == slot:
            self.amounts[index] += amount
        else:
            times_us.insert(index, time_us)
            self.amounts.insert(index, amount)

    def _free_in_s(self, index: int) -> float:
        return (self.times_us[index] + _MINUTE_US - self.at_us) / 1e6 if self.times_us else 0.0

    @property
    def recent(self) -> bytes:
        """What is stored of it: the times, then the amounts, as little-endian integers of 64 bits."""
        stored = array("q", (*self.times_us, *self.amounts))
        if sys.byteorder == "big":
            stored.byteswap()
        return stored.tobytes()

    def read(self, recent: bytes) -> None:
        """Take what is stored.

        >>> window, other = Window(times_us=[7, 9], amounts=[1, 2]), Window()
        >>> other.read(window.recent)
        >>> (other.times_us, other.amounts)
        ([7, 9], [1, 2])
        """
        stored = array("q", recent)
        if sys.byteorder == "big":
            stored.byteswap()
        half = len(stored) // 2
        self.times_us, self.amounts = stored[:half].tolist(), stored[half:].tolist()


Meter = Bucket | Window
