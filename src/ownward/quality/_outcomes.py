"""Recorded outcomes: one task a row, completions and costs of several strategies, in the shapes people keep them."""

from __future__ import annotations

import csv
import functools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, TextIO, TypeVar

from ownward.core import BadInput, UnknownName
from ownward.quality._certificate import PairedTask

_COMPLETION_WORDS = (
    "completed",
    "completion",
    "complete",
    "correct",
    "success",
    "passed",
    "reward",
    "score",
    "outcome",
)
_COST_WORDS = ("cost_usd", "charge_usd", "usd", "cost")
_GROUPS_OF_COMPLETIONS = ("completions", *_COMPLETION_WORDS)
_GROUPS_OF_COSTS = ("costs_usd", "costs", *_COST_WORDS)
_GROUPS_OF_STRATEGIES = ("strategies", "outcomes", "results", "arms")
_MODEL_WORDS = ("model", "tier")  # name the strategy of a row that has a completion of its own
_MOST_USD = 10**9
_ID_WORDS = ("task_id", "task", "id", "question_id", "item_id", "prompt_id")
_STRATEGY_WORDS = ("strategy", "arm")
_UNKNOWN_WORDS = frozenset({"", "na", "n/a", "nan", "none", "null"})
_SURPLUS = "\0surplus"
_DELIMITERS = ",;\t"  # the first of them where a table has one column
_BAD_SHOWN = 20
_DECODER = json.JSONDecoder(parse_float=Decimal)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One strategy's result on one task."""

    completion: float | None
    cost_usd: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeTable:
    """Tasks by id, each with what every strategy made of it, and the first of the rows that could not be read."""

    tasks: Mapping[str, Mapping[str, Recorded]]
    strategies: tuple[str, ...]
    duplicates: int
    bad: tuple[tuple[int, str], ...] = field(default=())
    bad_total: int = 0

    def pair(self, baseline: str, candidate: str) -> tuple[list[PairedTask], int]:
        """Return the tasks that both strategies did, in file order, and how many were left out for want of one.

        Raises: UnknownName, if no row has the strategy.
        """
        for name in (baseline, candidate):
            if name not in self.strategies:
                raise UnknownName(name, self.strategies, what="strategy in these outcomes")
        paired = []
        for task_id, row in self.tasks.items():
            base, own = row.get(baseline), row.get(candidate)
            if base is None or own is None or base.completion is None or own.completion is None:
                continue
            paired.append(
                PairedTask(
                    task_id=task_id,
                    baseline_completion=base.completion,
                    candidate_completion=own.completion,
                    baseline_cost_usd=base.cost_usd,
                    candidate_cost_usd=own.cost_usd,
                )
            )
        return paired, len(self.tasks) - len(paired)


def read_outcomes(stream: TextIO, *, name: str) -> OutcomeTable:
    """Return the outcomes in a JSON Lines or CSV text; which of the two is seen from its first character.

    A strategy's completion and cost are found in any of these shapes (S is its name):
    `{"S": {"completed": true, "cost_usd": "0.01"}}`, the same under `strategies` or `outcomes`,
    `{"completions": {"S": 1}, "costs": {"S": 0.01}}`, and flat columns `S_completed`, `S|correct`,
    `completed_S`, `S.cost_usd` and the like, columns of nothing but completions (`S`), or one row a strategy:
    `{"task_id": "t1", "strategy": "S", "completed": true}` (or `model`, `tier`). An array of such objects will do.
    Completion is a boolean or a share from 0 to 1.
    A second row for the same task and strategy is a duplicate and is left out: the first counts.
    Raises: BadInput, if nothing in it can be read.
    """
    bad: list[tuple[int, str]] = []
    return _table(_rows(stream, bad), bad, name=name)


def read_outcome_rows(rows: Iterable[Mapping[str, Any]], *, name: str) -> OutcomeTable:
    """Return the outcomes in rows by column, as `read_outcomes` reads those of a text: what a Parquet file holds.

    Raises: BadInput, if nothing in them can be read.
    """
    return _table(enumerate(rows, start=1), [], name=name)


