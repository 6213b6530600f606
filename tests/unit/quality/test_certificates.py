"""Certificates: states, intervals and what is refused."""

from __future__ import annotations

import io
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from ownward.core import BadInput, UnknownName
from ownward.quality import (
    DriftAlarm,
    EProcess,
    PairedTask,
    certify,
    compute_cost_per_completed_task,
    lower_confidence_bound,
    read_outcomes,
)

ISSUED = datetime(2026, 11, 21, tzinfo=UTC)


def paired(base: list[bool], own: list[bool], base_usd: str = "0.01", own_usd: str = "0.001") -> list[PairedTask]:
    return [
        PairedTask(
            task_id=str(index),
            baseline_completion=float(left),
            candidate_completion=float(right),
            baseline_cost_usd=Decimal(base_usd),
            candidate_cost_usd=Decimal(own_usd),
        )
        for index, (left, right) in enumerate(zip(base, own, strict=True))
    ]


def certificate(tasks: list[PairedTask], rho: float = 0.9, confidence: float = 0.95):
    return certify(tasks, baseline="big", candidate="small", rho=rho, confidence=confidence, issued_at=ISSUED)


def test_an_equal_candidate_is_certified_and_expires() -> None:
    made = certificate(paired([True] * 400, [True] * 400))
    assert made.state == "certified"
    assert made.e_value >= 20
    assert made.expires_at == ISSUED + timedelta(days=30)
    assert "model" in made.voided_by


def test_the_task_that_decided_is_the_first_at_which_the_evidence_sufficed() -> None:
    tasks = paired([True] * 1000, [True] * 1000)
    decided = certificate(tasks).decided_at_task
    assert decided is not None
    assert certificate(tasks[:decided]).state == "certified"
    assert certificate(tasks[: decided - 1]).state == "not_certified"


def test_the_order_of_tasks_decides_nothing() -> None:
    """Sorted by subject, as benchmarks are: 130 tasks that both complete come before 20 that the candidate does not."""
    tasks = paired([True] * 150, [True] * 130 + [False] * 20)
    easy_first, hard_first = certificate(tasks), certificate(tasks[::-1])
    assert easy_first.completion_ratio == pytest.approx(130 / 150)  # less than rho, which is 0.9
    assert easy_first.state == hard_first.state == "not_certified"
    assert easy_first.e_value == pytest.approx(hard_first.e_value)


def test_a_much_worse_candidate_is_refuted() -> None:
    made = certificate(paired([True] * 200, [index % 2 == 0 for index in range(200)]))
    assert made.state == "refuted"
    assert made.expires_at is None


def test_few_tasks_decide_nothing() -> None:
    made = certificate(paired([True] * 5, [True] * 5))
    assert made.state == "not_certified"
    assert made.decided_at_task is None


def test_no_tasks_give_unknowns_not_zeros() -> None:
    made = certificate([])
    assert made.state == "not_certified"
    assert made.baseline_completion_fraction is None
    assert made.cpct_baseline_usd.value is None


def test_cost_per_completed_task_is_a_ratio_of_sums() -> None:
    made = certificate(paired([True, True, False, False], [True, False, False, False]))
    assert made.cpct_baseline_usd.value == Decimal("0.02")
    assert made.cpct_candidate_usd.value == Decimal("0.004")


def test_an_unknown_cost_makes_the_cpct_unknown() -> None:
    cost = compute_cost_per_completed_task([Decimal("0.1"), None], [1.0, 1.0], confidence=0.95)
    assert cost.value is None


def test_the_interval_of_the_cpct_covers_the_truth() -> None:
    """95% intervals of 300 tasks cover the true ratio in about 95% of 400 repetitions."""
    rng = np.random.default_rng(7)
    truth = 0.02 / 0.7
    covered = 0
    for _ in range(400):
        done = (rng.random(300) < 0.7).astype(float)
        costs = [Decimal(str(round(cost, 6))) for cost in rng.gamma(4.0, 0.005, 300)]
        cost = compute_cost_per_completed_task(costs, done.tolist(), confidence=0.95)
        assert cost.low is not None
        assert cost.high is not None
        covered += float(cost.low) <= truth <= float(cost.high)
    assert 0.91 <= covered / 400 <= 0.98


@pytest.mark.parametrize(("tasks", "completed"), [(3, 0.6), (50, 0.98)])
def test_the_interval_allows_for_a_failure_where_there_was_none(tasks: int, completed: float) -> None:
    cost = compute_cost_per_completed_task([Decimal("0.01")] * tasks, [1.0] * tasks, confidence=0.95)
    assert cost.value == Decimal("0.01")
    assert cost.high is not None
    assert float(cost.high) > 0.01 / completed


def test_the_evidence_is_the_mean_over_stakes_of_the_product_of_bets() -> None:
    """The textbook formula, computed term by term."""
    z = [0.02, -0.98, 1.0, 0.02]
    process = EProcess(largest_loss=0.98)
    for value in z:
        process.update(value)
    stakes = np.geomspace(0.003, 0.7, 24) / 0.98
    expected = float(np.mean([math.prod(1 + stake * value for value in z) for stake in stakes]))
    assert process.value == pytest.approx(expected, rel=1e-12)


