"""A picture of a running gateway as text: one screen of a terminal, or one plain page."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from ownward.core import format_bytes, format_counted, format_duration
from ownward.reports._fitted_table import FittingTable
from ownward.reports._live_metrics import BudgetLine, ErrorLine, FailureLine, Frame, Speeds, UpstreamLine, WorkloadLine

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES: Final = {"up": "green", "open": "bold red", "probing": "yellow", "down": "red", "unpaid": "bold red"}
_UNKNOWN: Final = "-"
_LOW_FRACTION: Final = 0.1
_FRAME_ROWS: Final = 3
"""Rows of a table that are no lines of it: a blank, the heading, what was left out."""

_LONGEST_NAME: Final = 22


def render_frame(
    frame: Frame, *, url: str, trouble: str | None = None, rows: int | None = None, columns: int = 80
) -> RenderableType:
    """Return the screen; at most about `rows` rows high, where that is stated, on a terminal of so many columns.

    It shows all in 80 columns; in fewer, tables leave out what tells least. `trouble` is why it is not of now.
    """
    from rich.console import Group
    from rich.text import Text

    head = list(_head(frame, url=url))
    parts: list[RenderableType] = [*(Text(line, overflow="fold") for line in head)]
    if trouble is not None:
        head.append(trouble)
        parts.append(Text(trouble, style="bold red", overflow="fold"))
    tables: tuple[tuple[Callable[[Any], FittingTable], Sequence[Any]], ...] = (
        (_upstream_table, frame.upstreams),
        (_workload_table, frame.workloads),
        (_budget_table, frame.budgets),
        (_error_table, frame.errors),
        (_failure_table, frame.failures),
    )
    left = [(make, lines) for make, lines in tables if lines]
    room = None if rows is None else rows - sum(len(textwrap.wrap(line, max(columns, 1))) for line in head)
    for index, (make, lines) in enumerate(left):
        shown = lines if room is None else lines[: max(room - _FRAME_ROWS * (len(left) - index), 1)]
        if room is not None:
            room -= _FRAME_ROWS + len(shown)
            if room < 0:
                break
        parts += ["", make(shown)]
        if len(shown) < len(lines):
            parts.append(Text(f"and {len(lines) - len(shown)} more; see all with --json", style="dim"))
    return Group(*parts)


def _head(frame: Frame, *, url: str) -> Iterator[str]:
    over = "since it began" if frame.is_whole_life else f"over the last {format_duration(frame.over_s)}"
    yield f"{url}  up {format_duration(frame.uptime_s)}, figures {over}"
    outcomes = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in frame.outcomes.items())
    yield (
        f"{_rate(frame.requests_per_s)} requests/s ({outcomes or 'none yet'});"
        f" {frame.requests_in_flight} in flight, {frame.queue_requests} waiting"
    )
    beside = f", besides {format_counted(frame.unsettled_calls, 'unsettled call')}" if frame.unsettled_calls else ""
    yield (
        f"{_rate(frame.output_tokens_per_s)} output tokens/s;"
        f" {_sum(frame.usd_per_hour, frame.known_usd_per_hour)} USD/h,"
        f" {_sum(frame.usd_total, frame.known_usd_total)} USD since it began{beside}"
    )
    cpu = _UNKNOWN if frame.cpu_fraction is None else f"{frame.cpu_fraction:.0%}"
    memory = _UNKNOWN if frame.resident_bytes is None else format_bytes(frame.resident_bytes)
    rests = f"; streams rest {frame.stream_rest_s * 1e3:.0f} ms" if frame.stream_rest_s else ""
    rows = format_counted(frame.ledger_queue_entries, "row")
    yield f"gateway: {cpu} of a core, {memory}; ledger: {rows} waiting{rests}"
    if frame.is_ledger_failing:
        yield "the ledger cannot be written: every request is refused until it can; the gateway's log says why"


def _upstream_table(lines: Sequence[UpstreamLine]) -> FittingTable:
    from rich.text import Text

    columns = ("upstream", "state", "now", "wait", "/s", "fail", "TTFT", "95%", "TPOT", "95%", "USD/h")
    table = FittingTable(columns, texts=2, leaves_out=(9, 7, 8, 3, 10, 6, 2, 4, 5))
    for line in lines:
        table.add_row(
            _upstream_name(line.tier, line.upstream),
            Text(line.state, style=_STYLES.get(line.state, "")),
            str(line.calls_in_flight),
            str(line.queue_requests),
            _rate(line.calls_per_s),
            _rate(line.failed_per_s),
            *_two(line.ttft),
            *_two(line.tpot),
            _usd(line.usd_per_hour),
        )
    return table


def _workload_table(lines: Sequence[WorkloadLine]) -> FittingTable:
    columns = ("workload", "/s", "fail", "whole", "95%", "TTFT", "95%", "tok/s", "USD/h")
    table = FittingTable(columns, texts=1, leaves_out=(6, 4, 7, 5, 8, 3, 1))
    for line in lines:
        table.add_row(
            _name(line.workload),
            _rate(line.requests_per_s),
            _rate(line.failed_per_s),
            *_two(line.latency),
            *_two(line.ttft),
            _rate(line.output_tokens_per_s),
            _usd(line.usd_per_hour),
        )
    return table


def _budget_table(lines: Sequence[BudgetLine]) -> FittingTable:
    from rich.text import Text

    table = FittingTable(("budget", "limit USD", "spent", "reserved", "left"), texts=1, leaves_out=(3, 2, 1))
    for line in lines:
        is_low = line.left_usd < _LOW_FRACTION * line.limit_usd
        table.add_row(
            _name(f"{line.kind} {line.name}"),
            _usd(line.limit_usd),
            _usd(line.spent_usd),
            _usd(line.reserved_usd),
            Text(_usd(line.left_usd), style="bold red" if is_low else ""),
        )
    return table


def _error_table(lines: Sequence[ErrorLine]) -> FittingTable:
    table = FittingTable(("errors told", "workload", "tier", "times"), texts=3, leaves_out=(2, 1))
    for line in lines:
        table.add_row(line.kind, _name(line.workload or _UNKNOWN), _name(line.tier or _UNKNOWN), f"{line.count:,}")
    return table


def _failure_table(lines: Sequence[FailureLine]) -> FittingTable:
    table = FittingTable(("calls failed", "upstream", "times"), texts=2, leaves_out=(1,))
    for line in lines:
        table.add_row(line.kind, _upstream_name(line.tier, line.upstream), f"{line.count:,}")
    return table


def _upstream_name(tier: str, upstream: str) -> str:
    return _name(tier if upstream == tier else f"{tier}/{upstream}")


def _name(name: str) -> str:
    """Return a name that leaves room for figures: what is long loses its middle.

    >>> _name("a-tier-with-a-very-long-name/eu-central-1")
    'a-tier-wit…u-central-1'
    """
    if len(name) <= _LONGEST_NAME:
        return name
    kept = _LONGEST_NAME - 1
    return f"{name[: kept // 2]}…{name[-(kept - kept // 2) :]}"


def _two(speeds: Speeds) -> tuple[str, str]:
    return _short(speeds.p50_s), _short(speeds.p95_s)


def _short(seconds: float | None) -> str:
    """Return a duration in as few characters as a narrow column has.

    >>> _short(0.0213), _short(0.3), _short(12.34), _short(None)
    ('21ms', '300ms', '12.3s', '-')
    """
    if seconds is None:
        return _UNKNOWN
    if seconds < 0.01:  # noqa: PLR2004 - below ten milliseconds a decimal says something
        return f"{seconds * 1e3:.1f}ms"
    return f"{seconds * 1e3:.0f}ms" if seconds < 1 else f"{seconds:.3g}s"


def _rate(per_s: float | None) -> str:
    """Return a rate in at most five characters, below a million a second.

    >>> _rate(0.0), _rate(0.004), _rate(0.13), _rate(5.25), _rate(1234)
    ('0', '<.01', '0.13', '5.2', '1,234')
    """
    if per_s is None:
        return _UNKNOWN
    if 0 < per_s < 0.01:  # noqa: PLR2004 - too seldom to be said in two digits
        return "<.01"
    return "0" if not per_s else f"{per_s:.2g}" if per_s < 10 else f"{per_s:,.0f}"  # noqa: PLR2004 - two figures do


def _sum(usd: float | None, known_usd: float | None) -> str:
    """Return a sum; where calls without a price are in it, what the others come to.

    >>> _sum(4.7, 4.7), _sum(None, 4.7), _sum(None, 0.0)
    ('4.70', '4.70 + unknown', '-')
    """
    return f"{_usd(known_usd)} + unknown" if usd is None and known_usd else _usd(usd)


def _usd(usd: float | None) -> str:
    if usd is None:
        return _UNKNOWN
    if 0 < usd < 0.001:  # noqa: PLR2004 - less than a tenth of a cent
        return "<.001"
    return "0" if not usd else f"{usd:.2g}" if abs(usd) < 1 else f"{usd:,.2f}"
