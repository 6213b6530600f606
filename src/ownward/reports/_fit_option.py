"""All about one option on a terminal: its memory as a bar, its waits and costs, charts, the commands that run it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ownward.core import format_bytes
from ownward.reports._fit_report import FitLine
from ownward.reports._fit_text import (
    COLUMNS,
    banded,
    cents,
    command_lines,
    dollars,
    most,
    name_load,
    name_tokens,
    remarks,
    seconds,
    short,
    wrapped,
)

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

    from ownward.planner import Curves, FitOption

_MEMORY_WIDTH = 46
_CHART_WIDTH = 30
_LABEL_WIDTH = 12
_LEAST_BAR = 8
_SCORES_SHOWN = 3
_PARTS = (("#", "weights", "cyan"), ("=", "cache", "magenta"), ("-", "other", "yellow"))


def about_option(line: FitLine) -> list[Any]:
    """Return all about the best option: memory, waits, costs, facts, charts, commands."""
    from rich.text import Text

    option = line.option
    parts: list[Any] = [
        *(Text(row, style="bold") for row in wrapped(_best(option))),
        _ToWidth(lambda width: _memory_bar(option, width)),
        *(Text(text) for text in _facts(line)),
    ]
    if (curves := line.curves) is not None:
        parts.append(_ToWidth(lambda width: _charts(curves, option, width)))
    for number, command in enumerate(line.commands):
        parts += ["", Text("run it:" if not number else "or:", style="bold")]
        parts += [Text(row, no_wrap=True, overflow="ignore") for row in command_lines(command.words)]
        parts += [Text(row, style="dim") for need in command.needs for row in wrapped(need)]
    if line.serving is not None:
        parts += [Text(row) for remark in remarks(line.serving) for row in wrapped(remark)]
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
        f"{most(option.max_concurrency)} of {name_tokens(option.context_tokens)}"
    )
    yield from _costs(line)
    if facts.licence:
        yield f"licence: {facts.licence}"
    if line.rests_on is not None:
        yield from wrapped(f"ranked by: {', '.join(line.rests_on) or 'size and age; no published score is known'}")
    if facts.scores:
        shown = {score.benchmark: score for score in reversed(facts.scores)}
        first = [shown[name] for name in dict.fromkeys(score.benchmark for score in facts.scores)][:_SCORES_SHOWN]
        scores = ", ".join(f"{score.benchmark} {score.score.value:g}" for score in first)
        kinds = ", ".join(dict.fromkeys(score.kind for score in first))
        yield from wrapped(f"published: {scores} ({kinds}; makers' scores are not comparable)")
    if option.unknown:
        yield f"not known: {', '.join(option.unknown)}"


def _costs(line: FitLine) -> Iterator[str]:
    option, api = line.option, line.facts.cheapest_api
    if option.usd_per_mtok_marginal is not None:
        yield (
            f"$/Mtok here: energy {cents(option.input_usd_per_mtok_marginal)} in, "
            f"{cents(option.usd_per_mtok_marginal)} out; all "
            f"{cents(option.input_usd_per_mtok_loaded)} in, {cents(option.usd_per_mtok_loaded)} out"
        )
        price = option.conditions.machine.price_usd
        if price is not None:
            machine = option.conditions.machine
            kind = " ".join(part.replace("_", " ") for part in (machine.price_kind, machine.price_dated) if part)
            yield f"  (busy 30% of the month; {dollars(price.value)} each, {kind}, without a host)"
        else:
            yield "  (busy 30% of the month)"
    if api is not None:
        yield (
            f"cheapest API of these weights: {cents(api.input_usd_per_mtok)} in, "
            f"{cents(api.output_usd_per_mtok)} out ({api.provider})"
        )


class _ToWidth:
    """Rows that are drawn to the width of the terminal, up to 80 columns."""

    def __init__(self, draw: Callable[[int], Iterable[Text]]) -> None:
        """Take what draws them."""
        self._draw = draw

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the rows."""
        yield from self._draw(min(options.max_width, COLUMNS))


