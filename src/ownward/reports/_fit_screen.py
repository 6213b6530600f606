"""A fit as a terminal shows it: right in 80 columns, piped and without colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ownward.core import format_bytes, format_counted
from ownward.reports._fit_option import about_option
from ownward.reports._fit_report import FitLine, FitReport
from ownward.reports._fit_text import (
    COLUMNS,
    banded,
    cents,
    most,
    name_change,
    name_machine,
    name_shortage,
    name_tokens,
    outcome,
    plain_table,
    short,
    wrapped,
)
from ownward.reports._fitted_table import Fitted
from ownward.reports._purchase_screen import advice_page

if TYPE_CHECKING:
    from rich.text import Text

    from ownward.planner import Nearest

_SHOWN = 8
_FAILING_SHOWN = 4


def render_fit(report: FitReport) -> Any:
    """Return the page of a fit; of a purchase, where advice was asked for."""
    from rich.console import Group
    from rich.text import Text

    if report.advice is not None:
        return Group(*advice_page(report, report.advice))
    fitting, failing = report.fitting, report.failing
    parts: list[Any] = [Text(line, style="bold") for line in _title(report)]
    parts.append("")
    if fitting:
        parts.append(_table(fitting[:_SHOWN], is_mixed=report.is_ranking or len(report.models) > 1))
        parts += [Text(line) for line in _below_table(report)]
        parts.append("")
        parts += about_option(fitting[0])
    elif failing:
        parts.append(_failing_table(failing[:_SHOWN]))
        parts += ["", Text("Nothing fits.", style="bold"), *_nearest(report.nearest)]
    else:
        parts.append(Text("Nothing can be said: no option of these models could be placed."))
    parts += [Text(row) for note in report.notes for row in ("", *wrapped(note))]
    return Group(*parts)


def _title(report: FitReport) -> list[str]:
    assert report.machine is not None
    what = "The best models" if report.is_ranking else ", ".join(report.models)
    where = f"{what} on {name_machine(report.machine, report.machines_count, report.host)}"
    sequences = f"{format_counted(report.concurrency, 'sequence')} at a time"
    return [*wrapped(where), f"{format_counted(report.context_tokens, 'token')} of context, {sequences}"]


def _table(lines: Sequence[FitLine], *, is_mixed: bool) -> Fitted:
    table = plain_table(gap=1 if is_mixed else 2)
    if is_mixed:
        table.add_column("model", overflow="fold")
    table.add_column("weights", no_wrap=True)
    table.add_column("GiB", justify="right", no_wrap=True)
    table.add_column("longest\ncontext", justify="right", no_wrap=True)
    if not is_mixed:
        table.add_column("most\nusers", justify="right", no_wrap=True)
    each = " each" if lines[0].option.concurrency > 1 else ""
    table.add_column(f"decode\ntok/s{each}", justify="right", no_wrap=True)
    table.add_column("prefill\ntok/s", justify="right", no_wrap=True)
    table.add_column("energy\n$/Mtok", justify="right", no_wrap=True)
    table.add_column("all\n$/Mtok", justify="right", no_wrap=True)
    for line in lines:
        option = line.option
        prefill = option.prefill_tokens_per_s
        cells = [
            option.variant
            + (" *" if option.split else "")
            + (" ?" if option.fits is None else "")
            + (" ~" if line.is_unscored else ""),
            f"{option.memory.total / 2**30:.1f}",
            name_tokens(option.max_context_tokens),
            *([] if is_mixed else [most(option.max_concurrency)]),
            banded(option.decode_tokens_per_s),
            short(prefill.value) if is_mixed else banded(prefill),
            cents(option.usd_per_mtok_marginal),
            cents(option.usd_per_mtok_loaded),
        ]
        table.add_row(*([option.model] if is_mixed else []), *cells)
    return Fitted(table, names=16, leaves_out=(6, 5, 3, 2))  # what energy costs, prompts, or how many users; then sizes


def _failing_table(lines: Sequence[FitLine]) -> Fitted:
    table = plain_table()
    table.add_column("model", overflow="fold")
    table.add_column("weights", no_wrap=True)
    for heading in ("needs", "usable", "missing"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        option = line.option
        table.add_row(
            option.model,
            option.variant,
            format_bytes(option.memory.total),
            format_bytes(option.usable_bytes),
            format_bytes(option.missing_bytes),
        )
    return Fitted(table, leaves_out=(3, 2))


def _below_table(report: FitReport) -> Iterator[str]:
    shown = report.fitting[:_SHOWN]
    if any(line.option.split for line in shown):
        yield "* part of the weights in the host's memory or on disk"
    if any(line.option.fits is None for line in shown):
        yield "? whether it fits is not known: nobody has stated this machine's memory"
    if any(line.rests_on for line in shown):
        yield "ranked by published scores, on one scale over models that share benchmarks"
    if any(line.is_unscored for line in shown):
        yield "~ no score is known: ranked by size and age, as other models' scores suggest"
    if report.failing and not report.is_ranking:
        is_mixed = len(report.models) > 1
        misses = [
            f"{f'{line.option.model} in ' if is_mixed else ''}{line.option.variant} "
            f"{name_shortage(line.option.missing_bytes)}"
            for line in report.failing[:_FAILING_SHOWN]
        ]
        more = len(report.failing) - len(misses)
        yield from wrapped(f"does not fit: {', '.join(misses)}{f' and {more} more' if more else ''}")
    yield "(in brackets: the range meant to hold the truth in 8 of 10 cases)"


def _nearest(found: Sequence[Nearest]) -> Iterator[Text]:
    """Yield what would make it fit, each with what comes of it."""
    from rich.text import Text

    if not found:
        yield Text("Nothing near it was found to fit either.")
        return
    yield Text("The nearest that does:")
    for item in found:
        for number, row in enumerate(wrapped(f"{name_change(item)}: {outcome(item.option)}", width=COLUMNS - 4)):
            yield Text(f"  {'-' if not number else ' '} {row}")
