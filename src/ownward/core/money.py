"""Money: `Decimal` dollars in computations, whole picodollars (1e-12 USD) where sums must be exact in SQL.

One picodollar resolves a price of 0.000001 USD per million tokens; a 64-bit
integer of them holds nine million dollars.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

PICOUSD_PER_USD = 10**12

_MICRO = Decimal("0.000001")
_CENT = Decimal("0.01")
_WIDE = Context(prec=60)  # totals of many large prices keep their last digit


def usd_to_picousd(usd: Decimal) -> int:
    """Return whole picodollars, rounded half to even.

    >>> usd_to_picousd(Decimal("0.00134"))
    1340000000
    """
    return int((usd * PICOUSD_PER_USD).to_integral_value(rounding=ROUND_HALF_EVEN))


def picousd_to_usd(picousd: int) -> Decimal:
    """Return exact dollars.

    >>> picousd_to_usd(1340000000)
    Decimal('0.001340000000')
    """
    return Decimal(picousd).scaleb(-12)


def picousd_text(picousd: int | None) -> str | None:
    """Return picodollars as `usd_text` writes those dollars, in a fifth of the time; None stays None.

    >>> picousd_text(1340000000), picousd_text(12 * 10**12), picousd_text(37500)
    ('0.001340', '12.000000', '0.0000000375')
    """
    if picousd is None or picousd < 0:
        return None if picousd is None else usd_text(picousd_to_usd(picousd))
    whole, part = divmod(picousd, 10**12)
    digits = f"{part:012d}"
    return f"{whole}.{digits[:6]}{digits[6:].rstrip('0')}"


def usd_text(usd: Decimal | None) -> str | None:
    """Return the decimal string that JSON carries: exact, with at least six decimals; None stays None.

    >>> usd_text(Decimal("0.00134")), usd_text(Decimal("12")), usd_text(Decimal("0.0000000375"))
    ('0.001340', '12.000000', '0.0000000375')
    """
    if usd is None:
        return None
    exact = usd.normalize(_WIDE)
    if exact == (to_micro := exact.quantize(_MICRO, context=_WIDE)):
        exact = to_micro
    return format(exact, "f")


def format_usd(usd: Decimal | None, *, digits: int = 3) -> str:
    """Return dollars for people: cents from one dollar on, `digits` significant figures below; `?` for unknown.

    >>> format_usd(Decimal("1234.5")), format_usd(Decimal("0.00134")), format_usd(None)
    ('$1,234.50', '$0.00134', '?')
    """
    if usd is None:
        return "?"
    if usd == 0:
        return "$0"
    if abs(usd) >= 1:
        return f"${usd.quantize(_CENT, context=_WIDE):,}".replace("$-", "-$")
    places = digits - 1 - usd.adjusted()
    rounded = format(round(usd, places), "f")
    return f"${rounded}".replace("$-", "-$")
