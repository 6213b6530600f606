"""A month of owning, against arithmetic done by hand."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from ownward.core import BadInput
from ownward.economics import (
    ApiOption,
    Assumption,
    Assumptions,
    Capacity,
    HourlyOption,
    OwnedOption,
    Volume,
    assume,
    compute_break_even,
    compute_owned_cost,
    compute_trace_charge_usd,
    own_vs_rent,
)
from ownward.pricing import Price, PriceStep, Usage
from ownward.traffic import Trace

DAY = date(2026, 11, 21)


def sure(value: float) -> Assumption:
    return assume(value, "stated by the test", checked_on=DAY)


def plain(**changes) -> Assumptions:
    """Assumptions without ranges, interest, upkeep or reserve."""
    values = {
        "amortisation_months": sure(36),
        "residual_fraction": sure(0.2),
        "cost_of_capital_fraction_per_year": sure(0),
        "pue": sure(1.2),
        "usd_per_kwh": sure(0.25),
        "hosting_usd_per_month": sure(0),
        "maintenance_fraction_per_year": sure(0),
        "people_hours_per_month": sure(0),
        "people_usd_per_hour": sure(0),
        "peak_load_fraction": sure(1.0),
        "cache_reuse_fraction": sure(1.0),
        "api_price_factor": sure(1.0),
        "redundancy": 0,
    }
    return Assumptions(**(values | changes))


def box(**changes) -> OwnedOption:
    values = {
        "name": "box",
        "capex_usd": sure(8000),
        "idle_watts": sure(700),
        "busy_watts": sure(700),
        "capacity": Capacity(prefill_tokens_per_s=sure(1e12), decode_tokens_per_s=sure(2000)),
    }
    return OwnedOption(**(values | changes))


def output_only(utilisation: float) -> Volume:
    tokens = 2000 * utilisation * 730 * 3600
    return Volume(
        requests=1000,
        input_tokens=0,
        cached_input_tokens=0,
        output_tokens=tokens,
        peak_input_tokens_per_s=0,
        peak_output_tokens_per_s=2000 * utilisation,
    )


def api(usd_out: str = "1", usd_in: str = "0.1") -> ApiOption:
    return ApiOption(
        name="api", input_usd_per_mtok=Decimal(usd_in), output_usd_per_mtok=Decimal(usd_out), source="p", checked_on=DAY
    )


def test_the_worked_example_of_a_box_with_a_tenth_of_a_person() -> None:
    """$8k, 20% residual, 36 months, 0.7 kW, PUE 1.2, $0.25/kWh, 0.1 of $120k a year: 178 + 153 + 1000 = 1331."""
    cost = compute_owned_cost(
        box(), output_only(0.05), plain(people_hours_per_month=sure(10), people_usd_per_hour=sure(100))
    )
    assert cost.breakdown.depreciation_usd == Decimal("177.777778")
    assert cost.breakdown.energy_usd == Decimal("153.300000")
    assert cost.breakdown.people_usd == Decimal(1000)
    assert cost.loaded_usd == Decimal("1331.077778")


@pytest.mark.parametrize(
    ("utilisation", "people_usd", "usd_per_mtok"),
    [(0.05, 1000, "5.06"), (0.30, 1000, "0.84"), (0.05, 0, "1.26"), (0.30, 0, "0.21")],
)
def test_utilisation_and_people_dominate_the_cost_per_token(utilisation, people_usd, usd_per_mtok) -> None:
    shared = plain(people_hours_per_month=sure(1), people_usd_per_hour=sure(people_usd))
    cost = compute_owned_cost(box(), output_only(utilisation), shared)
    assert cost.utilisation_fraction == pytest.approx(utilisation)
    assert cost.loaded_output_usd_per_mtok is not None
    assert cost.loaded_output_usd_per_mtok == pytest.approx(Decimal(usd_per_mtok), abs=Decimal("0.006"))


def test_marginal_is_the_energy_of_the_work_alone() -> None:
    """A tenth of 730 h at 700 W and PUE 1.2 and $0.25/kWh is 15.33."""
    cost = compute_owned_cost(box(idle_watts=sure(100)), output_only(0.1), plain())
    assert cost.marginal_usd == Decimal("15.330000")
    assert cost.breakdown.energy_usd == Decimal("35.040000")  # 100 W all month, 600 W more for a tenth of it


def test_interest_runs_on_the_mean_of_price_and_residual() -> None:
    cost = compute_owned_cost(box(), output_only(0.1), plain(cost_of_capital_fraction_per_year=sure(0.1)))
    assert cost.breakdown.capital_usd == Decimal("40.000000")  # (8000 + 1600) / 2 * 10% / 12


def test_unknown_watts_leave_energy_and_total_unknown_but_the_rest_known() -> None:
    cost = compute_owned_cost(box(idle_watts=None), output_only(0.1), plain())
    assert cost.loaded_usd is None
    assert cost.breakdown.unknown == ("energy_usd",)
    assert cost.breakdown.known_usd == Decimal("177.777778")
    answer = compute_break_even(box(busy_watts=None), api(), output_only(0.1), plain())
    assert answer.requests_per_month is None
    assert answer.is_reached is None
    assert "unknown" in answer.reason


def test_machines_follow_the_peak_and_the_reserve() -> None:
    """A peak of 1.7 machines at 65% load takes 3, and one stands by."""
    cost = compute_owned_cost(box(), output_only(1.7), plain(peak_load_fraction=sure(0.65), redundancy=1))
    assert (cost.machines, cost.redundancy) == (4, 1)
    assert cost.breakdown.depreciation_usd == Decimal("711.111111")


def test_a_fleet_found_by_simulation_is_taken_as_given() -> None:
    cost = compute_owned_cost(box(machines=5), output_only(0.1), plain(redundancy=1))
    assert cost.machines == 6
    assert cost.utilisation_fraction == pytest.approx(0.1 / 6)


def slow(decode_tokens_per_s: float) -> Capacity:
    return Capacity(prefill_tokens_per_s=sure(1e12), decode_tokens_per_s=sure(decode_tokens_per_s))


def test_a_machine_works_as_long_as_its_few_sequences_take_and_not_as_long_as_many_would() -> None:
    """Traffic that a full machine puts out in 5% of the month keeps one with few at a time busy for 40%."""
    cost = compute_owned_cost(
        box(idle_watts=sure(100), machines=1, machines_needed=0.05, running=slow(250)), output_only(0.05), plain()
    )
    assert cost.utilisation_fraction == pytest.approx(0.4)
    assert cost.marginal_usd == Decimal("61.320000")  # 0.4 x 730 h at 700 W and PUE 1.2 and $0.25/kWh
    assert cost.is_within_capacity


def test_the_break_even_fills_the_machines_that_a_simulation_found() -> None:
    """One machine at a twentieth of what it holds: as traffic grows it fills before another is bought."""
    cheap = api(usd_out="0.3")  # a twentieth of a machine's month of tokens is $79, and the machine costs $331
    volume = output_only(0.05)
    as_full = compute_break_even(box(machines=1), cheap, volume, plain())
    filling = compute_break_even(box(machines=1, machines_needed=0.05), cheap, volume, plain())
    assert as_full.requests_per_month is None
    assert filling.times_traffic == pytest.approx(331.078 / 78.84, rel=1e-3)


def test_a_machines_energy_lies_on_a_line_between_the_traffic_and_what_it_holds() -> None:
    """At 5% of its load it works 40% of the time, at all of it always: 37% whatever comes, and 63% with the load."""
    option = box(idle_watts=sure(100), machines=1, machines_needed=0.05, running=slow(250))
    answer = compute_break_even(option, api(usd_out="0.6"), output_only(0.05), plain())
    always_usd = 8000 * 0.8 / 36 + 0.1 * 730 * 1.2 * 0.25
    busy_usd = 0.6 * 730 * 1.2 * 0.25
    standing, rising = (0.4 - 0.05) / 0.95, 0.6 / 0.95
    expected = (always_usd + standing * busy_usd) / (157.68 - 0.05 * rising * busy_usd)
    assert answer.times_traffic == pytest.approx(expected, rel=1e-3)


def test_no_fleet_needs_more_machines_than_it_has() -> None:
    with pytest.raises(BadInput, match=r"machines_needed is 1\.5"):
        box(machines=1, machines_needed=1.5)


def test_cached_input_is_no_work_for_the_machine_and_cheaper_at_the_api() -> None:
    volume = Volume(
        requests=1,
        input_tokens=10_000_000,
        cached_input_tokens=4_000_000,
        output_tokens=0,
        peak_input_tokens_per_s=0,
        peak_output_tokens_per_s=0,
    )
    capacity = Capacity(prefill_tokens_per_s=sure(1000), decode_tokens_per_s=sure(100))
    assert compute_owned_cost(box(capacity=capacity), volume, plain()).work_hours == pytest.approx(6e6 / 1000 / 3600)
    half = plain(cache_reuse_fraction=sure(0.5))
    assert compute_owned_cost(box(capacity=capacity), volume, half).work_hours == pytest.approx(8e6 / 1000 / 3600)
    cached = ApiOption(
        name="a",
        input_usd_per_mtok=Decimal(1),
        cached_input_usd_per_mtok=Decimal("0.1"),
        output_usd_per_mtok=Decimal(1),
        source="p",
        checked_on=DAY,
    )
    assert cached.compute_usd(volume) == Decimal("6.4")
    assert api(usd_in="1").compute_usd(volume) == Decimal(10)


def test_break_even_of_one_machine_is_fixed_cost_over_the_margin_of_a_request() -> None:
    """331.078 a month fixed; a request of 100k tokens costs $0.1: 3,311 requests."""
    volume = Volume(
        requests=100,
        input_tokens=0,
        cached_input_tokens=0,
        output_tokens=10_000_000,
        peak_input_tokens_per_s=0,
        peak_output_tokens_per_s=10,
    )
    answer = compute_break_even(box(), api(), volume, plain())
    assert answer.requests_per_month == pytest.approx(3310.78, abs=0.01)
    assert answer.times_traffic == pytest.approx(33.1078, abs=1e-4)
    assert answer.is_reached is False
    assert answer.never_fraction == 0.0


def test_owning_never_pays_when_a_full_machine_costs_more_than_the_api() -> None:
    answer = compute_break_even(box(), api("0.0001"), output_only(0.1), plain())
    assert answer.requests_per_month is None
    assert answer.never_fraction == 1.0
    assert "never" in answer.reason


def test_hand_checked_steps_of_whole_machines() -> None:
    """F = 100 a machine, API 130 a full machine's traffic, one in reserve: 5 machines at work pay for good.

    (k + 1) 100 <= 130 k first holds at k = 4 (500 <= 520), from 500 / 130 of a machine's traffic; at the start of the
    fifth, 600 > 520, turned back; the fifth pays from 600 / 130 on; the start of the sixth: 700 > 650; 700/130; of the
    seventh: 800 > 780, 800/130; of the eighth: 900 <= 910.
    """
    rented_box = HourlyOption(
        name="h",
        usd_per_hour=sure(100 / 730),
        capacity=Capacity(prefill_tokens_per_s=sure(1), decode_tokens_per_s=sure(1)),
    )
    volume = Volume(
        requests=1,
        input_tokens=0,
        cached_input_tokens=0,
        output_tokens=1_000_000,
        peak_input_tokens_per_s=0,
        peak_output_tokens_per_s=1,
    )
    answer = compute_break_even(rented_box, api("130"), volume, plain(redundancy=1))
    assert answer.first_requests_per_month == pytest.approx(500 / 130)
    assert answer.requests_per_month == pytest.approx(800 / 130)


def test_the_tornado_is_sorted_and_the_band_encloses_the_middle() -> None:
    shared = plain(usd_per_kwh=assume(0.25, "s", checked_on=DAY, low80=0.2, high80=0.3))
    wide = box(capex_usd=assume(8000, "s", checked_on=DAY, low80=4000, high80=16000))
    answer = compute_break_even(wide, api(), output_only(0.3), shared)
    assert [swing.name for swing in answer.tornado] == ["capex_usd", "usd_per_kwh"]
    assert answer.requests_per_month_low80 < answer.requests_per_month < answer.requests_per_month_high80


def test_a_comparison_is_repeatable_and_states_every_assumption() -> None:
    first = own_vs_rent(output_only(0.3), [box()], [api()], seed=3)
    second = own_vs_rent(output_only(0.3), [box()], [api()], seed=3)
    assert first == second
    stated = {one.name for one in first.assumptions}
    assert {"capex_usd", "busy_watts", "decode_tokens_per_s", "usd_per_kwh", "api_price_factor"} <= stated
    assert first.basis == "assumed"
    assert first.find_break_even("box", "api").owned == "box"


def test_a_range_that_misses_its_value_is_refused() -> None:
    with pytest.raises(BadInput, match="does not enclose"):
        assume(5, "s", checked_on=DAY, low80=6, high80=7)


def test_a_fleet_found_by_simulation_grows_with_the_volume() -> None:
    """5 machines of 331.08 for the traffic, which is 525.6 at the API: a fifth of it fills a machine."""
    answer = compute_break_even(box(machines=5), api("1"), output_only(0.1), plain())
    assert answer.requests_per_month is None  # a full machine earns 105 and costs 331
    dear = compute_break_even(box(machines=5), api("10"), output_only(0.1), plain())
    assert dear.first_requests_per_month == pytest.approx(1000 * 331.0778 / 5256, rel=1e-4)


def make_price(**changes) -> Price:
    values = {
        "provider": "p",
        "model": "m",
        "input_usd_per_mtok": Decimal(1),
        "output_usd_per_mtok": Decimal(4),
        "basis": "price page",
        "source": "test",
        "checked_on": DAY,
    }
    return Price(**(values | changes))


def make_trace() -> Trace:
    return Trace.from_columns(
        arrival_s=[0.0, 1.0, 2.0],
        input_tokens=[100_000, 200_000, 300_000],
        cached_input_tokens=[0, 100_000, 100_000],
        output_tokens=[1000, 1000, 2000],
    )


@pytest.mark.parametrize("hour_usd", [None, Decimal("3.2")])
@pytest.mark.parametrize("step_above", [None, 150])
def test_what_is_written_to_a_cache_is_charged_at_its_own_price(
    step_above: int | None, hour_usd: Decimal | None
) -> None:
    """As Anthropic charges it, for an hour more than for minutes; a price without one charges such tokens as input."""
    step = {"input_usd_per_mtok": Decimal(2), "output_usd_per_mtok": Decimal(6)}
    steps = () if step_above is None else (PriceStep(above_input_tokens=step_above, **step),)
    price = make_price(
        cached_input_usd_per_mtok=Decimal("0.1"),
        cache_write_usd_per_mtok=Decimal(2),
        cache_write_1h_usd_per_mtok=hour_usd,
        steps=steps,
    )
    requests = [
        Usage(
            input_tokens=100, cached_input_tokens=20, cache_write_tokens=70, cache_write_1h_tokens=40, output_tokens=5
        ),
        Usage(input_tokens=200, cached_input_tokens=200, output_tokens=5),
        Usage(input_tokens=300, cache_write_tokens=300, cache_write_1h_tokens=300, output_tokens=7),
    ]
    names = ("input_tokens", "cached_input_tokens", "cache_write_tokens", "cache_write_1h_tokens", "output_tokens")
    columns = {name: [getattr(one, name) for one in requests] for name in names}
    trace = Trace.from_columns(arrival_s=[0.0, 1.0, 2.0], **columns)
    singly = sum(price.compute_charge_usd(one) for one in requests)
    assert compute_trace_charge_usd(trace, price) == singly
    month = Volume.from_summary(trace.compute_summary(), active_hours_per_month=2 / 3600)
    assert float(ApiOption.from_price(price, trace).compute_usd(month)) == pytest.approx(float(singly))


def test_the_charge_of_a_trace_is_the_sum_of_its_requests() -> None:
    steps = (
        PriceStep(
            above_input_tokens=200_000,
            input_usd_per_mtok=Decimal(2),
            output_usd_per_mtok=Decimal(6),
            cached_input_usd_per_mtok=Decimal("0.2"),
        ),
    )
    price = make_price(cached_input_usd_per_mtok=Decimal("0.1"), steps=steps, usd_per_request=Decimal("0.01"))
    trace = make_trace()
    rows = zip(
        trace.input_tokens.tolist(), trace.cached_input_tokens.tolist(), trace.output_tokens.tolist(), strict=True
    )
    singly = sum(
        price.compute_charge_usd(Usage(input_tokens=i, cached_input_tokens=c, output_tokens=o)) for i, c, o in rows
    )
    assert compute_trace_charge_usd(trace, price) == singly
    option = ApiOption.from_price(price, trace)
    volume = Volume(
        requests=3,
        input_tokens=600_000,
        cached_input_tokens=200_000,
        output_tokens=4000,
        peak_input_tokens_per_s=0,
        peak_output_tokens_per_s=0,
    )
    assert float(option.compute_usd(volume)) == pytest.approx(float(singly), rel=1e-12)


def test_a_price_with_steps_needs_the_lengths_of_requests() -> None:
    step = PriceStep(above_input_tokens=10, input_usd_per_mtok=Decimal(2), output_usd_per_mtok=Decimal(6))
    with pytest.raises(BadInput, match="steps"):
        ApiOption.from_price(make_price(steps=(step,)))
    assert ApiOption.from_price(make_price()).name == "m"
