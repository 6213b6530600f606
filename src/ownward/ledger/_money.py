"""Sums of money beyond what an integer of a database holds: 2 to the power of 63 picodollars, 9.2 million dollars."""

from __future__ import annotations

from typing import Final

MOST_PICOUSD: Final = (1 << 63) - 1
"""What one column holds."""

_PARTS: Final = 1 << 32


def money_sum(value: str) -> str:
    """Return two columns that add up a column of picodollars; `read_money_sum` reads them."""
    whole = f"{value} / {_PARTS}"
    return f"CAST(SUM({whole}) AS BIGINT), CAST(SUM({value} - {whole} * {_PARTS}) AS BIGINT)"


def read_money_sum(whole: int | None, rest: int | None) -> int:
    """Return the sum that two columns hold; that of nothing is 0."""
    return (whole or 0) * _PARTS + (rest or 0)
