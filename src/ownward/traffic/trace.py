"""A trace: requests as numpy columns, in order of arrival.

A million requests are nothing special here; what they cost and how they are
served is for others.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from ownward.core import BadInput, picousd_to_usd, usd_to_picousd
from ownward.traffic.records import TrafficRecord
from ownward.traffic.summary import TraceSummary, summarise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

UNKNOWN = -1  # in code, charge and completion columns: not known


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """Requests in order of arrival, one array a column, all of shape (requests,).

    `cached_input_tokens` is counted inside `input_tokens`, and so are `cache_write_tokens` beside it, with those kept
    for an hour inside them (None: there were none). `workload`, `session` and `model` are codes into the tuples of
    names beside them, -1 where unknown; so are unknown `charge_picousd` and `completed` (else 0 or 1). The
    prefix blocks of request i are
    `prefix_block_ids[prefix_offsets[i]:prefix_offsets[i + 1]]`, each id standing
    for one block of `prefix_block_tokens` tokens and all before it.
    Arrays are made read-only.
    Raises: BadInput, naming the first row that cannot be.
    """

    arrival_s: Floats
    input_tokens: Ints
    cached_input_tokens: Ints
    output_tokens: Ints
    workload: Ints
    workload_names: tuple[str, ...] = ()
    session: Ints
    session_names: tuple[str, ...] = ()
    model: Ints
    model_names: tuple[str, ...] = ()
    priority: Ints | None = None
    cache_write_tokens: Ints | None = None
    cache_write_1h_tokens: Ints | None = None
    charge_picousd: Ints | None = None
    completed: Ints | None = None
    prefix_offsets: Ints | None = None
    prefix_block_ids: Ints | None = None
    prefix_block_tokens: int | None = None
    request_ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Freeze the columns and check them."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                kind = np.float64 if field.name == "arrival_s" else np.int64
                column = np.ascontiguousarray(value, dtype=kind).view()
                column.flags.writeable = False
                object.__setattr__(self, field.name, column)
        _check(self)

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.arrival_s)

    @classmethod
    def from_columns(
        cls,
        *,
        arrival_s: Sequence[float] | Floats,
        input_tokens: Sequence[int] | Ints,
        output_tokens: Sequence[int] | Ints,
        cached_input_tokens: Sequence[int] | Ints | None = None,
        cache_write_tokens: Sequence[int] | Ints | None = None,
        cache_write_1h_tokens: Sequence[int] | Ints | None = None,
        workload: Sequence[str | None] | None = None,
        session: Sequence[str | None] | None = None,
        model: Sequence[str | None] | None = None,
        priority: Sequence[int] | Ints | None = None,
        charge_usd: Sequence[Decimal | None] | None = None,
        completed: Sequence[bool | None] | None = None,
        prefix_blocks: Sequence[Sequence[int] | None] | None = None,
        prefix_block_tokens: int | None = None,
        request_ids: Sequence[str] | None = None,
    ) -> Trace:
        """Return the trace of plain columns, sorted by arrival (ties keep their order).

        Raises: BadInput, naming the column or the row.
        """
        arrival = np.asarray(arrival_s, dtype=np.float64)
        count = len(arrival)
        order = np.argsort(arrival, kind="stable")  # NaN sorts last and is refused below
        offsets, blocks = _flatten(prefix_blocks)
        if offsets is not None and blocks is not None and len(offsets) == count + 1:
            offsets, blocks = _take_ragged(offsets, blocks, order)
        codes = {
            name: _encode(values, count)
            for name, values in (("workload", workload), ("session", session), ("model", model))
        }
        columns: dict[str, Any] = {
            "arrival_s": arrival,
            "input_tokens": _integers(input_tokens),
            "cached_input_tokens": _integers(
                np.zeros(count, int) if cached_input_tokens is None else cached_input_tokens
            ),
            "output_tokens": _integers(output_tokens),
            "priority": None if priority is None else _integers(priority),
            "cache_write_tokens": None if cache_write_tokens is None else _integers(cache_write_tokens),
            "cache_write_1h_tokens": None if cache_write_1h_tokens is None else _integers(cache_write_1h_tokens),
            "charge_picousd": _optional(charge_usd, usd_to_picousd),
            "completed": _optional(completed, int),
            **{name: column for name, (column, _) in codes.items()},
        }
        for name, column in columns.items():
            if column is not None and len(column) != count:
                raise BadInput(f"column {name} has {len(column)} rows and arrival_s has {count}")
        ordered: dict[str, Any] = {name: None if column is None else column[order] for name, column in columns.items()}
        return cls(
            **ordered,
            workload_names=codes["workload"][1],
            session_names=codes["session"][1],
            model_names=codes["model"][1],
            prefix_offsets=offsets,
            prefix_block_ids=blocks,
            prefix_block_tokens=prefix_block_tokens,
            request_ids=None if request_ids is None else tuple(request_ids[row] for row in order.tolist()),
        )

    @classmethod
    def from_records(cls, records: Iterable[TrafficRecord], *, assumed_requests_per_s: float | None = None) -> Trace:
        """Return the trace of records, sorted by arrival.

        Where a row stands before the first of its file, all are moved so that it arrives at zero.
        A request is named by its own id, or by its number in the file. Rows without a time are refused,
        unless `assumed_requests_per_s` is given and no row has one: then they stand evenly spaced.
        Raises: BadInput, naming the first row without a time, or an empty input.
        """
        rows = _Gathered()
        for record in records:
            rows.add(record)
        count = len(rows.arrival_s)
        if not count:
            raise BadInput("there are no requests to make a trace of")
        if rows.untimed_id is None:
            arrivals = np.asarray(rows.arrival_s)
            arrivals -= min(0.0, float(arrivals.min()))
        elif assumed_requests_per_s and rows.untimed == count:
            arrivals = np.arange(count) / assumed_requests_per_s
        else:
            raise BadInput(
                f"request {rows.untimed_id!r} has no time",
                allowed="A trace needs the arrival of each request",
                next_step="Give a rate to assume, where no request of the file has a time",
            )
        return cls.from_columns(
            arrival_s=arrivals,
            input_tokens=np.asarray(rows.input_tokens),
            cached_input_tokens=np.asarray(rows.cached_input_tokens),
            cache_write_tokens=_unless_all_zero(rows.cache_write_tokens),
            cache_write_1h_tokens=_unless_all_zero(rows.cache_write_1h_tokens),
            output_tokens=np.asarray(rows.output_tokens),
            workload=rows.workload,
            session=rows.session,
            model=rows.model,
            priority=_unless_all_zero(rows.priority),
            charge_usd=_if_any(rows.charge_usd),
            completed=_if_any(rows.completed),
            prefix_blocks=rows.prefix_blocks if any(rows.prefix_blocks) else None,
            prefix_block_tokens=rows.prefix_block_tokens,
            request_ids=rows.request_ids,
        )

    def take(self, rows: Ints | NDArray[np.bool_]) -> Trace:
        """Return the trace of the rows named by an index or mask array, which keeps them in order of arrival."""
        index: Ints = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64)
        offsets, blocks = self.prefix_offsets, self.prefix_block_ids
        if offsets is not None and blocks is not None:
            offsets, blocks = _take_ragged(offsets, blocks, index)
        return replace(
            self,
            arrival_s=self.arrival_s[index],
            input_tokens=self.input_tokens[index],
            cached_input_tokens=self.cached_input_tokens[index],
            output_tokens=self.output_tokens[index],
            workload=self.workload[index],
            session=self.session[index],
            model=self.model[index],
            priority=None if self.priority is None else self.priority[index],
            cache_write_tokens=None if self.cache_write_tokens is None else self.cache_write_tokens[index],
            cache_write_1h_tokens=None if self.cache_write_1h_tokens is None else self.cache_write_1h_tokens[index],
            charge_picousd=None if self.charge_picousd is None else self.charge_picousd[index],
            completed=None if self.completed is None else self.completed[index],
            prefix_offsets=offsets,
            prefix_block_ids=blocks,
            request_ids=None if self.request_ids is None else tuple(self.request_ids[i] for i in index.tolist()),
        )

    def between(self, start_s: float, end_s: float) -> Trace:
        """Return the requests that arrive in [start_s, end_s); arrivals are kept."""
        low, high = np.searchsorted(self.arrival_s, [start_s, end_s], side="left")
        return self.take(np.arange(low, high))

    def of_workload(self, name: str) -> Trace:
        """Return the requests of one workload; empty where the trace does not have it."""
        code = self.workload_names.index(name) if name in self.workload_names else UNKNOWN - 1
        return self.take(self.workload == code)

    def compute_summary(self, *, window_s: float = 60.0) -> TraceSummary:
        """Return counts, rates, percentiles and the busiest `window_s` seconds."""
        return summarise(
            arrival_s=self.arrival_s,
            input_tokens=self.input_tokens,
            cached_input_tokens=self.cached_input_tokens,
            cache_write_tokens=self.cache_write_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens,
            output_tokens=self.output_tokens,
            window_s=window_s,
        )

    def compute_charge_usd(self) -> Decimal | None:
        """Return the sum of the charges, exact; None where any request's charge is unknown."""
        if self.charge_picousd is None or bool((self.charge_picousd < 0).any()):
            return None
        return picousd_to_usd(sum(self.charge_picousd.tolist()))

    def compute_sha256(self) -> str:
        """Return a hash of the columns that decide a simulation: arrivals, tokens, priorities, prefix blocks."""
        digest = hashlib.sha256()
        for column in (
            self.arrival_s,
            self.input_tokens,
            self.cached_input_tokens,
            self.output_tokens,
            self.priority,
            self.prefix_offsets,
            self.prefix_block_ids,
        ):
            digest.update(b"\0" if column is None else column.tobytes() + b"\1")
        return digest.hexdigest()


