"""What to buy, on a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ownward.core import format_counted
from ownward.reports._fit_option import about_option
from ownward.reports._fit_report import FitReport
from ownward.reports._fit_text import (
    banded,
    cents,
    dollars,
    name_best,
    name_frontier,
    name_purchase,
    name_tokens,
    outcome,
    plain_table,
    short,
    wrapped,
)
from ownward.reports._fitted_table import Fitted

if TYPE_CHECKING:
    from rich.text import Text

    from ownward.planner import Advice, Purchase

_UNPRICED_SHOWN = 6


def advice_page(report: FitReport, advice: Advice) -> Iterator[Any]:
    """Yield the page: what each purchase within the budget gives, and all about the best."""
    from rich.text import Text

    lines = {id(line.option): line for line in report.lines}
    wanted = "the best models" if report.is_ranking else " or ".join(report.models)
    for row in wrapped(f"What to buy for {dollars(advice.budget_usd)} to run {wanted}"):
        yield Text(row, style="bold")
    sequences = f"{format_counted(report.concurrency, 'sequence')} at a time"
    yield Text(f"{format_counted(report.context_tokens, 'token')} of context, {sequences}", style="bold")
    yield ""
    if not advice.purchases:
        yield Text("Nothing within this budget runs it.", style="bold")
        if advice.above_budget is not None:
            dearer = advice.above_budget
            yield from (
                Text(row)
                for row in wrapped(
                    f"The cheapest that does: {name_purchase(dearer)}, {dollars(dearer.total_usd)} in all: "
                    f"{dearer.option.model} in {outcome(dearer.option)}"
                )
            )
        yield from _unpriced(advice)
        return
    if advice.best is not None:
        yield from (Text(row) for row in wrapped(name_best(advice.best)))
        yield ""
    yield _purchases(advice.purchases, is_ranking=report.is_ranking)
    hosts = sorted({purchase.host_usd for purchase in advice.purchases if purchase.host_usd})
    if hosts:
        taken = " or, for more than two cards, ".join(dollars(host) for host in hosts)
        yield from (
            Text(row) for row in wrapped(f"+ a computer around it, taken as {taken}: --host-price states yours")
        )
    if any(purchase.option.split for purchase in advice.purchases):
        yield Text("* part of the weights in the host's memory or on disk")
    yield from (
        Text(row)
        for row in wrapped(
            f"{name_frontier(advice, is_ranking=report.is_ranking)} Prices are of the kind and date shown and may not "
            "hold today."
        )
    )
    yield from _unpriced(advice)
    line = None if advice.best is None else lines.get(id(advice.best.option))
    if line is not None and advice.best is not None:
        yield ""
        yield Text(f"On {name_purchase(advice.best)}:")
        yield from about_option(line)


def _purchases(purchases: Sequence[Purchase], *, is_ranking: bool) -> Fitted:
    table = plain_table()
    table.add_column("buy", overflow="fold", max_width=23)
    table.add_column("$", justify="right", no_wrap=True)
    table.add_column("price is", overflow="fold", max_width=11)
    if is_ranking:
        table.add_column("model", overflow="fold", max_width=18)
    table.add_column("weights", no_wrap=True)
    if not is_ranking:
        table.add_column("longest\ncontext", justify="right", no_wrap=True)
    table.add_column("decode\ntok/s", justify="right", no_wrap=True)
    if not is_ranking:
        table.add_column("all\n$/Mtok", justify="right", no_wrap=True)
    for purchase in purchases:
        option, machine = purchase.option, purchase.machine
        kind = f"{(machine.price_kind or '?').replace('_', ' ')} {machine.price_dated or ''}".strip()
        table.add_row(
            name_purchase(purchase) + (" +" if purchase.host_usd else ""),
            f"{purchase.total_usd:,.0f}",
            kind,
            *([option.model] if is_ranking else []),
            option.variant + (" *" if option.split else ""),
            *([] if is_ranking else [name_tokens(option.max_context_tokens)]),
            banded(option.decode_tokens_per_s),
            *([] if is_ranking else [cents(option.usd_per_mtok_loaded)]),
        )
    return Fitted(table, names=17, leaves_out=(2, 4), folds={3: 16} if is_ranking else {})


def _unpriced(advice: Advice) -> Iterator[Text]:
    from rich.text import Text

    if not advice.unpriced:
        return
    named = [
        f"{option.conditions.machine.name} ({option.variant}, {short(option.decode_tokens_per_s.value)} tok/s)"
        for option in advice.unpriced[:_UNPRICED_SHOWN]
    ]
    more = len(advice.unpriced) - len(named)
    text = f"No price is known here of: {', '.join(named)}{f' and {more} more' if more else ''}. "
    for row in wrapped(text + "State one with: ownward machines add"):
        yield Text(row)
