"""Several workloads on machines of one's own: what is paid once, what a token costs there, and where it says `?`."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pytest

from ownward import anatomy, catalog
from ownward.core import Sourced
from ownward.economics import Assumptions
from ownward.plan import dumps, loads
from ownward.planner import Decision, OwnedCandidate, RentedCandidate, WorkloadToPlan, make_plan
from ownward.policy import Label
from ownward.pricing import Price
from ownward.reports import render_comparisons
from ownward.simulation import Slo
from ownward.traffic import Trace

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOURS = 730.0


def trace(requests_per_s: float, *, count: int = 2_000, output_tokens: int = 100) -> Trace:
    return Trace.from_columns(
        arrival_s=np.arange(count) / requests_per_s,
        input_tokens=np.full(count, 500),
        output_tokens=np.full(count, output_tokens),
    )


def decided(machine: str = "RTX 5090", **traces: Trace) -> Decision:
    release = catalog.model("qwen3-8b")
    owned = OwnedCandidate(
        tier="own",
        anatomy=anatomy.from_config(release.load_config(), name=release.name),
        machine=catalog.machine(machine),
        engine="vllm" if machine.startswith("RTX") else "llama.cpp",
        weights="bf16",
    )
    price = Price(
        provider="p", model="m", input_usd_per_mtok=Decimal(3), output_usd_per_mtok=Decimal(15), basis="assumed",
        source="a test", checked_on=AT.date(),
    )  # fmt: skip
    return make_plan(
        [
            WorkloadToPlan(name=name, trace=one, baseline="api", label=Label.parse("any"), slo=Slo(ttft_s=5, tpot_s=1))
            for name, one in traces.items()
        ],
        owned=[owned],
        rented=[RentedCandidate(tier="api", price=price)],
        assumptions=Assumptions(),
        name="plan",
        at=AT,
        hours_per_month=Sourced(value=HOURS, basis="assumed", source="a test", checked_on=date(2026, 11, 21)),
        assumes_equal_quality=True,
    )


def test_workloads_on_one_tier_share_its_machines_its_reserve_and_its_people() -> None:
    decision = decided(many=trace(4.0), few=trace(0.5, output_tokens=20))
    assert {option.tier for option in decision.choice.chosen} == {"own"}
    costs = [item.own_vs_rent.owned[0] for item in decision.comparisons]
    needed = [item.sizings["own"].option.machines_needed for item in decision.comparisons]
    assert [cost.machines for cost in costs] == [2, 2]
    assert sum(needed) < 1
    people = float(costs[0].breakdown.people_usd)
    a_machine = (float(costs[0].loaded_usd) - people - _above_idle_usd(decision)) / 2
    alone = sum(float(cost.loaded_usd) for cost in costs)
    assert float(decision.choice.plan_usd) == pytest.approx(alone - people - 2 * a_machine)
    assert decision.choice.fleet == {"own": 2}


def test_the_months_that_a_plan_states_of_workloads_on_one_tier_come_to_what_it_costs() -> None:
    decision = decided(many=trace(4.0), few=trace(0.5, output_tokens=20))
    stated = {name: item.figures["usd_per_month"].value for name, item in decision.plan.workloads.items()}
    assert sum(stated.values()) == pytest.approx(decision.choice.plan_usd, abs=Decimal("0.00001"))
    work = {item.workload: item.own_vs_rent.owned[0].work_hours for item in decision.comparisons}
    assert float(stated["many"] / stated["few"]) == pytest.approx(work["many"] / work["few"], rel=1e-6)


def test_workloads_take_as_many_machines_together_as_all_of_them_in_one() -> None:
    apart = decided(one=trace(7.0), other=trace(7.0), third=trace(7.0))
    assert [cost.machines for item in apart.comparisons for cost in item.own_vs_rent.owned] == [2, 2, 2]
    together = decided(all=trace(21.0, count=6_000))
    assert apart.choice.fleet == together.choice.fleet == {"own": 4}


def _above_idle_usd(decision: Decision) -> float:
    """Return what the first workload's work costs at the power above idle."""
    cost, option = decision.comparisons[0].own_vs_rent.owned[0], decision.comparisons[0].sizings["own"].option
    shared = Assumptions()
    kwh = cost.work_hours * (option.busy_watts.value.value - option.idle_watts.value.value) / 1000
    return kwh * shared.pue.value.value * shared.usd_per_kwh.value.value


