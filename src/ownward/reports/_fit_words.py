"""Words and sizes that every screen of a fit shares."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ownward.core import format_usd
from ownward.reports._fit_report import banded

if TYPE_CHECKING:
    from rich.table import Table

    from ownward.planner import Advice, FitOption, Nearest, Purchase

COLUMNS = 80
_NO_BREAK = "\u00a0"
_CENT_DIGITS = 2


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
