"""Own against rent as tables a person enjoys reading, 80 columns wide, without colour if need be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from ownward.core import format_count, format_counted, format_percent, format_usd
from ownward.reports._fitted_table import Fitted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Group

    from ownward.economics import BreakEven, OwnVsRent


_BREAK_EVENS = "owning pays from (requests a month, 80% band)"
_CENT, _TEN = Decimal("0.01"), 10
_FEW = {0: "none", 1: "one"}


class _Scheduler(Protocol):
    @property
    def max_batch(self) -> int: ...
    @property
    def token_budget(self) -> int: ...


class _Sizing(Protocol):
    @property
    def scheduler(self) -> _Scheduler: ...


class _Comparison(Protocol):
    @property
    def workload(self) -> str: ...
    @property
    def own_vs_rent(self) -> OwnVsRent: ...
    @property
    def sizings(self) -> Mapping[str, _Sizing]: ...
    @property
    def barred(self) -> Mapping[str, str]: ...


class _Choice(Protocol):
    @property
    def why(self) -> Sequence[str]: ...
    @property
    def plan_usd(self) -> Decimal: ...
    @property
    def baseline_usd(self) -> Decimal | None: ...


def render_comparisons(comparisons: Sequence[_Comparison], choice: _Choice) -> Group:
    """Return the costs and break-evens of each workload, and what was chosen and why."""
    from rich.console import Group
    from rich.text import Text

    parts: list[object] = []
    for item in comparisons:
        parts += [*_costs(item), ""]
        if item.own_vs_rent.owned:
            parts += [Text(_BREAK_EVENS), _break_evens(item), ""]
    parts += [Text(f"→ {line}") for line in choice.why]
    parts.append(
        Text(
            f"  a month: {format_usd(choice.plan_usd)} (everything at the baseline: {format_usd(choice.baseline_usd)})"
        )
    )
    return Group(*parts)  # type: ignore[arg-type]


def _costs(item: _Comparison) -> Iterator[object]:
    from rich.table import Table
    from rich.text import Text

    compared = item.own_vs_rent
    volume = compared.volume
    yield Text(
        f"{item.workload}: {format_count(volume.requests)} requests a month,"
        f" {format_count(volume.input_tokens)} tokens in, {format_count(volume.output_tokens)} out",
        style="bold",
    )
    table = Table(box=None)
    for heading, justify in (
        ("", "left"), ("machines", "right"), ("busy", "right"), ("energy only\n$/month", "right"),
        ("fully loaded\n$/month", "right"), ("$ per 1,000\nrequests", "right"),
    ):  # fmt: skip
        table.add_column(heading, justify=justify, no_wrap=bool(heading))  # type: ignore[arg-type]
    for cost in compared.owned:
        loaded = cost.loaded_usd_per_request
        table.add_row(
            f"own  {cost.name}",
            str(cost.machines),
            format_percent(cost.utilisation_fraction),
            _dollars(cost.marginal_usd),
            _dollars(cost.loaded_usd),
            format_usd(None if loaded is None else 1000 * loaded),
        )
    for name in item.barred:
        table.add_row(f"own  {name}", "none")
    for api in compared.rented:
        table.add_row(f"rent {api.name}", "", "", "", _dollars(api.usd), format_usd(1000 * api.usd_per_request))
    names = [*(cost.name for cost in compared.owned), *(api.name for api in compared.rented)]
    longest = max(map(len, names), default=0)
    yield Fitted(table, names=longest + len("rent "), leaves_out=(2, 1, 3))
    for name, reason in item.barred.items():
        yield Text(f"not {name}: {reason}")
    weakest = f"weakest figure: {compared.basis}"
    if compared.owned:
        spare = compared.owned[0].redundancy
        weakest += f"; machines include {_FEW.get(spare, spare)} in reserve"
    yield Text(weakest, style="italic")
    if item.sizings:
        limits = {name: one.scheduler for name, one in item.sizings.items()}
        told = (
            f"{name} {format_counted(limit.max_batch, 'sequence')} and {limit.token_budget:,} tokens a step"
            for name, limit in limits.items()
        )
        yield Text(f"engine limits: {'; '.join(told)}", style="italic")


def _break_evens(item: _Comparison) -> object:
    from rich.table import Table

    table = Table(box=None)
    table.add_column("")
    rented = [api.name for api in item.own_vs_rent.rented]
    for name in rented:
        table.add_column(f"against\n{name}", justify="right", overflow="fold")
    for cost in item.own_vs_rent.owned:
        found = {pair.rented: pair for pair in item.own_vs_rent.break_evens if pair.owned == cost.name}
        table.add_row(cost.name, *(_break_even(found[name]) for name in rented))
    return table


def _break_even(pair: BreakEven) -> str:
    if pair.never_fraction is None:
        return "?"
    if pair.requests_per_month is None:
        return "never"
    low = format_count(pair.requests_per_month_low80)
    high = "never" if pair.requests_per_month_high80 is None else format_count(pair.requests_per_month_high80)
    return f"{format_count(pair.requests_per_month)}\n({low} to {high})"


def _dollars(usd: Decimal | None) -> str:
    """Return whole dollars, and cents of less than ten: what a little traffic costs is not nothing.

    >>> from decimal import Decimal
    >>> _dollars(Decimal("1402.4")), _dollars(Decimal("3.214")), _dollars(Decimal("0.0004")), _dollars(None)
    ('$1,402', '$3.21', '<$0.01', '?')
    """
    if usd is None:
        return "?"
    if 0 < usd < _CENT:
        return f"<${_CENT}"
    return f"${usd:,.2f}" if 0 < usd < _TEN else f"${usd:,.0f}"
