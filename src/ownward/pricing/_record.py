"""A price read back from the record that a ledger kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from ownward.core import BadInput
from ownward.pricing._price import Price, PriceStep

_DATES = ("valid_from", "valid_to", "checked_on")


def price_from_record(record: Mapping[str, Any]) -> Price:
    """Return the price that `core.to_json` wrote, so that old charges can be computed again.

    Raises: BadInput, if the record is not a price, or is not the price that its `price_id` names.
    """
    try:
        stated = {name: value for name, value in record.items() if name != "price_id"}
        steps = tuple(PriceStep(**_exact(step)) for step in stated.pop("steps", ()))
        days = {name: date.fromisoformat(stated.pop(name)) for name in _DATES if stated.get(name)}
        unknown = set(stated) - {field.name for field in fields(Price)}
        if unknown:
            raise BadInput(f"a price has no field {min(unknown)!r}")
        price = Price(**{**_exact(stated), **days}, steps=steps)
    except (TypeError, ValueError, KeyError, InvalidOperation) as error:
        raise BadInput(f"the record is not a price: {error}", next_step="Was it written by a later version?") from error
    if record.get("price_id", price.price_id) != price.price_id:
        raise BadInput(
            f"the record is named {record['price_id']!r} and its contents {price.price_id!r}",
            allowed="A price is never changed; a changed price is a new one",
        )
    return price


def _exact(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with every amount as a `Decimal`."""
    return {
        name: Decimal(value) if value is not None and name.endswith(("_per_mtok", "_per_request")) else value
        for name, value in stated.items()
    }
