"""Foreign values into ours: counts, money, times; each refuses what it cannot mean."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

NS_PER_S = 1_000_000_000
_FRACTION_DIGITS = 9
_MAX_COUNT = 10**9  # tokens of one request
_MAX_INT64 = 2**63 - 1
_GROUPED = re.compile(r"[1-9]\d{0,2}(\.\d{3})+")
_MAX_TEXT = 256
_KEPT_TEXT = 200
_GO_ZERO_NS = -62_135_596_800 * NS_PER_S  # 0001-01-01, which Go writes for a time that is not there
_DOLLARS = frozenset({"", "usd", "$", "us$"})
_CURRENCY_NAMES = ("currency", "cost_currency", "amount_currency")
# An epoch number below each bound is in that many nanoseconds a unit: seconds until the year 5138,
# milliseconds and microseconds likewise, nanoseconds above.
_EPOCH_UNITS = ((1e11, NS_PER_S), (1e14, 1_000_000), (1e17, 1_000))
_LONG_NUMBER = re.compile(r"\d{9,}(\.\d*)?")  # 1764101561514 as 1764-10-15, the mark 6 and 15:14
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BadValue(ValueError):
    """A value that cannot be what its field says; the message is for the list of bad rows."""


def folded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields by names as we write them: `Prompt Tokens`, `promptTokens` and `PROMPT-TOKENS` are one."""
    return {_fold(name): value for name, value in fields.items()}


