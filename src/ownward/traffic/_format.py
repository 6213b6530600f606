"""What a format is to the reader: how it looks, and how one of its rows becomes records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from ownward.traffic._prompt import Sketcher
from ownward.traffic._rows import Row
from ownward.traffic._values import NS_PER_S, BadValue, to_datetime
from ownward.traffic.records import PromptSketch, TrafficRecord

CountTokens = Callable[[str], int]
Container = Literal["csv", "json"]
_LONGEST_SPAN_YEARS = 20  # no log of language models is longer
_LONGEST_SPAN_NS = _LONGEST_SPAN_YEARS * 31_557_600 * NS_PER_S


class Context:
    """What the rows of one reading share: the file's first time, and what is missing in the rows themselves.

    That is how text is counted where usage is not told, and what requests of a file of statistics are drawn with.
    """

    def __init__(
        self, count_tokens: CountTokens | None = None, *, lengths: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        self.count_tokens = count_tokens
        self.lengths = lengths
        self.seed = seed
        self._origin_ns: int | None = None
        self._sketcher = Sketcher()

    def place(self, instant_ns: int | None) -> tuple[datetime | None, float | None]:
        """Return the UTC start and the seconds after the first timed row.

        Raises: BadValue, for a time decades from the first, such as a zero that stands for none: it would
        stretch the file's traffic over all of them.
        """
        if instant_ns is None:
            return None, None
        if self._origin_ns is None:
            self._origin_ns = instant_ns
        if abs(instant_ns - self._origin_ns) > _LONGEST_SPAN_NS:
            away = f"{_LONGEST_SPAN_YEARS} years away from {to_datetime(self._origin_ns):%Y-%m-%d}, the file's first"
            raise BadValue(f"its time is {to_datetime(instant_ns):%Y-%m-%d %H:%M:%S}, over {away}")
        return to_datetime(instant_ns), (instant_ns - self._origin_ns) / NS_PER_S

    def sketch(self, body: Mapping[str, Any]) -> PromptSketch | None:
        """Return the sketch of a request body; None where it has no prompt."""
        return self._sketcher.sketch(body) if body else None


class Converter(Protocol):
    """Turns rows into records; may hold some back until `finish`."""

    @property
    def repeats(self) -> int:
        """Rows that told again what another had told."""
        ...

    def convert(self, row: Row) -> Iterable[TrafficRecord]:
        """Return the records of a row, none where it is no request; raises BadValue or BadInput."""
        ...

    def finish(self) -> Iterable[TrafficRecord]:
        """Return what was held back."""
        ...


@dataclass(frozen=True, slots=True)
class EachRow:
    """A converter for formats whose rows stand for themselves."""

    read: Callable[[Row, Context], Iterable[TrafficRecord]]
    context: Context

    def convert(self, row: Row) -> Iterable[TrafficRecord]:
        """Return the records of a row."""
        return self.read(row, self.context)

    def finish(self) -> Iterable[TrafficRecord]:
        """Return nothing: no row was held back."""
        return ()

    @property
    def repeats(self) -> int:
        """None: repeats show in their ids."""
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One format: its name, where it comes from, what its rows look like and how they are read.

    `refusal` is set for aggregates, which are recognised in order to say why they cannot be planned.
    """

    name: str
    title: str
    containers: frozenset[Container]
    recognises: Callable[[Mapping[str, Any]], bool]
    start: Callable[[Context], Converter] | None = None
    refusal: str | None = None


def each_row(read: Callable[[Row, Context], Iterable[TrafficRecord]]) -> Callable[[Context], Converter]:
    """Return the start of a format whose rows stand for themselves."""
    return lambda context: EachRow(read, context)


def has(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    """Return a test for rows that have every one of `names`."""
    wanted = frozenset(names)
    return lambda fields: wanted <= fields.keys()
