"""What the tiers did for the workloads: one pass over all calls, task by task, that holds sums and few rows."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import compress
from typing import Any, Final

from ownward.ledger._connection import Row
from ownward.ledger._notes import is_of_trial_sql, says_beaten, says_hedge
from ownward.ledger._store import Store
from ownward.ledger._times import from_us, to_us

# Of attempts in the order of their tasks, which is that of an index: to sort them into groups takes databases longer.
_SQL: Final = """
SELECT a.task_id, a.workload, a.tier, o.completed, o.human_minutes,
  CASE WHEN a.attempt > 1 AND EXISTS (
    SELECT 1 FROM intents e WHERE e.request_id = a.request_id AND e.attempt < a.attempt AND e.tier = a.tier
  ) THEN 0 ELSE 1 END,
  a.state, a.started_at_us,
  {settled} a.input_tokens END, {settled} a.cached_input_tokens END, {settled} a.cache_write_tokens END,
  {settled} a.cache_write_1h_tokens END, {settled} a.output_tokens END,
  CASE WHEN a.state IN ('failed', 'refused') THEN 0 ELSE a.charge_picousd END,
  CASE WHEN a.state IN ('failed', 'refused') THEN 0
    ELSE COALESCE(a.charge_low_picousd, a.charge_picousd, {open} 0 END) END,
  CASE WHEN a.state IN ('failed', 'refused') THEN 0
    ELSE COALESCE(a.charge_high_picousd, a.charge_picousd, {open} a.intent_charge_high_picousd END) END,
  {settled} a.ttft_s END, {settled} a.latency_s END,
  CASE WHEN SUBSTR(a.error, 1, 7) = 'hedge: ' OR SUBSTR(a.error, 1, 10) = 'beaten by ' THEN a.error END,
  CASE WHEN a.state IS NULL OR a.state <> 'settled' OR (a.attempt > 1 AND EXISTS (
    SELECT 1 FROM attempts e WHERE e.request_id = a.request_id AND e.attempt < a.attempt AND e.state = 'settled'
  )) THEN 0 ELSE 1 END,
  CASE WHEN {of_trial} THEN 1 ELSE 0 END
FROM {attempts} a LEFT JOIN task_outcomes o ON o.task_id = a.task_id {where}
ORDER BY a.task_id"""
_SETTLED: Final = "CASE WHEN a.state = 'settled' THEN"
_OPEN: Final = "CASE WHEN a.state IS NULL OR a.state = 'unsettled' THEN"
_CHARGE: Final = 13  # its column
_ROWS_AT_ONCE: Final = 10_000
"""Of all places together, so that no more are held however many workloads there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedTask:
    """A task that has an outcome: what its calls on one tier cost (None: not known), and what came of it."""

    charge_picousd: int | None
    is_completed: bool
    human_minutes: float | None


@dataclass(slots=True, kw_only=True)
class SettledTokens:
    """What settled calls used together, of those whose input is longer than `above_input_tokens`, up to the next."""

    above_input_tokens: int
    calls: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0


@dataclass(slots=True, kw_only=True)
class ChargeSum:
    """A sum of charges, and of how many calls the charge is not known."""

    known_picousd: int = 0
    unknown: int = 0

    def add(self, charges: Sequence[int | None]) -> None:
        """Add what calls were charged, None where that is not known."""
        self.known_picousd += sum(filter(None, charges))
        self.unknown += charges.count(None)


@dataclass(slots=True, kw_only=True)
class ServedHedges:
    """Second calls beside late ones: how many, how many answered first, what calls cost whose answer nobody took."""

    hedges: int = 0
    won: int = 0
    extra: int = 0
    extra_low: ChargeSum = field(default_factory=ChargeSum)
    extra_high: ChargeSum = field(default_factory=ChargeSum)


