"""Prices of makers' own APIs, from the `model-prices` package as it is installed; it is never asked to refresh."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from ownward.core import BadInput, MissingPrice, StalePrice
from ownward.pricing._price import Price, PriceMode, PriceStep

# Names of providers as people write them, and as the package does.
_PROVIDERS = {
    "claude": "anthropic",
    "dashscope": "alibaba",
    "gemini": "google",
    "kimi": "moonshotai",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "qwen": "alibaba",
    "x-ai": "xai",
    "z.ai": "zai",
    "zhipu": "zai",
}
# Rates in the package have at most this many decimals; more are a float's noise after a peak multiple.
_DECIMALS = 9


def find_first_party(model: str, provider: str | None, at: datetime, mode: PriceMode) -> Price | None:
    """Return the price in force at `at`, None if the package does not know the model at that provider.

    Raises: StalePrice, if the package's first record of the model is later than `at`; MissingPrice, if it
    records zero without a document that says so, or has no rate in this mode.
    """
    import model_prices

    wanted = None if provider is None else _PROVIDERS.get(provider.lower(), provider.lower())
    resolved = model_prices.resolve_details(model, wanted)
    if resolved is None or (wanted is not None and resolved[0] != wanted):
        return None
    prefix = model.rpartition("/")[0]
    if prefix and _PROVIDERS.get(prefix.lower(), prefix.lower()) != resolved[0]:
        return None  # the package looks past a prefix; another seller's price is another price
    rates = model_prices.rates(model, at=at, provider=wanted, mode=None if mode == "standard" else mode)
    if rates is None:
        raise MissingPrice(
            f"model-prices knows {resolved[1]!r} at {resolved[0]!r} but no {mode} price of it at {at.date()}",
            next_step="State the price in a file of your own ([[price]])",
        )
    begins = datetime.fromisoformat(rates.valid_from)
    begins = begins.replace(tzinfo=UTC) if begins.tzinfo is None else begins
    if at.date() < begins.date():
        raise StalePrice(
            f"the first price known of {resolved[1]!r} at {resolved[0]!r} holds from {begins.date()}, later than "
            f"{at.date()}",
            next_step="Ask for a later date with --at, or state the old price in a file of your own ([[price]])",
        )
    if not rates.input and not rates.output and rates.valid_from_basis != "documented":
        raise MissingPrice(
            f"model-prices records 0 for {resolved[1]!r} at {resolved[0]!r} without a document that calls it free",
            next_step="If it is free for you, say so in a file of your own: [[price]] with free = true",
        )
    return _as_price(rates, mode, begins.date(), _end_of(rates, wanted, at, mode))


def is_first_party(provider: str) -> bool:
    """Return whether the package prices this provider, under its own name or a common one."""
    return _PROVIDERS.get(provider.lower(), provider.lower()) in _listing()


def all_first_party() -> Iterator[tuple[str, str]]:
    """Yield provider and model of everything the package prices."""
    for provider, models in _listing().items():
        for model in models:
            yield provider, model


def data_day() -> date:
    """Return the day up to which the package's data reaches."""
    import model_prices

    day: date = model_prices.data_as_of().date()
    return day


def data_basis() -> str:
    """Return the package's own name of its data, for the record."""
    import model_prices

    return str(model_prices.pricing_basis())


@lru_cache(maxsize=1)
def _listing() -> dict[str, list[str]]:
    """Return model ids by provider, from the package's bundled snapshot.

    Raises: BadInput, if its format is not the one known.
    """
    from importlib.resources import files

    try:
        snapshot = json.loads(files("model_prices").joinpath("snapshot.json").read_bytes())
        return {provider: sorted(models) for provider, models in sorted(snapshot["prices"].items())}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BadInput(
            f"the list of models in the package model-prices cannot be read: {error}",
            next_step="Install the version that constraints.txt names",
        ) from error


def _end_of(rates: Any, provider: str | None, at: datetime, mode: PriceMode) -> date | None:
    """Return the day the next standard price begins; None where none is known or rates change within the day."""
    import model_prices

    if mode != "standard" or rates.period is not None:
        return None
    end = max(model_prices.data_as_of(), at) + timedelta(days=1)
    for begins, later in model_prices.rates_between(rates.model, at, end, provider=provider or rates.provider):
        if begins > at and later.price_key() != rates.price_key():
            day: date = begins.date()
            return day if day > at.date() else None
    return None


def _as_price(rates: Any, mode: PriceMode, valid_from: date, valid_to: date | None) -> Price:
    multiple = rates.cache_write_1h_multiple
    notes = [f"dated by {rates.valid_from_basis}"]
    if rates.removed_suffix:
        notes.append(f"price of the related name {rates.model!r}, without {rates.removed_suffix!r}")
    if rates.period:
        notes.append(f"{rates.period} hours")
    return Price(
        provider=rates.provider,
        model=rates.model,
        input_usd_per_mtok=_exact(rates.input),
        output_usd_per_mtok=_exact(rates.output),
        cached_input_usd_per_mtok=_maybe(rates.cache_read),
        cache_write_usd_per_mtok=_maybe(rates.cache_write),
        cache_write_1h_usd_per_mtok=None if multiple is None else _exact(rates.input * multiple),
        steps=_steps(rates),
        mode=mode,
        period=None if rates.period == "standard" else rates.period,
        valid_from=valid_from,
        valid_to=valid_to,
        basis="price page",
        source=f"{rates.source} (via {data_basis()})",
        checked_on=data_day(),
        note="; ".join(notes),
    )


def _steps(rates: Any) -> tuple[PriceStep, ...]:
    """Return the tiers with every rate written out: a tier that states none keeps the rate below it."""
    kept = {"input": rates.input, "output": rates.output, "cache_read": rates.cache_read}
    kept["cache_write"] = rates.cache_write
    multiple = rates.cache_write_1h_multiple
    steps = []
    for tier in sorted(rates.tiers, key=lambda tier: tier.above):
        kept.update({name: getattr(tier, name) for name in kept if getattr(tier, name) is not None})
        steps.append(
            PriceStep(
                above_input_tokens=tier.above,
                input_usd_per_mtok=_exact(kept["input"]),
                output_usd_per_mtok=_exact(kept["output"]),
                cached_input_usd_per_mtok=_maybe(kept["cache_read"]),
                cache_write_usd_per_mtok=_maybe(kept["cache_write"]),
                cache_write_1h_usd_per_mtok=None if multiple is None else _exact(kept["input"] * multiple),
            )
        )
    return tuple(steps)


def _exact(rate: float) -> Decimal:
    return Decimal(repr(round(rate, _DECIMALS)))


def _maybe(rate: float | None) -> Decimal | None:
    return None if rate is None else _exact(rate)
