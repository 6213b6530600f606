"""Counters and histograms in Prometheus' text form, kept by hand: one dict update each on the hot path.

Label values come from the plan and from closed sets, never from a client, so that their number is bounded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

Labels = tuple[str, ...]


class Counter:
    """A number per label set that only grows."""

    __slots__ = ("help", "labels", "name", "values")

    def __init__(self, name: str, help_text: str, labels: Labels = ()) -> None:
        """Start empty."""
        self.name = name
        self.help = help_text
        self.labels = labels
        self.values: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Add `amount`."""
        self.values[labels] = self.values.get(labels, 0) + amount

    def lines(self) -> Iterable[str]:
        """Yield the text form."""
        yield from _head(self.name, self.help, "counter")
        for key, value in sorted(self.values.items()):
            yield f"{self.name}{_braces(self.labels, key)} {_number(value)}"


class Histogram:
    """Counts of seconds in fixed buckets, per label set."""

    __slots__ = ("help", "labels", "name", "values")

    def __init__(self, name: str, help_text: str, labels: Labels = ()) -> None:
        """Start empty."""
        self.name = name
        self.help = help_text
        self.labels = labels
        self.values: dict[Labels, tuple[list[int], list[float]]] = {}

    def observe(self, labels: Labels, seconds: float) -> None:
        """Count one duration."""
        entry = self.values.get(labels)
        if entry is None:
            entry = self.values[labels] = ([0] * (len(SECONDS) + 1), [0.0])
        entry[0][bisect_left(SECONDS, seconds)] += 1
        entry[1][0] += seconds

    def lines(self) -> Iterable[str]:
        """Yield the text form."""
        yield from _head(self.name, self.help, "histogram")
        for key, (counts, total) in sorted(self.values.items()):
            running = 0
            for bound, count in zip((*SECONDS, float("inf")), counts, strict=True):
                running += count
                le = "+Inf" if bound == float("inf") else _number(bound)
                yield f"{self.name}_bucket{_braces((*self.labels, 'le'), (*key, le))} {running}"
            yield f"{self.name}_sum{_braces(self.labels, key)} {total[0]:.9g}"
            yield f"{self.name}_count{_braces(self.labels, key)} {running}"


def gauge_lines(name: str, help_text: str, labels: Labels, values: Iterable[tuple[Labels, float]]) -> Iterable[str]:
    """Yield a gauge that is read at scrape time."""
    yield from _head(name, help_text, "gauge")
    for key, value in values:
        yield f"{name}{_braces(labels, key)} {_number(value)}"


class GatewayMetrics:
    """Everything the gateway counts; the names are listed in docs/reference/gateway.md."""

    def __init__(self) -> None:
        """Start at zero."""
        self.requests = Counter(
            "ownward_requests_total", "Answered requests.", ("endpoint", "workload", "tier", "status")
        )
        self.attempts = Counter("ownward_attempts_total", "Calls to upstreams.", ("tier", "upstream", "state"))
        self.retries = Counter("ownward_retries_total", "Attempts after the first.", ("tier", "upstream"))
        self.tokens = Counter("ownward_tokens_total", "Tokens that upstreams reported.", ("tier", "kind"))
        self.charges = Counter("ownward_charge_usd_total", "Settled charges in USD.", ("tier", "upstream"))
        self.ttft = Histogram(
            "ownward_ttft_seconds", "First byte of the answer minus dispatch, at the gateway.", ("tier",)
        )
        self.latency = Histogram(
            "ownward_latency_seconds", "Last byte of the answer minus dispatch, at the gateway.", ("tier",)
        )
        self.over_budget = Counter(
            "ownward_over_budget_total", "Calls that a budget did not admit.", ("kind", "workload")
        )
        self.disconnects = Counter("ownward_client_disconnects_total", "Clients that left early.", ("tier",))

    def render(self, gauges: Iterable[str] = ()) -> bytes:
        """Return the whole exposition, with gauges read now."""
        parts: list[str] = []
        for metric in vars(self).values():
            parts.extend(metric.lines())
        parts.extend(gauges)
        return ("\n".join(parts) + "\n").encode()


def _head(name: str, help_text: str, kind: str) -> Iterable[str]:
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"


def _braces(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + pairs + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.9g}"
