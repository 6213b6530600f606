"""What the hot path charges in whole numbers is what the price says in decimals, to the picodollar."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from ownward.gateway.placing.bounds import ChargeBound
from ownward.pricing import Price, PriceStep, Usage

RATES = st.decimals(min_value=0, max_value=100, places=6) | st.decimals(min_value=0, max_value=100, places=9)
OPTIONAL = ("cached_input_usd_per_mtok", "cache_write_usd_per_mtok", "cache_write_1h_usd_per_mtok")
MAYBE = st.none() | RATES


@st.composite
def prices(draw: st.DrawFn) -> Price:
    starts = sorted(draw(st.sets(st.integers(1, 2000), max_size=2)))
    stated = dict.fromkeys(
        ("cached_input_usd_per_mtok", "cache_write_usd_per_mtok", "cache_write_1h_usd_per_mtok"), MAYBE
    )
    steps = tuple(
        PriceStep(
            above_input_tokens=start,
            input_usd_per_mtok=draw(RATES),
            output_usd_per_mtok=draw(RATES),
            **{name: draw(rate) for name, rate in stated.items()},
        )
        for start in starts
    )
    return Price(
        provider="p",
        model="m",
        input_usd_per_mtok=draw(RATES),
        output_usd_per_mtok=draw(RATES),
        usd_per_request=draw(
            st.sampled_from([Decimal(0), Decimal("0.005"), Decimal("0.0000000000001"), Decimal("0.0000000000007")])
        ),
        steps=steps,
        basis="assumed",
        source="tests",
        checked_on=date(2026, 11, 21),
        **{name: draw(rate) for name, rate in stated.items()},
    )


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    cached, written = draw(st.integers(0, 1000)), draw(st.integers(0, 1000))
    return Usage(
        input_tokens=cached + written + draw(st.integers(0, 1000)),
        output_tokens=draw(st.integers(0, 100_000)),
        cached_input_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=draw(st.integers(0, written)),
    )


@given(prices(), usages())
def test_a_charge_in_whole_numbers_is_the_charge_in_decimals(price: Price, usage: Usage) -> None:
    assert ChargeBound(price).compute_charge_picousd(usage) == price.compute_charge_picousd(usage)


@given(prices(), usages())
def test_no_charge_is_above_the_bound_on_its_tokens(price: Price, usage: Usage) -> None:
    bound = ChargeBound(price).compute_picousd(
        input_tokens_high=usage.input_tokens, output_tokens_high=usage.output_tokens
    )
    assert price.compute_charge_picousd(usage) <= bound


def test_a_part_of_a_picodollar_for_each_request_is_bounded_by_a_whole_one() -> None:
    price = Price(
        provider="p", model="m", input_usd_per_mtok=Decimal(0), output_usd_per_mtok=Decimal(0),
        usd_per_request=Decimal("0.0000000000007"), basis="assumed", source="tests", checked_on=date(2026, 11, 21),
    )  # fmt: skip
    assert ChargeBound(price).compute_picousd(input_tokens_high=1, output_tokens_high=1) == 1
