"""The shipped coefficients against a few published measurements.

Most of them had a part in the fit: this test guards the model against regressions. What it is worth on pairs it never
saw is measured by `benchmarks/accuracy.py --leave-pair-out` and stands in docs/explanation/predictions.md.
"""

import math
import statistics
from pathlib import Path

import pytest
from benchmarks.answering import Answer, answer_rows
from benchmarks.measured_cases import Configs
from benchmarks.measured_rows import load_rows

DATA = Path(__file__).parents[1] / "data" / "measured_speeds.csv"
MEDIAN_TOLERANCE = 0.15
LARGEST_RATIO = 1.7
LEAST_COVERAGE = 0.75


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    configs = Configs(None)
    return answer_rows(list(load_rows(DATA, configs.names)), configs)


def test_every_row_is_answered(answers: list[Answer]) -> None:
    assert [answer.refused for answer in answers if answer.value is None] == []


def test_the_median_error_is_within_fifteen_percent(answers: list[Answer]) -> None:
    errors = [abs(answer.value / answer.row.value - 1) for answer in answers if answer.value is not None]
    assert statistics.median(errors) < MEDIAN_TOLERANCE


def test_no_row_is_off_by_more_than_a_factor(answers: list[Answer]) -> None:
    ratios = {
        f"{answer.row.pair} {answer.row.metric}": math.exp(abs(math.log(answer.value / answer.row.value)))
        for answer in answers
        if answer.value is not None
    }
    assert {name: round(ratio, 2) for name, ratio in ratios.items() if ratio > LARGEST_RATIO} == {}


def test_the_bands_hold_most_rows(answers: list[Answer]) -> None:
    inside = [
        answer.low80 <= answer.row.value <= answer.high80
        for answer in answers
        if answer.low80 is not None and answer.high80 is not None
    ]
    assert sum(inside) / len(inside) >= LEAST_COVERAGE
