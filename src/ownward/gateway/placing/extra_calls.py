"""A bound on the calls that retries or hedges add to the load, as a share of requests: a token bucket."""

from __future__ import annotations


class ExtraCalls:
    """Each request deposits `fraction` of a call, each extra call takes a whole one; at most `burst` are saved up."""

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
        """Take one call; return whether there was one."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def give_back(self) -> None:
        """Give back a call that was taken and not made."""
        self._left = min(self._left + 1.0, self._burst)
