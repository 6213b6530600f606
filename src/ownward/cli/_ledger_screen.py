"""What `ownward ledger show` prints for people: no figure is cut, however narrow the terminal is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from ownward.core import format_bytes, format_usd

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group
    from rich.table import Table

    from ownward.ledger import KeptSum, Spend, SpendRow, WorkloadRow

_NAMES: Final = ("workload", "tier")
_FIGURES: Final = ("requests", "settled", "unsettled", "input", "output", "spend", "at most")
_STACKED: Final = ("requests", "settled\nunsettled", "input\noutput", "spend\nat most")
_UNBOUNDED: Final = 1 << 20


def render_ledger(spend: Sequence[SpendRow], workloads: Sequence[WorkloadRow], kept: Iterable[KeptSum]) -> Group:
    """Return what was served, the known workloads, and what is kept of what was said."""
    from rich.console import Group
    from rich.table import Table

    if not (spend or workloads):
        return Group("nothing has been served or imported yet: ownward serve and ownward import write here")
    known = Table(box=None, title="known workloads", title_justify="left")
    known.add_column("workload", overflow="fold")
    for heading in ("own requests", "imported"):
        known.add_column(heading, justify="right", no_wrap=True)
    for item in workloads:
        known.add_row(item.workload, f"{item.own_requests:,}", f"{item.imported_requests:,}")
    told = [_told(one) for one in kept if one.count]
    return Group(_Served(spend), "", known, *([""] if told else []), *told)


class _Served:
    """A line for each workload on a tier; of two lines where one would not fit, so that only names are ever folded."""

    def __init__(self, spend: Sequence[SpendRow]) -> None:
        self._rows = [
            ((row.group["workload"] or "?", row.group["tier"] or "(refused)"), _figures(row)) for row in spend
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Table]:
        from rich.measure import Measurement

        flat = _table(_FIGURES)
        for names, figures in self._rows:
            flat.add_row(*names, *figures)
        if Measurement.get(console, options.update_width(_UNBOUNDED), flat).maximum <= options.max_width:
            yield flat
            return
        stacked = _table(_STACKED)
        for names, (requests, *pairs) in self._rows:
            above, below = pairs[::2], pairs[1::2]
            stacked.add_row(*names, requests, *map("\n".join, zip(above, below, strict=True)))
        yield stacked


def _table(headings: Iterable[str]) -> Table:
    from rich.table import Table

    served = Table(box=None, title="served", title_justify="left")
    for heading in _NAMES:
        served.add_column(heading, overflow="fold")
    for heading in headings:
        served.add_column(heading, justify="right", no_wrap=True)
    return served


def _figures(row: SpendRow) -> tuple[str, ...]:
    return (
        f"{row.requests:,}",
        f"{row.settled_attempts:,}",
        f"{row.spend.unsettled_attempts:,}",
        f"{row.input_tokens:,}",
        f"{row.output_tokens:,}",
        _spent(row.spend),
        format_usd(row.spend.high_usd),
    )


def _spent(spend: Spend) -> str:
    """Return what is known to be charged, and how many settled calls more cost nobody knows what."""
    unknown = spend.unpriced_attempts
    known = format_usd(spend.settled_usd)
    if not unknown:
        return known
    return f"{known} + {unknown:,} unknown" if spend.settled_picousd else "?"


def _told(kept: KeptSum) -> str:
    assert kept.first_expires_at is not None
    assert kept.last_expires_at is not None
    first, last = (moment.strftime("%Y-%m-%d %H:%M") for moment in (kept.first_expires_at, kept.last_expires_at))
    until = first if first == last else f"{first} to {last}"
    return f"kept content: {kept.count:,} {kept.kind}, {format_bytes(kept.size_bytes)}, until {until} UTC"
