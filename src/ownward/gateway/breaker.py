"""A circuit breaker as a value: each transition returns the next state, and time is an argument.

    closed --N failures in a row--> open --wait over--> half_open --probe succeeds--> closed
                                     ^                     |
                                     +---- probe fails ----+   (the wait doubles, up to its limit)

In half_open one request at a time is let through. An upstream that asks to wait (Retry-After) is open until then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """When a breaker opens and for how long."""

    failures: int = 5
    wait_s: float = 1.0
    longest_wait_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """What is remembered of one upstream's health; times are monotonic seconds, and `open_until_s` 0 is closed."""

    failures: int = 0
    open_until_s: float = 0.0
    opened: int = 0
    is_probing: bool = False

    def state(self, now_s: float) -> State:
        """Return the state at `now_s`."""
        if not self.open_until_s:
            return "closed"
        return "open" if now_s < self.open_until_s else "half_open"

    def allows(self, now_s: float) -> bool:
        """Return whether a request may be sent now."""
        return not self.open_until_s or (now_s >= self.open_until_s and not self.is_probing)

    def after_dispatch(self) -> Breaker:
        """Return the breaker once a request was sent: in half_open it is the probe."""
        return replace(self, is_probing=True) if self.open_until_s and not self.is_probing else self

    def after_success(self, now_s: float) -> Breaker:
        """Return the breaker closed; while it is open, the success of an earlier request changes nothing."""
        if self.open_until_s > now_s:
            return self
        return CLOSED if self.failures or self.open_until_s else self

    def after_failure(self, now_s: float, rules: BreakerRules) -> Breaker:
        """Return the breaker with one more failure; it opens at the limit, and again after a failed probe."""
        failures = self.failures + 1
        if not self.is_probing and failures < rules.failures:
            return replace(self, failures=failures)
        if self.open_until_s > now_s:  # one of several that were in flight when it opened
            return replace(self, failures=failures)
        wait_s = min(rules.wait_s * 2.0**self.opened, rules.longest_wait_s)
        return Breaker(failures=failures, open_until_s=now_s + wait_s, opened=min(self.opened + 1, 30))

    def after_nothing_learned(self) -> Breaker:
        """Return the breaker after a request that says nothing of the upstream (cancelled, or the client's fault)."""
        return replace(self, is_probing=False) if self.is_probing else self

    def after_request_to_wait(self, now_s: float, wait_s: float, rules: BreakerRules) -> Breaker:
        """Return the breaker open for as long as the upstream asks, within the longest wait."""
        until_s = now_s + min(max(wait_s, 0.0), rules.longest_wait_s)
        return replace(self, open_until_s=max(until_s, self.open_until_s), is_probing=False)


CLOSED = Breaker()
