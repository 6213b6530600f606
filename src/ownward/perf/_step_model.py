"""The cost of one engine step by what is in it, which is all that the simulator knows of a deployment."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

from ownward.core import BadInput, closest

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepModel:
    """Seconds of one step, and how much cache there is.

    step_s = fixed_s
           + per_prefill_token_s         x tokens prefilled in the step
           + per_prefill_token_context_s x sum over those tokens of the context before each
           + per_decode_sequence_s       x sequences that decode in the step
           + per_kv_byte_s               x cache bytes those sequences read
           + by_sequences_s(sequences)
           + by_tokens_s(sequences + tokens prefilled) - by_tokens_s(sequences)

    The last two are points (count, seconds) with lines between them, from (0, 0) and past the last as before it: a
    mixture of experts reads few of them for one sequence and nearly all for many, and weights that are read anyway
    multiply the first tokens for nothing. `kv_bytes_per_token` turns a sequence's context into bytes. The cache holds
    `capacity_blocks` blocks of `block_tokens` tokens.
    """

    fixed_s: float
    per_prefill_token_s: float
    per_prefill_token_context_s: float = 0.0
    per_decode_sequence_s: float = 0.0
    per_kv_byte_s: float = 0.0
    kv_bytes_per_token: float = 0.0
    by_sequences_s: Points = ()
    by_tokens_s: Points = ()
    capacity_blocks: int
    block_tokens: int = 16
    power_idle_watts: float | None = None
    power_busy_watts: float | None = None

    def __post_init__(self) -> None:
        """Refuse negative costs, steps that take no time and a cache that holds nothing."""
        for name in _COSTS:
            value = getattr(self, name)
            if not value >= 0:
                raise BadInput(f"step model: {name} is {value}", allowed="0 or more")
        for name in _CURVES:
            points = ((0.0, 0.0), *getattr(self, name))
            if not all(
                before < count < math.inf and least <= seconds < math.inf
                for (before, least), (count, seconds) in pairwise(points)
            ):
                raise BadInput(
                    f"step model: {name} is {list(points[1:])}",
                    allowed="Pairs of a count and seconds, in which both grow from 0",
                )
        if not (self.fixed_s > 0 or self.per_prefill_token_s > 0):
            raise BadInput("step model: fixed_s and per_prefill_token_s are both 0", allowed="one of them above 0")
        if self.capacity_blocks < 1 or self.block_tokens < 1:
            raise BadInput(
                f"step model: {self.capacity_blocks} blocks of {self.block_tokens} tokens", allowed="1 or more of each"
            )

    def compute_step_s(
        self, *, prefill_tokens: int, prefill_token_contexts: float, decode_sequences: int, decode_context_tokens: int
    ) -> float:
        """Return the seconds of one step; `decode_context_tokens` is summed over the decoding sequences."""
        return (
            self.fixed_s
            + self.per_prefill_token_s * prefill_tokens
            + self.per_prefill_token_context_s * prefill_token_contexts
            + self.per_decode_sequence_s * decode_sequences
            + self.per_kv_byte_s * self.kv_bytes_per_token * decode_context_tokens
            + _find_on(self.by_sequences_s, decode_sequences)
            + _find_on(self.by_tokens_s, decode_sequences + prefill_tokens)
            - _find_on(self.by_tokens_s, decode_sequences)
        )

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any], *, where: str) -> StepModel:
        """Return the step model that a JSON object states; names without `_s` and a few synonyms are understood.

        Raises: BadInput, for a missing, unknown or non-numeric coefficient.
        """
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in given.items():
            if key == "schema":
                continue
            name = key if key in known else _SYNONYMS.get(key, key)
            if name in _CURVES:
                values[name] = _points(value, name, where)
                continue
            if name not in known:
                near = closest(key, known)
                raise BadInput(
                    f"step model: unknown coefficient {key!r}",
                    where=where,
                    allowed=f"Closest: {', '.join(near)}" if near else f"Known: {', '.join(sorted(known))}",
                )
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if value is not None and not is_number:
                raise BadInput(f"step model: {key} is {value!r}", where=where, allowed="a finite number")
            if value is not None:
                values[name] = int(value) if name in {"capacity_blocks", "block_tokens"} else float(value)
        missing = {"fixed_s", "per_prefill_token_s", "capacity_blocks"} - values.keys()
        if missing:
            raise BadInput(f"step model: {', '.join(sorted(missing))} is missing", where=where)
        if values.get("per_kv_byte_s") and "kv_bytes_per_token" not in values:
            raise BadInput(
                "step model: kv_bytes_per_token is missing",
                where=where,
                allowed="bytes a token, as per_kv_byte_s is given",
            )
        return cls(**values)


def _find_on(points: Points, count: float) -> float:
    """Return the seconds at `count` on the lines through (0, 0) and `points`; 0 without any.

    >>> [_find_on(((1, 0.0), (3, 4.0)), count) for count in (0, 1, 2, 3, 4)]
    [0.0, 0.0, 2.0, 4.0, 6.0]
    """
    if not points:
        return 0.0
    at = min(bisect_left(points, (count,)), len(points) - 1)
    (left, low), (right, high) = points[at - 1] if at else (0.0, 0.0), points[at]
    return low + (high - low) * (count - left) / (right - left)


def _points(value: Any, name: str, where: str) -> Points:
    try:
        return tuple((float(count), float(seconds)) for count, seconds in value or ())
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"step model: {name} is {value!r}",
            where=where,
            allowed="pairs of a count and seconds, as [[1, 0.0], [8, 0.002]]",
        ) from error


_CURVES = ("by_sequences_s", "by_tokens_s")
_COSTS = (
    "fixed_s",
    "per_prefill_token_s",
    "per_prefill_token_context_s",
    "per_decode_sequence_s",
    "per_kv_byte_s",
    "kv_bytes_per_token",
)
_SYNONYMS = {
    "fixed": "fixed_s",
    "base_s": "fixed_s",
    "per_prefill_token": "per_prefill_token_s",
    "per_prefill_token_context": "per_prefill_token_context_s",
    "per_prefill_token_x_context": "per_prefill_token_context_s",
    "per_prefill_token_x_context_s": "per_prefill_token_context_s",
    "per_prefill_token_per_context": "per_prefill_token_context_s",
    "per_decode_sequence": "per_decode_sequence_s",
    "per_kv_byte": "per_kv_byte_s",
    "capacity": "capacity_blocks",
    "blocks": "capacity_blocks",
    "kv_blocks": "capacity_blocks",
    "block_size": "block_tokens",
    "block_size_tokens": "block_tokens",
    "tokens_per_block": "block_tokens",
    "idle_watts": "power_idle_watts",
    "busy_watts": "power_busy_watts",
}