def _table(rows: Iterable[tuple[int, Mapping[str, Any]]], bad: list[tuple[int, str]], *, name: str) -> OutcomeTable:
    tasks: dict[str, dict[str, Recorded]] = {}
    strategies: dict[str, None] = {}
    duplicates = 0
    for line, row in rows:
        try:
            recorded = {key: value for key, value in _strategies_of(row) if value.completion is not None}
            task_id = next((str(row[word]) for word in _ID_WORDS if row.get(word) not in (None, "")), None)
            if task_id is None:
                raise ValueError("no task_id")  # noqa: TRY301 - all faults of a row take one path
            if not recorded:
                raise ValueError("no strategy with a completion")  # noqa: TRY301
        except (ValueError, InvalidOperation) as error:
            bad.append((line, "a cost that is not an amount" if isinstance(error, InvalidOperation) else str(error)))
            continue
        known = tasks.setdefault(task_id, {})
        if known.keys() & recorded.keys():
            duplicates += 1
        known.update({name: result for name, result in recorded.items() if name not in known})
        strategies.update(dict.fromkeys(recorded))
    if not tasks:
        why = f"line {bad[0][0]}: {bad[0][1]}" if bad else "it is empty"
        raise BadInput(
            f"no outcomes could be read: {why}",
            where=name,
            allowed='One task per row, such as {"task_id": "t1", "big": {"completed": true, "cost_usd": "0.01"}}',
        )
    return OutcomeTable(
        tasks=tasks,
        strategies=tuple(strategies),
        duplicates=duplicates,
        bad=tuple(bad[:_BAD_SHOWN]),
        bad_total=len(bad),
    )