def test_the_prices_of_an_owned_tier_are_those_of_all_that_it_serves() -> None:
    decision = decided(few=trace(0.5, output_tokens=20), many=trace(4.0))
    volumes = [item.own_vs_rent.volume for item in decision.comparisons]
    tier = decision.plan.tiers["own"]
    energy = sum(item.own_vs_rent.owned[0].marginal_usd for item in decision.comparisons)
    for price, usd in ((tier.loaded_price, decision.choice.plan_usd), (tier.price, energy)):
        charged = sum(
            one.input_tokens * float(price.input_usd_per_mtok) + one.output_tokens * float(price.output_usd_per_mtok)
            for one in volumes
        )
        assert charged / 1e6 == pytest.approx(float(usd), rel=1e-3)


def test_the_plan_states_what_its_engines_were_sized_with() -> None:
    decision = decided(some=trace(4.0))
    options = loads(dumps(decision.plan), file="plan.toml").tiers["own"].engine_options
    limits = decision.comparisons[0].sizings["own"].scheduler
    assert (options["slots"], options["batch_tokens"]) == (limits.max_batch, limits.token_budget)
    assert options["max_context_tokens"] >= 600


def test_a_second_of_traffic_that_stands_for_a_month_takes_machines_that_keep_up_with_it() -> None:
    cost = decided(burst=trace(100.0, count=100)).comparisons[0].own_vs_rent.owned[0]
    assert cost.machines > 2
    assert cost.is_within_capacity
    assert cost.utilisation_fraction < 1


def test_where_a_machines_power_is_unknown_the_volume_is_too_and_not_never() -> None:
    from rich.console import Console

    decision = decided(machine="apple-m3-ultra", some=trace(0.2))
    with (console := Console(width=100)).capture() as shown:
        console.print(render_comparisons(decision.comparisons, decision.choice))
    assert "never" not in shown.get()
    assert decision.comparisons[0].own_vs_rent.break_evens[0].reason.startswith("not known")


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_an_hour_in_one_providers_cache_is_no_twelve_in_openais(provider: str) -> None:
    """A thousand tokens of which all were written for longer: at 10 USD a million, or at 4 as other writes."""
    written = Trace.from_columns(
        arrival_s=[0.0, HOURS * 3600],
        input_tokens=[1000, 0],
        cache_write_tokens=[1000, 0],
        cache_write_1h_tokens=[1000, 0],
        output_tokens=[0, 0],
    )
    prices = [
        Price(
            provider=name, model=name, input_usd_per_mtok=Decimal(3), output_usd_per_mtok=Decimal(15),
            cache_write_usd_per_mtok=Decimal(4), cache_write_1h_usd_per_mtok=Decimal(10), basis="assumed",
            source="a test", checked_on=AT.date(),
        )
        for name in ("anthropic", "aws", "openai")
    ]  # fmt: skip
    decision = make_plan(
        [WorkloadToPlan(name="w", trace=written, baseline=provider, label=Label.parse("any"), slo=Slo(ttft_s=5))],
        owned=[],
        rented=[RentedCandidate(tier=price.provider, price=price) for price in prices],
        assumptions=Assumptions(),
        name="plan",
        at=AT,
        hours_per_month=Sourced(value=HOURS, basis="assumed", source="a test", checked_on=AT.date()),
        assumes_equal_quality=True,
    )
    like, unlike = Decimal("0.01"), Decimal("0.004")
    is_openai = provider == "openai"
    assert {option.tier: option.cost_usd for option in decision.options} == {
        "anthropic": unlike if is_openai else like,
        "aws": unlike if is_openai else like,
        "openai": like if is_openai else unlike,
    }