def test_peeking_at_the_line_certifies_falsely_in_at_most_five_percent() -> None:
    """Ville's inequality, checked by looking after each of 1,500 tasks in 400 runs exactly at the line."""
    rng = np.random.default_rng(11)
    false = 0
    for _ in range(400):
        base = rng.random(1500) < 0.8
        own = rng.random(1500) < 0.8 * 0.98
        process = EProcess(largest_loss=0.98)
        process.extend(own - 0.98 * base)
        false += process.peak_value >= 20
    assert false / 400 <= 0.05


def test_tasks_in_parts_are_the_evidence_of_all_of_them() -> None:
    """More tasks than are taken at once; the sums of logarithms are numpy's over all."""
    z = np.random.default_rng(4).choice([-0.98, 0.02, 1.0], size=25_000, p=[0.03, 0.93, 0.04])
    process = EProcess(largest_loss=0.98, decisive_log_value=3.0)
    process.extend(z)
    stakes = np.geomspace(0.003, 0.7, 24) / 0.98
    paths = np.cumsum(np.log1p(z[:, None] * stakes), axis=0)
    log_values = np.logaddexp.reduce(paths, axis=1) - math.log(24)
    assert process.log_value == pytest.approx(log_values[-1])
    assert process.peak_log_value == pytest.approx(log_values.max())
    assert (process.count, process.decided_at) == (25_000, int(np.argmax(log_values >= 3.0)) + 1)


def test_a_bet_below_its_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="below"):
        EProcess(largest_loss=0.5).update(-0.6)


def test_the_drift_alarm_rings_after_a_fall_and_not_before() -> None:
    alarm = DriftAlarm(alpha=1e-4, largest_gain=1.0)
    rng = np.random.default_rng(3)
    for value in (rng.random(2000) < 0.9) - 0.85:
        assert not alarm.update(float(value))
    waited = 0
    for value in (rng.random(2000) < 0.5) - 0.85:
        waited += 1
        if alarm.update(float(value)):
            break
    assert waited < 200


def test_the_lower_confidence_bound_lies_below_the_mean_and_near_it() -> None:
    values = (np.random.default_rng(5).random(2000) < 0.7).astype(float)
    bound = lower_confidence_bound(values, low=0.0, high=1.0, confidence=0.95)
    assert 0.6 < bound < 0.7


@pytest.mark.parametrize("rho", [0.0, -1.0, 1.5])
def test_rho_out_of_range_is_refused(rho: float) -> None:
    with pytest.raises(BadInput, match="rho"):
        certificate([], rho=rho)


SHAPES = [
    '{"task_id": "t", "big": {"completed": true, "cost_usd": "0.01"}, "small": {"completed": false, "cost": 0.001}}',
    '{"task_id": "t", "strategies": {"big": {"correct": 1, "cost": 0.01}, "small": {"correct": 0, "cost": 0.001}}}',
    '{"task_id": "t", "completions": {"big": 1, "small": 0}, "costs": {"big": "0.01", "small": "0.001"}}',
    '{"task_id": "t", "big|correct": true, "big_cost_usd": 0.01, "small|correct": false, "small_cost_usd": 0.001}',
    '{"task_id": "t", "completed_big": 1, "cost_usd_big": 0.01, "completed_small": 0, "cost_usd_small": 0.001}',
    (
        '{"task_id": "t", "strategy": "big", "completed": true, "cost_usd": 0.01}\n'
        '{"task_id": "t", "strategy": "small", "completed": false, "cost_usd": 0.001}'
    ),
    "task_id,big_completed,big_cost_usd,small_completed,small_cost_usd\nt,true,0.01,false,0.001\n",
]


@pytest.mark.parametrize("text", SHAPES)
def test_every_documented_shape_of_outcomes_reads_alike(text: str) -> None:
    tasks, left_out = read_outcomes(io.StringIO(text), name="x").pair("big", "small")
    assert left_out == 0
    assert [
        (task.baseline_completion, task.candidate_completion, task.baseline_cost_usd, task.candidate_cost_usd)
        for task in tasks
    ] == [(1.0, 0.0, Decimal("0.01"), Decimal("0.001"))]


def test_bad_rows_are_counted_with_line_and_reason() -> None:
    table = read_outcomes(io.StringIO(SHAPES[0] + '\nnonsense\n{"task_id": 2, "big_completed": 7}\n'), name="x")
    assert [line for line, _ in table.bad] == [2, 3]


def test_a_repeated_task_counts_once() -> None:
    table = read_outcomes(io.StringIO(SHAPES[0] + "\n" + SHAPES[0] + "\n"), name="x")
    assert table.duplicates == 1
    assert len(table.tasks) == 1


def test_an_unknown_strategy_names_those_that_are_there() -> None:
    with pytest.raises(UnknownName) as caught:
        read_outcomes(io.StringIO(SHAPES[0]), name="x").pair("big", "huge")
    assert "'big'" in str(caught.value)


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(BadInput, match="empty"):
        read_outcomes(io.StringIO(""), name="x")