class _Gathered:
    """Records as columns while they come, so that a million of them are never held at once."""

    def __init__(self) -> None:
        self.arrival_s = array("d")
        self.input_tokens, self.cached_input_tokens, self.cache_write_tokens = array("q"), array("q"), array("q")
        self.output_tokens, self.priority, self.cache_write_1h_tokens = array("q"), array("q"), array("q")
        self.workload: list[str | None] = []
        self.session: list[str | None] = []
        self.model: list[str | None] = []
        self.charge_usd: list[Decimal | None] = []
        self.completed: list[bool | None] = []
        self.prefix_blocks: list[tuple[int, ...]] = []
        self.prefix_block_tokens: int | None = None
        self.request_ids: list[str] = []
        self.untimed = 0
        self.untimed_id: str | None = None
        self._names: dict[str | None, str | None] = {}

    def add(self, record: TrafficRecord) -> None:
        if record.arrival_s is None:
            self.untimed += 1
            self.untimed_id = record.source_row_id if self.untimed_id is None else self.untimed_id
        self.arrival_s.append(record.arrival_s or 0.0)
        self.input_tokens.append(record.input_tokens)
        self.cached_input_tokens.append(record.cached_input_tokens)
        self.cache_write_tokens.append(record.cache_write_tokens)
        self.cache_write_1h_tokens.append(record.cache_write_1h_tokens)
        self.output_tokens.append(record.output_tokens)
        self.priority.append(record.priority)
        known = self._names.setdefault  # one text for equal names
        self.workload.append(known(record.workload, record.workload))
        self.session.append(known(record.session, record.session))
        self.model.append(known(record.model, record.model))
        self.charge_usd.append(record.charge_usd)
        self.completed.append(record.completed)
        self.prefix_blocks.append(record.prefix_blocks or ())
        self.prefix_block_tokens = self.prefix_block_tokens or record.prefix_block_tokens
        self.request_ids.append(_request_id(record))