def _rows(stream: TextIO, bad: list[tuple[int, str]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    lines = enumerate(stream, start=1)
    first = next(((number, text) for number, text in lines if text.strip()), None)
    if first is None:
        return
    sign = first[1].lstrip("\ufeff \t")[:1]
    if sign == "[":
        yield from _array(first[1].lstrip("\ufeff") + "".join(text for _, text in lines), bad)
        return
    if sign != "{":
        head = first[1].lstrip("\ufeff")
        if head.startswith("PAR1"):
            bad.append((1, "a Parquet file, not text"))
            return
        table = csv.DictReader(
            _chain(head, (text for _, text in lines)),
            restkey=_SURPLUS,
            delimiter=max(_DELIMITERS, key=head.count),
            skipinitialspace=True,
        )
        try:
            for number, row in enumerate(table, start=2):
                if _SURPLUS in row:
                    bad.append((number, "more fields than columns"))
                else:
                    yield number, row
        except csv.Error as error:
            bad.append((table.line_num, f"not CSV: {error}"))
        return
    for number, text in _chain(first, lines):
        if not text.strip():
            continue
        try:
            value = _DECODER.decode(text)
        except (json.JSONDecodeError, RecursionError) as error:
            bad.append((number, f"not JSON: {error}"))
            continue
        if isinstance(value, dict):
            yield number, value
        else:
            bad.append((number, f"a {type(value).__name__}, not an object"))


def _array(text: str, bad: list[tuple[int, str]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        rows = json.loads(text, parse_float=Decimal)
    except (json.JSONDecodeError, RecursionError) as error:
        bad.append((1, f"not JSON: {error}"))
        return
    for number, row in enumerate(rows, start=1):
        if isinstance(row, dict):
            yield number, row
        else:
            bad.append((number, f"a {type(row).__name__}, not an object"))


def _chain(first: _T, rest: Iterable[_T]) -> Iterator[_T]:
    yield first
    yield from rest


def _strategies_of(row: Mapping[str, Any]) -> Iterator[tuple[str, Recorded]]:
    names = (*_STRATEGY_WORDS, *_MODEL_WORDS) if any(word in row for word in _COMPLETION_WORDS) else _STRATEGY_WORDS
    long_form = next((str(row[word]) for word in names if isinstance(row.get(word), str) and row[word]), None)
    if long_form is not None:
        row = {long_form: {key: value for key, value in row.items() if key not in names}}
    completions: dict[str, Any] = {}
    costs: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for key, value in sorted(row.items(), key=lambda item: _rank(item[0])):
        if key in _ID_WORDS or key in _STRATEGY_WORDS:
            continue
        if isinstance(value, Mapping):
            _take_nested(key, value, completions, costs)
        elif isinstance(value, bool) and _suffixed(key) is None:
            completions[key] = value
        elif _suffixed(key) is None:
            plain[key] = value
        else:
            _take_flat(key, value, completions, costs)
    if not completions:  # a table of nothing but completions
        completions = {key: value for key, value in plain.items() if _is_completion(value)}
    for name in dict.fromkeys([*completions, *costs]):
        yield name, Recorded(completion=_completion(completions.get(name)), cost_usd=_cost(costs.get(name)))


def _take_nested(key: str, value: Mapping[str, Any], completions: dict[str, Any], costs: dict[str, Any]) -> None:
    if key in _GROUPS_OF_COSTS:
        costs.update(value)
    elif all(isinstance(item, Mapping) for item in value.values()) and key in (
        *_GROUPS_OF_STRATEGIES,
        *_GROUPS_OF_COMPLETIONS,
    ):
        for name, item in value.items():
            _take_nested(name, item, completions, costs)
    elif key in _GROUPS_OF_COMPLETIONS or key in _GROUPS_OF_STRATEGIES:
        completions.update(value)
    else:
        for word in _COMPLETION_WORDS:
            if word in value:
                completions[key] = value[word]
                break
        for word in _COST_WORDS:
            if word in value:
                costs[key] = value[word]
                break


def _take_flat(key: str, value: object, completions: dict[str, Any], costs: dict[str, Any]) -> None:
    found = _suffixed(key)
    if found is not None:
        name, is_cost, _ = found
        (costs if is_cost else completions).setdefault(name, value)


def _rank(key: str) -> int:
    """Return where a column stands among those that say the same: what was completed goes before a score."""
    found = _suffixed(key)
    return 0 if found is None else found[2]


@functools.lru_cache(maxsize=1024)
def _suffixed(key: str) -> tuple[str, bool, int] | None:
    """Return the strategy that a flat column speaks of, whether it is its cost, and the rank of the word."""
    for words, is_cost in ((_COST_WORDS, True), (_COMPLETION_WORDS, False)):
        for rank, word in enumerate(words):
            match = re.fullmatch(rf"(.+?)[|_.:/ ]{word}", key) or re.fullmatch(rf"{word}[|_.:/ ](.+)", key)
            if match is not None:
                return match[1], is_cost, rank
    return None


def _is_completion(value: object) -> bool:
    """Return whether a value can be a completion, in a column that does not say what it holds."""
    try:
        return not isinstance(value, list) and _completion(value) is not None
    except ValueError:
        return False


def _is_unknown(value: object) -> bool:
    """Return whether a cell is empty, in the words that tables have for it."""
    match value:
        case str():
            return value.strip().lower() in _UNKNOWN_WORDS
        case float():
            return math.isnan(value)
        case _:
            return value is None


def _completion(value: object) -> float | None:
    match value:
        case _ if _is_unknown(value):
            return None
        case bool():
            return float(value)
        case int() | float() | Decimal():
            number = float(value)
        case str() if value.strip().lower() in {"true", "t", "yes", "y", "completed", "success", "pass"}:
            return 1.0
        case str() if value.strip().lower() in {"false", "f", "no", "n", "failed", "failure", "fail"}:
            return 0.0
        case str():
            try:
                number = float(value)
            except ValueError as error:
                raise ValueError(f"a completion of {value!r}, which is not a share from 0 to 1") from error
        case _:
            raise ValueError(f"a completion of type {type(value).__name__}")
    if not 0 <= number <= 1:
        raise ValueError(f"a completion of {number:g}, which is not from 0 to 1")
    return number


def _cost(value: object) -> Decimal | None:
    if _is_unknown(value):
        return None
    cost = Decimal(str(value).removeprefix("$"))
    if not cost.is_finite() or not 0 <= cost <= _MOST_USD:
        raise ValueError(f"a cost of {value}")
    return cost
