"""A fit as a terminal shows it: right in 80 columns, piped and without colour."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ownward.core import format_bytes, format_usd
from ownward.reports._fit_report import (
    FitLine,
    FitReport,
    banded,
    name_machine,
    name_shortage,
    name_tokens,
    remarks,
    seconds,
    short,
)

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from ownward.planner import Advice, Curves, FitOption, Nearest, Purchase

_COLUMNS = 80
_SHOWN = 8
_FAILING_SHOWN = 4
_MEMORY_WIDTH = 46
_CHART_WIDTH = 30
_SCORES_SHOWN = 3
_UNPRICED_SHOWN = 6
_CENT_DIGITS = 2
_PARTS = (("#", "weights", "cyan"), ("=", "cache", "magenta"), ("-", "other", "yellow"))


def render_fit(report: FitReport) -> Any:
    """Return the page of a fit; of a purchase, where advice was asked for."""
    from rich.console import Group
    from rich.text import Text

    if report.advice is not None:
        return Group(*_advice_page(report, report.advice))
    fitting, failing = report.fitting, report.failing
    parts: list[Any] = [Text(line, style="bold") for line in _title(report)]
    parts.append("")
    if fitting:
        parts.append(_table(fitting[:_SHOWN], is_ranking=report.is_ranking))
        parts += [Text(line) for line in _below_table(report)]
        parts.append("")
        parts += _about(fitting[0])
    elif failing:
        parts.append(_failing_table(failing[:_SHOWN]))
        parts += ["", Text("Nothing fits.", style="bold"), *_nearest(report.nearest)]
    else:
        parts.append(Text("Nothing can be said: no option of these models could be placed."))
    parts += [Text(row) for note in report.notes for row in ("", *_wrapped(note))]
    return Group(*parts)


def _title(report: FitReport) -> list[str]:
    assert report.machine is not None
    what = "The best models" if report.is_ranking else ", ".join(report.models)
    where = f"{what} on {name_machine(report.machine, report.machines_count, report.host)}"
    sequences = f"{report.concurrency} sequence{'s' if report.concurrency > 1 else ''} at a time"
    return [*_wrapped(where), f"{report.context_tokens:,} tokens of context, {sequences}"]


def _table(lines: Sequence[FitLine], *, is_ranking: bool) -> Table:
    is_mixed = is_ranking or len({line.option.model for line in lines}) > 1
    table = _plain_table(gap=1 if is_mixed else 2)
    if is_mixed:
        table.add_column("model", overflow="fold", max_width=24)
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
            *([] if is_mixed else [_most(option.max_concurrency)]),
            banded(option.decode_tokens_per_s),
            short(prefill.value) if is_mixed else banded(prefill),
            _cents(option.usd_per_mtok_marginal),
            _cents(option.usd_per_mtok_loaded),
        ]
        table.add_row(*([option.model] if is_mixed else []), *cells)
    return table


def _failing_table(lines: Sequence[FitLine]) -> Table:
    table = _plain_table()
    table.add_column("model", overflow="fold", max_width=34)
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
    return table


def _plain_table(*, gap: int = 2) -> Table:
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")


def _below_table(report: FitReport) -> Iterator[str]:
    shown = report.fitting[:_SHOWN]
    if any(line.option.split for line in shown):
        yield "* part of the weights in the host's memory or on disk"
    if any(line.option.fits is None for line in shown):
        yield "? whether it fits is not known: nobody has stated this machine's memory"
    if any(line.rests_on for line in shown):
        yield "ranked by published scores, on one scale over models that share benchmarks"
    if any(line.is_unscored for line in shown):
        yield "~ no score is known: ranked by size and age, as they go with scores elsewhere"
    if report.failing and not report.is_ranking:
        is_mixed = len(report.models) > 1
        misses = [
            f"{f'{line.option.model} in ' if is_mixed else ''}{line.option.variant} "
            f"{name_shortage(line.option.missing_bytes)}"
            for line in report.failing[:_FAILING_SHOWN]
        ]
        more = len(report.failing) - len(misses)
        yield from _wrapped(f"does not fit: {', '.join(misses)}{f' and {more} more' if more else ''}")
    yield "(in brackets: the range that holds the truth in 8 of 10 cases)"


def _about(line: FitLine) -> list[Any]:
    """Return all about the best option: memory, waits, costs, facts, charts, commands."""
    from rich.text import Text

    option = line.option
    parts: list[Any] = [
        *(Text(row, style="bold") for row in _wrapped(_best(option))),
        *_memory_bar(option),
        *(Text(text) for text in _facts(line)),
    ]
    if line.curves is not None:
        parts += _charts(line.curves, option)
    for number, way in enumerate(line.ways):
        parts += ["", Text("run it:" if not number else "or:", style="bold")]
        parts += [Text(row, no_wrap=True, overflow="ignore") for row in command_lines(way.words)]
        parts += [Text(row, style="dim") for need in way.needs for row in _wrapped(need)]
    if line.serving is not None:
        parts += [Text(row) for remark in remarks(line.serving) for row in _wrapped(remark)]
    return parts


def _best(option: FitOption) -> str:
    return f"Best: {option.model} in {option.variant}, {option.engine}, {option.placement}"


def _facts(line: FitLine) -> Iterator[str]:
    option, facts = line.option, line.facts
    prefill, ttft = option.prefill_tokens_per_s, option.ttft_ms
    if ttft.value is not None:
        yield (
            f"first token of a prompt of {option.prompt_tokens:,} after {seconds(ttft.value)}"
            f" ({seconds(ttft.low80)} to {seconds(ttft.high80)})"
        )
        yield f"prompts are read at {banded(prefill)} tok/s"
    longest = name_tokens(option.max_context_tokens)
    yield (
        f"longest context {longest} for {_sequences(option.concurrency)}; up to "
        f"{_most(option.max_concurrency)} of {name_tokens(option.context_tokens)}"
    )
    yield from _costs(line)
    if facts.licence:
        yield f"licence: {facts.licence}"
    if line.rests_on is not None:
        yield from _wrapped(f"ranked by: {', '.join(line.rests_on) or 'size and age; no published score is known'}")
    if facts.scores:
        shown = {score.benchmark: score for score in reversed(facts.scores)}
        first = [shown[name] for name in dict.fromkeys(score.benchmark for score in facts.scores)][:_SCORES_SHOWN]
        scores = ", ".join(f"{score.benchmark} {score.score.value:g}" for score in first)
        kinds = ", ".join(dict.fromkeys(score.kind for score in first))
        yield from _wrapped(f"published: {scores} ({kinds}; makers' scores do not compare)")
    if option.unknown:
        yield f"not known: {', '.join(option.unknown)}"


def _costs(line: FitLine) -> Iterator[str]:
    option, api = line.option, line.facts.cheapest_api
    if option.usd_per_mtok_marginal is not None:
        yield (
            f"$/Mtok here: energy {_cents(option.input_usd_per_mtok_marginal)} in, "
            f"{_cents(option.usd_per_mtok_marginal)} out; all "
            f"{_cents(option.input_usd_per_mtok_loaded)} in, {_cents(option.usd_per_mtok_loaded)} out"
        )
        price = option.asked.machine.price_usd
        if price is not None:
            machine = option.asked.machine
            kind = " ".join(part.replace("_", " ") for part in (machine.price_kind, machine.price_dated) if part)
            yield f"  (busy 30% of the month; {_dollars(price.value)} each, {kind}, without a host)"
        else:
            yield "  (busy 30% of the month)"
    if api is not None:
        yield (
            f"cheapest API of these weights: {_cents(api.input_usd_per_mtok)} in, "
            f"{_cents(api.output_usd_per_mtok)} out ({api.provider})"
        )


def _memory_bar(option: FitOption) -> list[Text]:
    from rich.text import Text

    memory = option.memory
    behind = 0 if option.split is None else option.split.in_memory_bytes + option.split.on_disk_bytes
    sizes = (memory.weights - behind, memory.cache + memory.state, memory.activations + memory.overhead)
    usable = option.usable_bytes
    whole = max(usable or 0, sum(sizes), 1)
    bar = Text("[")
    done = filled = 0
    for (symbol, _, style), size in zip(_PARTS, sizes, strict=True):
        done += max(size, 0)
        cells = round(_MEMORY_WIDTH * done / whole) - filled
        bar.append(symbol * cells, style=style)
        filled += cells
    bar.append("." * (_MEMORY_WIDTH - filled) + "] ")
    bar.append(f"{format_bytes(usable)} usable, {format_bytes(option.free_bytes if not behind else 0)} free")
    legend = Text("  ")
    for (symbol, name, style), size in zip(_PARTS, sizes, strict=True):
        legend.append(symbol, style=style)
        legend.append(f" {name} {format_bytes(size)}  ")
    legend.rstrip()
    rows = [bar, legend]
    if option.split is not None:
        places = (("RAM", option.split.in_memory_bytes), ("disk", option.split.on_disk_bytes))
        named = " and ".join(f"{format_bytes(size)} on the {name}" for name, size in places if size)
        rows.append(Text(f"  and {named.replace('on the RAM', 'in RAM')} behind it"))
    return rows


def _charts(curves: Curves, option: FitOption) -> Iterator[Text]:
    """Yield speed against context and against sequences, as bars: # predicted, - up to where 80% of the truth lies."""
    from rich.text import Text

    yield Text("")
    yield Text("decode against context" + f"{'tok/s':>23}{'whole prompt read in':>33}", style="bold")
    top = max((point.decode_tokens_per_s.high80 or 0.0 for point in curves.by_context), default=0.0)
    for point in curves.by_context:
        speed = point.decode_tokens_per_s
        yield _bar_row(
            f"{name_tokens(point.context_tokens):>8}",
            speed.value,
            speed.high80,
            top,
            f"{banded(speed):<18}",
            f"{seconds(point.ttft_ms.value):>18}",
        )
    yield Text("")
    each = f"at {name_tokens(option.context_tokens)} of context each"
    yield Text(f"{'sequences ' + each:<34}{'all tok/s':>18}{'each':>14}{'all $/Mtok':>14}", style="bold")
    factor = [(point.decode_tokens_per_s.high80 or 0.0) * point.concurrency for point in curves.by_concurrency]
    top = max(factor, default=0.0)
    for point, high in zip(curves.by_concurrency, factor, strict=True):
        yield _bar_row(
            f"{point.concurrency:>8}",
            point.total_tokens_per_s,
            high,
            top,
            f"{short(point.total_tokens_per_s):>8}",
            f"{short(point.decode_tokens_per_s.value):>14}{_cents(point.usd_per_mtok_loaded):>14}",
        )


