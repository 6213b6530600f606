"""Cost per completed task and the worth of an investment, by hand."""

from __future__ import annotations

import random
import statistics
from decimal import Decimal

import pytest

from ownward.core import BadInput
from ownward.economics import (
    Investment,
    Scenario,
    compute_affordable_completion_loss,
    compute_cpct,
    compute_return,
    compute_returns,
)
from ownward.quality import compute_cost_per_completed_task


def test_cpct_is_a_ratio_of_sums_with_failed_tasks_paid_for() -> None:
    answer = compute_cpct([Decimal("0.10"), Decimal("0.20"), Decimal("0.30")], [True, False, True])
    assert answer.usd == Decimal("0.3")
    assert (answer.tasks, answer.completed) == (3, 2)


def test_the_interval_is_the_delta_methods_with_a_task_more_that_fails_as_in_certificates() -> None:
    """Costs 1, 1, 2, 4 with outcomes 1, 0, 1, 1: R = 8/3, residuals -5/3, 1, -2/3, 4/3, and the fifth task's 2."""
    costs, done = [Decimal(c) for c in (1, 1, 2, 4)], [True, False, True, True]
    answer = compute_cpct(costs, done, confidence=0.95)
    residuals = (-5 / 3, 1, -2 / 3, 4 / 3, 2)
    students = 2.776  # with 4 degrees, from a table; ours is an approximation to 2%
    half = students * statistics.stdev(residuals) * 5**0.5 / 3
    assert float(answer.high_usd - answer.usd) == pytest.approx(half, rel=0.02)
    assert answer.low_usd == max(answer.usd - (answer.high_usd - answer.usd), Decimal(0))
    certified = compute_cost_per_completed_task(costs, done, confidence=0.95)
    assert (answer.usd, answer.low_usd, answer.high_usd) == (certified.value, certified.low, certified.high)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = random.Random(4)
    truth, hits, rounds = 0.02 / 0.8, 0, 400
    for _ in range(rounds):
        done = [rng.random() < 0.8 for _ in range(300)]
        costs = [Decimal(repr(rng.uniform(0.01, 0.03))) for _ in done]
        answer = compute_cpct(costs, done)
        hits += float(answer.low_usd) <= truth <= float(answer.high_usd)
    assert 0.92 <= hits / rounds <= 0.98


def test_human_minutes_are_part_of_the_cost() -> None:
    answer = compute_cpct(
        [Decimal("0.1"), Decimal("0.1")], [True, True], human_minutes=[None, 6.0], human_usd_per_hour=Decimal(60)
    )
    assert answer.human_usd == Decimal(6)
    assert answer.usd == Decimal("3.1")


def test_an_unknown_cost_makes_the_answer_unknown_never_cheaper() -> None:
    answer = compute_cpct([Decimal(1), None], [True, True])
    assert answer.usd is None
    assert answer.unknown_costs == 1
    assert "unknown" in answer.reason


def test_without_a_completed_task_there_is_no_cost_per_completed_task() -> None:
    answer = compute_cpct([Decimal(1)], [False])
    assert answer.usd is None
    assert answer.cost_usd == Decimal(1)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(BadInput):
        compute_cpct([Decimal(1)], [True, False])


def test_two_points_of_completion_outweigh_twenty_cents_when_a_human_costs_ten_dollars() -> None:
    worth = compute_affordable_completion_loss(
        cost_dear_usd=Decimal("0.21"), cost_cheap_usd=Decimal("0.01"), human_usd_a_task=Decimal(10)
    )
    assert worth == pytest.approx(0.02)


def make_investment(**changes) -> Investment:
    values = {
        "capex_usd": Decimal(1200),
        "residual_usd": Decimal(0),
        "fixed_usd_per_month": Decimal(100),
        "variable_usd_per_month": Decimal(0),
        "avoided_usd_per_month": Decimal(300),
        "months": 12,
        "discount_fraction_per_year": 0.0,
    }
    return Investment(**(values | changes))


def test_payback_and_npv_with_nothing_changing() -> None:
    answer = compute_return(make_investment(), Scenario(name="stay"))
    assert answer.payback_months == pytest.approx(6.0)
    assert answer.npv_usd == Decimal("1200.00")


def test_an_annuity_discounts_as_the_textbook_says() -> None:
    answer = compute_return(make_investment(discount_fraction_per_year=0.1), Scenario(name="stay"))
    monthly = 1.1 ** (1 / 12) - 1
    assert float(answer.npv_usd) == pytest.approx(200 * (1 - 1.1**-1) / monthly - 1200, abs=0.01)


@pytest.mark.parametrize(("capex", "avoided"), [(0, 100), (1200, 100), (1200, 50)])
def test_what_saves_nothing_is_never_paid_back(capex: int, avoided: int) -> None:
    investment = make_investment(capex_usd=Decimal(capex), avoided_usd_per_month=Decimal(avoided))
    assert compute_return(investment, Scenario(name="stay")).payback_months is None


def test_a_month_that_pays_back_in_part_counts_in_part_and_the_residual_not() -> None:
    investment = make_investment(capex_usd=Decimal(1300), residual_usd=Decimal(500))
    answer = compute_return(investment, Scenario(name="stay"))
    assert answer.payback_months == pytest.approx(6.5)
    assert answer.npv_usd == Decimal("1600.00")


def test_falling_api_prices_can_undo_the_payback() -> None:
    falling = Scenario(name="falls", api_price_change_per_year=-0.9)
    answer = compute_return(make_investment(), falling)
    assert answer.payback_months is None
    assert answer.last_month_saving_usd < 0


def test_dearer_memory_raises_what_is_paid_now() -> None:
    answer = compute_return(make_investment(), Scenario(name="dear", capex_change=0.5))
    assert answer.payback_months == pytest.approx(9.0)


def test_the_standard_scenarios_all_answer() -> None:
    assert len({answer.scenario.name for answer in compute_returns(make_investment())}) == 5
