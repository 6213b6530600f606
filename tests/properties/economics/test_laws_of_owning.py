"""Laws that hold for any numbers: more work is never cheaper, a dearer API never moves the break-even up."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ownward.economics import (
    ApiOption,
    Assumptions,
    Capacity,
    OwnedOption,
    Volume,
    assume,
    compute_break_even,
    compute_cpct,
    compute_owned_cost,
)

# Other work may slow a busy machine down at any moment.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
DAY = date(2026, 11, 21)
money = st.decimals(min_value="0.0001", max_value="10", places=4)


def sure(value):
    return assume(value, "test", checked_on=DAY)


@st.composite
def options(draw):
    idle = draw(st.floats(0, 500))
    return OwnedOption(
        name="box",
        capex_usd=sure(draw(st.floats(100, 1e6))),
        idle_watts=sure(idle),
        busy_watts=sure(idle + draw(st.floats(0, 2000))),
        capacity=Capacity(
            prefill_tokens_per_s=sure(draw(st.floats(10, 1e6))), decode_tokens_per_s=sure(draw(st.floats(1, 1e5)))
        ),
    )


@st.composite
def found_fleets(draw):
    """Options as a simulation finds them: machines that the traffic takes up in part, and works on at other speeds."""
    option = draw(options())
    machines = draw(st.integers(1, 40))
    speeds = {name: getattr(option.capacity, name).value.value for name in Capacity.__dataclass_fields__}
    running = {name: sure(speed * draw(st.floats(0.02, 1.5))) for name, speed in speeds.items()}
    needed = machines - draw(st.floats(0, 0.999))
    return replace(option, machines=machines, machines_needed=needed, running=Capacity(**running))


@st.composite
def volumes(draw):
    inputs = draw(st.floats(0, 1e11))
    outputs = draw(st.floats(1, 1e10))
    peak = draw(st.floats(1, 20)) / (730 * 3600)
    return Volume(
        requests=draw(st.floats(1, 1e8)),
        input_tokens=inputs,
        cached_input_tokens=inputs * draw(st.floats(0, 1)),
        output_tokens=outputs,
        peak_input_tokens_per_s=inputs * peak,
        peak_output_tokens_per_s=outputs * peak,
    )


def scaled(volume: Volume, factor: float) -> Volume:
    return Volume(**{name: getattr(volume, name) * factor for name in Volume.__dataclass_fields__})


def api(usd: Decimal) -> ApiOption:
    return ApiOption(name="a", input_usd_per_mtok=usd, output_usd_per_mtok=4 * usd, source="p", checked_on=DAY)


@CALM
@given(options(), volumes(), st.floats(1, 50))
def test_more_traffic_never_costs_less(option, volume, factor) -> None:
    assert (
        compute_owned_cost(option, scaled(volume, factor)).loaded_usd >= compute_owned_cost(option, volume).loaded_usd
    )


@CALM
@given(options(), volumes(), money)
def test_just_above_the_break_even_owning_is_no_dearer(option, volume, usd) -> None:
    """The formula agrees with the month's cost computed from the number of machines."""
    answer = compute_break_even(option, api(usd), volume, samples=2)
    if answer.times_traffic is None or answer.times_traffic > 1e9:
        return
    for factor in (1.0001, 1.5, 7.3):
        larger = scaled(volume, answer.times_traffic * factor)
        owned = compute_owned_cost(option, larger).loaded_usd
        assert owned <= api(usd).compute_usd(larger) * Decimal("1.001") + Decimal("0.0001")


@CALM
@given(found_fleets(), volumes(), money)
def test_where_owning_pays_for_good_below_the_traffic_it_costs_less_now(option, volume, usd) -> None:
    """The energy of machines that are not full joins the break-even's at the traffic as it is."""
    answer = compute_break_even(option, api(usd), volume, samples=2)
    if answer.times_traffic is not None and answer.times_traffic < 1 - 1e-9:
        assert answer.is_reached


@CALM
@given(options(), volumes(), money, st.floats(1, 10))
def test_a_dearer_api_never_moves_the_break_even_up(option, volume, usd, factor) -> None:
    dear = compute_break_even(option, api(usd * Decimal(repr(factor))), volume, samples=2).first_requests_per_month
    cheap = compute_break_even(option, api(usd), volume, samples=2).first_requests_per_month
    if cheap is not None:
        assert dear is not None
        assert dear <= cheap * (1 + 1e-9)


@CALM
@given(options(), volumes())
def test_the_shares_of_tokens_add_up_to_the_whole(option, volume) -> None:
    cost = compute_owned_cost(option, volume, Assumptions(redundancy=0, cache_reuse_fraction=sure(1)))
    shares = (
        cost.loaded_input_usd_per_mtok * Decimal(repr(volume.uncached_input_tokens))
        + cost.loaded_output_usd_per_mtok * Decimal(repr(volume.output_tokens))
    ) / 1_000_000
    rounding = Decimal(repr(volume.input_tokens + volume.output_tokens)) * Decimal("1e-12") + Decimal("1e-5")
    assert abs(shares - cost.loaded_usd) <= rounding + cost.loaded_usd * Decimal("1e-9")


@CALM
@given(st.lists(st.tuples(money, st.booleans()), min_size=1))
def test_cpct_times_the_completed_is_the_whole_cost(tasks) -> None:
    answer = compute_cpct([cost for cost, _ in tasks], [done for _, done in tasks])
    if answer.usd is not None:
        assert abs(answer.usd * answer.completed - sum(cost for cost, _ in tasks)) < Decimal("1e-8")
        assert answer.low_usd is None or answer.low_usd <= answer.usd <= answer.high_usd
