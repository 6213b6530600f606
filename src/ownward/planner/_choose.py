"""Choose one option for each workload, so that the total is least; machines that several options share are paid once.

A fixed-charge assignment, solved exactly by branch and bound (the fleets' whole machines relaxed to
fractions give the bound); where the search is cut short, the answer says that it is not proven.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from ownward.core import BadInput, InfeasiblePlan, format_usd

_MOST_USD = 10**15
_MOST_MACHINES = 10**9
_LARGEST_SEARCH = 200_000
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetShare:
    """How much of a fleet an option needs: `work` in machines, of which the fleet buys whole ones.

    Once for a fleet, whoever shares it: `reserve` machines that stand by, and `usd_once` (people). `usd_of_work` is
    what the option's own work costs (energy above idle).
    """

    fleet: str
    work: float
    usd_per_machine: Decimal | None = None
    reserve: int = 0
    usd_once: Decimal = Decimal(0)
    usd_of_work: Decimal = Decimal(0)

    @property
    def machines(self) -> int:
        """Whole machines that it takes alone, reserve included."""
        return max(math.ceil(self.work - _EPSILON), 0) + self.reserve


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to serve a workload for the period planned.

    `cost_usd`: all it costs alone. With `shared` and a stated `usd_per_machine`, what it costs besides
    the machines; with `shared` and none stated, the machines are in it (what is left of it without `usd_once` and
    `usd_of_work`, by the whole machines) and are paid once where options share them. What `is_forbidden` is not
    kept either where nothing else is feasible.
    """

    workload: str
    strategy: str
    tier: str
    cost_usd: Decimal | None
    completion: float | None = None
    feasible: bool = True
    binding_constraint: str | None = None
    is_baseline: bool = False
    is_forbidden: bool = False
    shared: FleetShare | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def can_be_chosen(self) -> bool:
        """Whether it is feasible and its cost is known."""
        return self.feasible and self.cost_usd is not None

    @property
    def machine_usd(self) -> float:
        """What one machine of its fleet costs."""
        if self.shared is None or self.cost_usd is None:
            return 0.0
        if self.shared.usd_per_machine is not None:
            return float(self.shared.usd_per_machine)
        besides = self.shared.usd_once + self.shared.usd_of_work
        return max(float(self.cost_usd - besides), 0.0) / max(self.shared.machines, 1)

    @property
    def own_usd(self) -> float:
        """What it costs besides shared machines and what is paid once for them."""
        if self.cost_usd is None:
            return 0.0
        if self.shared is not None and self.shared.usd_per_machine is None:
            return float(self.shared.usd_of_work)
        return float(self.cost_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One option for each workload, what all of it costs, and the machines bought."""

    chosen: tuple[Option, ...]
    plan_usd: Decimal
    baseline_usd: Decimal | None
    fleet: Mapping[str, int]
    is_proven: bool
    why: tuple[str, ...]


def options_from(rows: Iterable[tuple[int, Mapping[str, Any]]], *, name: str) -> list[Option]:
    """Return the options that numbered JSON objects state.

    Raises: BadInput, with the line, for a row that is none.
    """
    return [_option(row, f"{name}:{line}") for line, row in rows]


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
                f"the baseline {baseline!r} is no option of {', '.join(sorted(without))}",
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
            f"{workload}: " + "; ".join(f"{item.tier}: {item.binding_constraint or 'infeasible'}" for item in listed)
            for workload, listed in stuck.items()
        )
        raise InfeasiblePlan(
            f"no feasible option for {len(stuck)} of {len(by_workload)} workloads ({' | '.join(reasons)})",
            next_step="Add an option, or relax the constraint that is named",
        )
    search = _Search(list(candidates.values()))
    picked = search.run()
    baselines = [_baseline(listed) for listed in by_workload.values()]
    usd = sum((item.cost_usd for item in baselines if item.cost_usd is not None), Decimal(0))
    if any(item.shared is not None for item in baselines):
        usd = Decimal(str(round(total_cost(baselines)[0], 12)))
    total, fleet = total_cost(picked)
    return Choice(
        chosen=tuple(picked),
        plan_usd=Decimal(str(round(total, 12))),
        baseline_usd=usd if all(item.cost_usd is not None for item in baselines) else None,
        fleet=fleet,
        is_proven=search.is_proven,
        why=tuple(_why(item, by_workload[item.workload]) for item in picked),
    )


def total_cost(chosen: Sequence[Option]) -> tuple[float, dict[str, int]]:
    """Return what `chosen` costs together in USD, and the whole machines of each fleet, reserve included."""
    total = sum(option.own_usd for option in chosen)
    fleet: dict[str, int] = {}
    for name, needed in _fleets(chosen).items():
        fleet[name] = math.ceil(needed.work - _EPSILON) + needed.reserve
        total += fleet[name] * needed.machine_usd + needed.once_usd
    return total, fleet


@dataclass(frozen=True, slots=True)
class _Needed:
    """What options together need of one fleet."""

    work: float = 0.0
    reserve: int = 0
    machine_usd: float = 0.0
    once_usd: float = 0.0


def _fleets(chosen: Iterable[Option]) -> dict[str, _Needed]:
    fleets: dict[str, _Needed] = {}
    for option in chosen:
        if (share := option.shared) is not None:
            so_far = fleets.get(share.fleet, _Needed())
            fleets[share.fleet] = _Needed(
                work=so_far.work + share.work,
                reserve=max(so_far.reserve, share.reserve),
                machine_usd=max(so_far.machine_usd, option.machine_usd),
                once_usd=max(so_far.once_usd, float(share.usd_once)),
            )
    return fleets


class _Search:
    """Depth-first, dearest decisions first, cut where even fractional machines cost more than the best known."""

    def __init__(self, candidates: list[list[Option]]) -> None:
        self._order = sorted(
            range(len(candidates)), key=lambda index: -max(_alone_usd(option) for option in candidates[index])
        )
        self._candidates = [sorted(candidates[index], key=_alone_usd) for index in self._order]
        self._least = [min(_least_usd(option) for option in listed) for listed in self._candidates]
        self._best: list[Option] = []
        self._best_usd = math.inf
        self._visited = 0
        self.is_proven = True

    def run(self) -> list[Option]:
        """Return the best options found, in the order the workloads were given."""
        self._consider([listed[0] for listed in self._candidates])
        self._improve()
        self._descend([], sum(self._least))
        in_order = dict(zip(self._order, self._best, strict=True))
        return [in_order[index] for index in range(len(in_order))]

    def _consider(self, picked: list[Option]) -> bool:
        usd = total_cost(picked)[0]
        if usd < self._best_usd - _EPSILON:
            self._best, self._best_usd = list(picked), usd
            return True
        return False

    def _improve(self) -> None:
        """Move whole groups onto one fleet, then single workloads, while that helps: a good start cuts the search."""
        fleets = {o.shared.fleet for listed in self._candidates for o in listed if o.shared is not None}
        for fleet in sorted(fleets):
            self._consider(
                [
                    next((o for o in listed if o.shared is not None and o.shared.fleet == fleet), listed[0])
                    for listed in self._candidates
                ]
            )
        is_better = True
        while is_better:
            is_better = False
            for index, listed in enumerate(self._candidates):
                for option in listed:
                    trial = [*self._best[:index], option, *self._best[index + 1 :]]
                    is_better = self._consider(trial) or is_better

    def _descend(self, picked: list[Option], least_of_rest: float) -> None:
        self._visited += 1
        if self._visited > _LARGEST_SEARCH:
            self.is_proven = False
            return
        depth = len(picked)
        if depth == len(self._candidates):
            self._consider(picked)
            return
        rest = least_of_rest - self._least[depth]
        for option in self._candidates[depth]:
            picked.append(option)
            if _relaxed_usd(picked) + rest < self._best_usd - _EPSILON:
                self._descend(picked, rest)
            picked.pop()


def _relaxed_usd(picked: Sequence[Option]) -> float:
    return sum(option.own_usd for option in picked) + sum(
        (needed.work + needed.reserve) * needed.machine_usd + needed.once_usd for needed in _fleets(picked).values()
    )


def _alone_usd(option: Option) -> float:
    return total_cost([option])[0]


def _least_usd(option: Option) -> float:
    work = option.shared.work if option.shared is not None else 0.0
    return option.own_usd + work * option.machine_usd


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
    cheaper = [item for item in others if item.can_be_chosen and _alone_usd(item) < _alone_usd(picked) - _EPSILON]
    reason = "shares machines" if cheaper else f"least cost at {format_usd(picked.cost_usd)}"
    excluded = "; ".join(f"{', '.join(tiers)}: {why}" for why, tiers in reasons.items())
    return f"{place}: {reason}{f' (not {excluded})' if excluded else ''}"


def _option(row: Mapping[str, Any], where: str) -> Option:
    for key in ("workload", "tier"):
        if not row.get(key):
            raise BadInput(f"an option without {key}", where=where)
    for key in ("workload", "tier", "strategy"):
        if not isinstance(row.get(key, ""), str):
            raise BadInput(f"{key} is {row[key]!r}", where=where, allowed="a text")
    known = {"workload", "strategy", "tier", "cost_usd", "completion", "feasible", "shared", "baseline", "is_baseline"}
    completion, floor = _fraction(row, "completion", where), _fraction(row, "floor", where)
    feasible = True if row.get("feasible") is None else row["feasible"]
    if not isinstance(feasible, bool):
        raise BadInput(f"feasible is {feasible!r}", where=where, allowed="true or false")
    binding = row.get("binding_constraint")
    if feasible and completion is not None and floor is not None and completion < floor:
        feasible, binding = False, f"completes {completion:.1%}, below the floor of {floor:.1%}"
    strategy = str(row.get("strategy", "direct"))
    return Option(
        workload=str(row["workload"]),
        strategy=strategy,
        tier=str(row["tier"]),
        cost_usd=_money(row.get("cost_usd"), "cost_usd", where),
        completion=completion,
        feasible=feasible,
        binding_constraint=None if binding is None and feasible else str(binding or "stated infeasible"),
        is_baseline=bool(row.get("baseline", row.get("is_baseline", "baseline" in (strategy, row["tier"])))),
        shared=_share(row.get("shared"), str(row["tier"]), where),
        details={key: value for key, value in row.items() if key not in known},
    )


def _share(given: object, tier: str, where: str) -> FleetShare | None:
    if given is None:
        return None
    if not isinstance(given, Mapping) or "work" not in given:
        raise BadInput(f"shared is {given!r}", where=where, allowed='{"fleet": "box", "work": 0.4}')
    fleet, usd = given.get("fleet", tier), given.get("usd_per_machine", given.get("usd"))
    if isinstance(fleet, Mapping):
        usd = fleet.get("usd_per_machine", fleet.get("usd", usd))
        fleet = fleet.get("name", fleet.get("id", tier))
    elif isinstance(fleet, int | float | Decimal) and not isinstance(fleet, bool):
        usd, fleet = fleet, tier
    work = _number(given["work"], "shared.work", where)
    if not 0 <= work <= _MOST_MACHINES:
        raise BadInput(f"shared.work is {work}", where=where, allowed=f"0 to {_MOST_MACHINES:,} machines")
    reserve = _number(given.get("reserve", 0), "shared.reserve", where)
    if not (0 <= reserve <= _MOST_MACHINES and reserve.is_integer()):
        raise BadInput(f"shared.reserve is {given['reserve']}", where=where, allowed="a whole number of machines")
    return FleetShare(
        fleet=str(fleet),
        work=work,
        usd_per_machine=_money(usd, "shared.usd_per_machine", where),
        reserve=int(reserve),
        usd_once=_money(given.get("usd_once"), "shared.usd_once", where) or Decimal(0),
        usd_of_work=_money(given.get("usd_of_work"), "shared.usd_of_work", where) or Decimal(0),
    )


def _fraction(row: Mapping[str, Any], key: str, where: str) -> float | None:
    if row.get(key) is None:
        return None
    found = _number(row[key], key, where)
    if not 0 <= found <= 1:
        raise BadInput(f"{key} is {found:g}", where=where, allowed="a share from 0 to 1")
    return found


def _number(value: object, key: str, where: str) -> float:
    try:
        return float(str(value))
    except ValueError as error:
        raise BadInput(f"{key} is {value!r}", where=where, allowed="a number") from error


def _money(value: object, key: str, where: str) -> Decimal | None:
    if value is None:
        return None
    try:
        usd = Decimal(str(value))
    except InvalidOperation as error:
        raise BadInput(f"{key} is {value!r}", where=where, allowed='a number of dollars such as "0.001340"') from error
    if not usd.is_finite() or not 0 <= usd <= _MOST_USD:
        raise BadInput(f"{key} is {value!r}", where=where, allowed=f"0 to {_MOST_USD:,} dollars")
    return usd
