"""How many different experts a step of several tokens touches, under uniform or skewed routing."""

from __future__ import annotations

import functools
import math


def expected_distinct_experts(*, experts: int, per_token: int, tokens: float, skew: float = 0.0) -> float:
    """Return how many of a layer's experts a step of `tokens` tokens is expected to touch.

    `skew` 0 routes uniformly: E (1 - (1 - k/E)^B). With `skew` s the chance of the i-th
    most popular expert falls as 1/i^s (Zipf), scaled so that a token still uses k experts.
    Real traffic lies at s of 0.3 to 0.6.

    >>> round(expected_distinct_experts(experts=512, per_token=10, tokens=32))
    240
    """
    if experts <= 0 or per_token <= 0 or tokens <= 0:
        return 0.0
    if per_token >= experts:
        return float(experts)
    if skew <= 0:
        return experts * -math.expm1(tokens * math.log1p(-per_token / experts))
    return sum(
        -math.expm1(tokens * math.log1p(-share)) if share < 1 else 1.0 for share in _zipf(experts, per_token, skew)
    )


@functools.lru_cache(maxsize=256)
def _zipf(experts: int, per_token: int, skew: float) -> tuple[float, ...]:
    """Return each expert's chance to be used by a token; the chances sum to `per_token`, none exceeds 1."""
    weights = [rank**-skew for rank in range(1, experts + 1)]
    certain = 0
    while True:
        scale = (per_token - certain) / sum(weights[certain:])
        full = sum(1 for weight in weights[certain:] if weight * scale > 1)
        if not full:
            break
        certain += full
    return tuple(1.0 if rank < certain else weights[rank] * scale for rank in range(experts))