@functools.lru_cache(maxsize=1024)
def _fold(name: str) -> str:
    return "_".join(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", " ").replace("_", " ").split())


def count(fields: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    """Return the whole number under the first of `names` that has one.

    Raises: BadValue, if there is none and no default, or it is no count.
    """
    name, value = _first(fields, names)
    if value is None:
        if default is None:
            raise BadValue(f"{' / '.join(names)} is missing")
        return default
    if isinstance(value, bool):
        raise BadValue(f"{name} is {value}, not a count")
    if isinstance(value, str) and _GROUPED.fullmatch(value.strip()):
        raise BadValue(f"{name} is {_shown(value)}, which is thousands in some countries: write it without the point")
    try:
        number = int(value) if isinstance(value, int | str) else float(value)
    except (TypeError, ValueError):
        number = _float(name, value)
    if number != number or number < 0 or number > _MAX_COUNT or number != int(number):  # noqa: PLR0124 - NaN
        raise BadValue(f"{name} is {_shown(value)}, not a count of 0 or more")
    return int(number)


def number(fields: Mapping[str, Any], *names: str) -> float | None:
    """Return the finite number under the first of `names` that has one, or None.

    Raises: BadValue, if it is not a finite number.
    """
    name, value = _first(fields, names)
    return None if value is None else _float(name, value)


def seconds(fields: Mapping[str, Any], *names: str, in_a_second: float = 1.0) -> float | None:
    """Return the duration under the first of `names` that has one, of units `in_a_second`; None where it is below 0.

    Raises: BadValue, if it is not a finite number.
    """
    found = number(fields, *names)
    return None if found is None or found < 0 else found / in_a_second


def usd(fields: Mapping[str, Any], *names: str) -> Decimal | None:
    """Return the exact dollars under the first of `names` that has some, or None.

    Raises: BadValue, if it is no amount, or the row says that it is of another currency.
    """
    name, value = _first(fields, names)
    if value is None:
        return None
    currency = text(fields, *_CURRENCY_NAMES)
    if currency is not None and currency.strip().lower() not in _DOLLARS:
        raise BadValue(f"{name} is in {_shown(currency)}; amounts are read in USD: convert it, or leave it out")
    try:
        amount = Decimal(repr(value) if isinstance(value, float) else str(value).strip().lstrip("$"))
    except InvalidOperation:
        raise BadValue(f"{name} is {_shown(value)}, not an amount") from None
    if not amount.is_finite() or amount < 0 or amount > 10**6:
        raise BadValue(f"{name} is {_shown(value)}, not an amount that one request can cost")
    return amount


def text(fields: Mapping[str, Any], *names: str) -> str | None:
    """Return the non-empty text under the first of `names` that has some, or None.

    What no database takes (lone surrogates, NUL) is replaced; a longer text than an id
    needs ends in its hash.
    """
    value = _first(fields, names)[1]
    if value is None or isinstance(value, dict | list):
        return None
    found = str(value).encode(errors="replace").decode().replace("\0", "?")
    if len(found) > _MAX_TEXT:
        found = f"{found[:_KEPT_TEXT]}~{hashlib.sha256(found.encode()).hexdigest()[:16]}"
    return found


def instant_ns(fields: Mapping[str, Any], *names: str) -> int | None:
    """Return nanoseconds since 1970 (UTC) of the time under the first of `names` that has one, or None.

    Reads ISO 8601 with any number of fraction digits and epoch numbers in s, ms, us or ns (told apart by
    size). A time without an offset is taken as UTC.
    Raises: BadValue, if it is no time.
    """
    name, value = _first(fields, names)
    found = None if value is None else parse_instant_ns(value, name)
    return None if found == _GO_ZERO_NS else found


def parse_instant_ns(value: object, name: str = "time") -> int:
    """Return nanoseconds since 1970 (UTC) of an ISO 8601 text or an epoch number.

    >>> parse_instant_ns("2023-11-16 18:17:03.9799600") % NS_PER_S
    979960000
    >>> parse_instant_ns(1700000000) == parse_instant_ns("2023-11-14T22:13:20Z")
    True
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _epoch_ns(value, name)
    raw = str(value).strip()
    head, offset, digits = _split_fraction(raw)
    whole = _date_and_time(head + offset)
    if whole is None:
        try:
            return _epoch_ns(float(raw) if "." in raw else int(raw), name)
        except ValueError:
            raise BadValue(f"{name} is {_shown(value)}, not a time") from None
    aware = whole if whole.tzinfo else whole.replace(tzinfo=UTC)
    since = aware - _EPOCH
    fraction_ns = int(digits[:_FRACTION_DIGITS].ljust(_FRACTION_DIGITS, "0")) if digits else 0
    return (since.days * 86_400 + since.seconds) * NS_PER_S + since.microseconds * 1_000 + fraction_ns


def _date_and_time(text: str) -> datetime | None:
    """Return what an ISO 8601 text says; None for a number longer than a date, though Python finds a time in some."""
    if _LONG_NUMBER.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def to_datetime(instant: int) -> datetime:
    """Return the UTC time of nanoseconds since 1970, to the microsecond."""
    return _EPOCH + timedelta(microseconds=instant // 1_000)


def truth(fields: Mapping[str, Any], *names: str) -> bool | None:
    """Return the boolean under the first of `names` that has one; None where it says neither."""
    value = _first(fields, names)[1]
    if isinstance(value, bool):
        return value
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(str(value).lower())


def parsed(value: object) -> Any:
    """Return a JSON text as its value, and anything else as it is (a field may hold either)."""
    if isinstance(value, str) and value[:1] in '{["':
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def integer(fields: Mapping[str, Any], name: str) -> int:
    """Return the whole number of either sign under `name`, 0 where there is none.

    Raises: BadValue, if it is none.
    """
    found = number(fields, name)
    if found is None:
        return 0
    if found != int(found) or abs(found) > _MAX_COUNT:
        raise BadValue(f"{name} is {_shown(found)}, not a whole number up to {_MAX_COUNT}")
    return int(found)


def identifiers(fields: Mapping[str, Any], name: str) -> tuple[int, ...] | None:
    """Return the list of ids under `name` as 64-bit numbers, None where there is none; text ids become hashes.

    Raises: BadValue, if it is no list.
    """
    found = parsed(fields.get(name))
    if found is None or found == "":
        return None
    if isinstance(found, str):
        found = found.replace(";", " ").split()
    if not isinstance(found, list):
        raise BadValue(f"{name} is {_shown(found)}, not a list")
    return tuple(_identifier(name, one) for one in found)


def mapping(value: object) -> Mapping[str, Any]:
    """Return a JSON object, from its text as well; empty where it is none."""
    found = parsed(value)
    return found if isinstance(found, dict) else {}


def mappings(value: object) -> list[Mapping[str, Any]]:
    """Return the objects of a JSON array, from its text as well; empty where it is none."""
    found = parsed(value)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, Any]:
    for name in names:
        value = fields.get(name)
        if value is not None and value != "":
            return name, value
    return names[0], None


def _identifier(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_INT64:
        return value
    if isinstance(value, str):
        if value.isdecimal() and len(value) < len(str(_MAX_INT64)):
            return int(value)
        return int.from_bytes(hashlib.sha256(value.encode(errors="replace")).digest()[:7])
    raise BadValue(f"{name} holds {_shown(value)}, not an id")


def _float(name: str, value: object) -> float:
    try:
        found = float(value)  # type: ignore[arg-type]  # refused below where it is no number
    except (TypeError, ValueError, OverflowError):
        raise BadValue(f"{name} is {_shown(value)}, not a number") from None
    if not math.isfinite(found):
        raise BadValue(f"{name} is {_shown(value)}, not a finite number")
    return found


def _epoch_ns(value: float, name: str) -> int:
    if not 0 <= value <= _MAX_INT64:
        raise BadValue(f"{name} is {_shown(value)}, not a time")
    unit = next((unit for bound, unit in _EPOCH_UNITS if value < bound), 1)
    instant = value * unit if isinstance(value, int) else round(value * unit)
    if instant > _MAX_INT64:
        raise BadValue(f"{name} is {_shown(value)}, not a time")
    return instant


def _split_fraction(raw: str) -> tuple[str, str, str]:
    head, dot, rest = raw.partition(".")
    if not dot or ":" not in head:
        return raw.removesuffix(" UTC"), "", ""
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return head, rest[len(digits) :].strip().removesuffix("UTC").strip(), digits


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."  # noqa: PLR2004 - what fits a line
