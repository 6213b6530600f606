"""Choosing options: equal to brute force, and lawful."""

from __future__ import annotations

import itertools
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from ownward.planner import FleetShare, Option, choose, total_cost


@st.composite
def workloads(draw: st.DrawFn) -> list[Option]:
    options: list[Option] = []
    machine_usd = {"box": Decimal(100), "rack": Decimal(350)}
    for index in range(draw(st.integers(1, 5))):
        listed = draw(
            st.lists(
                st.tuples(
                    st.integers(1, 400), st.booleans(), st.sampled_from([None, "box", "rack"]), st.floats(0, 2.5)
                ),
                min_size=1,
                max_size=4,
            )
        )
        for position, (usd, feasible, fleet, work) in enumerate(listed):
            options.append(
                Option(
                    workload=f"w{index}",
                    strategy="direct",
                    tier=f"t{position}",
                    cost_usd=Decimal(usd),
                    feasible=feasible or position == 0,
                    shared=fleet and FleetShare(fleet=fleet, work=work, usd_per_machine=machine_usd[fleet]),
                )
            )
    return options


def brute_force(options: list[Option]) -> Decimal:
    groups: dict[str, list[Option]] = {}
    for option in options:
        if option.feasible:
            groups.setdefault(option.workload, []).append(option)
    return min(total_cost(combination)[0] for combination in itertools.product(*groups.values()))


@given(workloads())
def test_the_choice_costs_what_the_best_of_all_combinations_costs(options: list[Option]) -> None:
    choice = choose(options)
    assert choice.is_proven
    assert choice.plan_usd == brute_force(options)


@given(workloads())
def test_another_feasible_option_never_raises_the_cost(options: list[Option]) -> None:
    more = [*options, Option(workload="w0", strategy="direct", tier="new", cost_usd=Decimal(50))]
    assert choose(more).plan_usd <= choose(options).plan_usd


@given(workloads())
def test_each_workload_is_served_by_one_feasible_option(options: list[Option]) -> None:
    choice = choose(options)
    assert [item.workload for item in choice.chosen] == list(dict.fromkeys(option.workload for option in options))
    assert all(item.feasible for item in choice.chosen)
