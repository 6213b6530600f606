"""What the gateway counts: one entry for each workload at each upstream, found once a call and counted in place.

Names come from the plan and from closed sets, never from a client, and their number has a bound of its own: where
reloaded plans have brought too many, what is new is counted under `other`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import msgspec

from ownward.core import picousd_to_usd
from ownward.gateway.placing.routing import Target
from ownward.gateway.watching.exposition import Family, LabelValues, histogram_lines, value_lines
from ownward.gateway.watching.families import (
    ATTEMPTS,
    BEATEN,
    BEATEN_USD,
    BREAKER_OPENED,
    CALL_FAILURES,
    CHARGES,
    DETECTED,
    DISCONNECTS,
    ERRORS,
    HEDGES,
    LATENCY,
    OVER_BUDGET,
    OVER_LIMIT,
    QUEUE_SECONDS,
    REQUEST_SECONDS,
    REQUESTS,
    RETRIES,
    TOKENS,
    TPOT,
    TTFT,
    UNPRICED,
    UNSETTLED_CHARGES,
)
from ownward.pricing import Usage

SECONDS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip
"""Bounds of buckets for whole answers and first tokens, in seconds."""

SECONDS_PER_TOKEN = (
    0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0,
)  # fmt: skip
"""Bounds of buckets for one output token, in seconds: 1,000 to 1 tokens a second."""

OTHER = "other"
MOST_CALL_ENTRIES = 256
"""Workloads at upstreams that have an entry of their own; each is about 70 lines of /metrics."""

MOST_LABEL_SETS = 2048
"""Label sets of every other counter."""

CallState = Literal["settled", "unsettled", "failed"]
Outcome = Literal["answered", "broken", "client_left", "refused", "failed", "upstream_error"]


class CallEnd(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """One call to an upstream that is over, as those who watch are told; `started_s` is the gateway's monotonic clock.

    `ttft_s` is None where the answer was not streamed. `is_hedge` says that it was a second call beside
    one that was late, `is_beaten` that it was cancelled since the other had answered.
    """

    number: int
    target: Target
    state: CallState
    started_s: float
    latency_s: float
    ttft_s: float | None
    status: int | None
    usage: Usage | None
    charge_picousd: int | None
    charge_high_picousd: int | None
    is_hedge: bool = False
    is_beaten: bool = False

    @property
    def tpot_s(self) -> float | None:
        """From the first token to the end, over the output tokens less one; None where they are unknown or too few."""
        if self.ttft_s is None or self.usage is None or self.usage.output_tokens <= 1:
            return None
        return (self.latency_s - self.ttft_s) / (self.usage.output_tokens - 1)


class Histogram:
    """Counts of seconds in fixed buckets; `counts` has one more than `bounds`, for what is above them."""

    __slots__ = ("bounds", "counts", "total_s")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Start empty."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total_s += seconds


class CallCounts:
    """What is counted of one workload's calls to one upstream."""

    __slots__ = (
        "beaten", "beaten_high_picousd", "cache_write_tokens", "cached_input_tokens", "charge_picousd", "failed",
        "hedges_lost", "hedges_won", "input_tokens", "latency",
        "output_tokens", "retries", "settled", "tpot", "ttft", "unpriced", "unsettled",
        "unsettled_high_picousd",
    )  # fmt: skip

    def __init__(self) -> None:
        """Start at zero."""
        self.settled = self.unsettled = self.failed = self.retries = self.unpriced = 0
        self.hedges_won = self.hedges_lost = self.beaten = self.beaten_high_picousd = 0
        self.input_tokens = self.cached_input_tokens = self.cache_write_tokens = self.output_tokens = 0
        self.charge_picousd = self.unsettled_high_picousd = 0
        self.ttft = Histogram(SECONDS)
        self.tpot = Histogram(SECONDS_PER_TOKEN)
        self.latency = Histogram(SECONDS)


class Counter:
    """A number per label set that only grows, over at most `most` label sets."""

    __slots__ = ("_most", "family", "values")

    def __init__(self, family: Family, *, most: int = MOST_LABEL_SETS) -> None:
        """Start empty."""
        self.family = family
        self.values: dict[LabelValues, int] = {}
        self._most = most

    def add(self, labels: LabelValues) -> None:
        """Count one; a label set too many is counted as `other` throughout."""
        values = self.values
        known = values.get(labels)
        if known is None:
            if len(values) >= self._most:
                labels = (OTHER,) * len(labels)
            known = values.get(labels, 0)
        values[labels] = known + 1


