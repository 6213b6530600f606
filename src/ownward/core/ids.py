"""Sortable ids: 48 bits of milliseconds and 80 random bits, as 26 Crockford base-32 letters (ULID)."""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_RANDOM_BITS = 80
_MAX_MILLISECONDS = 1 << 48


def new_id(prefix: str = "", *, milliseconds: int | None = None, random_bits: int | None = None) -> str:
    """Return a new id that sorts by creation time, after an optional prefix.

    Both parts can be passed in, so that a seeded run is repeatable.

    >>> new_id("req_", milliseconds=0, random_bits=0)
    'req_00000000000000000000000000'
    """
    when = (time.time_ns() // 1_000_000 if milliseconds is None else milliseconds) % _MAX_MILLISECONDS
    noise = secrets.randbits(_RANDOM_BITS) if random_bits is None else random_bits
    pairs = _PAIRS
    return (
        f"{prefix}{pairs[when >> 40]}{pairs[when >> 30 & 1023]}{pairs[when >> 20 & 1023]}{pairs[when >> 10 & 1023]}"
        f"{pairs[when & 1023]}{pairs[noise >> 70 & 1023]}{pairs[noise >> 60 & 1023]}{pairs[noise >> 50 & 1023]}"
        f"{pairs[noise >> 40 & 1023]}{pairs[noise >> 30 & 1023]}{pairs[noise >> 20 & 1023]}{pairs[noise >> 10 & 1023]}"
        f"{pairs[noise & 1023]}"
    )