def _bar_row(label: str, value: float | None, high: float | None, top: float, *cells: str) -> Text:
    from rich.text import Text

    cells_of_value = round(_CHART_WIDTH * (value or 0.0) / top) if top else 0
    cells_of_band = round(_CHART_WIDTH * (high or 0.0) / top) - cells_of_value if top else 0
    row = Text(f"{label}  ", no_wrap=True)
    row.append("#" * max(cells_of_value, 1), style="cyan")
    row.append("-" * cells_of_band, style="dim")
    row.append(" " * (_CHART_WIDTH - max(cells_of_value, 1) - cells_of_band + 2) + "".join(cells))
    row.rstrip()
    return row


def command_lines(words: Sequence[str]) -> list[str]:
    """Return a command over as many lines as 80 columns need, each but the last ending so that a shell reads on."""
    lines: list[str] = []
    row = ""
    pieces = _flags_with_values([shlex.quote(word) for word in words])
    for piece in pieces:
        if row and len(row) + 1 + len(piece) > _COLUMNS - 4:
            lines.append(row + " \\")
            row = f"    {piece}"
        else:
            row = f"{row} {piece}" if row else f"  {piece}"
    return [*lines, row]


def _flags_with_values(words: Sequence[str]) -> Iterator[str]:
    """Yield a flag together with its value, so that no line breaks between them."""
    held = ""
    for word in words:
        if held and not word.startswith("-"):
            yield f"{held} {word}"
            held = ""
            continue
        if held:
            yield held
        held = word if word.startswith("--") else ""
        if not held:
            yield word
    if held:
        yield held