class GatewayMetrics:
    """Everything the gateway counts; docs/reference/observability.md has the list."""

    def __init__(self) -> None:
        """Start at zero."""
        self.requests = Counter(REQUESTS)
        self.errors = Counter(ERRORS)
        self.disconnects = Counter(DISCONNECTS)
        self.over_budget = Counter(OVER_BUDGET)
        self.over_limit = Counter(OVER_LIMIT)
        self.detected = Counter(DETECTED)
        self.breaker_opened = Counter(BREAKER_OPENED)
        self.call_failures = Counter(CALL_FAILURES)
        self.calls: dict[tuple[str, str, str], CallCounts] = {}
        self.request_seconds: dict[tuple[str, str], Histogram] = {}
        self.queue_seconds: dict[tuple[str], Histogram] = {}

    def find_calls(self, workload: str, target: Target) -> CallCounts:
        """Return the entry of a workload at an upstream."""
        key = (workload, target.tier.name, target.upstream.name)
        entry = self.calls.get(key)
        if entry is None:
            if len(self.calls) >= MOST_CALL_ENTRIES:
                return self.calls.setdefault((OTHER, OTHER, OTHER), CallCounts())
            entry = self.calls[key] = CallCounts()
        return entry

    def count_call(self, workload: str, call: CallEnd) -> None:
        """Count a call that is over."""
        entry = self.find_calls(workload, call.target)
        if call.state == "settled":
            entry.settled += 1
            entry.latency.observe(call.latency_s)
        elif call.state == "failed":
            entry.failed += 1
        else:
            entry.unsettled += 1
            entry.unsettled_high_picousd += call.charge_high_picousd or 0
        if call.is_hedge or call.is_beaten:
            _count_hedging(entry, call)
        if call.ttft_s is not None:
            entry.ttft.observe(call.ttft_s)
            tpot_s = call.tpot_s
            if tpot_s is not None:
                entry.tpot.observe(tpot_s)
        usage = call.usage
        if usage is not None:
            entry.input_tokens += usage.input_tokens
            entry.cached_input_tokens += usage.cached_input_tokens
            entry.cache_write_tokens += usage.cache_write_tokens
            entry.output_tokens += usage.output_tokens
            if call.charge_picousd is None:
                entry.unpriced += 1
            else:
                entry.charge_picousd += call.charge_picousd

    def observe_request(self, workload: str, tier: str, seconds: float) -> None:
        """Count how long a request took from its head to its end."""
        found = self.request_seconds.get((workload, tier))
        if found is None:
            found = _histogram(self.request_seconds, (workload, tier), (OTHER, OTHER))
        found.observe(seconds)

    def observe_queue(self, tier: str, seconds: float) -> None:
        """Count how long a call waited for its place."""
        _histogram(self.queue_seconds, (tier,), (OTHER,)).observe(seconds)

    def families(self) -> list[Iterator[str]]:
        """Return the lines of each family, yet to be made, of the numbers as they are now."""
        made = [
            value_lines(counter.family, sorted(counter.values.items()))
            for counter in (
                self.requests,
                self.errors,
                self.disconnects,
                self.over_budget,
                self.over_limit,
                self.detected,
                self.breaker_opened,
                self.call_failures,
            )
        ]
        made += [_histograms(REQUEST_SECONDS, self.request_seconds), _histograms(QUEUE_SECONDS, self.queue_seconds)]
        calls = sorted(self.calls.items())
        made += [
            value_lines(ATTEMPTS, [(key, count) for name, entry in calls for key, count in _states(name, entry)]),
            value_lines(RETRIES, [(key, entry.retries) for key, entry in calls if entry.retries]),
            value_lines(HEDGES, [(key, count) for name, entry in calls for key, count in _hedges(name, entry)]),
            value_lines(BEATEN, [(key, entry.beaten) for key, entry in calls if entry.beaten]),
            value_lines(TOKENS, [(key, count) for name, entry in calls for key, count in _tokens(name, entry)]),
        ]
        for family, name in (
            (CHARGES, "charge_picousd"),
            (UNSETTLED_CHARGES, "unsettled_high_picousd"),
            (BEATEN_USD, "beaten_high_picousd"),
        ):
            charges = ((key, getattr(entry, name)) for key, entry in calls)
            made.append(value_lines(family, [(key, float(picousd_to_usd(usd))) for key, usd in charges if usd]))
        made.append(value_lines(UNPRICED, [(key, entry.unpriced) for key, entry in calls if entry.unpriced]))
        for family, name in ((TTFT, "ttft"), (TPOT, "tpot"), (LATENCY, "latency")):
            made.append(_histograms(family, {key: getattr(entry, name) for key, entry in calls}))
        return made


def _histogram(known: dict[Any, Histogram], labels: LabelValues, other: LabelValues) -> Histogram:
    """Return the entry of some labels, made where there is none."""
    if labels not in known and len(known) >= MOST_CALL_ENTRIES:
        labels = other
    return known.setdefault(labels, Histogram(SECONDS))


def _count_hedging(entry: CallCounts, call: CallEnd) -> None:
    if call.is_hedge and call.state == "settled" and not call.is_beaten:
        entry.hedges_won += 1
    elif call.is_hedge:
        entry.hedges_lost += 1
    if call.is_beaten and call.state != "settled":
        entry.beaten += 1
        entry.beaten_high_picousd += call.charge_high_picousd or 0


def _states(key: LabelValues, entry: CallCounts) -> Iterator[tuple[LabelValues, int]]:
    for state in get_args(CallState):
        count: int = getattr(entry, state)
        if count:
            yield (*key, state), count


def _hedges(key: LabelValues, entry: CallCounts) -> Iterator[tuple[LabelValues, int]]:
    for result in ("won", "lost"):
        count: int = getattr(entry, f"hedges_{result}")
        if count:
            yield (*key, result), count


def _tokens(key: LabelValues, entry: CallCounts) -> Iterator[tuple[LabelValues, int]]:
    for kind in ("input", "cached_input", "cache_write", "output"):
        count: int = getattr(entry, f"{kind}_tokens")
        if count:
            yield (*key, kind), count


def _histograms(family: Family, found: Mapping[Any, Histogram]) -> Iterator[str]:
    seen = [(labels, tuple(one.counts), one.total_s) for labels, one in sorted(found.items()) if any(one.counts)]
    return histogram_lines(family, next(iter(found.values())).bounds, seen) if seen else iter(())
