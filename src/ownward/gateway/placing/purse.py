"""How many further calls, retries or hedges, requests may add to the load: what fails is not hit harder for it."""

from __future__ import annotations


class Purse:
    """Each request deposits a fraction of a further call, and each of these takes one; it holds at most `burst`."""

    __slots__ = ("_burst", "_fraction", "_left")

    def __init__(self, *, fraction: float, burst: int, left: float | None = None) -> None:
        """Start full, or with what is `left`."""
        self._fraction = fraction
        self._burst = float(burst)
        self._left = float(burst) if left is None else left

    def deposit(self) -> None:
        """Count a request."""
        if self._left < self._burst:
            self._left = min(self._left + self._fraction, self._burst)

    def try_take(self) -> bool:
        """Take one further call if there is one."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def give_back(self) -> None:
        """Give back one that was taken and not sent."""
        self._left = min(self._left + 1.0, self._burst)
