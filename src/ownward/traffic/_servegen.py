"""ServeGen's statistics of clients, from which requests are drawn: how many and how bursty, window by window.

A window states a rate and how its gaps are distributed, and another file how long the requests are. What comes out is
one seeded draw: as many requests as the window had, its gaps of the stated shape, stretched to fill it.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ownward.core import BadInput
from ownward.traffic import _values as values
from ownward.traffic._format import Context, Format, has
from ownward.traffic._rows import Row
from ownward.traffic._values import BadValue
from ownward.traffic.records import TrafficRecord

_WINDOW_S = 600.0  # alibaba/ServeGen: chunk-*-trace.csv states a window every 600 s
_MOST_IN_A_WINDOW = 1_000_000
_SHAPES = (1e-3, 1e3)  # outside of it the draws of the standard library lose their way
_NEXT = "Give the lengths beside it: --lengths servegen_MODEL_lengths.json.gz"


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Token counts with the running sums of their probabilities."""

    counts: tuple[int, ...]
    sums: tuple[float, ...]

    def draw(self, chance: random.Random) -> int:
        return self.counts[bisect.bisect_right(self.sums, chance.random() * self.sums[-1], hi=len(self.sums) - 1)]


class _Clients:
    """The lengths of each client, by the start of the window from which they hold."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._told = told
        self._read: dict[str, tuple[list[float], list[tuple[_Lengths, _Lengths]]]] = {}

    def find(self, client: str, window_s: float) -> tuple[_Lengths, _Lengths]:
        """Return the lengths of input and output that hold in a window: the last stated, or the first."""
        if client not in self._read:
            self._read[client] = self._read_client(client)
        starts, lengths = self._read[client]
        return lengths[max(0, bisect.bisect_right(starts, window_s) - 1)]

    def _read_client(self, client: str) -> tuple[list[float], list[tuple[_Lengths, _Lengths]]]:
        windows = self._told.get(client)
        if not isinstance(windows, Mapping) or not windows:
            raise BadValue(f"the lengths have no client {client!r}")
        read = []
        for start, window in windows.items():
            if not isinstance(window, Mapping):
                raise BadValue(f"the lengths of client {client!r} at {start!r} are not an object")
            if window.get("input_tokens") == {} or window.get("output_tokens") == {}:
                continue  # nothing was asked in it: the window before holds on
            pair = tuple(_read_lengths(window.get(name), client) for name in ("input_tokens", "output_tokens"))
            read.append((float(start), (pair[0], pair[1])))
        if not read:
            raise BadValue(f"the lengths of client {client!r} are all empty")
        read.sort(key=lambda item: item[0])
        return [start for start, _ in read], [pair for _, pair in read]


def _read_lengths(told: object, client: str) -> _Lengths:
    if not isinstance(told, Mapping) or not told:
        raise BadValue(f"the lengths of client {client!r} lack input_tokens or output_tokens")
    try:
        counts = tuple(int(float(count)) for count in told)
        sums = tuple(itertools.accumulate(float(share) for share in told.values()))
    except (TypeError, ValueError, OverflowError):
        raise BadValue(f"the lengths of client {client!r} are not numbers") from None
    if (
        min(counts) < 0
        or not 0 < sums[-1] < float("inf")
        or any(after < before for before, after in itertools.pairwise(sums))
    ):
        raise BadValue(f"the lengths of client {client!r} are not probabilities")
    return _Lengths(counts, sums)


@dataclass(slots=True)
class _Draws:
    """Draws each window's requests from a chance of its own, so that the order of rows does not matter."""

    clients: _Clients
    seed: int
    repeats: int = 0

    def convert(self, row: Row) -> Iterable[TrafficRecord]:
        """Return the requests of a window, in their order."""
        fields = row.fields
        client = values.text(fields, "client_id")
        start_s = values.number(fields, "window_start_s")
        rate = values.number(fields, "req_per_s")
        if client is None or start_s is None or rate is None or not 0 <= rate <= _MOST_IN_A_WINDOW / _WINDOW_S:
            raise BadValue("client_id, window_start_s or req_per_s is missing or out of range")
        count = round(rate * _WINDOW_S)
        if not count:
            return
        chance = random.Random(f"{self.seed}/{client}/{start_s:g}")
        inputs, outputs = self.clients.find(client, start_s)
        gaps = _draw_gaps(values.text(fields, "iat_dist"), values.number(fields, "p1"), count + 1, chance)
        stretch = _WINDOW_S / sum(gaps)
        arrival_s = start_s
        for number, gap in enumerate(gaps[:-1]):
            arrival_s += gap * stretch
            yield TrafficRecord(
                row=row.number,
                source_row_id=f"client-{client}-{start_s:g}-{number}",
                arrival_s=arrival_s,
                input_tokens=inputs.draw(chance),
                output_tokens=outputs.draw(chance),
                workload=f"client-{client}",
                usage_basis="estimated",
            )

    def finish(self) -> Iterable[TrafficRecord]:
        """Return nothing: no row was held back."""
        return ()


def _draw_gaps(name: str | None, shape: float | None, count: int, chance: random.Random) -> list[float]:
    """Return gaps of a distribution's shape, exponential where none is stated; the window says their scale."""
    has_shape = shape is not None and _SHAPES[0] <= shape <= _SHAPES[1]
    match (name or "exp").lower():
        case "gamma" if has_shape and shape is not None:
            gaps = [chance.gammavariate(shape, 1.0) for _ in range(count)]
        case "weibull" if has_shape and shape is not None:
            gaps = [chance.weibullvariate(1.0, shape) for _ in range(count)]
        case "exp" | "exponential":
            gaps = [chance.expovariate(1.0) for _ in range(count)]
        case other:
            raise BadValue(f"the gaps are distributed as {other!r} with the shape {shape}, which is not known")
    return gaps if 0 < sum(gaps) < float("inf") else [1.0] * count


def _start(context: Context) -> _Draws:
    if context.lengths is None:
        raise BadInput("this is ServeGen's file of arrivals, which states no lengths", next_step=_NEXT)
    return _Draws(_Clients(context.lengths), context.seed)


SERVEGEN = Format(
    name="servegen",
    title="ServeGen's windows of clients, a file of arrivals with one of lengths (Parquet, CSV, JSON Lines)",
    containers=frozenset({"csv", "json"}),
    recognises=has("client_id", "window_start_s", "req_per_s", "iat_dist"),
    start=_start,
)