@dataclass(slots=True, kw_only=True)
class Served:
    """What one tier (None: refused before any) did for one workload.

    `unsettled` counts calls in flight too; calls that failed or were refused cost nothing. `settled_tokens` has one
    item for no step and one for each that was asked for; `first_tokens` are those of calls that were the first of their
    request to settle: one a request, however many its strategy made, and none of a trial, which nobody would have asked
    otherwise (`of_trials` is what those were charged). Medians are the upper ones of settled calls.
    """

    workload: str
    tier: str | None
    settled_tokens: tuple[SettledTokens, ...]
    first_tokens: tuple[SettledTokens, ...]
    requests: int = 0
    settled: int = 0
    unsettled: int = 0
    failed: int = 0
    refused: int = 0
    tasks: int = 0
    charge: ChargeSum = field(default_factory=ChargeSum)
    charge_high: ChargeSum = field(default_factory=ChargeSum)
    of_trials: ChargeSum = field(default_factory=ChargeSum)
    ttft_p50_s: float | None = None
    latency_p50_s: float | None = None
    first_started_at: datetime | None = None
    last_started_at: datetime | None = None
    graded: list[GradedTask] = field(default_factory=list)
    hedging: ServedHedges = field(default_factory=ServedHedges)


def query_served(
    store: Store,
    *,
    workload: str | None,
    since: datetime | None,
    until: datetime | None,
    input_steps: Sequence[int],
) -> list[Served]:
    """Return a row for each workload and tier, by name; 16 bytes a call and 100 a graded task are held meanwhile."""
    conditions: list[str] = []
    params: list[Any] = []
    for condition, value in (
        ("a.workload = ?", workload),
        ("a.request_started_at_us >= ?", None if since is None else to_us(since)),
        ("a.request_started_at_us < ?", None if until is None else to_us(until)),
    ):
        if value is not None:
            conditions.append(condition)
            params.append(value)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    of_trial = is_of_trial_sql("a.task_id")
    sql = _SQL.format(attempts=store.attempts, where=where, settled=_SETTLED, open=_OPEN, of_trial=of_trial)
    return _Adding(sorted(set(input_steps))).add_all(store.stream(sql, params))


class _Place:
    """A workload on a tier while calls are added, many at a time."""

    def __init__(self, workload: str, tier: str | None, steps: Sequence[int]) -> None:
        tokens, first = (tuple(SettledTokens(above_input_tokens=above) for above in (0, *steps)) for _ in range(2))
        self.served = Served(workload=workload, tier=tier, settled_tokens=tokens, first_tokens=first)
        self._steps = steps
        self._rows: list[Row] = []
        self._ttft_s, self._latency_s = array("d"), array("d")
        self._first_us, self._last_us = 1 << 62, -(1 << 62)

    def add(self, row: Row) -> None:
        self._rows.append(row)

    def end(self) -> Served:
        self.add_up()
        served = self.served
        served.first_started_at, served.last_started_at = from_us(self._first_us), from_us(self._last_us)
        served.ttft_p50_s, served.latency_p50_s = _median(self._ttft_s), _median(self._latency_s)
        return served

    def add_up(self) -> None:
        if not self._rows:
            return
        served = self.served
        (
            _, _, _, _, _, is_first, states, started_us, input_tokens, cached, cache_write, cache_write_1h,
            output, charges, lows, highs, ttft_s, latency_s, errors, is_first_settled, is_of_trial,
        ) = zip(*self._rows, strict=True)  # fmt: skip
        self._rows.clear()
        served.requests += sum(is_first)
        settled, failed, refused = (states.count(state) for state in ("settled", "failed", "refused"))
        served.settled += settled
        served.failed += failed
        served.refused += refused
        served.unsettled += len(states) - settled - failed - refused
        served.charge.add(charges)
        served.charge_high.add(highs)
        if any(is_of_trial):
            served.of_trials.add([*compress(charges, is_of_trial)])
            is_first_settled = tuple(one > tried for one, tried in zip(is_first_settled, is_of_trial, strict=True))
        self._first_us = min(self._first_us, *started_us)
        self._last_us = max(self._last_us, *started_us)
        self._ttft_s.extend([value for value in ttft_s if value is not None])
        self._latency_s.extend([value for value in latency_s if value is not None])
        used = (input_tokens, cached, cache_write, cache_write_1h, output)
        if self._steps:
            for state, is_one, *tokens in zip(states, is_first_settled, *used, strict=True):
                if state == "settled":
                    step = bisect_left(self._steps, tokens[0] or 0)
                    _use(served.settled_tokens[step], 1, tokens)
                    if is_one:
                        _use(served.first_tokens[step], 1, tokens)
        else:
            _use(served.settled_tokens[0], settled, [sum(filter(None, column)) for column in used])
            of_first = [sum(filter(None, compress(column, is_first_settled))) for column in used]
            _use(served.first_tokens[0], sum(is_first_settled), of_first)
        if errors.count(None) < len(errors):
            for error, state, low, high in zip(errors, states, lows, highs, strict=True):
                if error is not None:
                    _add_hedge(served.hedging, error, is_settled=state == "settled", low=low, high=high)


