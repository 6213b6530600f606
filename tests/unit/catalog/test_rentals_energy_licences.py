"""Rental offers, electricity, carbon and licences: found by name and place, each with its source."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ownward import catalog
from ownward.core import ConfigError, UnknownName


def test_offers_of_a_gpu_come_cheapest_first_per_gpu():
    offers = catalog.rentals("H200")
    costs = [offer.usd_per_gpu_hour for offer in offers if offer.usd_per_gpu_hour is not None]
    assert costs
    assert costs == sorted(costs)
    assert {offer.machine for offer in offers} == {"h200-sxm-141gb"}


def test_an_instance_price_is_for_all_its_gpus():
    (offer,) = catalog.rentals("A100 40GB", provider="aws", region="us-east-1")
    assert offer.count == 8
    assert offer.usd_per_gpu_hour * 8 == offer.on_demand_usd_per_hour.value


def test_a_name_that_leaves_the_form_open_stays_open():
    offers = catalog.rentals("H100")
    assert {offer.machine for offer in offers} >= {None, "h100-sxm5-80gb", "h100-pcie-80gb"}


def test_offers_without_a_date_say_so():
    undated = [offer for offer in catalog.rentals() if not offer.dated and offer.on_demand_usd_per_hour]
    assert undated
    assert all("commit" in offer.on_demand_usd_per_hour.note for offer in undated)


def test_electricity_is_found_by_place_and_customer():
    (texas,) = catalog.electricity("texas", customer="commercial")
    assert texas.usd_per_kwh == texas.price_per_kwh.value
    (germany,) = catalog.electricity("germany", customer="household")
    assert germany.currency == "EUR"
    assert germany.usd_per_kwh is None
    assert len({price.region for price in catalog.electricity("united states")}) == 51


def test_carbon_is_found_by_code_or_name():
    assert catalog.carbon("DEU") == catalog.carbon("germany")
    assert 300 < catalog.carbon("DEU")[0].gco2e_per_kwh.value < 400
    assert "CC BY 4.0" in catalog.carbon("FRA")[0].gco2e_per_kwh.source


def test_the_users_tariff_goes_first(tmp_path):
    (tmp_path / "power.toml").write_text(
        '[[electricity]]\ncountry = "Germany"\ncustomer = "household"\ncurrency = "USD"\nprice_per_kwh = "0.31"\n'
        'basis = "price page"\nsource = "my bill"\nchecked_on = 2026-11-01\n'
    )
    assert catalog.electricity("germany", extra=[tmp_path])[0].usd_per_kwh == Decimal("0.31")


def test_a_rental_needs_a_price(tmp_path):
    (tmp_path / "r.toml").write_text('[[rental]]\nprovider = "me"\ngpu = "H100"\ncount = 1\n')
    with pytest.raises(ConfigError, match="on-demand and spot"):
        catalog.rentals(extra=[tmp_path])


def test_every_release_has_a_licence_that_is_described():
    known = {item.id for item in catalog.licences()}
    assert {model.licence.value for model in catalog.models() if model.licence} <= known
    with pytest.raises(UnknownName, match="apache"):
        catalog.licence("apache-2")


def test_thresholds_of_a_licence_are_numbers_with_what_follows():
    kimi = catalog.licence("kimi-k3")
    blocking = [limit for limit in kimi.limits if limit.blocks]
    assert [(limit.measure, limit.above, limit.business) for limit in blocking] == [
        ("annual_revenue_usd", 20_000_000, "model-as-a-service")
    ]
    assert catalog.licence("llama-4-community").excluded_regions == ("eu",)
    assert catalog.licence("minimax-m2.7-non-commercial").commercial.value == "forbidden"
    assert catalog.licence("apache-2.0").limits == ()


def test_a_licence_that_was_not_read_is_marked_assumed():
    assert catalog.licence("minimax-m2.7-non-commercial").gist.basis == "assumed"
    assert catalog.licence("minimax-m2.5-model").gist.basis == "datasheet"
