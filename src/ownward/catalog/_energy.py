"""What electricity costs and how much carbon it carries, by place: averages to start from, never a tariff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

from ownward.catalog._facts import FactTable, as_money, as_positive
from ownward.catalog._load import DATA, as_key, read_tables
from ownward.core import Sourced


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectricityPrice:
    """An average price of a kilowatt-hour at a place, in its own currency: `dated` says of when."""

    country: str
    region: str
    customer: str
    currency: str
    dated: str
    price_per_kwh: Sourced[Decimal]

    @property
    def usd_per_kwh(self) -> Decimal | None:
        """The price in dollars, None where it is in another currency: no rate is guessed."""
        return self.price_per_kwh.value if self.currency == "USD" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CarbonIntensity:
    """Grams of CO2 equivalent that a kilowatt-hour carries in a country, as a yearly average."""

    iso3: str
    country: str
    dated: str
    gco2e_per_kwh: Sourced[float]


def electricity(place: str = "", *, customer: str = "", extra: Sequence[Path] = ()) -> tuple[ElectricityPrice, ...]:
    """Return the prices whose country or region contains `place`, the user's own first.

    `customer` is `business`, `commercial` or `household`; empty means all.
    Raises: ConfigError, with file and line of every fault in the user's files.
    """
    wanted = place.strip().lower()
    return tuple(
        price
        for price in _electricity(as_key(extra))
        if wanted in f"{price.country}/{price.region}".lower() and customer.lower() in ("", price.customer)
    )


def carbon(place: str = "", *, extra: Sequence[Path] = ()) -> tuple[CarbonIntensity, ...]:
    """Return the intensities of the country with this ISO code, or whose name contains `place`; the user's own first.

    Raises: ConfigError, with file and line of every fault in the user's files.
    """
    wanted = place.strip().lower()
    found = _carbon(as_key(extra))
    exact = tuple(item for item in found if wanted and wanted in (item.iso3.lower(), item.country.lower()))
    return exact or tuple(item for item in found if wanted in item.country.lower())


@lru_cache(maxsize=8)
def _electricity(extra: tuple[Path, ...]) -> tuple[ElectricityPrice, ...]:
    return tuple(read_tables([*extra, DATA / "electricity"], "electricity", lambda table, _folder: _price(table)))


@lru_cache(maxsize=8)
def _carbon(extra: tuple[Path, ...]) -> tuple[CarbonIntensity, ...]:
    return tuple(read_tables([*extra, DATA / "carbon.toml"], "carbon", lambda table, _folder: _intensity(table)))


def _price(table: FactTable) -> ElectricityPrice:
    price = ElectricityPrice(
        country=table.need_text("country"),
        region=table.text("region"),
        customer=table.text("customer", "business"),
        currency=table.need_text("currency"),
        dated=table.text("dated"),
        price_per_kwh=table.need_fact("price_per_kwh", as_money, Decimal(0)),
    )
    table.close()
    return price


def _intensity(table: FactTable) -> CarbonIntensity:
    intensity = CarbonIntensity(
        iso3=table.need_text("iso3"),
        country=table.need_text("country"),
        dated=table.text("dated"),
        gco2e_per_kwh=table.need_fact("gco2e_per_kwh", as_positive, 0.0),
    )
    table.close()
    return intensity
