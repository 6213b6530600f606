"""How many machines a candidate takes for a workload, what they cost and draw, and why none will do."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import numpy as np
import pytest

from ownward import anatomy, catalog
from ownward.economics import ApiOption, Assumptions, Volume, assume, compute_break_even, compute_owned_cost
from ownward.perf import deploy
from ownward.planner import OwnedCandidate, Sizing, size_fleet
from ownward.simulation import Simulation, Slo, simulate
from ownward.traffic import Trace

AT = date(2026, 11, 21)
EASY = Slo(ttft_s=5.0, tpot_s=0.2)


def candidate(model: str = "qwen3-8b", machine: str = "RTX 4090", **more: object) -> OwnedCandidate:
    release = catalog.model(model)
    return OwnedCandidate(
        tier="own",
        anatomy=anatomy.from_config(release.load_config(), name=release.name),
        machine=catalog.machine(machine),
        engine="vllm",
        weights=str(more.pop("weights", "bf16")),
        **more,  # type: ignore[arg-type]
    )


def traffic(requests_per_s: float, *, input_tokens: int = 500) -> Trace:
    count = 200
    return Trace.from_columns(
        arrival_s=np.arange(count) / requests_per_s,
        input_tokens=np.full(count, input_tokens),
        output_tokens=np.full(count, 100),
    )


def sized(found: Sizing | str) -> Sizing:
    assert isinstance(found, Sizing), found
    return found


def test_a_stated_price_and_power_stand_in_the_place_of_the_catalogues() -> None:
    price = assume(1234.0, "a quote", checked_on=AT)
    watts = assume(200.0, "a meter", checked_on=AT, basis="measured")
    option = sized(size_fleet(candidate(price_usd=price, watts=watts), traffic(1.0), EASY, at=AT)).option
    assert option.capex_usd == price
    assert (option.busy_watts.value.value, option.busy_watts.value.basis) == (200.0, "measured")
    assert option.idle_watts.value.value == pytest.approx(0.15 * 200.0)


def test_without_them_each_machine_counts_and_its_host_is_marked_as_assumed() -> None:
    machine = catalog.machine("RTX 4090")
    assert machine.price_usd is not None
    assert machine.tdp_watts is not None
    option = sized(size_fleet(candidate(machines_count=2), traffic(1.0), EASY, at=AT)).option
    assert option.busy_watts.value.value == 2 * machine.tdp_watts.value
    assert option.capex_usd.value.value > 2 * float(machine.price_usd.value)
    assert option.capex_usd.value.basis == "assumed"


def test_more_traffic_takes_more_replicas_and_holds_the_service_level() -> None:
    few, many = (sized(size_fleet(candidate(), traffic(rate), EASY, at=AT)) for rate in (1.0, 40.0))
    assert few.replicas == 1
    assert many.replicas > few.replicas
    assert many.option.machines == many.replicas
    assert many.ttft_p95_s is not None
    assert many.ttft_p95_s <= 5.0


@pytest.mark.parametrize(
    ("wanted", "slo", "why"),
    [
        (candidate("llama-3.3-70b"), EASY, "memory: "),
        (candidate(), Slo(tpot_s=1e-5), "tpot: one sequence alone is slower"),
        (candidate(), Slo(ttft_s=1e-5), "service level: "),
    ],
)
def test_what_cannot_serve_it_says_which_constraint_binds(wanted: OwnedCandidate, slo: Slo, why: str) -> None:
    found = size_fleet(wanted, traffic(1.0), slo, at=AT)
    assert isinstance(found, str)
    assert found.startswith(why)


def test_a_machine_without_a_price_is_refused_until_one_is_stated() -> None:
    unpriced = next(machine for machine in catalog.machines() if machine.price_usd is None and machine.tdp_watts)
    found = size_fleet(candidate(machine=unpriced.name), traffic(1.0), EASY, at=AT)
    assert found == f"the price of {unpriced.name} is not known"


def test_a_request_longer_than_the_models_context_cannot_be_served() -> None:
    priced = candidate(machine="H200 SXM", price_usd=assume(30_000.0, "a quote", checked_on=AT))
    found = size_fleet(priced, traffic(0.01, input_tokens=60_000), EASY, at=AT)
    assert found == "context: the longest request takes 60,100 tokens, and the model 40,960"


MIXTURE = {"model": "qwen3-30b-a3b", "machine": "RTX 5090", "weights": "q4_k_m"}


def replayed(found: Sizing, wanted: OwnedCandidate, trace: Trace) -> Simulation:
    deployment = deploy(
        wanted.anatomy,
        machine=wanted.machine,
        machines_count=wanted.machines_count,
        engine=wanted.engine,
        weights=wanted.weights,
    )
    assert not isinstance(deployment, str)
    context = int((trace.input_tokens + trace.output_tokens).mean())
    return simulate(trace, deployment.compute_step_model(context_tokens=context), replicas=found.replicas)


@pytest.mark.parametrize("wanted", [candidate(), candidate(**MIXTURE)], ids=["dense", "mixture"])
@pytest.mark.parametrize("requests_per_s", [0.02, 0.3, 6.0])
def test_machines_are_as_busy_as_a_simulation_has_them(wanted: OwnedCandidate, requests_per_s: float) -> None:
    """Few sequences at a time work far longer for each token than as many as fit: up to thirty times as long."""
    trace = traffic(requests_per_s)
    found = sized(size_fleet(wanted, trace, EASY, at=AT))
    volume = Volume.from_summary(trace.compute_summary())
    cost = compute_owned_cost(found.option, volume, Assumptions(redundancy=0))
    busy_s = replayed(found, wanted, trace).busy_s
    duration_s = float(trace.arrival_s[-1])
    assert cost.utilisation_fraction == pytest.approx(min(busy_s / duration_s / found.replicas, 1.0), rel=0.02)


def test_from_which_volume_owning_pays_does_not_hang_on_how_much_of_it_the_log_has() -> None:
    """A single machine is needed whatever comes; it fills up before a second is bought."""
    price = ApiOption(
        name="api", input_usd_per_mtok=Decimal("0.25"), output_usd_per_mtok=Decimal(2), source="p", checked_on=AT
    )
    volumes = []
    for requests_per_s in (0.05, 0.5, 5.0):
        trace = traffic(requests_per_s)
        option = sized(size_fleet(candidate(**MIXTURE), trace, EASY, at=AT)).option
        answer = compute_break_even(option, price, Volume.from_summary(trace.compute_summary()))
        assert answer.requests_per_month is not None
        volumes.append(answer.requests_per_month)
    assert max(volumes) == pytest.approx(min(volumes), rel=0.2)


def test_one_machine_that_holds_much_more_than_its_traffic_is_needed_in_part() -> None:
    few, more = (sized(size_fleet(candidate(**MIXTURE), traffic(rate), EASY, at=AT)) for rate in (0.1, 1.0))
    assert few.replicas == more.replicas == 1
    assert few.option.machines_needed < 0.2 * more.option.machines_needed < 0.2
    many = sized(size_fleet(candidate(), traffic(40.0), EASY, at=AT))
    assert many.replicas - 1 < many.option.machines_needed <= many.replicas


def test_where_hardly_a_prompt_fits_beside_full_steps_it_is_read_at_once() -> None:
    """Beside 16 sequences of a mixture there is time for 48 tokens, which no number of machines makes quick enough."""
    generator = np.random.default_rng(3)
    trace = Trace.from_columns(
        arrival_s=np.cumsum(generator.exponential(0.3, 600)),
        input_tokens=np.full(600, 2000),
        output_tokens=np.full(600, 150),
    )
    quick = Slo(ttft_s=1.0, tpot_s=0.03, fraction=0.95)
    found = sized(size_fleet(candidate(**MIXTURE), trace, quick, at=AT))
    assert found.scheduler.token_budget == 2048
    assert found.replicas <= 3
