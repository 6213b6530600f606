"""Chips that are sold in several memory sizes, of which the catalogue has one price: that of one size."""

from __future__ import annotations

import re
from dataclasses import replace

from ownward.catalog import Machine

_PRICED_SIZE = re.compile(r"price is for (\d+) ?GB")


def priced_size_gb(machine: Machine) -> int | None:
    """Return the memory size that the price is of, where that is not the size of the machine; None where it is."""
    stated = _PRICED_SIZE.search(machine.note)
    if stated is None or machine.price_usd is None or machine.price_kind == "yours":
        return None
    size = int(stated[1])
    return None if machine.memory_label_gb == size else size


def as_priced(machine: Machine) -> Machine:
    """Return the machine in the size that its price is of."""
    size = priced_size_gb(machine)
    if size is None or machine.memory_label is None:
        return machine
    label = replace(machine.memory_label, value=f"{size} GB", note=f"the size that the price is of: {machine.note}")
    return replace(
        machine, name=f"{machine.name} {size}GB", memory_label=label, memory_bytes=None, label_is_largest=False
    )


def without_foreign_price(machine: Machine) -> Machine:
    """Return the machine without a price that is of another size: unknown, and so shown as unknown."""
    return machine if priced_size_gb(machine) is None else replace(machine, price_usd=None, price_kind=None)
