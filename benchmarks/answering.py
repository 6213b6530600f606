"""Measured rows, answered by the shipped coefficients or by ones fitted without the row's pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.measured_cases import Configs, case_of, is_impossible
from benchmarks.measured_rows import MeasuredRow
from scripts.fit_efficiencies import leave_groups_out

from ownward.core import OwnwardError
from ownward.perf import (
    Case,
    Coefficients,
    Prediction,
    deploy_case,
    device_family,
    engine_family,
    predict,
    weight_format,
    with_usual_parallelism,
    without_repeated_depth,
)

_LONGEST_REASON = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A row with what was predicted for it; `value` is None for a refusal."""

    row: MeasuredRow
    cell: tuple[str, str, str]
    is_possible: bool = True
    shape: str = ""
    value: float | None
    low80: float | None
    high80: float | None
    refused: str | None


def answer_rows(rows: Sequence[MeasuredRow], configs: Configs, *, leave_out: str | None = None) -> list[Answer]:
    """Return what is predicted for each row, by a fit without its pair, model, machine or page where asked."""
    return answer_cases(rows, [case_of(row, configs) for row in rows], leave_out=leave_out)


def answer_cases(
    rows: Sequence[MeasuredRow], cases: Sequence[Case | str], *, leave_out: str | None = None
) -> list[Answer]:
    """Return the same for rows whose questions are posed already; one list of them is fitted once."""
    fitted: Mapping[str, Coefficients] = {}
    if leave_out is not None:
        fitted = leave_groups_out(rows, cases, leave_out)
    return [
        _answer(row, case, None if isinstance(case, str) else predict(case, _without(fitted, row, leave_out)))
        for row, case in zip(rows, cases, strict=True)
    ]


def _without(fitted: Mapping[str, Coefficients], row: MeasuredRow, leave_out: str | None) -> Coefficients | None:
    return None if leave_out is None else fitted.get(row.group(leave_out))


def _is_possible(row: MeasuredRow, case: Case) -> bool:
    asked = with_usual_parallelism(without_repeated_depth(case))
    try:
        placed = deploy_case(asked, weight_format(asked.weights))
    except OwnwardError:
        return True
    return not isinstance(placed, tuple) or not is_impossible(row, asked, placed[0])


def _answer(row: MeasuredRow, case: Case | str, prediction: Prediction | None) -> Answer:
    cell = row.metric, engine_family(row.question["engine"]), "not known"
    if isinstance(case, str) or prediction is None:
        return _as_answer(row, cell, None, str(case))
    cell = row.metric, engine_family(case.engine), device_family(case.machine)
    return _as_answer(row, cell, prediction, prediction.refused, is_possible=_is_possible(row, case),
                      shape=_shape(case))  # fmt: skip


def _shape(case: Case) -> str:
    """Return the group that the aims for decoding name: dense models, or mixtures and hybrids; offload is its own."""
    if case.cpu_offload:
        return "offload"
    is_plain = not case.anatomy.experts and not case.anatomy.recurrent_state_bytes_per_seq
    return "dense" if is_plain else "mixtures, hybrids"


def _as_answer(
    row: MeasuredRow,
    cell: tuple[str, str, str],
    said: Prediction | None,
    refused: Any,
    *,
    is_possible: bool = True,
    shape: str = "",
) -> Answer:
    return Answer(
        row=row,
        cell=cell,
        is_possible=is_possible,
        shape=shape,
        value=said.value if said else None,
        low80=said.low80 if said else None,
        high80=said.high80 if said else None,
        refused=refused[:_LONGEST_REASON] if refused else None,
    )
