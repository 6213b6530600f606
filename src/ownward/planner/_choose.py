"""Choose one option for each workload, so that the total is least; shared machines are paid once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from ownward.core import BadInput, InfeasiblePlan, format_usd
from ownward.planner._options import Option
from ownward.planner._search import find_cheapest, total_cost

_EPSILON = 1e-9  # of a share completed


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One option for each workload, what all of it costs, and the machines bought."""

    chosen: tuple[Option, ...]
    plan_usd: Decimal
    baseline_usd: Decimal | None
    fleet: Mapping[str, int]
    is_proven: bool
    why: tuple[str, ...]


def held_to(options: Sequence[Option], *, baseline: str | None, floor_fraction: float | None) -> list[Option]:
    """Return the options with `baseline` marked in each workload, and those barred that complete too little.

    What must be completed is `floor_fraction` of what the workload's baseline completes; where either is
    unknown, it is not shown to hold.
    Raises: BadInput, if a workload has no option on the tier `baseline`.
    """
    marked = list(options)
    if baseline is not None:
        without = {option.workload for option in options} - {o.workload for o in options if o.tier == baseline}
        if without:
            raise BadInput(
                f"the baseline {baseline!r} is not an option for {', '.join(sorted(without))}",
                allowed=", ".join(sorted({option.tier for option in options})),
            )
        marked = [replace(option, is_baseline=option.tier == baseline) for option in options]
    if floor_fraction is None:
        return marked
    by_workload: dict[str, list[Option]] = {}
    for option in marked:
        by_workload.setdefault(option.workload, []).append(option)
    least = {workload: _baseline(listed) for workload, listed in by_workload.items()}
    return [_held(option, least[option.workload], floor_fraction) for option in marked]


def _held(option: Option, baseline: Option, floor_fraction: float) -> Option:
    if option is baseline or not option.feasible:
        return option
    if option.completion is None or baseline.completion is None:
        return replace(option, feasible=False, binding_constraint="nobody has measured what it completes")
    if option.completion >= floor_fraction * baseline.completion - _EPSILON:
        return option
    why = f"completes {option.completion:.1%}, below {floor_fraction:.0%} of the baseline's {baseline.completion:.1%}"
    return replace(option, feasible=False, binding_constraint=why)


def choose(options: Sequence[Option]) -> Choice:
    """Return the cheapest feasible option of each workload, shared machines counted once.

    The baseline of a workload is the option marked so, else its first. A workload without any
    option that can be chosen keeps a marked baseline.
    Raises: InfeasiblePlan, naming each workload that nothing can serve and what binds it.
    """
    by_workload: dict[str, list[Option]] = {}
    for option in options:
        by_workload.setdefault(option.workload, []).append(option)
    candidates = {workload: _candidates(listed) for workload, listed in by_workload.items()}
    stuck = {workload: listed for workload, listed in by_workload.items() if not candidates[workload]}
    if stuck:
        reasons = (
            f"{workload}: " + "; ".join(f"{item.tier}: {item.binding_constraint or 'cost unknown'}" for item in listed)
            for workload, listed in stuck.items()
        )
        raise InfeasiblePlan(
            f"no feasible option for {len(stuck)} of {len(by_workload)} workloads ({' | '.join(reasons)})",
            next_step="Add an option, or relax the constraint that is named",
        )
    picked, is_proven = find_cheapest(list(candidates.values()))
    baselines = [_baseline(listed) for listed in by_workload.values()]
    total, fleet = total_cost(picked)
    return Choice(
        chosen=tuple(picked),
        plan_usd=total,
        baseline_usd=total_cost(baselines)[0] if all(item.cost_usd is not None for item in baselines) else None,
        fleet=fleet,
        is_proven=is_proven,
        why=tuple(_why(item, by_workload[item.workload]) for item in picked),
    )


def _candidates(listed: list[Option]) -> list[Option]:
    able = [option for option in listed if option.can_be_chosen]
    return able or [o for o in listed if o.is_baseline and o.cost_usd is not None and not o.is_forbidden]


def _baseline(listed: list[Option]) -> Option:
    return next((option for option in listed if option.is_baseline), listed[0])


def _why(picked: Option, listed: list[Option]) -> str:
    place = f"{picked.workload}: {picked.strategy} on {picked.tier}"
    if not picked.feasible:
        return f"{place}: stays, since nothing else is feasible"
    others = [option for option in listed if option is not picked]
    reasons: dict[str, list[str]] = {}
    for item in others:
        if not item.feasible:
            reasons.setdefault(item.binding_constraint or "infeasible", []).append(item.tier)
        elif item.cost_usd is None:
            reasons.setdefault("cost unknown", []).append(item.tier)
    alone_usd = total_cost([picked])[0]
    is_dearer = any(item.can_be_chosen and total_cost([item])[0] < alone_usd for item in others)
    reason = "shares machines" if is_dearer else f"least cost at {format_usd(picked.cost_usd)}"
    excluded = "; ".join(f"{', '.join(tiers)}: {why}" for why, tiers in reasons.items())
    return f"{place}: {reason}{f' (not {excluded})' if excluded else ''}"
