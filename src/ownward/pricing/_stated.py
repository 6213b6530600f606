"""Prices that the user states: `[[price]]` tables with basis, source and day like every other fact."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ownward.core import BadInput
from ownward.pricing._price import Price, PriceMode, PriceStep

if TYPE_CHECKING:
    from ownward.catalog import FactTable  # loaded when a file is read: a gateway that only charges does not need it

_RATES = (
    "input_usd_per_mtok",
    "output_usd_per_mtok",
    "cached_input_usd_per_mtok",
    "cache_write_usd_per_mtok",
    "cache_write_1h_usd_per_mtok",
)


def load_prices(paths: Sequence[Path]) -> tuple[Price, ...]:
    """Return the prices of the user's files, or of the TOML files in folders, for `PriceBook.load`.

    Raises: ConfigError, with file and line of every fault.
    """
    from ownward.catalog import read_tables

    found = read_tables(paths, "price", lambda table, _folder: _read_price(table))
    return tuple(price for price in found if price is not None)


def prices_from_toml(text: str, *, file: str = "prices.toml") -> tuple[Price, ...]:
    """Return the prices of one TOML text.

    Raises: ConfigError, with the line of every fault.
    """
    from ownward.catalog import FactFile

    facts = FactFile(text, file=file, kinds=("price",))
    found = [_read_price(table) for table in facts.tables("price")]
    facts.check()
    return tuple(price for price in found if price is not None)


def _read_price(table: FactTable) -> Price | None:
    """Return the price of one table; None, with the faults noted, where it is not right."""
    provider, model = table.need_text("provider"), table.need_text("model")
    rates = {name: _rate(table, name, table.raw(name)) for name in _RATES}
    for name in _RATES[:2]:
        if rates[name] is None:
            table.fault(name, "is missing or not valid", allowed='USD per million tokens, such as "0.15"')
    is_free = table.flag("free")
    if not is_free and not any(rate for rate in rates.values()):
        table.fault("input_usd_per_mtok", "and every other rate is 0", allowed="A free model says so: free = true")
    mode = table.text("mode", "standard")
    if mode not in get_args(PriceMode):
        table.fault("mode", f"is {mode!r}", allowed=f"One of {', '.join(get_args(PriceMode))}")
    fee = _rate(table, "usd_per_request", table.raw("usd_per_request"))
    steps = _steps(table)
    valid_from, valid_to = _day(table, "valid_from"), _day(table, "valid_to")
    period = table.text("period") or None
    note = table.text("note")
    provenance = table.provenance()
    table.close()
    if provenance is None or rates["input_usd_per_mtok"] is None or rates["output_usd_per_mtok"] is None:
        return None
    basis, source, checked_on = provenance
    try:
        return Price(
            provider=provider,
            model=model,
            **rates,  # type: ignore[arg-type]  # input and output are there, see above
            usd_per_request=fee or Decimal(0),
            steps=steps,
            mode=mode,  # type: ignore[arg-type]  # checked above; the fault is raised before anyone sees it
            period=period,
            valid_from=valid_from,
            valid_to=valid_to,
            basis=basis,
            source=source,
            checked_on=checked_on,
            note=note,
        )
    except BadInput as error:
        table.fault(None, error.message, allowed=error.allowed)
        return None


def _rate(table: FactTable, key: str, stated: Any) -> Decimal | None:
    if stated is None:
        return None
    from ownward.catalog import as_money

    try:
        return as_money(stated)
    except (ValueError, ArithmeticError) as error:
        table.fault(key, f"is {stated!r}", allowed=str(error) or "An amount of 0 or more")
        return None


def _steps(table: FactTable) -> tuple[PriceStep, ...]:
    stated = table.raw("steps") or []
    steps = []
    for step in stated if isinstance(stated, list) else [stated]:
        known = {"above_input_tokens", *_RATES}
        if not isinstance(step, dict) or not {"above_input_tokens", *_RATES[:2]} <= set(step) <= known:
            table.fault("steps", f"has {step!r}", allowed=f"above_input_tokens and {', '.join(_RATES)}")
            continue
        rates = {name: _rate(table, "steps", step.get(name)) for name in _RATES}
        try:
            steps.append(PriceStep(above_input_tokens=step["above_input_tokens"], **rates))  # type: ignore[arg-type]
        except (BadInput, TypeError) as error:
            table.fault("steps", str(error))
    return tuple(steps)


def _day(table: FactTable, key: str) -> date | None:
    stated = table.raw(key)
    if stated is not None and type(stated) is not date:
        table.fault(key, f"is {stated!r}", allowed="A date such as 2026-11-01")
        return None
    return stated