def _memory_bar(option: FitOption, width: int) -> list[Text]:
    from rich.text import Text

    memory = option.memory
    behind = 0 if option.split is None else option.split.in_memory_bytes + option.split.on_disk_bytes
    sizes = (memory.weights - behind, memory.cache + memory.state, memory.activations + memory.overhead)
    usable = option.usable_bytes
    said = f"{format_bytes(usable)} usable, {format_bytes(option.free_bytes if not behind else 0)} free"
    bar_width = max(min(_MEMORY_WIDTH, width - len(said) - 3), _LEAST_BAR)
    whole = max(usable or 0, sum(sizes), 1)
    bar = Text("[")
    done = filled = 0
    for (symbol, _, style), size in zip(_PARTS, sizes, strict=True):
        done += max(size, 0)
        cells = round(bar_width * done / whole) - filled
        bar.append(symbol * cells, style=style)
        filled += cells
    bar.append("." * (bar_width - filled) + f"] {said}")
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


def _charts(curves: Curves, option: FitOption, width: int) -> Iterator[Text]:
    """Yield speed against context and against sequences, as bars: # predicted, - up to where 80% of the truth lies."""
    from rich.text import Text

    bar, waits = _widths(width, speeds=18, rest=18, least=10)
    yield Text("")
    title = "decode against context" if bar > _LABEL_WIDTH else "by context"
    heads = f"{title:<{bar + 10}}tok/s{'whole prompt read in':>{waits + 15}}"
    yield Text(heads, style="bold", no_wrap=True)
    top = max((point.decode_tokens_per_s.high80 or 0.0 for point in curves.by_context), default=0.0)
    for point in curves.by_context:
        speed = point.decode_tokens_per_s
        label, waited = f"{name_tokens(point.context_tokens):>8}", f"{seconds(point.ttft_ms.value):>{waits}}"
        yield _bar_row(label, speed.value, speed.high80, top, f"{banded(speed):<18}{waited}", width=bar)
    bar, rest = _widths(width, speeds=8, rest=28, least=22)
    each, usd = rest // 2, rest - rest // 2
    context = name_tokens(option.context_tokens)
    asked = f"sequences at {context} of context each" if bar == _CHART_WIDTH else f"sequences of {context}"
    yield Text("")
    heads = f"{asked:<{bar + 11}}all tok/s{'each':>{each}}{'all $/Mtok':>{usd}}"
    yield Text(heads, style="bold", no_wrap=True)
    factor = [(point.decode_tokens_per_s.high80 or 0.0) * point.concurrency for point in curves.by_concurrency]
    top = max(factor, default=0.0)
    for point, high in zip(curves.by_concurrency, factor, strict=True):
        label, total = f"{point.concurrency:>8}", point.total_tokens_per_s
        cells = f"{short(point.decode_tokens_per_s.value):>{each}}{cents(point.usd_per_mtok_loaded):>{usd}}"
        yield _bar_row(label, total, high, top, f"{short(total):>8}{cells}", width=bar)
    if len(curves.by_concurrency) > 1:
        yield Text(name_load(option), style="dim")


def _widths(width: int, *, speeds: int, rest: int, least: int) -> tuple[int, int]:
    """Return how wide bars are, and the columns behind the speeds, which give way first down to `least`."""
    room = width - _LABEL_WIDTH - speeds
    bar = max(min(_CHART_WIDTH, room - least), _LEAST_BAR)
    return bar, max(min(rest, room - bar), least)


def _bar_row(label: str, value: float | None, high: float | None, top: float, cells: str, *, width: int) -> Text:
    from rich.text import Text

    cells_of_value = round(width * (value or 0.0) / top) if top else 0
    cells_of_band = round(width * (high or 0.0) / top) - cells_of_value if top else 0
    row = Text(f"{label}  ", no_wrap=True)
    row.append("#" * max(cells_of_value, 1), style="cyan")
    row.append("-" * cells_of_band, style="dim")
    row.append(" " * (width - max(cells_of_value, 1) - cells_of_band + 2) + cells)
    row.rstrip()
    return row


def _sequences(count: int) -> str:
    return "one sequence" if count == 1 else f"each of {count} sequences"
