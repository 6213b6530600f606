"""How an option's speed changes with context and with the number of sequences: the points of its charts."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from ownward.perf import Prediction
from ownward.planner._fit import FitOption, at_load

_FIRST_CONTEXT_TOKENS = 1024
_CONTEXT_STEP = 4
_MOST_SEQUENCES = 256
_SEQUENCE_STEP = 2
# A last step that is shorter than this, against the one before, is left out.
_LEAST_STEP = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Speed at one load. `decode_tokens_per_s` is what each sequence gets, `total_tokens_per_s` all together.

    `ttft_ms` is the first token of a prompt that fills `context_tokens` (by context), or of a typical prompt (by
    sequences).
    """

    context_tokens: int
    concurrency: int
    decode_tokens_per_s: Prediction
    total_tokens_per_s: float | None
    ttft_ms: Prediction
    usd_per_mtok_marginal: Decimal | None
    usd_per_mtok_loaded: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Points up to the longest context, and up to the most sequences that memory holds."""

    by_context: tuple[CurvePoint, ...]
    by_concurrency: tuple[CurvePoint, ...]


def compute_curves(option: FitOption) -> Curves:
    """Return the curves of an option; empty for one that does not fit.

    Where weights lie in two memories, a larger load moves more of them out of the device's. There are at most 256
    sequences.
    """
    if option.fits is False or option.decode_tokens_per_s.value is None:
        return Curves(by_context=(), by_concurrency=())
    longest = option.max_context_tokens or option.context_tokens
    most = min(option.max_concurrency or option.concurrency, _MOST_SEQUENCES)
    return Curves(
        by_context=_points(
            option,
            [
                (context, option.concurrency, context)
                for context in steps(_FIRST_CONTEXT_TOKENS, longest, factor=_CONTEXT_STEP)
            ],
        ),
        by_concurrency=_points(
            option,
            [(option.context_tokens, sequences, None) for sequences in steps(1, most, factor=_SEQUENCE_STEP)],
        ),
    )


def _points(option: FitOption, loads: list[tuple[int, int, int | None]]) -> tuple[CurvePoint, ...]:
    points = []
    for context, sequences, prompt in loads:
        found = at_load(option, context_tokens=context, concurrency=sequences, prompt_tokens=prompt)
        if found is None or found.fits is False:
            break
        decode = found.decode_tokens_per_s
        points.append(
            CurvePoint(
                context_tokens=context,
                concurrency=sequences,
                decode_tokens_per_s=decode,
                total_tokens_per_s=None if decode.value is None else decode.value * sequences,
                ttft_ms=found.ttft_ms,
                usd_per_mtok_marginal=found.usd_per_mtok_marginal,
                usd_per_mtok_loaded=found.usd_per_mtok_loaded,
            )
        )
    return tuple(points)


def steps(first: int, last: int, *, factor: int) -> list[int]:
    """Return the steps from `first` by `factor` up to `last`, which is always there.

    >>> steps(1024, 40960, factor=4), steps(1, 20, factor=2), steps(1024, 600, factor=4)
    ([1024, 4096, 16384, 40960], [1, 2, 4, 8, 20], [600])
    """
    found: list[int] = []
    at = first
    while at <= last:
        found.append(at)
        at *= factor
    if not found or last >= found[-1] * _LEAST_STEP:
        if found and len(found) > 1 and last < found[-1] * _LEAST_STEP * _LEAST_STEP:
            found.pop()
        found.append(last)
    elif last != found[-1]:
        found[-1] = last
    return found
