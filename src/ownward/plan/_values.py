"""Single values as TOML, the environment or a flag states them, brought to our units or refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from ownward.core import parse_bytes, parse_duration
from ownward.plan._problems import MAX_USD, MAX_USD_DECIMALS, shown, suggest

T = TypeVar("T")

MAX_WHOLE = (1 << 63) - 1


class WrongValue(ValueError):
    """A value of the wrong form: what it is, and an example of the right form."""

    def __init__(self, message: str, *, example: str | None = None, allowed: str | None = None) -> None:
        """Keep the example, which is shown as an assignment to the key, or the sentence that says what is allowed."""
        super().__init__(message)
        self._example = example
        self._allowed = allowed

    def allowed_for(self, key: str) -> str | None:
        """Return what would be right, for the key at fault."""
        return self._allowed or (f"Write {key} = {self._example}" if self._example else None)


def as_text(value: Any) -> str:
    """Return a text.

    Raises: WrongValue.
    """
    if not isinstance(value, str):
        raise WrongValue(f"is {shown(value)}, not a text", example=f'"{value}"' if isinstance(value, int) else '"…"')
    return value


def as_texts(value: Any) -> tuple[str, ...]:
    """Return an array of texts; one text alone is an array of one.

    Raises: WrongValue.
    """
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        wrong = next((item for item in value if not isinstance(item, str)), value) if isinstance(value, list) else value
        what = f"holds {shown(wrong)}" if isinstance(value, list) else f"is {shown(value)}"
        raise WrongValue(f"{what}, not texts", example='["…", "…"]')
    return tuple(value)


def as_flag(value: Any) -> bool:
    """Return true or false.

    Raises: WrongValue.
    """
    if not isinstance(value, bool):
        raise WrongValue(f"is {shown(value)}, not true or false", example="true")
    return value


def as_whole(value: Any, *, example: str = "8192") -> int:
    """Return a whole number that fits 64 bits; `example` is shown where nobody can tell which one was meant.

    Raises: WrongValue.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        if (
            isinstance(value, Decimal)
            and value.is_finite()
            and -MAX_WHOLE <= value <= MAX_WHOLE
            and value == int(value)
        ):
            return int(value)
        if isinstance(value, str) and value.isascii() and value.strip().isdecimal():
            example = value.strip()
        raise WrongValue(f"is {shown(value)}, not a whole number", example=example)
    if abs(value) > MAX_WHOLE:
        raise WrongValue("does not fit into 64 bits", example=example)
    return value


def as_number(value: Any, *, example: str = "0.5") -> float:
    """Return a finite number; `example` is shown where it is none.

    Raises: WrongValue.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise WrongValue(f"is {shown(value)}, not a number", example=example)
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if number - number != 0:
        raise WrongValue(f"is {shown(value)}, not a finite number", example=example)
    return number


def as_usd(value: Any) -> Decimal:
    """Return exact dollars from a number or a text, of at most a billion and 18 decimals.

    Raises: WrongValue.
    """
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise WrongValue(f"is {shown(value)}, not dollars", example="0.15")
    try:
        usd = Decimal(value)
    except InvalidOperation:
        raise WrongValue(f"is {shown(value)}, not dollars", example="0.15") from None
    if not usd.is_finite() or not -MAX_USD <= usd <= MAX_USD or int(usd.as_tuple().exponent) < -MAX_USD_DECIMALS:
        raise WrongValue(f"is {shown(value)}, not dollars we can count", example="0.15")
    return usd


def as_duration_s(value: Any) -> float:
    """Return seconds from a number or from `250ms`, `30s`, `5m`, `2h`, `7d`.

    Raises: WrongValue.
    """
    if isinstance(value, str):
        try:
            return as_number(parse_duration(value))
        except (ValueError, OverflowError) as error:
            raise WrongValue(f"is {shown(value)}, not a duration", example='30, in seconds, or "30s"') from error
    try:
        return as_number(value)
    except WrongValue:
        raise WrongValue(f"is {shown(value)}, not a duration", example='30, in seconds, or "30s"') from None


def as_bytes(value: Any) -> int:
    """Return bytes from a whole number or from `64MiB`, `1GB`.

    Raises: WrongValue.
    """
    example = '1048576, in bytes, or "1MiB"'
    if isinstance(value, str):
        try:
            return as_whole(parse_bytes(value))
        except (ValueError, OverflowError) as error:
            raise WrongValue(f"is {shown(value)}, not a size", example=example) from error
    try:
        return as_whole(value)
    except WrongValue:
        raise WrongValue(f"is {shown(value)}, not a size", example=example) from None


def as_date(value: Any) -> date:
    """Return a day, from a TOML date or ISO text.

    Raises: WrongValue.
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise WrongValue(f"is {shown(value)}, not a date", example="2026-11-21")


def as_instant(value: Any) -> datetime:
    """Return a point in time in UTC, from a TOML date-time with its offset or ISO text.

    Raises: WrongValue.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = shown(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise WrongValue(f"is {value}, not a time with its zone", example="2026-11-21T09:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise WrongValue(f"is {value}, outside the calendar", example="2026-11-21T09:00:00Z") from None


def as_choice(*choices: str) -> Callable[[Any], Any]:
    """Return a conversion that takes one of a closed set of texts, and names the closest where it is none."""

    def convert(value: Any) -> str:
        text = as_text(value)
        if text not in choices:
            raise WrongValue(f"is {shown(text)}", allowed=suggest(text, choices))
        return text

    return convert
