"""The health of upstreams as calls have shown it: each call teaches the next, and the other workers.

What follows from what an upstream did stands in `placing.breaker`; here it is noted, counted and put in the log. An
upstream is named `tier/upstream`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

from ownward.core import Clock, OwnwardError, UpstreamUnreachable
from ownward.gateway.placing.affinity import Prefixes
from ownward.gateway.placing.breaker import CLOSED, Breaker, BreakerRules
from ownward.gateway.watching.counting import Counting
from ownward.gateway.watching.upstream_log import UpstreamLog


class Health:
    """One gateway's: `breakers` of upstreams that are not closed, and `busy` ones, that said 429 without a time."""

    __slots__ = ("_clock", "_counting", "_prefixes", "_rules", "breakers", "busy", "log", "on_breaker")

    def __init__(self, clock: Clock, rules: BreakerRules, *, counting: Counting, prefixes: Prefixes) -> None:
        """Start with every upstream healthy."""
        self._clock = clock
        self._rules = rules
        self._counting = counting
        self._prefixes = prefixes
        self.log = UpstreamLog()
        self.breakers: dict[str, Breaker] = {}
        self.busy: set[str] = set()
        self.on_breaker: Callable[[str, Breaker], None] | None = None  # set where there are several workers

    def is_well(self, key: str) -> bool:
        """Return whether an upstream is healthy: its last call was answered, or it was not asked yet."""
        return key not in self.breakers and key not in self.busy

    @property
    def unpaid_upstreams(self) -> int:
        """How many upstreams are not asked because the account that pays them has no credit."""
        return sum(breaker.is_unpaid for breaker in self.breakers.values())

    def note_dispatch(self, key: str) -> None:
        """Note that a request goes out; to a half-open upstream it is the probe."""
        breaker = self.breakers.get(key)
        if breaker is not None:
            self._remember(key, breaker.after_dispatch(self._clock.monotonic_s()))

    def note_success(self, key: str) -> None:
        """Note an answer."""
        breaker = self.breakers.get(key)
        if self.busy:
            self.busy.discard(key)
        if breaker is not None:
            now_s = self._clock.monotonic_s()
            after = breaker.after_success(now_s)
            self._remember(key, after)
            if after is CLOSED:
                self.log.answered(key, before=breaker, now_s=now_s)

    def note_failure(self, key: str, error: OwnwardError) -> None:
        """Note that a call to an upstream failed, and why; one that nothing listens for has lost its cache."""
        if isinstance(error, UpstreamUnreachable):
            self._prefixes.forget(key)
        now_s = self._clock.monotonic_s()
        before = self.breakers.get(key, CLOSED)
        after = before.after_failure(now_s, self._rules)
        self._remember(key, after)
        self._counting.call_failed(key, error.kind)
        self.log.failed(key, error, before=before, after=after, now_s=now_s)
        if after.opened > before.opened:
            self._counting.breaker_opened(key)

    def note_unpaid(self, key: str, error: OwnwardError) -> None:
        """Note that an upstream refused the account that we pay by: it is left alone at once, and longer each time."""
        now_s = self._clock.monotonic_s()
        before = self.breakers.get(key, CLOSED)
        after = before.after_unpaid(now_s, self._rules)
        self._counting.call_failed(key, error.kind)
        if after is not before:
            self._remember(key, after)
            self.log.failed(key, error, before=before, after=after, now_s=now_s)
            self._counting.breaker_opened(key)

    def note_nothing(self, key: str) -> None:
        """Note a call whose end says nothing of its upstream."""
        breaker = self.breakers.get(key)
        if breaker is not None:
            self._remember(key, breaker.after_nothing_learned())

    def note_wait(self, key: str, wait_s: float | None) -> None:
        """Note that an upstream asks to wait; without a time it only says that it is busy."""
        self._counting.call_failed(key, "rate_limited")
        if wait_s is None:
            self.busy.add(key)
            self.note_nothing(key)
            return
        now_s = self._clock.monotonic_s()
        self._remember(key, self.breakers.get(key, CLOSED).after_request_to_wait(now_s, wait_s, self._rules))
        self.log.asked_to_wait(key, wait_s, now_s=now_s)

    def hear(self, key: str, told: Breaker, said_s: float) -> None:
        """Take in what another worker said at `said_s` of an upstream."""
        before = self.breakers.get(key, CLOSED)
        if told.opened > before.opened and not told.is_unpaid:
            self._prefixes.forget(key)  # it may be gone, and this process need not ask it to know
        self._keep(key, before.after_hearing(told, said_s))

    def forget(self, key: str) -> None:
        """Forget an upstream that was replaced: its health, and what it had cached."""
        self.breakers.pop(key, None)
        self._prefixes.forget(key)

    def keep(self, keys: AbstractSet[str]) -> None:
        """Forget every upstream but these."""
        for key in self.breakers.keys() - keys:
            del self.breakers[key]
        self.busy &= keys

    def _remember(self, key: str, breaker: Breaker) -> None:
        if self.on_breaker is not None and breaker.is_news_after(self.breakers.get(key, CLOSED)):
            self.on_breaker(key, breaker)
        self._keep(key, breaker)

    def _keep(self, key: str, breaker: Breaker) -> None:
        if breaker is CLOSED:
            self.breakers.pop(key, None)
        else:
            self.breakers[key] = breaker
