"""Measured rows as cases, answered by the shipped coefficients or by ones fitted without the row's pair."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.accuracy import Answer, Configs
from benchmarks.measured_rows import MeasuredRow

from ownward.core import OwnwardError
from ownward.perf import Case, Coefficients, Prediction, device_family, engine_family, locate, predict

_LONGEST_REASON = 70


def case_of(row: MeasuredRow, configs: Configs) -> Case | str:
    """Return the question of a row, or why it cannot be posed."""
    asked = row.question
    model = configs.load(row.config or "")
    if isinstance(model, OwnwardError):
        return f"config of {row.config}: {model.message}"
    try:
        located = locate(row.hardware, on_cpu=asked["on_cpu"])
    except OwnwardError as error:
        return error.message
    concurrency, arrivals = asked["concurrency"], None
    if isinstance(concurrency, str):
        rate = re.search(r"(\d+(?:\.\d+)?) req/s", concurrency)
        if rate is None:
            return "the load is a trace whose arrivals the row does not state"
        concurrency, arrivals = 1, float(rate[1])
    return Case(
        id=asked["id"],
        anatomy=model,
        machine=located.machine,
        host_bytes_per_s=located.host_bytes_per_s,
        machines_count=asked["machines_count"],
        replicas=asked["replicas"],
        engine=asked["engine"],
        weights=asked["weights"],
        kv_type=asked["kv_type"],
        tensor_parallel=asked["tensor_parallel"],
        pipeline_parallel=asked["pipeline_parallel"],
        expert_parallel=asked["expert_parallel"],
        cpu_offload=asked["cpu_offload"],
        speculative=asked["speculative"],
        concurrency=concurrency,
        arrivals_per_s=arrivals,
        input_tokens=512 if asked["input_tokens"] is None else asked["input_tokens"],
        output_tokens=asked["output_tokens"] or 128,
        context_depth=asked["context_depth"],
        metric=row.metric,
    )


def answer_rows(rows: Sequence[MeasuredRow], configs: Configs, *, leave_pair_out: bool) -> list[Answer]:
    """Return what is predicted for each row."""
    cases = [case_of(row, configs) for row in rows]
    fitted: Mapping[str, Coefficients] = {}
    if leave_pair_out:
        from scripts.fit_efficiencies import leave_pairs_out

        fitted = leave_pairs_out(rows, cases)
    return [
        _answer(row, case, None if isinstance(case, str) else predict(case, fitted.get(row.pair)))
        for row, case in zip(rows, cases, strict=True)
    ]


def _answer(row: MeasuredRow, case: Case | str, prediction: Prediction | None) -> Answer:
    cell = row.metric, engine_family(row.question["engine"]), "not known"
    if isinstance(case, str) or prediction is None:
        return _as_answer(row, cell, None, str(case))
    cell = row.metric, engine_family(case.engine), device_family(case.machine)
    return _as_answer(row, cell, prediction, prediction.refused)


def _as_answer(row: MeasuredRow, cell: tuple[str, str, str], said: Prediction | None, refused: Any) -> Answer:
    return Answer(
        row=row,
        cell=cell,
        value=said.value if said else None,
        low80=said.low80 if said else None,
        high80=said.high80 if said else None,
        refused=refused[:_LONGEST_REASON] if refused else None,
    )