def _request_id(record: TrafficRecord) -> str:
    # a row without an id of its own is best found again by its number
    has_own = record.row is None or not record.source_row_id.startswith("row-")
    return record.source_row_id if has_own else str(record.row)


def _check(trace: Trace) -> None:
    count = len(trace.arrival_s)
    for name in (
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "workload",
        "session",
        "model",
        "priority",
        "cache_write_tokens",
        "cache_write_1h_tokens",
        "charge_picousd",
        "completed",
        "request_ids",
    ):
        column = getattr(trace, name)
        if column is not None and len(column) != count:
            raise BadInput(f"column {name} has {len(column)} rows and arrival_s has {count}")
    arrival = trace.arrival_s
    _refuse("arrival_s", arrival, ~np.isfinite(arrival), "a finite number of seconds")
    if count > 1:
        backwards = np.concatenate([[False], np.diff(arrival) < 0])
        _refuse("arrival_s", arrival, backwards, "at or after the row before it")
    for name in ("input_tokens", "cached_input_tokens", "output_tokens"):
        column = getattr(trace, name)
        _refuse(name, column, column < 0, "0 or more")
    _refuse(
        "cached_input_tokens",
        trace.cached_input_tokens,
        trace.cached_input_tokens > trace.input_tokens,
        "at most the row's input_tokens",
    )
    if (written := trace.cache_write_tokens) is not None:
        bounds = (written < 0) | (trace.cached_input_tokens + written > trace.input_tokens)
        _refuse("cache_write_tokens", written, bounds, "0 or more, and with the cached at most the row's input_tokens")
    if (hour := trace.cache_write_1h_tokens) is not None:
        bounds = (hour < 0) | (hour > (0 if written is None else written))
        _refuse("cache_write_1h_tokens", hour, bounds, "0 or more, and at most the row's cache_write_tokens")
    for name in ("workload", "session", "model"):
        codes = getattr(trace, name)
        names = getattr(trace, f"{name}_names")
        _refuse(name, codes, (codes < UNKNOWN) | (codes >= len(names)), f"a code below {len(names)}, or -1")
    if (trace.prefix_offsets is None) != (trace.prefix_block_ids is None):
        raise BadInput("prefix_offsets and prefix_block_ids come together")
    if trace.prefix_offsets is not None and trace.prefix_block_ids is not None:
        offsets = trace.prefix_offsets
        is_sound = (
            len(offsets) == count + 1
            and offsets[0] == 0
            and bool((np.diff(offsets) >= 0).all())
            and offsets[-1] == len(trace.prefix_block_ids)
        )
        if not is_sound:
            raise BadInput("prefix_offsets do not cut prefix_block_ids into one run per request")


