"""Chips that are sold in several memory sizes, of which the catalogue has one price: that of one size."""

from __future__ import annotations

from dataclasses import replace

from ownward.catalog import Machine


def as_priced(machine: Machine) -> Machine:
    """Return the machine in the size that its price is of."""
    size = machine.priced_memory_gb
    if size is None or machine.memory_label is None:
        return machine
    label = replace(machine.memory_label, value=f"{size} GB", note=f"the size that the price is of: {machine.note}")
    return replace(
        machine, name=f"{machine.name} {size}GB", memory_label=label, memory_bytes=None, label_is_largest=False
    )


def without_foreign_price(machine: Machine) -> Machine:
    """Return the machine without a price that is of another size: unknown, and so shown as unknown."""
    return machine if machine.priced_memory_gb is None else replace(machine, price_usd=None, price_kind=None)