def _nearest(found: Sequence[Nearest]) -> Iterator[Text]:
    """Yield what would make it fit, each with what comes of it."""
    from rich.text import Text

    if not found:
        yield Text("Nothing near it was found to fit either.")
        return
    yield Text("The nearest that does:")
    for item in found:
        for number, row in enumerate(_wrapped(f"{name_change(item)}: {_outcome(item.option)}", width=_COLUMNS - 4)):
            yield Text(f"  {'-' if not number else ' '} {row}")


def name_change(item: Nearest) -> str:
    """Return a change with which something fits, and the flag that says it."""
    match item.change:
        case "concurrency":
            return f"fewer at a time, --concurrency {item.to}"
        case "context":
            return f"a shorter context, --context {item.to}"
        case "kv_type":
            return f"a narrower cache, --kv-type {item.to}"
        case "ram":
            return f"memory behind the card, --ram {item.to}"
        case "devices":
            return f"more of it, --machine '{item.to}x{item.option.asked.machine.name}'"
        case "machine":
            return f"another machine, --machine '{item.to}'"
        case _:
            return f"another model, {item.to}"


def _outcome(option: FitOption) -> str:
    each = " each" if option.concurrency > 1 else ""
    return f"{option.variant}, {banded(option.decode_tokens_per_s)} tok/s{each}"


