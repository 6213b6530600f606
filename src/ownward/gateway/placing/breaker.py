"""A circuit breaker as a value: each transition returns the next state, and time is an argument.

    closed --N failures in a row--> open --wait over--> half_open --probe succeeds--> closed
                                     ^                     |
                                     +---- probe fails ----+   (the wait doubles, up to its limit)

In half_open one request at a time is let through, and every one that has no other candidate: nobody is refused for
somebody else's probe. One that has no answer after a while makes room for the next. An upstream that asks to wait
(Retry-After) is open until then, and closed after it: it never failed. One whose account has no credit is open at
once, and for longer each time a probe finds it so.

Where a request has no other candidate it is a probe before the wait is over, one at a time and so many a second: to
refuse it would help nobody. One that fails leaves the wait as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

State = Literal["closed", "open", "half_open"]

PROBE_S = 10.0
"""After so long without an answer a probe makes room for another."""

UNPAID_WAIT_S = 600.0
"""The longest time between two probes of an upstream whose account has no credit, while others can serve."""

EARLY_PROBE_S = 0.25
"""The shortest time between two tries, before its wait is over, of an upstream without which a request is refused."""

LAST_PROBE_S = 1.0
"""The same, while the first of them has no answer yet."""

LAST_UNPAID_S = 5.0
"""The same, where its account has no credit: that lasts until somebody has paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """When a breaker opens and for how long."""

    failures: int = 5
    wait_s: float = 1.0
    longest_wait_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """What is remembered of one upstream's health; times are monotonic seconds, and `open_until_s` 0 is closed.

    `opened_s` is when it opened, or failed again before its wait was over. `probed_s` is when the probe was sent that
    is not answered yet, 0 where there is none, and `tried_s` when the last one was.
    """

    failures: int = 0
    open_until_s: float = 0.0
    opened_s: float = 0.0
    opened: int = 0
    probed_s: float = 0.0
    tried_s: float = 0.0
    asks_to_wait: bool = False
    is_unpaid: bool = False

    def state(self, now_s: float) -> State:
        """Return the state at `now_s`."""
        if now_s < self.open_until_s:
            return "open"
        return "half_open" if self.open_until_s and not self.asks_to_wait else "closed"

    def allows(self, now_s: float) -> bool:
        """Return whether a request may be sent now."""
        return self.state(now_s) == "closed" or (now_s >= self.open_until_s and not self._has_probe(now_s))

    def allows_last(self, now_s: float) -> bool:
        """Return whether a request that has no other candidate may be sent now."""
        if now_s >= self.open_until_s:
            return True
        return not self.asks_to_wait and now_s >= self._next_try_s()

    def allows_after_others(self, now_s: float) -> bool:
        """Return whether a request that all its other candidates have failed may be sent: it has nothing to lose.

        Not where the upstream itself asks to wait or to be paid.
        """
        return now_s >= self.open_until_s or not (self.asks_to_wait or self.is_unpaid)

    def last_allowed_s(self) -> float:
        """Return when a request that has no other candidate may be sent, if nothing else happens."""
        if self.asks_to_wait:
            return self.open_until_s
        return min(self.open_until_s, self._next_try_s())

    def _next_try_s(self) -> float:
        """Return when a request that has no other candidate may be sent before the wait is over."""
        unanswered_s = self.probed_s + LAST_PROBE_S if self.probed_s else 0.0
        if self.is_unpaid:
            return max(self.opened_s + LAST_UNPAID_S, unanswered_s)
        return max(self.opened_s + EARLY_PROBE_S, self.tried_s + EARLY_PROBE_S, unanswered_s)

    def _has_probe(self, now_s: float) -> bool:
        return self.probed_s > 0 and now_s < self.probed_s + PROBE_S

    def after_dispatch(self, now_s: float) -> Breaker:
        """Return the breaker once a request was sent: where it is not closed, that is the probe."""
        return replace(self, probed_s=now_s, tried_s=now_s) if self.open_until_s and not self.asks_to_wait else self

    def after_success(self, now_s: float) -> Breaker:
        """Return the breaker closed; while it is open, the success of an earlier request changes nothing."""
        if self.open_until_s > now_s and not self.probed_s:
            return self
        return CLOSED if self.failures or self.open_until_s else self

    def after_failure(self, now_s: float, rules: BreakerRules) -> Breaker:
        """Return the breaker with one more failure; it opens at the limit, and again after a failed probe."""
        failures = self.failures + 1
        if not self.probed_s and failures < rules.failures:
            return replace(self, failures=failures)
        if self.open_until_s > now_s and not self.probed_s:  # one of several that were in flight when it opened
            return replace(self, failures=failures)
        if self.open_until_s > now_s:  # a probe before the wait was over, which stays as it was
            return replace(self, failures=failures, opened_s=now_s, probed_s=0.0)
        wait_s = min(rules.wait_s * 2.0**self.opened, rules.longest_wait_s)
        opened = min(self.opened + 1, 30)
        return Breaker(failures=failures, open_until_s=now_s + wait_s, opened_s=now_s, opened=opened)

    def after_unpaid(self, now_s: float, rules: BreakerRules) -> Breaker:
        """Return the breaker once the upstream refused the account that we pay by: nobody else's request will do."""
        if self.is_unpaid and self.open_until_s > now_s and not self.probed_s:  # one that was in flight
            return self
        opened = self.opened if self.is_unpaid else 0
        wait_s = min(rules.longest_wait_s * 2.0**opened, max(rules.longest_wait_s, UNPAID_WAIT_S))
        opened = min(opened + 1, 30)
        return Breaker(failures=1, open_until_s=now_s + wait_s, opened_s=now_s, opened=opened, is_unpaid=True)

    def after_nothing_learned(self) -> Breaker:
        """Return the breaker after a request that says nothing of the upstream (cancelled, or the client's fault)."""
        return replace(self, probed_s=0.0) if self.probed_s else self

    def after_request_to_wait(self, now_s: float, wait_s: float, rules: BreakerRules) -> Breaker:
        """Return the breaker open for as long as the upstream asks, within the longest wait."""
        until_s = now_s + min(max(wait_s, 0.0), rules.longest_wait_s)
        open_until_s = max(until_s, self.open_until_s)
        return replace(
            self, open_until_s=open_until_s, opened_s=now_s, probed_s=0.0, asks_to_wait=True, is_unpaid=False
        )

    def is_news_after(self, before: Breaker) -> bool:
        """Return whether others that ask the same upstream should know: counted failures alone are no news."""
        return (self.open_until_s, self.probed_s, self.asks_to_wait) != (
            before.open_until_s,
            before.probed_s,
            before.asks_to_wait,
        )

    def after_hearing(self, told: Breaker, said_s: float) -> Breaker:
        """Return the breaker once another process has said, at `said_s`, what it knows of the same upstream.

        Both read one monotonic clock, the system's. Whoever was told to wait longer is right, and what is closed
        stays so unless it opened here since.
        """
        if not told.open_until_s:
            return self if self.opened_s > said_s else CLOSED
        return told if told.open_until_s >= self.open_until_s else self


CLOSED = Breaker()
