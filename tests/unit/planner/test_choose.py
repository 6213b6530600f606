"""Choosing options: sharing, baselines, refusals, and what is said."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

from ownward.core import BadInput, InfeasiblePlan, format_usd, usd_text
from ownward.planner import choose, held_to, options_from


def rows(*given: dict[str, Any]) -> list:
    return options_from(list(enumerate(given, start=1)), name="options.jsonl")


def test_a_machine_two_workloads_share_is_paid_once() -> None:
    choice = choose(
        rows(
            {"workload": "a", "tier": "api", "cost_usd": "70"},
            {"workload": "a", "tier": "own", "cost_usd": "100", "shared": {"fleet": "box", "work": 0.4}},
            {"workload": "b", "tier": "api", "cost_usd": "60"},
            {"workload": "b", "tier": "own", "cost_usd": "100", "shared": {"fleet": "box", "work": 0.5}},
        )
    )
    assert choice.plan_usd == Decimal(100)
    assert choice.fleet == {"box": 1}
    assert choice.baseline_usd == Decimal(130)
    assert "shares machines" in choice.why[0]


def test_work_beyond_one_machine_buys_a_second() -> None:
    share = {"fleet": {"name": "box", "usd_per_machine": 100}, "work": 0.7}
    choice = choose(rows(*({"workload": name, "tier": "own", "cost_usd": 5, "shared": share} for name in ("a", "b"))))
    assert choice.fleet == {"box": 2}
    assert choice.plan_usd == Decimal(210)


def test_an_infeasible_option_is_never_chosen_and_its_reason_is_told() -> None:
    choice = choose(
        rows(
            {"workload": "a", "tier": "api", "cost_usd": "10", "baseline": True},
            {"workload": "a", "tier": "own", "cost_usd": "1", "completion": 0.4, "floor": 0.9},
        )
    )
    assert choice.chosen[0].tier == "api"
    assert "below the floor of 90.0%" in choice.why[0]


def test_an_unknown_cost_is_never_chosen() -> None:
    choice = choose(rows({"workload": "a", "tier": "x"}, {"workload": "a", "tier": "y", "cost_usd": 3}))
    assert choice.chosen[0].tier == "y"
    assert choice.baseline_usd is None


def test_a_workload_that_nothing_can_serve_keeps_its_marked_baseline() -> None:
    choice = choose(rows({"workload": "a", "tier": "api", "cost_usd": 3, "feasible": False, "baseline": True}))
    assert "stays" in choice.why[0]


def test_a_workload_without_any_way_is_an_answer_that_names_it() -> None:
    with pytest.raises(InfeasiblePlan, match="a: own: stated infeasible"):
        choose(rows({"workload": "a", "tier": "own", "cost_usd": 1, "feasible": False}))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tier": "x"}, "without workload"),
        ({"workload": "a", "tier": "x", "cost_usd": "cheap"}, "cost_usd is 'cheap'"),
        ({"workload": "a", "tier": "x", "cost_usd": -1}, "cost_usd"),
        ({"workload": "a", "tier": "x", "shared": 3}, "shared is 3"),
    ],
)
def test_a_row_that_is_no_option_is_refused_with_its_line(row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        rows(row)
    assert caught.value.where == "options.jsonl:1"


def test_thirty_workloads_on_three_fleets_are_solved() -> None:
    given = [
        option
        for index in range(30)
        for option in (
            {"workload": f"w{index}", "tier": "api", "cost_usd": 20 + index},
            *(
                {
                    "workload": f"w{index}",
                    "tier": name,
                    "cost_usd": 1,
                    "shared": {"fleet": name, "work": 0.1 + 0.01 * index, "usd_per_machine": usd},
                }
                for name, usd in (("box", 120), ("rack", 300), ("node", 90))
            ),
        )
    ]
    choice = choose(rows(*given))
    assert choice.plan_usd < Decimal(30 * 34)


def test_hundreds_of_workloads_on_shared_fleets_cost_little_more_than_fractions_of_machines_would() -> None:
    """No plan costs less than the fractions; rounding up costs a machine of each fleet at most."""
    draw = random.Random(3)
    usd = {"box": 150, "rack": 300, "node": 450}
    given = []
    for index in range(1200):
        given.append({"workload": f"w{index}", "tier": "api", "cost_usd": round(draw.uniform(1, 1000), 6)})
        for fleet, machine_usd in usd.items():
            share = {"fleet": fleet, "work": round(draw.uniform(0.05, 0.8), 3)}
            given.append({"workload": f"w{index}", "tier": fleet, "cost_usd": machine_usd, "shared": share})
    fractions: dict[str, float] = {}
    for one in given:
        least = usd[one["tier"]] * one["shared"]["work"] if "shared" in one else one["cost_usd"]
        fractions[one["workload"]] = min(least, fractions.get(one["workload"], least))
    least_usd = sum(fractions.values())
    assert least_usd - 1e-6 <= float(choose(rows(*given)).plan_usd) <= least_usd + sum(usd.values())


def test_dollars_are_compared_and_added_to_the_last_digit() -> None:
    choice = choose(
        rows(
            {"workload": "tiny", "tier": "api", "cost_usd": "0.000000000512"},
            {"workload": "tiny", "tier": "own", "cost_usd": "0.000000000511"},
            {"workload": "large", "tier": "api", "cost_usd": "979000000001.916320449383"},
            {"workload": "shared", "tier": "own", "cost_usd": "10", "shared": {"fleet": "box", "work": 2.5}},
        )
    )
    assert choice.plan_usd == Decimal("979000000011.916320449894")
    assert choice.baseline_usd == Decimal("979000000011.916320449895")
    assert [one.tier for one in choice.chosen] == ["own", "api", "own"]


def test_an_option_that_completes_less_than_the_floor_of_the_baseline_is_not_chosen() -> None:
    options = rows(
        {"workload": "w", "tier": "api", "cost_usd": 10, "completion": 0.9},
        {"workload": "w", "tier": "cheap", "cost_usd": 1, "completion": 0.5},
        {"workload": "w", "tier": "close", "cost_usd": 4, "completion": 0.89},
        {"workload": "w", "tier": "unseen", "cost_usd": 2},
    )
    choice = choose(held_to(options, baseline="api", floor_fraction=0.98))
    assert choice.chosen[0].tier == "close"
    assert "cheap: completes 50.0%, below 98% of the baseline's 90.0%" in choice.why[0]
    assert "unseen: nobody has measured what it completes" in choice.why[0]


def test_a_baseline_that_a_workload_has_no_option_of_is_refused() -> None:
    with pytest.raises(BadInput, match="the baseline 'api' is not an option for w"):
        held_to(rows({"workload": "w", "tier": "own", "cost_usd": 1}), baseline="api", floor_fraction=None)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"feasible": "no"}, "feasible is 'no'"),
        ({"completion": 1.5}, "completion is 1.5"),
        ({"completion": "most"}, "completion is 'most'"),
        ({"shared": {"fleet": "box", "work": "half"}}, "shared.work is 'half'"),
    ],
)
def test_a_member_that_cannot_be_what_its_name_says_is_refused_with_its_line(row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        rows({"workload": "w", "tier": "own", "cost_usd": 1, **row})
    assert caught.value.where == "options.jsonl:1"


def test_a_workload_of_unknown_cost_alone_says_so() -> None:
    with pytest.raises(InfeasiblePlan, match="a: api: cost unknown"):
        choose(rows({"workload": "a", "tier": "api"}))


def test_the_largest_totals_are_written_whole() -> None:
    share = {"fleet": "box", "work": 1e9, "usd_per_machine": "1000000000000000"}
    choice = choose(rows({"workload": "a", "tier": "own", "cost_usd": "0.000000000001", "shared": share}))
    assert usd_text(choice.plan_usd) == f"1{'0' * 24}.000000000001"
    assert format_usd(choice.plan_usd).startswith("$1,000,000,")