def _refuse(name: str, column: Any, is_bad: NDArray[np.bool_], allowed: str) -> None:
    if bool(is_bad.any()):
        row = int(np.argmax(is_bad))
        raise BadInput(f"{name} is {column[row]} in row {row} of the trace", allowed=f"It has to be {allowed}")


def _integers(values: Sequence[int] | Ints) -> Ints:
    column = np.asarray(values)
    if len(column) and column.dtype.kind not in "iu":
        raise BadInput(f"a token column holds {column.dtype} values", allowed="Token counts are whole numbers")
    return column.astype(np.int64)


def _encode(values: Sequence[str | None] | None, count: int) -> tuple[Ints, tuple[str, ...]]:
    if values is None:
        return np.full(count, UNKNOWN, dtype=np.int64), ()
    known: dict[str, int] = {}
    codes = [UNKNOWN if value is None else known.setdefault(value, len(known)) for value in values]
    return np.asarray(codes, dtype=np.int64), tuple(known)


def _optional(values: Sequence[Any] | None, convert: Any) -> Ints | None:
    if values is None:
        return None
    return np.asarray([UNKNOWN if value is None else convert(value) for value in values], dtype=np.int64)


def _unless_all_zero(values: array[int]) -> Ints | None:
    return np.asarray(values) if any(values) else None


def _if_any(values: list[Any]) -> list[Any] | None:
    return values if any(value is not None for value in values) else None


def _flatten(blocks: Sequence[Sequence[int] | None] | None) -> tuple[Ints | None, Ints | None]:
    if blocks is None:
        return None, None
    lengths = [0 if one is None else len(one) for one in blocks]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return offsets, np.asarray([block for one in blocks if one for block in one], dtype=np.int64)


def _take_ragged(offsets: Ints, values: Ints, index: Ints) -> tuple[Ints, Ints]:
    lengths = offsets[index + 1] - offsets[index]
    taken = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    starts = np.repeat(offsets[index] - taken[:-1], lengths)
    return taken, values[starts + np.arange(taken[-1])]
