"""A fit as one HTML page that needs nothing else: no script, no font, no address; light and dark; readable aloud."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from ownward.core import format_bytes, format_counted, format_usd
from ownward.reports._chart import Series, draw_chart
from ownward.reports._fit_report import FitLine, FitReport
from ownward.reports._fit_style import STYLE
from ownward.reports._fit_text import (
    banded,
    command_lines,
    name_best,
    name_change,
    name_frontier,
    name_load,
    name_machine,
    name_purchase,
    name_tokens,
    remarks,
    seconds,
    short,
)

if TYPE_CHECKING:
    from ownward.planner import Advice, Curves, FitOption, Nearest, Purchase

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_PARTS = ("weights", "cache", "other")
_SHOWN_FACTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "memory_label": ("memory on the box", str),
    "memory_bytes": ("memory that a driver shows", format_bytes),
    "bandwidth_bytes_per_s": ("bandwidth", lambda value: f"{value / 1e9:,.0f} GB/s"),
    "tdp_watts": ("power", lambda value: f"{value:,.0f} W"),
    "price_usd": ("price", lambda value: f"${value:,.0f}"),
}
_BAND_NOTE = "The range in brackets is meant to hold the truth in 8 of 10 cases, by errors on rows left out."


def write_fit_page(report: FitReport) -> str:
    """Return the page."""
    title = _title(report)
    body = "\n".join(_body(report))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _title(report: FitReport) -> str:
    what = "The best open models" if report.is_ranking else ", ".join(report.models)
    if report.advice is not None:
        return f"{what} for ${report.advice.budget_usd:,.0f}"
    assert report.machine is not None
    return f"{what} on {name_machine(report.machine, report.machines_count, report.host)}"


def _body(report: FitReport) -> Iterator[str]:
    sequences = f"{format_counted(report.concurrency, 'sequence')} at a time"
    yield (
        f'<p class="asked">{format_counted(report.context_tokens, "token")} of context, {sequences}; '
        f"prices and facts as of {report.at.isoformat()}.</p>"
    )
    if report.advice is not None:
        yield from _advice(report.advice, is_ranking=report.is_ranking)
    elif report.fitting:
        yield _verdict(report.fitting[0])
    else:
        yield from _nothing_fits(report.nearest)
    described = [line for line in report.fitting if line.curves is not None]
    for line in described:
        yield from _about(line)
    if report.lines and report.advice is None:
        yield "<h2>All options</h2>"
        yield _options_table(report)
        yield f"<p>{_BAND_NOTE}</p>" if report.fitting else ""
    yield from (f"<p>{escape(note)}</p>" for note in report.notes)
    yield from _where_from(report)


def _verdict(line: FitLine) -> str:
    option = line.option
    cost = "" if option.usd_per_mtok_loaded is None else f", {_usd(option.usd_per_mtok_loaded)} per million tokens"
    return (
        f'<p class="verdict"><strong>{escape(option.model)} in {escape(option.variant)}</strong>: '
        f"{escape(banded(option.decode_tokens_per_s))} tokens/s{cost}, {escape(option.placement)}.</p>"
    )


def _nothing_fits(nearest: Sequence[Nearest]) -> Iterator[str]:
    yield '<p class="verdict"><strong>Nothing fits.</strong></p>'
    if nearest:
        yield "<h2>The nearest that does</h2><ul>"
        for item in nearest:
            option = item.option
            yield (
                f"<li>{escape(name_change(item))}: {escape(option.model)} in {escape(option.variant)}, "
                f"{escape(banded(option.decode_tokens_per_s))} tokens/s</li>"
            )
        yield "</ul>"


def _about(line: FitLine) -> Iterator[str]:
    option = line.option
    yield f"<h2>{escape(option.model)} in {escape(option.variant)}</h2>"
    yield "<h3>Memory</h3>"
    yield _memory(option)
    yield "<h3>Speed and cost</h3>"
    yield _definitions(_facts(line))
    if line.curves is not None and line.curves.by_context:
        yield from _curves(line.curves, option)
    for number, command in enumerate(line.commands):
        yield f"<h3>{'Run it' if not number else 'Or'}</h3>"
        yield f'<pre tabindex="0"><code>{escape(chr(10).join(command_lines(command.words)))}</code></pre>'
        yield from (f"<p>{escape(need)}.</p>" for need in command.needs)
    if line.serving is not None:
        yield from (f"<p>{escape(remark)}</p>" for remark in remarks(line.serving))


def _memory(option: FitOption) -> str:
    memory = option.memory
    behind = 0 if option.split is None else option.split.in_memory_bytes + option.split.on_disk_bytes
    sizes = (memory.weights - behind, memory.cache + memory.state, memory.activations + memory.overhead)
    free = 0 if behind else option.free_bytes
    whole = max(sum(sizes) + (free or 0), 1)
    named = [*zip(_PARTS, sizes, strict=True), *([("free", free)] if free else [])]
    said = ", ".join(f"{name} {format_bytes(size)}" for name, size in named)
    bars = "".join(
        f'<span class="{name}" style="width:{100 * max(size or 0, 0) / whole:.2f}%"></span>' for name, size in named
    )
    keys = "".join(
        f'<li><span class="key {name}"></span>{name} {escape(format_bytes(size))}</li>' for name, size in named
    )
    rest = ""
    if option.split is not None:
        places = (("in RAM", option.split.in_memory_bytes), ("on the disk", option.split.on_disk_bytes))
        rest = " and ".join(f"{format_bytes(size)} {where}" for where, size in places if size)
        rest = f"<p>Behind the device: {escape(rest)}.</p>"
    usable = format_bytes(option.usable_bytes)
    return (
        f'<div class="bar" role="img" aria-label="Of {escape(usable)} usable: {escape(said)}">{bars}</div>'
        f'<ul class="legend">{keys}</ul><p>{escape(usable)} usable on the device.</p>{rest}'
    )


def _facts(line: FitLine) -> Iterator[tuple[str, str]]:
    option, facts = line.option, line.facts
    yield "Decode", f"{banded(option.decode_tokens_per_s)} tokens/s"
    yield "Prefill", f"{banded(option.prefill_tokens_per_s)} tokens/s"
    ttft = option.ttft_ms
    waits = f"{seconds(ttft.value)} ({seconds(ttft.low80)} to {seconds(ttft.high80)})"
    yield f"First token, prompt of {option.prompt_tokens:,}", waits
    yield "Longest context", f"{name_tokens(option.max_context_tokens)} tokens"
    most = "?" if option.max_concurrency is None else f"{option.max_concurrency:,}"
    yield f"Most sequences of {name_tokens(option.context_tokens)}", most
    yield "Energy, $ per million tokens", _in_out(option.input_usd_per_mtok_marginal, option.usd_per_mtok_marginal)
    yield "All costs, $ per million tokens", _in_out(option.input_usd_per_mtok_loaded, option.usd_per_mtok_loaded)
    machine = option.conditions.machine
    if machine.price_usd is not None:
        kind = " ".join(part.replace("_", " ") for part in (machine.price_kind, machine.price_dated) if part)
        yield "Machine", f"${machine.price_usd.value:,.0f} each ({kind}), busy 30% of the month"
    api = facts.cheapest_api
    if api is not None:
        stated = _in_out(api.input_usd_per_mtok, api.output_usd_per_mtok)
        yield "Cheapest API of these weights", f"{stated} ({api.provider})"
    if facts.licence:
        yield "Licence", facts.licence
    if line.rests_on is not None:
        yield "Ranked by", ", ".join(line.rests_on) or "size and age; no published score is known"
    for score in facts.scores:
        yield f"Published: {score.benchmark}", f"{score.score.value:g} ({score.kind}; {score.score.source})"
    if option.unknown:
        yield "Not known", ", ".join(option.unknown)


def _curves(curves: Curves, option: FitOption) -> Iterator[str]:
    by_context = Series(
        title="Decode against context",
        x_name="tokens of context",
        y_name="tokens/s",
        points=tuple(
            (
                float(point.context_tokens),
                point.decode_tokens_per_s.value or 0.0,
                point.decode_tokens_per_s.low80 or 0.0,
                point.decode_tokens_per_s.high80 or 0.0,
            )
            for point in curves.by_context
        ),
        x_labels=tuple(name_tokens(point.context_tokens) for point in curves.by_context),
    )
    by_sequences = Series(
        title=f"All sequences together, {name_tokens(option.context_tokens)} of context each",
        x_name="sequences at a time",
        y_name="tokens/s",
        points=tuple(
            (
                float(point.concurrency),
                point.total_tokens_per_s or 0.0,
                (point.decode_tokens_per_s.low80 or 0.0) * point.concurrency,
                (point.decode_tokens_per_s.high80 or 0.0) * point.concurrency,
            )
            for point in curves.by_concurrency
        ),
        x_labels=tuple(str(point.concurrency) for point in curves.by_concurrency),
    )
    yield '<div class="charts">'
    yield f"<figure>{draw_chart(by_context)}<figcaption>{escape(by_context.title)}</figcaption></figure>"
    yield f"<figure>{draw_chart(by_sequences)}<figcaption>{escape(by_sequences.title)}</figcaption></figure>"
    yield "</div>"
    if len(curves.by_concurrency) > 1:
        yield f"<p>Sequences at a time: {escape(name_load(option))}.</p>"
    yield "<details><summary>The charts as numbers</summary>"
    yield _table(
        ("context", "tokens/s", "whole prompt read in"),
        (
            (name_tokens(point.context_tokens), banded(point.decode_tokens_per_s), seconds(point.ttft_ms.value))
            for point in curves.by_context
        ),
        caption="Speed against context",
    )
    yield _table(
        ("sequences", "all tokens/s", "each", "energy $/Mtok", "all $/Mtok"),
        (
            (
                str(point.concurrency),
                short(point.total_tokens_per_s),
                banded(point.decode_tokens_per_s),
                _usd(point.usd_per_mtok_marginal),
                _usd(point.usd_per_mtok_loaded),
            )
            for point in curves.by_concurrency
        ),
        caption="Speed and cost against sequences",
    )
    yield "</details>"


def _options_table(report: FitReport) -> str:
    is_mixed = len({line.option.model for line in report.lines}) > 1
    if not report.fitting:
        return _table(
            (*(("model",) if is_mixed else ()), "weights", "needs", "usable", "missing"),
            (
                (
                    *((line.option.model,) if is_mixed else ()),
                    line.option.variant,
                    format_bytes(line.option.memory.total),
                    format_bytes(line.option.usable_bytes),
                    format_bytes(line.option.missing_bytes),
                )
                for line in report.lines
            ),
            caption="From the least that is missing",
            texts=2 if is_mixed else 1,
        )

    def row(line: FitLine) -> tuple[str, ...]:
        option = line.option
        fits = {True: "yes", None: "not known", False: f"misses {format_bytes(option.missing_bytes)}"}[option.fits]
        figures = (
            name_tokens(option.max_context_tokens),
            banded(option.decode_tokens_per_s),
            banded(option.prefill_tokens_per_s),
            _usd(option.usd_per_mtok_marginal),
            _usd(option.usd_per_mtok_loaded),
        )
        return (
            *((option.model, line.facts.licence or "?") if is_mixed else ()),
            option.variant,
            fits,
            option.placement if option.fits is not False else "",
            format_bytes(option.memory.total),
            *(figures if option.fits is not False else ("",) * len(figures)),
        )

    return _table(
        (
            *(("model", "licence") if is_mixed else ()),
            *("weights", "fits", "where", "memory", "longest context", "decode tokens/s"),
            *("prefill tokens/s", "energy $/Mtok", "all $/Mtok"),
        ),
        (row(line) for line in report.lines),
        caption="Best first",
        texts=5 if is_mixed else 3,
    )


def _advice(advice: Advice, *, is_ranking: bool) -> Iterator[str]:
    if not advice.purchases:
        yield '<p class="verdict"><strong>Nothing within this budget runs it.</strong></p>'
        if advice.above_budget is not None:
            yield f"<p>The cheapest that does: {escape(name_purchase(advice.above_budget))}, "
            yield f"${advice.above_budget.total_usd:,.0f} in all.</p>"
    else:
        if advice.best is not None:
            yield f'<p class="verdict">{escape(name_best(advice.best))}</p>'
        yield f"<p>{escape(name_frontier(advice, is_ranking=is_ranking))}</p>"
        if any(one.host_usd for one in advice.purchases):
            yield "<p>+ with a computer around it, whose price is assumed.</p>"
        yield _table(
            ("buy", "price is", "model", "weights", "$ in all", "longest context", "tokens/s", "all $/Mtok"),
            (_purchase_row(one) for one in advice.purchases),
            caption="What to buy, cheapest first",
            texts=4,
        )
    if advice.unpriced:
        count = len(advice.unpriced)
        yield f"<details><summary>{format_counted(count, 'machine')} would run it whose price is not known here"
        yield "</summary><ul>"
        for option in advice.unpriced:
            yield (
                f"<li>{escape(option.conditions.machine.name)}: {escape(option.variant)}, "
                f"{escape(banded(option.decode_tokens_per_s))} tokens/s</li>"
            )
        yield "</ul></details>"


def _purchase_row(one: Purchase) -> tuple[str, ...]:
    option, machine = one.option, one.machine
    kind = f"{(machine.price_kind or '?').replace('_', ' ')} {machine.price_dated or ''}".strip()
    host = f" + ${one.host_usd:,.0f}" if one.host_usd else ""
    return (
        f"{name_purchase(one)}{host}",
        kind,
        option.model,
        option.variant,
        f"${one.total_usd:,.0f}",
        name_tokens(option.max_context_tokens),
        banded(option.decode_tokens_per_s),
        _usd(option.usd_per_mtok_loaded),
    )


def _where_from(report: FitReport) -> Iterator[str]:
    yield "<h2>Where the numbers come from</h2><ul>"
    yield "<li>Memory is counted from the model's own layers; speeds are predictions from fitted efficiencies.</li>"
    yield "<li>Costs take a machine to be busy 30% of the month, nobody's hours, and the tariff of the settings.</li>"
    machines = {line.option.conditions.machine.id: line.option.conditions.machine for line in report.lines}
    if report.machine is not None:
        machines.setdefault(report.machine.id, report.machine)
    for machine in machines.values():
        for name, fact in machine.facts.items():
            if name in _SHOWN_FACTS:
                title, shown = _SHOWN_FACTS[name]
                yield (
                    f"<li>{escape(machine.name)}, {title}: {escape(shown(fact.value))} "
                    f"({escape(fact.basis)}: {escape(fact.source)}; {fact.checked_on.isoformat()})</li>"
                )
    yield "</ul>"


def _definitions(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f"<dl>{rows}</dl>"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, texts: int = 1) -> str:
    """Return a table; all but the first `texts` columns are figures."""

    def cell(number: int, text: str) -> str:
        if not number:
            return f'<th scope="row">{escape(text)}</th>'
        return f"<td{'' if number < texts else ' class=n'}>{escape(text)}</td>"

    head = "".join(
        f'<th scope="col"{"" if number < texts else " class=n"}>{escape(name)}</th>'
        for number, name in enumerate(headings)
    )
    body = "\n".join(f"<tr>{''.join(cell(number, text) for number, text in enumerate(row))}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _in_out(incoming: Any, outgoing: Any) -> str:
    return f"{_usd(incoming)} in, {_usd(outgoing)} out"


def _usd(amount: Any) -> str:
    return format_usd(amount, digits=2)
