"""What to buy for a budget: every priced machine tried, alone and in numbers, and those that nothing beats."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any

from ownward.anatomy import Anatomy
from ownward.catalog import Machine
from ownward.economics import Assumptions
from ownward.planner._fit import READING_TOKENS_PER_S, WIDE_ENOUGH_BITS, FitOption, fit, worth_of
from ownward.planner._placement import Host
from ownward.planner._priced import as_priced

HOST_USD = Decimal(800)
"""What a computer around a card or two is taken to cost, where nobody says: a default to be replaced by a quote."""

_COUNTS = (1, 2, 3, 4)
# A board for more cards than two is of another class: taken as twice the price.
_CARDS_ON_A_COMMON_BOARD = 2
# Modules for a server's own board plug into nothing that one can buy singly.
_MODULE = re.compile(r"\b(SXM\d?|OAM)\b")
_COMPUTES = ("gpu-consumer", "gpu-workstation", "gpu-datacenter", "soc-unified")


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """Machines within a budget and the best that runs on them.

    `devices_usd` is the price of all devices, of the kind and date that the catalogue states; `host_usd` the computer
    around them, 0 where the machine is one itself. `option` is what runs there, or None where nothing does.
    """

    machine: Machine
    count: int
    devices_usd: Decimal
    host_usd: Decimal
    option: FitOption

    @property
    def total_usd(self) -> Decimal:
        """What one pays."""
        return self.devices_usd + self.host_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Purchases that no other beats in price, quality and speed at once, cheapest first; and what was left out.

    `above_budget` is the cheapest that runs what was asked, where nothing within the budget does. `unpriced` are
    machines that would run it and have no price here. `best` runs the best of what was asked, or the fastest of
    equals, whatever it costs within the budget.
    """

    budget_usd: Decimal
    purchases: tuple[Purchase, ...]
    best: Purchase | None
    above_budget: Purchase | None
    unpriced: tuple[FitOption, ...]
    tried: int


def advise(
    anatomies: Sequence[Anatomy],
    *,
    machines: Sequence[Machine],
    budget_usd: Decimal,
    host_usd: Decimal = HOST_USD,
    host: Host | None = None,
    engine: str | None = None,
    formats: Sequence[str] = (),
    context_tokens: int = 8192,
    concurrency: int = 1,
    kv_type: str = "bf16",
    assumptions: Assumptions | None = None,
    merits: Mapping[str, float] | None = None,
    at: date,
) -> Advice:
    """Return what to buy to run the models of `anatomies`, all else as in `fit`.

    Without `merits` each of the models is wanted for itself, and speed and width of weights decide. With `merits`
    the best model that the money runs is wanted: the worth of the model decides first. Modules for a server's board
    (SXM, OAM) and processors alone are not tried. The computer around three or four cards is taken as twice
    `host_usd`.
    """
    worth = merits or {}
    ordered = list(anatomies) if merits is None else sorted(anatomies, key=lambda one: -worth.get(one.name, 0.0))
    best_on = partial(
        _best_on,
        ordered,
        worth,
        host=host,
        engine=engine,
        formats=formats,
        context_tokens=context_tokens,
        concurrency=concurrency,
        kv_type=kv_type,
        assumptions=assumptions,
        at=at,
    )
    found: list[Purchase] = []
    dearer: list[Purchase] = []
    unpriced: list[FitOption] = []
    tried = 0
    for listed in machines:
        machine = as_priced(listed)
        if machine.kind not in _COMPUTES or machine.bandwidth_bytes_per_s is None or _MODULE.search(machine.name):
            continue
        if machine.price_usd is None:
            if merits is None and (option := best_on(machine, 1)) is not None:
                unpriced.append(option)
            continue
        for count in _COUNTS[:1] if machine.is_whole_computer else _COUNTS:
            devices = machine.price_usd.value * count
            around = Decimal(0) if machine.is_whole_computer else host_usd * (1 + (count > _CARDS_ON_A_COMMON_BOARD))
            is_within = devices + around <= budget_usd
            if not is_within and (count > 1 or merits is not None):
                break
            tried += is_within
            option = best_on(machine, count)
            if option is not None:
                purchase = Purchase(machine=machine, count=count, devices_usd=devices, host_usd=around, option=option)
                (found if is_within else dearer).append(purchase)

    kept = [one for one in found if not any(_beats(other, one, worth) for other in found)]
    kept.sort(key=lambda one: (one.total_usd, one.machine.id))
    return Advice(
        budget_usd=budget_usd,
        purchases=tuple(kept),
        best=max(kept, key=lambda one: _value(one.option, worth), default=None),
        above_budget=None if found else min(dearer, key=lambda one: one.total_usd, default=None),
        unpriced=tuple(sorted(unpriced, key=_shop_order)),
        tried=tried,
    )


def _best_on(
    anatomies: Sequence[Anatomy],
    merits: Mapping[str, float],
    machine: Machine,
    count: int,
    *,
    host: Host | None,
    **arguments: Any,
) -> FitOption | None:
    """Return the best that fits on `count` machines; `anatomies` are tried in their order, the best by `merits` first.

    `arguments` are keywords of `fit`.
    """
    best: FitOption | None = None
    behind = None if machine.is_whole_computer else host
    for anatomy in anatomies:
        if best is not None and _value(best, merits)[:2] >= (1, merits.get(anatomy.name, 0.0)):
            break  # no width of its weights makes a lesser model the better one
        found = fit([anatomy], machine=machine, machines_count=count, host=behind, **arguments)
        if found and found[0].fits and (best is None or _value(found[0], merits) > _value(best, merits)):
            best = found[0]
    return best


def _shop_order(option: FitOption) -> tuple[bool, float]:
    """Return the order in which machines without a price are named: what people buy singly, then by speed."""
    return option.conditions.machine.kind == "gpu-datacenter", -(option.decode_tokens_per_s.value or 0.0)


def _beats(other: Purchase, one: Purchase, merits: Mapping[str, float]) -> bool:
    """Return whether `other` costs no more and is no worse in anything, and better in something."""
    theirs, ours = _quality_and_speed(other, merits), _quality_and_speed(one, merits)
    if other.total_usd > one.total_usd or any(left < right for left, right in zip(theirs, ours, strict=True)):
        return False
    return theirs != ours or other.total_usd < one.total_usd or other.machine.id < one.machine.id


def _value(option: FitOption, merits: Mapping[str, float]) -> tuple[int, float, float, float]:
    """Return what decides between options: fast enough to read along, then worth, width of the weights, speed."""
    speed = option.decode_tokens_per_s.value or 0.0
    width = min(option.bits, WIDE_ENOUGH_BITS)
    return int(speed >= READING_TOKENS_PER_S), worth_of(option, merits), width, speed


def _quality_and_speed(one: Purchase, merits: Mapping[str, float]) -> tuple[float, float]:
    """Return the worth of what runs and its speed: of the model, or of its weights where the model is given."""
    speed = one.option.decode_tokens_per_s.value or 0.0
    width = min(one.option.bits, WIDE_ENOUGH_BITS)
    return worth_of(one.option, merits) if merits else width, speed
