"""What a request costs at a price, and what a price refuses to be."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from ownward.core import BadInput
from ownward.pricing import Price, PriceStep, Usage


def price(**changes):
    facts = {
        "provider": "anywhere",
        "model": "m",
        "input_usd_per_mtok": Decimal(5),
        "output_usd_per_mtok": Decimal(30),
        "cached_input_usd_per_mtok": Decimal("0.5"),
        "cache_write_usd_per_mtok": Decimal("6.25"),
        "basis": "price page",
        "source": "a test",
        "checked_on": date(2026, 11, 1),
    }
    return Price(**{**facts, **changes})


def test_each_part_is_charged_at_its_own_rate():
    usage = Usage(input_tokens=1_000_000, output_tokens=10, cached_input_tokens=400_000, cache_write_tokens=100_000)
    # 500k fresh at 5, 400k cached at 0.5, 100k written at 6.25, 10 out at 30
    assert price().compute_charge_usd(usage) == Decimal("2.5") + Decimal("0.2") + Decimal("0.625") + Decimal("0.0003")


def test_an_unstated_cached_price_is_the_input_price():
    usage = Usage(input_tokens=1_000_000, output_tokens=0, cached_input_tokens=1_000_000)
    assert price(cached_input_usd_per_mtok=None).compute_charge_usd(usage) == 5


def test_one_hour_writes_have_their_own_price_or_the_write_price():
    usage = Usage(
        input_tokens=1_000_000, output_tokens=0, cache_write_tokens=1_000_000, cache_write_1h_tokens=1_000_000
    )
    assert price().compute_charge_usd(usage) == Decimal("6.25")
    assert price(cache_write_1h_usd_per_mtok=Decimal(10)).compute_charge_usd(usage) == 10


def test_a_step_reprices_the_whole_request_only_above_its_threshold():
    step = PriceStep(
        above_input_tokens=272_000, input_usd_per_mtok=Decimal(10), output_usd_per_mtok=Decimal(45),
        cached_input_usd_per_mtok=Decimal(1),
    )  # fmt: skip
    stepped = price(steps=(step,))
    assert stepped.compute_charge_usd(Usage(input_tokens=272_000, output_tokens=0)) == Decimal("1.36")
    assert stepped.compute_charge_usd(Usage(input_tokens=272_001, output_tokens=0)) == Decimal("2.72001")
    # the survey's own example: 50k fresh, 250k cached, 2k out at the long-context rates is 0.84
    long = Usage(input_tokens=300_000, cached_input_tokens=250_000, output_tokens=2_000)
    assert stepped.compute_charge_usd(long) == Decimal("0.84")


def test_zero_usage_costs_the_request_fee_or_nothing():
    nothing = Usage(input_tokens=0, output_tokens=0)
    assert price().compute_charge_picousd(nothing) == 0
    assert price(usd_per_request=Decimal("0.005")).compute_charge_picousd(nothing) == 5_000_000_000


def test_picodollars_round_once_half_to_even():
    tiny = price(input_usd_per_mtok=Decimal("0.0000005"))
    assert tiny.compute_charge_picousd(Usage(input_tokens=1, output_tokens=0)) == 0
    assert tiny.compute_charge_picousd(Usage(input_tokens=3, output_tokens=0)) == 2
    assert price().compute_charge_picousd(Usage(input_tokens=1, output_tokens=1)) == 35_000_000


def test_the_id_names_the_contents_and_not_their_spelling():
    assert price().price_id == price(input_usd_per_mtok=Decimal("5.000")).price_id
    others = [
        price(output_usd_per_mtok=Decimal(31)),
        price(valid_from=date(2026, 1, 1)),
        price(mode="batch"),
        price(source="another page"),
    ]
    assert len({price().price_id, *(other.price_id for other in others)}) == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_usd_per_mtok": Decimal(-1)},
        {"input_usd_per_mtok": Decimal("NaN")},
        {"output_usd_per_mtok": 0.6},
        {"basis": "hearsay"},
        {"source": " "},
        {"mode": "slow"},
        {"valid_from": date(2026, 1, 1), "valid_to": date(2026, 1, 1)},
    ],
)
def test_an_impossible_price_is_refused(wrong):
    with pytest.raises(BadInput):
        price(**wrong)


def test_a_price_holds_from_its_first_day_to_before_its_last():
    spring = price(valid_from=date(2026, 3, 1), valid_to=date(2026, 6, 1))
    assert not spring.holds_on(date(2026, 2, 28))
    assert spring.holds_on(date(2026, 3, 1))
    assert not spring.holds_on(date(2026, 6, 1))


@pytest.mark.parametrize(
    "counts",
    [
        {"input_tokens": -1, "output_tokens": 0},
        {"input_tokens": 5, "output_tokens": 0, "cached_input_tokens": 6},
        {"input_tokens": 5, "output_tokens": 0, "cached_input_tokens": 3, "cache_write_tokens": 3},
        {"input_tokens": 5, "output_tokens": 0, "cache_write_1h_tokens": 1},
        {"input_tokens": 5, "output_tokens": 1, "reasoning_tokens": 2},
    ],
)
def test_impossible_counts_are_refused(counts):
    with pytest.raises(BadInput):
        Usage(**counts)


def test_counts_beside_the_cache_are_brought_inside():
    usage = Usage.from_exclusive(
        input_tokens=50, output_tokens=2, cached_input_tokens=250, cache_write_tokens=10, cache_write_1h_tokens=4
    )
    assert (usage.input_tokens, usage.fresh_input_tokens, usage.total_tokens) == (310, 50, 312)
