"""Which price holds for a model, at a provider, on a day."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from ownward.core import BadInput, ConfigError, MissingPrice, StalePrice, UnknownModel
from ownward.pricing import Price, PriceBook, Usage, prices_from_toml

NOV = date(2026, 11, 20)
BOOK = PriceBook.load()


def stated(**changes):
    facts = {
        "provider": "openai",
        "model": "gpt-4o",
        "input_usd_per_mtok": Decimal(1),
        "output_usd_per_mtok": Decimal(2),
        "basis": "price page",
        "source": "our contract",
        "checked_on": date(2026, 1, 1),
    }
    return Price(**{**facts, **changes})


def test_a_makers_own_api_is_priced_with_cache_steps_and_source():
    price = BOOK.find("gpt-5.6-sol", at=date(2026, 8, 20))
    assert (price.provider, price.input_usd_per_mtok, price.output_usd_per_mtok) == ("openai", 5, 30)
    assert (price.cached_input_usd_per_mtok, price.cache_write_usd_per_mtok) == (Decimal("0.5"), Decimal("6.25"))
    assert price.cache_write_1h_usd_per_mtok == Decimal("12.5")
    assert price.steps[0].above_input_tokens == 272_000
    assert "model-prices-" in price.source
    assert price.basis == "price page"


def test_a_changed_price_is_a_new_row_and_the_old_one_stays():
    before = BOOK.find("gpt-5.6-sol", at=date(2026, 8, 20))
    after = BOOK.find("gpt-5.6-sol", at=date(2026, 8, 21))
    assert before.input_usd_per_mtok > after.input_usd_per_mtok
    assert before.valid_to == after.valid_from == date(2026, 8, 21)
    assert before.price_id != after.price_id


def test_the_survey_example_costs_what_it_says():
    """The documented example: 50k fresh, 250k cached and 2k out is 0.84 USD at the long-context rates."""
    usage = Usage.from_exclusive(input_tokens=50_000, cached_input_tokens=250_000, output_tokens=2_000)
    assert BOOK.find("gpt-5.6-sol", at=date(2026, 8, 20)).compute_charge_usd(usage) == Decimal("0.84")


def test_batch_is_a_mode_with_its_own_price():
    standard, batch = (BOOK.find("gpt-5.6-sol", at=NOV, mode=mode) for mode in ("standard", "batch"))
    assert batch.input_usd_per_mtok * 2 == standard.input_usd_per_mtok
    with pytest.raises(MissingPrice, match="no batch price"):
        BOOK.find("groq/llama-3.3-70b-versatile", at=NOV, mode="batch")


def test_peak_hours_cost_more_on_working_days_and_not_on_saturdays():
    at = {"peak": datetime(2026, 10, 21, 2, tzinfo=UTC), "saturday": datetime(2026, 10, 24, 2, tzinfo=UTC)}
    peak, weekend = (BOOK.find("deepseek-chat", at=moment) for moment in at.values())
    assert (peak.period, weekend.period) == ("peak", "off_peak")
    assert peak.input_usd_per_mtok > weekend.input_usd_per_mtok


@pytest.mark.parametrize("name", ["groq/llama-3.3-70b-versatile", "llama-3.3-70b-versatile"])
def test_a_host_is_named_or_the_only_one(name):
    price = BOOK.find(name, at=NOV)
    assert (price.provider, price.input_usd_per_mtok, price.output_usd_per_mtok) == (
        "groq",
        Decimal("0.59"),
        Decimal("0.79"),
    )
    assert "genai-prices" in price.source


def test_hosts_are_known_by_the_names_other_tools_use():
    named = BOOK.find("together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo", at=NOV)
    assert named == BOOK.find("meta-llama/Llama-3.3-70B-Instruct-Turbo", provider="together", at=NOV)


@pytest.mark.parametrize("name", ["gpt-oss-120b", "openai/gpt-oss-120b"])
def test_a_model_of_several_hosts_needs_the_host_named(name):
    with pytest.raises(MissingPrice, match="Name one: "):
        BOOK.find(name, at=NOV)
    assert BOOK.find("openai/gpt-oss-120b", provider="groq", at=NOV).input_usd_per_mtok > 0


@pytest.mark.parametrize("unknown", ["claude-opus-6", "gpt-5.9", "kimi-k4", "no such model", "groq/gpt-4o"])
def test_an_unknown_model_is_an_error_and_never_free(unknown):
    with pytest.raises(MissingPrice):
        BOOK.find(unknown, at=NOV)


def test_an_error_names_the_closest_and_the_way_out():
    with pytest.raises(MissingPrice, match=r"claude-opus-5.*State it in a file of your own"):
        BOOK.find("claude-opus-6", at=NOV)


def test_a_date_before_the_first_record_is_stale():
    with pytest.raises(StalePrice, match="later than 2020-01-01"):
        BOOK.find("gpt-4o", at=date(2020, 1, 1))


def test_the_users_price_goes_first_while_it_holds():
    spring = stated(valid_from=date(2026, 3, 1), valid_to=date(2026, 6, 1))
    book = PriceBook.load([spring])
    assert book.find("gpt-4o", at=date(2026, 4, 1)) is spring
    assert book.find("openai/GPT-4o", at=date(2026, 4, 1)) is spring
    assert book.find("gpt-4o", at=NOV).source != "our contract"


def test_of_overlapping_overrides_the_later_one_counts():
    old, correction = stated(valid_from=date(2026, 1, 1)), stated(valid_from=date(2026, 2, 1), note="corrected")
    assert PriceBook.load([correction, old]).find("gpt-4o", at=NOV) is correction


def test_overrides_that_contradict_each_other_are_refused_and_equal_ones_are_not():
    one, other = stated(input_usd_per_mtok=Decimal(1)), stated(input_usd_per_mtok=Decimal(9), source="another contract")
    with pytest.raises(BadInput, match="'our contract', one from 'another contract'"):
        PriceBook.load([one, other]).find("gpt-4o", at=NOV)
    again = stated(input_usd_per_mtok=Decimal(1), source="another contract")
    assert PriceBook.load([one, again]).find("gpt-4o", at=NOV) is one


def test_overrides_of_two_providers_need_the_provider_named_unless_one_is_the_maker():
    maker, reseller, third = stated(), stated(provider="reseller"), stated(provider="third")
    assert PriceBook.load([reseller, maker]).find("gpt-4o", at=NOV) is maker
    with pytest.raises(MissingPrice, match="at 2 providers") as caught:
        PriceBook.load([reseller, third]).find("gpt-4o", at=NOV)
    assert caught.value.allowed == "Name one: reseller/gpt-4o, third/gpt-4o"
    assert PriceBook.load([reseller, third]).find("third/gpt-4o", at=NOV) is third


def test_offers_of_a_catalogue_model_come_cheapest_first_and_never_free():
    offers = BOOK.hosts("llama-3.3-70b", at=NOV)
    usage = Usage(input_tokens=3_000, output_tokens=1_000)
    charges = [offer.compute_charge_usd(usage) for offer in offers]
    assert len(offers) > 5
    assert charges == sorted(charges)
    assert charges[0] > 0
    assert any(
        offer.is_free and "limited" in offer.note for offer in BOOK.hosts("llama-3.3-70b", at=NOV, include_free=True)
    )
    assert BOOK.hosts("smollm2-135m", at=NOV) == []
    assert BOOK.hosts("meta-llama/Llama-3.3-70B-Instruct", at=NOV) == offers
    with pytest.raises(UnknownModel):
        BOOK.hosts("no such model", at=NOV)


def test_search_finds_makers_hosts_and_own_prices():
    found = PriceBook.load([stated(model="my-gpt-4o")]).search("gpt-4o", limit=50)
    assert found[0].model == "my-gpt-4o"
    assert {"openai", "openrouter"} <= {price.provider for price in found}
    assert BOOK.search("groq qwen3-32b")[0].model == "qwen/qwen3-32b"
    assert BOOK.search("nothing like it") == []


def test_history_is_every_dated_row_of_a_host():
    rows = BOOK.history("deepseek/deepseek-v4-flash", provider="avian")
    assert len(rows) == 2
    assert rows[0].valid_to == rows[1].valid_from == date(2026, 10, 18)


GOOD = """
[[price]]
provider = "my-host"
model = "qwen3-32b"
basis = "price page"
source = "their contract"
checked_on = 2026-11-01
input_usd_per_mtok = "0.10"
output_usd_per_mtok = 0.3
cached_input_usd_per_mtok = "0.05"
valid_from = 2026-01-01
steps = [{ above_input_tokens = 32000, input_usd_per_mtok = "0.2", output_usd_per_mtok = "0.6" }]
"""


def test_prices_in_a_file_are_exact_and_complete():
    (price,) = prices_from_toml(GOOD)
    assert price.output_usd_per_mtok == Decimal("0.3")
    assert price.steps[0].input_usd_per_mtok == Decimal("0.2")
    assert PriceBook.load([price]).find("my-host/qwen3-32b", at=NOV) is price


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ('source = "their contract"\n', "", "no valid source"),
        ("output_usd_per_mtok = 0.3\n", "", "output_usd_per_mtok is missing"),
        ('"0.10"', '"cheap"', "input_usd_per_mtok is 'cheap'"),
        ('"0.05"', "-1", "cached_input_usd_per_mtok is -1"),
        ("valid_from = 2026-01-01", 'valid_from = "spring"', "valid_from is 'spring'"),
        ("above_input_tokens = 32000", "above = 32000", "steps has"),
        ("valid_from", "vaild_from", "Closest: 'valid_from'"),
        ("valid_from = 2026-01-01", "valid_to = 2026-01-01\nvalid_from = 2026-01-01", "holds from"),
    ],
)
def test_a_stated_price_that_is_not_right_is_refused(was, now, says):
    with pytest.raises(ConfigError) as caught:
        prices_from_toml(GOOD.replace(was, now), file="prices.toml")
    assert any(says in str(fault) and fault.line for fault in caught.value.faults)


def test_zero_is_only_a_price_where_it_is_said_to_be_free():
    zero = GOOD.replace('"0.10"', "0").replace("= 0.3", "= 0").replace('"0.05"', "0")
    with pytest.raises(ConfigError, match="free = true"):
        prices_from_toml(zero)
    free = zero.replace("[[price]]", "[[price]]\nfree = true").replace('"0.2"', "0").replace('"0.6"', "0")
    assert prices_from_toml(free)[0].is_free


@pytest.mark.parametrize("name", ["nonsense/gpt-4o", "azure/gpt-4o"])
def test_another_sellers_model_is_not_priced_as_its_makers(name: str) -> None:
    """The maker's price of a model says nothing of what somebody else asks for it."""
    with pytest.raises(MissingPrice):
        PriceBook.load().find(name, at=date(2026, 11, 21))
