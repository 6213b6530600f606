"""The cost per completed task: all cost of all tasks over the tasks completed, a ratio of sums, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import NormalDist

_PLACES = Decimal("1e-12")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPerCompletedTask:
    """All cost divided by completed tasks, with an interval; None where nothing completed or a cost is unknown.

    A ratio of sums. The interval is the delta method's:
    Var = (S_CC - 2 R S_CY + R^2 S_YY) / (n mean(Y)^2), with Student's quantile, and with one task more that fails at
    the mean cost: where all tasks completed at one price, nothing else says that the next may not. It is an
    approximation; where a few tasks make most of the cost, it is too narrow.
    """

    value: Decimal | None
    low: Decimal | None
    high: Decimal | None
    confidence: float


def compute_cost_per_completed_task(
    costs_usd: Sequence[Decimal | None], completions: Sequence[float], *, confidence: float
) -> CostPerCompletedTask:
    """Return what each completed task of some tasks cost; `completions` are from 0 to 1, one a task."""
    known = [cost for cost in costs_usd if cost is not None]
    completed = math.fsum(completions)
    if len(known) < len(costs_usd) or completed <= 0:
        return CostPerCompletedTask(value=None, low=None, high=None, confidence=confidence)
    value = sum(known, Decimal(0)) / Decimal(repr(completed))
    reach = _reach_usd(list(map(float, known)), completions, completed, confidence=confidence)
    return CostPerCompletedTask(
        value=value.quantize(_PLACES),
        low=None if reach is None else max(value - reach, Decimal(0)).quantize(_PLACES),
        high=None if reach is None else (value + reach).quantize(_PLACES),
        confidence=confidence,
    )


def _reach_usd(
    costs: Sequence[float], completions: Sequence[float], completed: float, *, confidence: float
) -> Decimal | None:
    """Return half the interval's width; None below two tasks, which have no spread."""
    count = len(costs)
    if count < 2:  # noqa: PLR2004 - one task has no spread
        return None
    total = math.fsum(costs)
    ratio = total / completed
    # The residual C - R Y has the variance S_CC - 2 R S_CY + R^2 S_YY, without cancellation, and a mean of 0.
    residuals = [cost - ratio * done for cost, done in zip(costs, completions, strict=True)]
    residuals.append(total / count)  # the task more that fails
    mean = residuals[-1] / (count + 1)
    variance = math.fsum((one - mean) ** 2 for one in residuals) / count
    quantile = _student_quantile((1 + confidence) / 2, degrees=count)
    return Decimal(repr(quantile * math.sqrt(variance * (count + 1)) / completed))


def _student_quantile(probability: float, *, degrees: int) -> float:
    """Return the quantile of Student's t: Abramowitz and Stegun 1964, 26.7.5, to 2% from 3 degrees on at 0.975."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / float(degrees) ** power for power, term in enumerate(terms))
