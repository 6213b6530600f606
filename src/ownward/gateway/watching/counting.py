"""What is told when a call or a request is over: the counters, and whoever else watches.

Gauges, which are read when somebody asks, stand in `gauges`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ownward.core import Clock
from ownward.gateway.client import CLIENT_GONE
from ownward.gateway.watching.metrics import OTHER, CallEnd, GatewayMetrics, Outcome
from ownward.ledger import BudgetCheck

if TYPE_CHECKING:
    from ownward.gateway.placing.routing import Target
    from ownward.gateway.watching.watched import Counted, Watched

_ERRORS_FROM = 400
_SERVER_FAULTS = 500


class Watcher(Protocol):
    """Who is told of every request that is over, such as the log and spans. It must be quick, and never raise."""

    def request_ended(self, exchange: Watched, *, outcome: Outcome, latency_s: float) -> None:
        """Take note; `exchange.calls` holds its calls."""
        ...


class Counting:
    """One gateway's counters and those who watch it."""

    def __init__(self, clock: Clock, watchers: Sequence[Watcher] = ()) -> None:
        """Start at zero."""
        self.metrics = GatewayMetrics()
        self.watchers = tuple(watchers)
        self.started_at = clock.now()
        self._started_s = clock.monotonic_s()
        self._clock = clock

    @property
    def uptime_s(self) -> float:
        """How long it has run, whatever was made of the wall clock."""
        return self._clock.monotonic_s() - self._started_s

    def call_ended(self, exchange: Counted, call: CallEnd) -> None:
        """Count a call that is over."""
        exchange.calls.append(call)
        self.metrics.count_call(_workload_of(exchange), call)

    def request_ended(self, exchange: Watched) -> None:
        """Count a request that is over."""
        tier = "" if exchange.target is None else exchange.target.tier.name
        workload, status = _workload_of(exchange), exchange.status
        outcome = outcome_of(exchange)
        latency_s = self._clock.monotonic_s() - exchange.started_s
        metrics = self.metrics
        metrics.requests.add((exchange.endpoint.path, workload, tier, outcome, str(status)))
        metrics.observe_request(workload, tier, latency_s)
        if outcome == "client_left":
            metrics.disconnects.add((tier,))
        if exchange.error_kind is not None:
            metrics.errors.add((workload, tier, exchange.error_kind))
        for watcher in self.watchers:
            watcher.request_ended(exchange, outcome=outcome, latency_s=latency_s)

    def retried(self, exchange: Counted, target: Target) -> None:
        """Count a call after the first."""
        self.metrics.find_calls(_workload_of(exchange), target).retries += 1

    def over_budget(self, check: BudgetCheck) -> None:
        """Count a call that a budget did not admit; keys and tasks have no label of their own."""
        self.metrics.over_budget.add((check.kind, check.name if check.kind in {"workload", "tier"} else ""))

    def call_failed(self, key: str, kind: str) -> None:
        """Count that a call to the upstream `tier/upstream` failed."""
        tier, _, upstream = key.partition("/")
        self.metrics.call_failures.add((tier, upstream, kind))

    def breaker_opened(self, key: str) -> None:
        """Count that the upstream `tier/upstream` is left alone from now on."""
        tier, _, upstream = key.partition("/")
        self.metrics.breaker_opened.add((tier, upstream))


def outcome_of(exchange: Watched) -> Outcome:
    """Return how a request ended, as its client saw it."""
    if exchange.client.is_gone or exchange.status == CLIENT_GONE:
        return "client_left"
    if exchange.has_broken:
        return "broken"
    if exchange.error_kind is None:
        return "answered" if exchange.status < _ERRORS_FROM else "upstream_error"
    return "refused" if exchange.status < _SERVER_FAULTS else "failed"


def _workload_of(exchange: Counted) -> str:
    """Return the workload where the plan has it; what a client states of its own has no label."""
    return exchange.workload if exchange.workload in exchange.table.plan.workloads else OTHER