def _use(of_step: SettledTokens, calls: int, tokens: Sequence[int | None]) -> None:
    of_step.calls += calls
    of_step.input_tokens += tokens[0] or 0
    of_step.cached_input_tokens += tokens[1] or 0
    of_step.cache_write_tokens += tokens[2] or 0
    of_step.cache_write_1h_tokens += tokens[3] or 0
    of_step.output_tokens += tokens[4] or 0


class _Adding:
    """The sums while rows come, those of one task one after another."""

    def __init__(self, steps: Sequence[int]) -> None:
        self._steps = steps
        self._places: dict[tuple[str, str | None], _Place] = {}
        self._of_task: dict[_Place, ChargeSum] = {}

    def add_all(self, rows: Iterable[Row]) -> list[Served]:
        """Return the sums of all rows, by workload and tier."""
        places, of_task = self._places, self._of_task
        task_id: str | None = None
        outcome: tuple[bool, float | None] | None = None
        for number, row in enumerate(rows, start=1):
            if row[0] != task_id:
                self._end_task(outcome)
                task_id, outcome = row[0], None if row[3] is None else (bool(row[3]), row[4])
            place = places.get(row[1:3]) or self._new_place(*row[1:3])
            if place not in of_task:
                of_task[place] = ChargeSum()
                place.served.tasks += 1
            if outcome is not None:
                of_task[place].add((row[_CHARGE],))
            place.add(row)
            if number % _ROWS_AT_ONCE == 0:
                for each in places.values():
                    each.add_up()
        self._end_task(outcome)
        ended = [place.end() for place in places.values()]
        return sorted(ended, key=lambda served: (served.workload, served.tier is not None, served.tier or ""))

    def _new_place(self, workload: str, tier: str | None) -> _Place:
        place = self._places[workload, tier] = _Place(workload, tier, self._steps)
        return place

    def _end_task(self, outcome: tuple[bool, float | None] | None) -> None:
        if outcome is not None:
            is_completed, minutes = outcome
            for place, sums in self._of_task.items():
                known = None if sums.unknown else sums.known_picousd
                place.served.graded.append(
                    GradedTask(charge_picousd=known, is_completed=is_completed, human_minutes=minutes)
                )
        self._of_task.clear()


def _add_hedge(hedging: ServedHedges, error: str, *, is_settled: bool, low: int | None, high: int | None) -> None:
    is_hedge, is_beaten = says_hedge(error), says_beaten(error)
    hedging.hedges += is_hedge
    hedging.won += is_hedge and is_settled and not is_beaten
    if is_beaten or (is_hedge and not is_settled):
        hedging.extra += 1
        hedging.extra_low.add((low,))
        hedging.extra_high.add((high,))


def _median(values: array[float]) -> float | None:
    """Return the upper median, as it was measured; None of nothing."""
    if not values:
        return None
    import numpy as np  # which a gateway that nobody asks does without

    middle = len(values) // 2
    return float(np.partition(np.frombuffer(values), middle)[middle])