def _advice_page(report: FitReport, advice: Advice) -> Iterator[Any]:
    from rich.text import Text

    lines = {id(line.option): line for line in report.lines}
    wanted = "the best models" if report.is_ranking else " or ".join(report.models)
    for row in _wrapped(f"What to buy for {_dollars(advice.budget_usd)} to run {wanted}"):
        yield Text(row, style="bold")
    sequences = f"{report.concurrency} sequence{'s' if report.concurrency > 1 else ''} at a time"
    yield Text(f"{report.context_tokens:,} tokens of context, {sequences}", style="bold")
    yield ""
    if not advice.purchases:
        yield Text("Nothing within this budget runs it.", style="bold")
        if advice.above_budget is not None:
            dearer = advice.above_budget
            yield from (
                Text(row)
                for row in _wrapped(
                    f"The cheapest that does: {name_purchase(dearer)}, {_dollars(dearer.total_usd)} in all: "
                    f"{dearer.option.model} in {_outcome(dearer.option)}"
                )
            )
        yield from _unpriced(advice)
        return
    if advice.best is not None:
        yield from (Text(row) for row in _wrapped(name_best(advice.best)))
        yield ""
    yield _purchases(advice.purchases, is_ranking=report.is_ranking)
    hosts = sorted({purchase.host_usd for purchase in advice.purchases if purchase.host_usd})
    if hosts:
        taken = " or, for more than two cards, ".join(_dollars(host) for host in hosts)
        yield from (
            Text(row) for row in _wrapped(f"+ a computer around it, taken as {taken}: --host-price states yours")
        )
    if any(purchase.option.split for purchase in advice.purchases):
        yield Text("* part of the weights in the host's memory or on disk")
    yield from (
        Text(row)
        for row in _wrapped(
            f"{name_frontier(advice, is_ranking=report.is_ranking)} Prices are of the kind and date shown and may not "
            "hold today."
        )
    )
    yield from _unpriced(advice)
    line = None if advice.best is None else lines.get(id(advice.best.option))
    if line is not None and advice.best is not None:
        yield ""
        yield Text(f"On {name_purchase(advice.best)}:")
        yield from _about(line)


def name_best(best: Purchase) -> str:
    """Return the best purchase and what comes of it in a sentence."""
    return (
        f"Best: {name_purchase(best)}, {_dollars(best.total_usd)} in all, for {best.option.model} in "
        f"{_outcome(best.option)}."
    )


def name_frontier(advice: Advice, *, is_ranking: bool) -> str:
    """Return what the purchases shown have in common."""
    better = "a better model" if is_ranking else "better weights"
    return (
        f"Each is the best for its price: what costs more and gives neither {better} nor more speed is left out "
        f"({advice.tried} purchases tried)."
    )


def _purchases(purchases: Sequence[Purchase], *, is_ranking: bool) -> Table:
    table = _plain_table()
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
            *([] if is_ranking else [_cents(option.usd_per_mtok_loaded)]),
        )
    return table


def _unpriced(advice: Advice) -> Iterator[Text]:
    from rich.text import Text

    if not advice.unpriced:
        return
    named = [
        f"{option.asked.machine.name} ({option.variant}, {short(option.decode_tokens_per_s.value)} tok/s)"
        for option in advice.unpriced[:_UNPRICED_SHOWN]
    ]
    more = len(advice.unpriced) - len(named)
    text = f"No price is known here of: {', '.join(named)}{f' and {more} more' if more else ''}. "
    for row in _wrapped(text + "State one with: ownward machines add"):
        yield Text(row)


def name_purchase(purchase: Purchase) -> str:
    """Return what one buys, with its count."""
    return purchase.machine.name if purchase.count == 1 else f"{purchase.count} x {purchase.machine.name}"


def _wrapped(text: str, *, width: int = _COLUMNS) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _sequences(count: int) -> str:
    return "one sequence" if count == 1 else f"each of {count} sequences"


def _most(count: int | None) -> str:
    return "?" if count is None else f"{count:,}" if count < 1 << 20 else "any"


def _cents(usd: Any) -> str:
    """Return dollars in the two figures that a prediction bears; `?` for unknown."""
    return format_usd(usd, digits=_CENT_DIGITS)


def _dollars(usd: Any) -> str:
    return f"${usd:,.0f}"
