"""Laws of a charge that hold for every price and every usage."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownward.core import BadInput, to_json
from ownward.pricing import Price, PriceStep, Usage, price_from_record

RATES = st.decimals(min_value=0, max_value=1000, places=6)
TOKENS = st.integers(min_value=0, max_value=10_000_000)


@st.composite
def usages(draw, largest=10_000_000):
    fresh, cached, written, out = (draw(st.integers(0, largest // 4)) for _ in range(4))
    return Usage(
        input_tokens=fresh + cached + written,
        output_tokens=out,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=draw(st.integers(0, written)),
    )


@st.composite
def prices(draw, *, with_steps=False):
    base = draw(RATES), draw(RATES), draw(st.none() | RATES), draw(st.none() | RATES), draw(st.none() | RATES)
    names = (
        "input_usd_per_mtok", "output_usd_per_mtok", "cached_input_usd_per_mtok",
        "cache_write_usd_per_mtok", "cache_write_1h_usd_per_mtok",
    )  # fmt: skip
    steps = []
    if with_steps:
        factor = Decimal(1)
        for above in sorted(draw(st.sets(st.integers(1, 5_000_000), max_size=3))):
            factor += draw(st.decimals(0, 2, places=2))
            rates = {n: None if r is None else r * factor for n, r in zip(names, base, strict=True)}
            steps.append(PriceStep(above_input_tokens=above, **rates))
    return Price(
        provider="p", model="m", **dict(zip(names, base, strict=True)), steps=tuple(steps),
        usd_per_request=draw(RATES), basis="assumed", source="hypothesis", checked_on=date(2026, 11, 1),
    )  # fmt: skip


def added(one: Usage, other: Usage) -> Usage:
    names = ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "cache_write_1h_tokens")
    return Usage(**{name: getattr(one, name) + getattr(other, name) for name in names})


@given(prices(), usages(), usages())
def test_charges_add_up_over_requests_below_a_step(price, one, other):
    """Two requests cost what their tokens together cost, and one fee more, to the picodollar."""
    together = price.compute_charge_picousd(added(one, other))
    fee = price.compute_charge_picousd(Usage(input_tokens=0, output_tokens=0))
    assert price.compute_charge_picousd(one) + price.compute_charge_picousd(other) == together + fee


@given(prices(with_steps=True), usages(), TOKENS, TOKENS)
def test_more_tokens_never_cost_less(price, usage, more_input, more_output):
    more = added(usage, Usage(input_tokens=more_input, output_tokens=more_output))
    assert price.compute_charge_usd(more) >= price.compute_charge_usd(usage)


@given(prices(with_steps=True), TOKENS, st.data())
def test_a_cached_token_is_never_dearer_where_its_price_is_not(price, input_tokens, data):
    cached = data.draw(st.integers(0, input_tokens))
    rates = price.rates_for(input_tokens)
    plain = price.compute_charge_usd(Usage(input_tokens=input_tokens, output_tokens=7))
    reused = price.compute_charge_usd(Usage(input_tokens=input_tokens, output_tokens=7, cached_input_tokens=cached))
    if rates.cached_input_usd_per_mtok is None:
        assert reused == plain
    elif rates.cached_input_usd_per_mtok <= rates.input_usd_per_mtok:
        assert reused <= plain


@given(prices(with_steps=True))
def test_nothing_used_costs_the_fee(price):
    assert price.compute_charge_usd(Usage(input_tokens=0, output_tokens=0)) == price.usd_per_request


@given(prices(), usages())
def test_picodollars_are_the_dollars_exactly(price, usage):
    """Prices of six decimals leave nothing to round."""
    assert Fraction(price.compute_charge_picousd(usage), 10**12) == Fraction(price.compute_charge_usd(usage))


@given(prices(with_steps=True))
def test_a_price_comes_back_from_its_record_and_keeps_its_name(price):
    record = json.loads(to_json(price))
    assert price_from_record(record) == price
    assert price_from_record(record).price_id == record["price_id"] == price.price_id


@given(prices())
def test_a_record_that_was_changed_is_not_the_price_it_names(price):
    record = json.loads(to_json(price))
    changed = {**record, "input_usd_per_mtok": str(Decimal(record["input_usd_per_mtok"]) + 1)}
    for wrong in (changed, {**record, "colour": "red"}, {**record, "basis": None}, {}):
        with pytest.raises(BadInput):
            price_from_record(wrong)
