"""Sortable ids: 48 bits of milliseconds and 80 random bits, as 26 Crockford base-32 letters (ULID)."""

from __future__ import annotations

import secrets
import time
from functools import lru_cache

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_LETTERS = (_ALPHABET * 8).encode()  # of each byte, by five of its bits
_RANDOM_BITS = 128  # a byte for each of 16 letters
_MAX_MILLISECONDS = 1 << 48


def new_id(prefix: str = "", *, milliseconds: int | None = None, random_bits: int | None = None) -> str:
    """Return a new id that sorts by creation time, after an optional prefix.

    Both parts can be passed in, so that a seeded run is repeatable; of 128 `random_bits` 80 count.

    >>> new_id("req_", milliseconds=0, random_bits=0)
    'req_00000000000000000000000000'
    """
    when = (time.time_ns() // 1_000_000 if milliseconds is None else milliseconds) % _MAX_MILLISECONDS
    noise = secrets.randbits(_RANDOM_BITS) if random_bits is None else random_bits
    letters = noise.to_bytes(_RANDOM_BITS // 8).translate(_LETTERS).decode()
    return f"{prefix}{_beginning_of(when >> 10)}{_PAIRS[when & 1023]}{letters}"


@lru_cache(maxsize=1)
def _beginning_of(second: int) -> str:
    """Return the letters that ids share for 1,024 milliseconds."""
    first, others = _PAIRS[second >> 30], (second >> 20, second >> 10, second)
    return first + "".join([_PAIRS[bits & 1023] for bits in others])
