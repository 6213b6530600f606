"""The metrics of several processes as those of one gateway: text in Prometheus' form, summed sample by sample.

Sums are exact, as decimals: rounded ones would depend on the order, and a counter that falls by its last digit counts
as one that began anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal
from typing import Final

_HIGHEST: Final = frozenset(
    {
        "ownward_breaker_state",
        "ownward_upstream_unpaid",
        "ownward_ledger_failing",
        "ownward_stream_rest_seconds",
        "ownward_uptime_seconds",
    }
)
_LOWEST: Final = frozenset({"ownward_upstream_usable", "process_start_time_seconds"})
_SAME: Final = frozenset(  # each process reads them from the one ledger
    {"ownward_budget_limit_usd", "ownward_budget_spent_usd", "ownward_budget_reserved_usd", "ownward_budget_left_usd"}
)
_EXACT: Final = Context(prec=200)
_ACCUMULATED: Final = frozenset({"counter", "histogram"})


def merge_metrics(texts: Iterable[str]) -> str:
    r"""Return one exposition: counters, histograms and most gauges summed, budgets as the first has them.

    An upstream's breaker is as the worst process sees it. The order of families and samples is the first's.

    >>> head = "# HELP a_total A.\n# TYPE a_total counter\n"
    >>> print(merge_metrics([head + "a_total 1\n", head + 'a_total 2\na_total{b="c"} 1\n']), end="")
    # HELP a_total A.
    # TYPE a_total counter
    a_total 3
    a_total{b="c"} 1
    """
    families: dict[str, tuple[list[str], dict[str, Decimal]]] = {}
    for text in texts:
        for name, head, samples in _parse(text):
            known = families.setdefault(name, (head, {}))[1]
            for key, value in samples.items():
                known[key] = value if key not in known else _combine(name, known[key], value)
    lines: list[str] = []
    for head, samples in families.values():
        lines += head
        lines += [f"{key} {value:f}" for key, value in samples.items()]
    return "\n".join(lines) + "\n"


def accumulated(text: str) -> str:
    """Return the counters and histograms of an exposition: what stays true of a process that is gone."""
    lines = []
    for _, head, samples in _parse(text):
        if head[-1].rpartition(" ")[2] in _ACCUMULATED:
            lines += [*head, *(f"{key} {value:f}" for key, value in samples.items())]
    return "\n".join(lines) + "\n"


def _combine(name: str, first: Decimal, second: Decimal) -> Decimal:
    if name in _SAME:
        return first
    if name in _HIGHEST:
        return max(first, second)
    return min(first, second) if name in _LOWEST else _EXACT.add(first, second)


def _parse(text: str) -> Iterable[tuple[str, list[str], dict[str, Decimal]]]:
    name, head, samples = "", list[str](), dict[str, Decimal]()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            if name:
                yield name, head, samples
            name, head, samples = line.split(" ", 3)[2], [line], {}
        elif line.startswith("#"):
            head.append(line)
        elif line:
            key, _, value = line.rpartition(" ")
            samples[key] = Decimal(value)
    if name:
        yield name, head, samples
