"""Prometheus' text form, version 0.0.4: families of samples, written so that every scraper reads them back.

It does not know what is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_LINES_AT_ONCE = 500
"""How many are made in one turn of the event loop: a millisecond's worth."""

Kind = Literal["counter", "gauge", "histogram"]
LabelValues = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric: its name, what it means, and the names of its labels."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


def head_lines(family: Family) -> Iterator[str]:
    """Yield what stands above a family's samples."""
    text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    yield f"# HELP {family.name} {text}"
    yield f"# TYPE {family.name} {family.kind}"


def value_lines(family: Family, values: Iterable[tuple[LabelValues, float]]) -> Iterator[str]:
    """Yield a counter or a gauge; nothing where it has no sample, so that no head stands alone."""
    is_begun = False
    for labels, value in values:
        if not is_begun:
            yield from head_lines(family)
            is_begun = True
        yield f"{family.name}{braces(family.labels, labels)} {number(value)}"


def histogram_lines(
    family: Family, bounds: Sequence[float], values: Iterable[tuple[LabelValues, Sequence[int], float]]
) -> Iterator[str]:
    """Yield histograms; each has the counts of its buckets, one more than `bounds`, and the sum of what it saw."""
    le_texts = [*map(number, bounds), "+Inf"]
    is_begun = False
    for labels, counts, total in values:
        if not is_begun:
            yield from head_lines(family)
            is_begun = True
        inside = braces(family.labels, labels)[1:-1]
        before = f"{family.name}_bucket{{{inside}," if inside else f"{family.name}_bucket{{"
        running = 0
        for le, count in zip(le_texts, counts, strict=True):
            running += count
            yield f'{before}le="{le}"}} {running}'
        outside = f"{{{inside}}}" if inside else ""
        yield f"{family.name}_sum{outside} {total:.9g}"
        yield f"{family.name}_count{outside} {running}"


async def write_in_turns(families: Iterable[Iterable[str]]) -> bytes:
    """Return the whole exposition; others are served meanwhile, as it can have tens of thousands of lines."""
    lines = chain.from_iterable(families)
    pieces = []
    while some := list(islice(lines, _LINES_AT_ONCE)):
        pieces.append("\n".join([*some, ""]).encode())
        await asyncio.sleep(0)
    return b"".join(pieces)


def braces(names: Sequence[str], values: Sequence[str]) -> str:
    r"""Return a sample's labels.

    >>> braces(("tier",), ('a "quoted" name',))
    '{tier="a \\"quoted\\" name"}'
    """
    if not names:
        return ""
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + pairs + "}"


def number(value: float) -> str:
    """Return a sample's value: whole numbers whole, others to the digits that a float has.

    >>> number(3.0), number(0.1), number(1e-12)
    ('3', '0.1', '1e-12')
    """
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
