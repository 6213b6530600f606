"""JSON read and written so that nothing of it is lost: also lone surrogates, which msgspec does not take."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def read_json(data: bytes | str) -> Any:
    """Return a JSON value.

    Raises: ValueError, if it is none.
    """
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    except RecursionError:
        raise ValueError("it is nested without end") from None
    # Half a surrogate pair is legal in JSON, and engines that cut an emoji between two events send one.
    try:
        return json.loads(data, parse_constant=_refuse_constant, parse_float=_read_float)
    except RecursionError:
        raise ValueError("it is nested without end") from None


def write_json(value: object) -> bytes:
    """Return the shortest JSON of a value; text that UTF-8 cannot spell is escaped as it came."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def _read_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is out of range")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
