"""How every screen of a fit writes machines, sizes, speeds, waits, prices and commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ownward.core import format_bytes, format_usd

if TYPE_CHECKING:
    from rich.table import Table

    from ownward.catalog import Machine
    from ownward.engines import ServingChoice
    from ownward.perf import Prediction
    from ownward.planner import Advice, FitOption, Host, Nearest, Purchase

COLUMNS = 80
_NO_BREAK = "\u00a0"
_CENT_DIGITS = 2
_KILO = 1000.0
_MEGA = 1e6
_GIGA = 1e9
_TEN = 9.95


def command_lines(words: Sequence[str]) -> list[str]:
    """Return a command over as many lines as 80 columns need, each but the last ending so that a shell reads on."""
    lines: list[str] = []
    row = ""
    pieces = _flags_with_values([shlex.quote(word) for word in words])
    for piece in pieces:
        if row and len(row) + 1 + len(piece) > COLUMNS - 4:
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
            return f"more of it, --machine '{item.to}x{item.option.conditions.machine.name}'"
        case "machine":
            return f"another machine, --machine '{item.to}'"
        case _:
            return f"another model, {item.to}"


def name_load(option: FitOption) -> str:
    """Return what several sequences at a time do besides decoding."""
    from ownward.planner import ANSWER_TOKENS

    return f"from 2 on, the others' prompts are read in between: {option.prompt_tokens:,} for {ANSWER_TOKENS} of answer"


def name_best(best: Purchase) -> str:
    """Return the best purchase and what comes of it in a sentence."""
    return (
        f"Best: {name_purchase(best)}, {dollars(best.total_usd)} in all, for {best.option.model} in "
        f"{outcome(best.option)}."
    )


def name_frontier(advice: Advice, *, is_ranking: bool) -> str:
    """Return what the purchases shown have in common."""
    better = "a better model" if is_ranking else "better weights"
    return (
        f"Each is the best for its price: what costs more and gives neither {better} nor more speed is left out "
        f"({advice.tried} purchases tried)."
    )


def name_purchase(purchase: Purchase) -> str:
    """Return what one buys, with its count."""
    return purchase.machine.name if purchase.count == 1 else f"{purchase.count} x {purchase.machine.name}"


def outcome(option: FitOption) -> str:
    """Return the weights of an option and their speed."""
    each = " each" if option.concurrency > 1 else ""
    return f"{option.variant}, {banded(option.decode_tokens_per_s)} tok/s{each}"


def wrapped(text: str, *, width: int = COLUMNS) -> list[str]:
    """Return a text over as many lines as it needs; no word or flag is parted, and no number from its unit.

    >>> wrapped("misses 4.52 GiB", width=12)
    ['misses', '  4.52 GiB']
    """
    import re
    import textwrap

    joined = re.sub(r"(?<=\d) (?=[A-Za-z/]+)", _NO_BREAK, text)
    lines = textwrap.wrap(joined, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [line.replace(_NO_BREAK, " ") for line in lines]


def most(count: int | None) -> str:
    """Return a bound on users; `?` for unknown, `any` where nothing bounds them."""
    return "?" if count is None else f"{count:,}" if count < 1 << 20 else "any"


def cents(usd: Any) -> str:
    """Return dollars in the two figures that a prediction bears; `?` for unknown."""
    return format_usd(usd, digits=_CENT_DIGITS)


def dollars(usd: Any) -> str:
    """Return whole dollars."""
    return f"${usd:,.0f}"


def plain_table(*, gap: int = 2) -> Table:
    """Return an empty table without lines, its columns `gap` apart."""
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")


def name_machine(machine: Machine, count: int, host: Host | None = None) -> str:
    """Return devices and what stands behind them in a reader's words."""
    name = machine.name if count == 1 else f"{count} x {machine.name}"
    size = "" if machine.memory_label is None else machine.memory_label.value
    if machine.is_whole_computer and size.replace(" ", "") not in name.replace(" ", ""):
        name += f" with {size}"  # it is sold, or built, with several
    if host is None:
        return name
    behind = []
    if host.memory_bytes:
        behind.append(f"{format_bytes(host.memory_bytes)} of RAM")
    if host.disk_bytes_per_s:
        behind.append(f"a disk of {host.disk_bytes_per_s / _GIGA:g} GB/s")
    return f"{name}, behind it {' and '.join(behind)}" if behind else name


def name_tokens(count: float | None) -> str:
    """Return tokens as people say them: 8K for 8,192.

    >>> name_tokens(8192), name_tokens(40960), name_tokens(1000), name_tokens(1048576)
    ('8K', '40K', '1000', '1M')
    """
    if count is None:
        return "?"
    if count >= 1 << 20 and count % (1 << 20) == 0:
        return f"{int(count) >> 20}M"
    return f"{int(count) >> 10}K" if count >= 1 << 10 else f"{count:.0f}"


def short(value: float | None) -> str:
    """Return a rate in two or three figures.

    >>> short(8.42), short(110.4), short(3734), short(41029), short(1.2e6), short(None)
    ('8.4', '110', '3.7K', '41K', '1.2M', '?')
    """
    if value is None:
        return "?"
    if value < _KILO - 0.5:
        return f"{value:.1f}" if value < _TEN else f"{value:.0f}"
    amount, unit = (value / _KILO, "K") if value < _MEGA - 500 else (value / _MEGA, "M")
    return f"{amount:.1f}{unit}" if amount < _TEN else f"{amount:,.0f}{unit}"


def banded(prediction: Prediction) -> str:
    """Return a prediction with the range meant to hold the truth in 8 of 10 cases: `110 (63-158)`."""
    if prediction.value is None:
        return "?"
    if prediction.low80 is None or prediction.high80 is None:
        return short(prediction.value)
    return f"{short(prediction.value)} ({short(prediction.low80)}-{short(prediction.high80)})"


def seconds(milliseconds: float | None) -> str:
    """Return a wait in seconds or minutes, in two figures.

    >>> seconds(84), seconds(1500), seconds(42_000), seconds(600_000)
    ('0.08 s', '1.5 s', '42 s', '10 min')
    """
    if milliseconds is None:
        return "?"
    value = milliseconds / 1e3
    if value >= 120:  # noqa: PLR2004 -- from two minutes on, minutes
        return f"{value / 60:,.0f} min"
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s" if value < _TEN else f"{value:.0f} s"


def name_shortage(missing_bytes: int | None) -> str:
    """Return what is missing, or that it is not known."""
    return "?" if missing_bytes is None else f"misses {format_bytes(missing_bytes)}"


def remarks(serving: ServingChoice) -> list[str]:
    """Return why weights are held as they are, and what their user should know, a sentence each."""
    return [*serving.reasons, *(f"warning: {text}" for text in serving.warnings)]
