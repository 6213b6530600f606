"""Two libraries that count cached tokens differently charge the same once each is fed its own way."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import model_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownward.core import MissingPrice, StalePrice
from ownward.pricing import PriceBook, Usage

AT = datetime(2026, 10, 22, 3, tzinfo=UTC)
BOOK = PriceBook.load()
GENAI = json.loads((Path(__file__).parent / "genai_prices_charges.json").read_text("utf-8"))
USAGES = [
    Usage(
        input_tokens=stated["input_tokens"],
        output_tokens=stated["output_tokens"],
        cached_input_tokens=stated.get("cache_read_tokens", 0),
    )
    for stated in GENAI["usages_with_cache_inside_input"]
]


def names():
    for provider, models in GENAI["charges_usd"].items():
        for model in models:
            try:
                price = BOOK.find(model, provider=provider, at=AT)
            except (MissingPrice, StalePrice):
                continue
            if price.model == model:
                yield provider, model


OVERLAP = list(names())


PER_IMAGE = "the package prices output as images, genai-prices as text"
# Where the two differ on 2026-10-22, with the reason as far as it is known; a reason that stops holding fails too.
KNOWN = {
    ("anthropic", "claude-sonnet-4-5"): "genai-prices adds a long-context tier",
    ("deepseek", "deepseek-chat"): "genai-prices is stale",
    ("deepseek", "deepseek-reasoner"): "genai-prices is stale",
    ("deepseek", "deepseek-v3.2"): "retired name; genai-prices knows no peak hours for it",
    ("google", "gemini-1.5-flash"): "retired; genai-prices adds a long-context tier",
    ("google", "gemini-1.5-pro"): "retired; genai-prices adds a long-context tier and no cached price",
    ("google", "gemini-2.5-flash-image"): PER_IMAGE,
    ("google", "gemini-3-pro-image-preview"): PER_IMAGE,
    ("google", "gemini-3.1-flash-image-preview"): PER_IMAGE,
    ("google", "gemini-3.1-flash-lite-image"): PER_IMAGE,
    ("google", "gemini-nano-banana-2.1"): PER_IMAGE,
    ("google", "gemini-omni-1.1-flash"): PER_IMAGE,
    ("google", "gemini-omni-flash-preview"): PER_IMAGE,
    ("mistral", "devstral-2512"): "genai-prices has a cached price",
    ("mistral", "mistral-embed"): "an embedding model has no output; genai-prices charges it",
    ("moonshotai", "kimi-k2-turbo-preview"): "two records of a changed price",
    ("openai", "gpt-3.5-turbo"): "model-prices has a cached price",
}


@pytest.mark.parametrize(("provider", "model"), OVERLAP)
def test_both_sources_charge_the_same_or_are_known_to_differ(provider, model):
    """genai-prices counts cached tokens inside the input; our price, read from model-prices, must agree."""
    price = BOOK.find(model, provider=provider, at=AT)
    ours = [price.compute_charge_usd(usage) for usage in USAGES]
    theirs = [Decimal(total) for total in GENAI["charges_usd"][provider][model]]
    assert (ours == theirs) is ((provider, model) not in KNOWN)


def test_the_overlap_is_worth_comparing():
    assert len(OVERLAP) > 120
    assert set(KNOWN) <= set(OVERLAP)


FIRST_PARTY = [
    (price, model_prices.rates(price.model, at=AT, provider=price.provider))
    for price in BOOK.search("", at=AT)
    if "model-prices" in price.source
]


@given(
    st.sampled_from(range(len(FIRST_PARTY))),
    st.tuples(*[st.integers(0, 400_000)] * 5),
)
def test_our_inclusive_counting_charges_what_exclusive_counting_does(which, counts):
    """model-prices leaves cached tokens out of the input; fed that way it charges what we do, to a float's error."""
    price, rates = FIRST_PARTY[which]
    fresh, cached, written, written_1h, output = counts
    usage = Usage.from_exclusive(
        input_tokens=fresh,
        cached_input_tokens=cached,
        cache_write_tokens=written + written_1h,
        cache_write_1h_tokens=written_1h,
        output_tokens=output,
    )
    theirs = rates.cost(fresh, output, cached, written, written_1h)
    assert float(price.compute_charge_usd(usage)) == pytest.approx(theirs, rel=1e-9, abs=1e-12)


def test_most_of_the_package_is_priced():
    assert len(FIRST_PARTY) > 450
