"""Prime numbers, because hashed n-gram tables have prime sizes."""

from __future__ import annotations

import functools

# Deterministic below 3.3e24: Sorenson and Webster 2015, Strong pseudoprimes to twelve prime bases.
_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def is_prime(number: int) -> bool:
    """Return whether `number` is prime (Miller-Rabin, exact for all sizes that occur).

    >>> [n for n in range(20) if is_prime(n)]
    [2, 3, 5, 7, 11, 13, 17, 19]
    """
    if number < 2:  # noqa: PLR2004 - the first prime
        return False
    if any(number % base == 0 for base in _BASES):
        return number in _BASES
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(base, number, odd, twos) for base in _BASES)


@functools.lru_cache(maxsize=64)
def primes_from(start: int, count: int) -> tuple[int, ...]:
    """Return the first `count` primes that are at least `start`.

    >>> primes_from(20, 3)
    (23, 29, 31)
    """
    found: list[int] = []
    number = start
    while len(found) < count:
        if is_prime(number):
            found.append(number)
        number += 1
    return tuple(found)


def _passes(base: int, number: int, odd: int, twos: int) -> bool:
    power = pow(base, odd, number)
    if power in {1, number - 1}:
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False
