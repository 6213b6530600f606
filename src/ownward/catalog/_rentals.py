"""Offers of rented instances with GPUs, by provider and region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

from ownward.catalog._facts import FactTable, as_money
from ownward.catalog._load import DATA, as_key, read_tables
from ownward.catalog._machines import machine
from ownward.catalog._names import has_words
from ownward.core import Sourced, UnknownMachine


@dataclass(frozen=True, slots=True, kw_only=True)
class Rental:
    """One instance type: its price is for the whole instance, with `count` GPUs.

    `gpu` is the provider's name; `machine` the catalogue's id where the name
    leaves no doubt, None where it does (`H100` may be PCIe or SXM).
    """

    provider: str
    region: str
    instance: str
    gpu: str
    machine: str | None
    count: int
    dated: str
    on_demand_usd_per_hour: Sourced[Decimal] | None
    spot_usd_per_hour: Sourced[Decimal] | None

    @property
    def usd_per_gpu_hour(self) -> Decimal | None:
        """The on-demand price of one of its GPUs, None where only spot is offered."""
        return None if self.on_demand_usd_per_hour is None else self.on_demand_usd_per_hour.value / self.count


def rentals(gpu: str = "", *, provider: str = "", region: str = "", extra: Sequence[Path] = ()) -> tuple[Rental, ...]:
    """Return the offers of a GPU (a catalogue name, or part of the provider's name), the cheapest GPU-hour first.

    Raises: ConfigError, with file and line of every fault in the user's files.
    """
    meant = _meant(gpu, extra)
    found = [
        offer
        for offer in _rentals(as_key(extra))
        if (offer.machine in meant or has_words(offer.gpu, gpu))
        and provider.lower() in offer.provider.lower()
        and region.lower() in offer.region.lower()
    ]
    dearest = Decimal("Infinity")
    return tuple(sorted(found, key=lambda offer: (offer.usd_per_gpu_hour or dearest, offer.provider, offer.instance)))


def _meant(gpu: str, extra: Sequence[Path]) -> tuple[str, ...]:
    if not gpu:
        return ()
    try:
        return (machine(gpu, extra).id,)
    except UnknownMachine as error:
        return error.closest if "can mean" in error.message else ()


@lru_cache(maxsize=8)
def _rentals(extra: tuple[Path, ...]) -> tuple[Rental, ...]:
    return tuple(read_tables([*extra, DATA / "rentals.toml"], "rental", lambda table, _folder: _read(table)))


def _read(table: FactTable) -> Rental:
    count = table.raw("count")
    if not isinstance(count, int) or count < 1:
        table.fault("count", f"is {count!r}", allowed="How many GPUs the instance has, 1 or more")
        count = 1
    rental = Rental(
        provider=table.need_text("provider"),
        region=table.text("region"),
        instance=table.text("instance"),
        gpu=table.need_text("gpu"),
        machine=table.text("machine") or None,
        count=count,
        dated=table.text("dated"),
        on_demand_usd_per_hour=table.fact("on_demand_usd_per_hour", as_money),
        spot_usd_per_hour=table.fact("spot_usd_per_hour", as_money),
    )
    if rental.on_demand_usd_per_hour is None and rental.spot_usd_per_hour is None:
        table.fault("on_demand_usd_per_hour", "is not stated", allowed="One of on-demand and spot is needed")
    table.close()
    return rental
