"""Cost per completed task: all cost of all tasks over the tasks completed, a ratio of sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ownward.core import BadInput, format_counted
from ownward.quality import compute_cost_per_completed_task


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpct:
    """The cost per completed task of some tasks, failed ones paid for too.

    `usd` is None where no task was completed or a cost is unknown, and `reason` says
    which. The interval, at `confidence`, is the one of certificates; None below two
    tasks. `human_usd` is the stated human minutes' part of the whole cost.
    """

    usd: Decimal | None
    low_usd: Decimal | None
    high_usd: Decimal | None
    confidence: float
    tasks: int
    completed: int
    cost_usd: Decimal | None
    human_usd: Decimal
    unknown_costs: int
    reason: str = ""


def compute_cpct(
    costs_usd: Sequence[Decimal | None],
    completed: Sequence[bool],
    *,
    human_minutes: Sequence[float | None] | None = None,
    human_usd_per_hour: Decimal = Decimal(0),
    confidence: float = 0.95,
) -> Cpct:
    """Return the cost per completed task with its interval.

    A task's cost is all its calls, retries and checks plus its human minutes at
    `human_usd_per_hour`; no minutes stated (None) count as none worked.
    Raises: BadInput, on columns of different length or a confidence outside (0, 1).

    >>> compute_cpct([Decimal(1), Decimal(1), Decimal(2)], [True, False, True]).usd
    Decimal('2')
    """
    minutes = [0.0] * len(costs_usd) if human_minutes is None else [one or 0.0 for one in human_minutes]
    if not len(costs_usd) == len(completed) == len(minutes):
        raise BadInput(f"{len(costs_usd)} costs, {len(completed)} outcomes and {len(minutes)} human minutes")
    if not 0 < confidence < 1:
        raise BadInput(f"confidence is {confidence}", allowed="Between 0 and 1")
    human = [Decimal(repr(float(one))) / 60 * human_usd_per_hour for one in minutes]
    unknown = sum(cost is None for cost in costs_usd)
    done = sum(completed)
    whole = [cost + extra for cost, extra in zip(costs_usd, human, strict=True) if cost is not None]
    total = sum(whole, Decimal(0)) if not unknown else None
    usd = low = high = None
    reason = ""
    if total is None:
        tasks = format_counted(len(costs_usd), "task")
        reason = f"the cost of {unknown:,} of {tasks} is unknown, and unknown is not taken as 0"
    elif not done:
        reason = "no task was completed, so that no cost per completed task exists"
    else:
        cost = compute_cost_per_completed_task(whole, completed, confidence=confidence)
        usd, low, high = (None if one is None else one.normalize() for one in (cost.value, cost.low, cost.high))
    return Cpct(
        usd=usd,
        low_usd=low,
        high_usd=high,
        confidence=confidence,
        tasks=len(costs_usd),
        completed=done,
        cost_usd=total,
        human_usd=sum(human, Decimal(0)),
        unknown_costs=unknown,
        reason=reason,
    )


def compute_affordable_completion_loss(
    *, cost_dear_usd: Decimal, cost_cheap_usd: Decimal, human_usd_a_task: Decimal
) -> float:
    """Return the fraction of tasks that a cheaper strategy may fail more often before it costs more in all.

    A failed task is finished by a human at `human_usd_a_task`: the cheaper strategy
    pays while the completion it loses is below (dear - cheap) / human.
    Raises: BadInput, if a human costs nothing.

    >>> round(compute_affordable_completion_loss(
    ...     cost_dear_usd=Decimal("0.25"), cost_cheap_usd=Decimal("0.05"), human_usd_a_task=Decimal(10)), 6)
    0.02
    """
    if human_usd_a_task <= 0:
        raise BadInput(f"a task done by a human costs {human_usd_a_task} USD", allowed="It has to be above 0")
    return float((cost_dear_usd - cost_cheap_usd) / human_usd_a_task)
