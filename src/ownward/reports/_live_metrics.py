"""What a running gateway did between two looks at its metrics: rates, percentiles, spend, what waits, what failed.

It reads the text of `/metrics` (docs/reference/observability.md) and knows no network.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ownward.core import BadInput

_SAMPLE: Final = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)",?')
_UNPRICED: Final = "ownward_unpriced_calls_total"
_CHARGED: Final = "ownward_charge_usd_total"
_CALLS: Final = "ownward_attempts_total"
_UNSETTLED: Final = ("state", "unsettled")
_SIGN: Final = "ownward_requests_in_flight"
_BREAKER_WORDS: Final = {0.0: "up", 1.0: "probing", 2.0: "open"}
_ANSWERED: Final = frozenset({"answered"})

Labels = tuple[tuple[str, str], ...]
Samples = Mapping[str, Mapping[Labels, float]]
_Grown = tuple[dict[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The metrics at one moment; `at_s` is a monotonic clock's."""

    at_s: float
    samples: Samples

    @classmethod
    def parse(cls, text: str, *, at_s: float) -> Look:
        """Return what a scrape holds.

        Raises: BadInput, if it is none of a gateway of ours.
        """
        samples: dict[str, dict[Labels, float]] = {}
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            found = _SAMPLE.fullmatch(line)
            if found is None:
                continue
            labels = tuple(sorted((name, _unescape(value)) for name, value in _LABEL.findall(found[2] or "")))
            try:
                samples.setdefault(found[1], {})[labels] = float(found[3])
            except ValueError:
                continue
        if _SIGN not in samples:
            raise BadInput("what answers there is not an ownward gateway", next_step="Name one with --url")
        return cls(at_s=at_s, samples=samples)

    @property
    def started_s(self) -> float | None:
        """When the gateway began, seconds since 1970."""
        return self.samples.get("process_start_time_seconds", {}).get(())

    def uptime_s(self, at: datetime) -> float | None:
        """How long it has run: by its own word, else by its start and the time now, which somebody may have set."""
        stated_s = self.samples.get("ownward_uptime_seconds", {}).get(())
        if stated_s is None and self.started_s is not None:
            return max(at.timestamp() - self.started_s, 0.0)
        return stated_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """Percentiles in seconds, read off buckets; None where nothing was seen."""

    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamLine:
    """One upstream of one tier; `queue_requests` is its tier's."""

    tier: str
    upstream: str
    state: str
    calls_in_flight: int
    queue_requests: int
    calls_per_s: float | None
    failed_per_s: float | None
    retries_per_s: float | None
    hedges_per_s: float | None
    ttft: Speeds
    tpot: Speeds
    output_tokens_per_s: float | None
    input_tokens_per_s: float | None
    cached_input_fraction: float | None
    usd_per_hour: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadLine:
    """One workload; `latency` is from a request's head to the end of its answer."""

    workload: str
    requests_per_s: float | None
    failed_per_s: float | None
    ttft: Speeds
    tpot: Speeds
    latency: Speeds
    output_tokens_per_s: float | None
    usd_per_hour: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLine:
    """A budget in its period."""

    kind: str
    name: str
    limit_usd: float
    spent_usd: float
    reserved_usd: float
    left_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorLine:
    """Errors of one kind that clients were told between the two looks."""

    kind: str
    workload: str
    tier: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureLine:
    """Calls that failed at an upstream between the two looks, by why, also where another served the request."""

    kind: str
    tier: str
    upstream: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One picture of a gateway, over `over_s` seconds; `is_whole_life` where that is all the time that it runs."""

    over_s: float | None
    is_whole_life: bool
    uptime_s: float | None
    requests_in_flight: int
    queue_requests: int
    requests_per_s: float | None
    outcomes: Mapping[str, int]
    output_tokens_per_s: float | None
    usd_per_hour: float | None
    usd_total: float | None  # None: calls of tiers without a price are in it
    known_usd_per_hour: float | None  # what all others were charged
    known_usd_total: float
    unsettled_calls: int  # whose charge is in none of these
    resident_bytes: float | None
    cpu_fraction: float | None
    ledger_queue_entries: int
    is_ledger_failing: bool
    stream_rest_s: float
    upstreams: tuple[UpstreamLine, ...]
    workloads: tuple[WorkloadLine, ...]
    budgets: tuple[BudgetLine, ...]
    errors: tuple[ErrorLine, ...]
    failures: tuple[FailureLine, ...]


def compute_frame(now: Look, before: Look | None, *, at: datetime) -> Frame:
    """Return what happened since `before`; since the gateway began, where there is no earlier look at this one."""
    if before is not None and (before.started_s != now.started_s or before.at_s >= now.at_s):
        before = None
    uptime_s = now.uptime_s(at)
    over_s = uptime_s if before is None else now.at_s - before.at_s
    since = _Since(now.samples, {} if before is None else before.samples, over_s or None)
    gauge = now.samples
    cpu_s = since.total("process_cpu_seconds_total")
    known_usd_total = sum(gauge.get(_CHARGED, {}).values(), 0.0)
    return Frame(
        over_s=over_s,
        is_whole_life=before is None,
        uptime_s=uptime_s,
        requests_in_flight=int(_one(gauge, _SIGN)),
        queue_requests=int(sum(gauge.get("ownward_queue_requests", {}).values())),
        requests_per_s=since.rate("ownward_requests_total"),
        outcomes={key: round(count) for key, count in sorted(since.by("ownward_requests_total", "outcome").items())},
        output_tokens_per_s=since.rate("ownward_tokens_total", kind="output"),
        usd_per_hour=since.usd_per_hour(),
        usd_total=None if gauge.get(_UNPRICED) else known_usd_total,
        known_usd_per_hour=since.known_usd_per_hour(),
        known_usd_total=known_usd_total,
        unsettled_calls=round(sum(n for labels, n in gauge.get(_CALLS, {}).items() if _UNSETTLED in labels)),
        resident_bytes=gauge.get("process_resident_memory_bytes", {}).get(()),
        cpu_fraction=None if not over_s else cpu_s / over_s,
        ledger_queue_entries=int(_one(gauge, "ownward_ledger_queue_entries")),
        is_ledger_failing=bool(_one(gauge, "ownward_ledger_failing")),
        stream_rest_s=_one(gauge, "ownward_stream_rest_seconds"),
        upstreams=tuple(_upstream_lines(gauge, since)),
        workloads=tuple(_workload_lines(since)),
        budgets=tuple(_budget_lines(gauge)),
        errors=tuple(_error_lines(since)),
        failures=tuple(_failure_lines(since)),
    )


class _Since:
    """Counters as what they grew by, and histograms as what fell into their buckets."""

    def __init__(self, now: Samples, before: Samples, over_s: float | None) -> None:
        self._now, self._before, self._over_s = now, before, over_s
        self._by_label: dict[tuple[str, str], dict[str | None, list[_Grown]]] = {}

    def grown(self, name: str, **wanted: str) -> Iterator[_Grown]:
        found = [self._series(name, label).get(text, []) for label, text in wanted.items()]
        # With a thousand workloads each line of the picture would else look through the series of all others.
        for labels, value in min(found, key=len) if found else self._series(name, "").get(None, []):
            if all(labels.get(key) == text for key, text in wanted.items()):
                yield labels, value

    def _series(self, name: str, label: str) -> dict[str | None, list[_Grown]]:
        """Return what each series of `name` grew by, by the value of one label."""
        series = self._by_label.get((name, label))
        if series is None:
            series = self._by_label[name, label] = defaultdict(list)
            before = self._before.get(name, {})
            for labels, value in self._now.get(name, {}).items():
                stated = dict(labels)
                series[stated.get(label)].append((stated, max(value - before.get(labels, 0.0), 0.0)))
        return series

    def total(self, name: str, **wanted: str) -> float:
        return sum(value for _, value in self.grown(name, **wanted))

    def rate(self, name: str, **wanted: str) -> float | None:
        return None if self._over_s is None else self.total(name, **wanted) / self._over_s

    def usd_per_hour(self, **wanted: str) -> float | None:
        """Return what was charged; None where a call without a price is among those asked for, as that is not 0."""
        return None if self.total(_UNPRICED, **wanted) else self.known_usd_per_hour(**wanted)

    def known_usd_per_hour(self, **wanted: str) -> float | None:
        """Return what was charged to calls that have a price."""
        per_s = self.rate(_CHARGED, **wanted)
        return None if per_s is None else per_s * 3600

    def by(self, name: str, label: str, **wanted: str) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        for labels, value in self.grown(name, **wanted):
            if value:
                found[labels.get(label, "")] += value
        return found

    def speeds(self, name: str, **wanted: str) -> Speeds:
        buckets: dict[float, float] = defaultdict(float)
        for labels, value in self.grown(f"{name}_bucket", **wanted):
            buckets[float(labels.get("le", "inf"))] += value
        below = sorted(buckets.items())
        p50, p95, p99 = (quantile(below, fraction) for fraction in (0.5, 0.95, 0.99))
        return Speeds(p50_s=p50, p95_s=p95, p99_s=p99)


def quantile(below: Sequence[tuple[float, float]], fraction: float) -> float | None:
    """Return the value that `fraction` of what was seen is below, taken as spread evenly over its bucket.

    `below` has the upper bound of each bucket and how many were at most that, ascending. What is above the last
    bound is said as that bound: it is at least so much. None where nothing was seen.

    >>> quantile([(0.1, 50), (0.2, 100), (float("inf"), 100)], 0.75)
    0.15
    """
    if not below or not below[-1][1]:
        return None
    rank = fraction * below[-1][1]
    lower, under = 0.0, 0.0
    for bound, count in below:
        if count >= rank:
            if bound == float("inf"):
                return lower
            share = (rank - under) / (count - under) if count > under else 0.0
            return round(lower + (bound - lower) * share, 9)
        lower, under = bound, count
    return lower


def _upstream_lines(gauge: Samples, since: _Since) -> Iterator[UpstreamLine]:
    queues = {dict(labels)["tier"]: int(value) for labels, value in gauge.get("ownward_queue_requests", {}).items()}
    for labels, state in sorted(gauge.get("ownward_breaker_state", {}).items()):
        stated = dict(labels)
        usable = gauge.get("ownward_upstream_usable", {}).get(labels, 1.0)
        is_unpaid = gauge.get("ownward_upstream_unpaid", {}).get(labels, 0.0) > 0
        input_tokens = since.total("ownward_tokens_total", kind="input", **stated)
        cached = since.total("ownward_tokens_total", kind="cached_input", **stated)
        yield UpstreamLine(
            tier=stated["tier"],
            upstream=stated["upstream"],
            state=("unpaid" if is_unpaid else _BREAKER_WORDS.get(state, "?")) if usable else "down",
            calls_in_flight=int(gauge.get("ownward_calls_in_flight", {}).get(labels, 0)),
            queue_requests=queues.get(stated["tier"], 0),
            calls_per_s=since.rate(_CALLS, **stated),
            failed_per_s=_minus(
                since.rate(_CALLS, **stated),
                since.rate(_CALLS, state="settled", **stated),
                since.rate("ownward_beaten_calls_total", **stated),
            ),
            retries_per_s=since.rate("ownward_retries_total", **stated),
            hedges_per_s=since.rate("ownward_hedges_total", **stated),
            ttft=since.speeds("ownward_ttft_seconds", **stated),
            tpot=since.speeds("ownward_tpot_seconds", **stated),
            output_tokens_per_s=since.rate("ownward_tokens_total", kind="output", **stated),
            input_tokens_per_s=since.rate("ownward_tokens_total", kind="input", **stated),
            cached_input_fraction=cached / input_tokens if input_tokens else None,
            usd_per_hour=since.usd_per_hour(**stated),
        )


def _workload_lines(since: _Since) -> Iterator[WorkloadLine]:
    requests = since.by("ownward_requests_total", "workload")
    for workload in sorted(requests, key=lambda name: (-requests[name], name)):
        answered = sum(since.rate("ownward_requests_total", workload=workload, outcome=o) or 0.0 for o in _ANSWERED)
        total = since.rate("ownward_requests_total", workload=workload)
        yield WorkloadLine(
            workload=workload,
            requests_per_s=total,
            failed_per_s=_minus(total, answered),
            ttft=since.speeds("ownward_ttft_seconds", workload=workload),
            tpot=since.speeds("ownward_tpot_seconds", workload=workload),
            latency=since.speeds("ownward_request_seconds", workload=workload),
            output_tokens_per_s=since.rate("ownward_tokens_total", kind="output", workload=workload),
            usd_per_hour=since.usd_per_hour(workload=workload),
        )


def _budget_lines(gauge: Samples) -> Iterator[BudgetLine]:
    def of(part: str) -> Mapping[Labels, float]:
        return gauge.get(f"ownward_budget_{part}_usd", {})

    for labels, limit in sorted(of("limit").items()):
        stated = dict(labels)
        yield BudgetLine(
            kind=stated.get("kind", ""),
            name=stated.get("name", ""),
            limit_usd=limit,
            spent_usd=of("spent").get(labels, 0.0),
            reserved_usd=of("reserved").get(labels, 0.0),
            left_usd=of("left").get(labels, 0.0),
        )


def _error_lines(since: _Since) -> Iterable[ErrorLine]:
    lines = [
        ErrorLine(
            kind=labels.get("kind", ""),
            workload=labels.get("workload", ""),
            tier=labels.get("tier", ""),
            count=round(n),
        )
        for labels, n in since.grown("ownward_errors_total")
        if n
    ]
    return sorted(lines, key=lambda line: (-line.count, line.kind, line.workload, line.tier))


def _failure_lines(since: _Since) -> Iterable[FailureLine]:
    lines = [
        FailureLine(
            kind=labels.get("kind", ""),
            tier=labels.get("tier", ""),
            upstream=labels.get("upstream", ""),
            count=round(n),
        )
        for labels, n in since.grown("ownward_call_failures_total")
        if n
    ]
    return sorted(lines, key=lambda line: (-line.count, line.kind, line.tier, line.upstream))


def _minus(whole: float | None, *parts: float | None) -> float | None:
    for part in parts:
        whole = None if whole is None or part is None else max(whole - part, 0.0)
    return whole


def _one(gauge: Samples, name: str) -> float:
    return gauge.get(name, {}).get((), 0.0)


_ESCAPE: Final = re.compile(r"\\(.)")
_unescape_one: Callable[[re.Match[str]], str] = lambda found: "\n" if found[1] == "n" else found[1]  # noqa: E731


def _unescape(value: str) -> str:
    return _ESCAPE.sub(_unescape_one, value) if "\\" in value else value
