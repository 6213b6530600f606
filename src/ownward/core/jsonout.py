"""Our values as JSON: dataclasses by field, money as text, dates as ISO, sets sorted; unknown is null."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any

from ownward.core.money import usd_text

_AS_THEY_ARE = frozenset({str, int, bool, type(None)})
_ONE_LINE = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def to_jsonable(value: object) -> Any:
    """Return `value` made of dicts, lists, strings, numbers, booleans and None.

    `Decimal` is money and becomes a decimal string. A datetime is written in
    UTC with a `Z`. A float that is not finite becomes None: JSON has no word for it.
    Raises: TypeError, naming the type of a value it does not know.
    """
    if value.__class__ in _AS_THEY_ARE:  # most values of rows, which come in millions
        return value
    match value:
        case Enum():
            return value.value
        case bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return usd_text(value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case PurePath():
            return str(value)
        case Mapping():
            return {
                str(key): item if item.__class__ in _AS_THEY_ARE else to_jsonable(item) for key, item in value.items()
            }
        case set() | frozenset():
            return sorted(to_jsonable(item) for item in value)
        case list() | tuple():
            return [to_jsonable(item) for item in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: to_jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _ if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
            return to_jsonable(value.tolist())
        case _:
            message = f"a {type(value).__name__} has no JSON form"
            raise TypeError(message)


def to_json(value: object) -> str:
    """Return `value` as one JSON text, keys in the order given."""
    return _ONE_LINE.encode(to_jsonable(value))
