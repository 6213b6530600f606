"""Choose one option for each workload, so that the total is least; machines that several options share are paid once.

A fixed-charge assignment, solved exactly by branch and bound (the fleets' whole machines relaxed to
fractions give the bound); where the search is cut short, the answer says that it is not proven.
Dollars are added as they were written, to the last digit.
"""

from __future__ import annotations

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal, InvalidOperation, localcontext
from typing import Any

from ownward.core import BadInput, InfeasiblePlan, format_usd

_MOST_USD = 10**15
_MOST_MACHINES = 10**9
_LARGEST_SEARCH = 500_000  # options tried, in a few seconds
_MOST_MOVES = 30_000  # from each start: one pass at least
_EPSILON = 1e-9
_EXACT = Context(prec=60)  # 10**15 dollars x 10**9 machines, and the digits of a machine's share of a price
_PLACES = Decimal("1e-12")
_DUST = Decimal("1e-9")  # of a machine: what sums of floats may be off


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
            f"{workload}: " + "; ".join(f"{item.tier}: {item.binding_constraint or 'cost unknown'}" for item in listed)
            for workload, listed in stuck.items()
        )
        raise InfeasiblePlan(
            f"no feasible option for {len(stuck)} of {len(by_workload)} workloads ({' | '.join(reasons)})",
            next_step="Add an option, or relax the constraint that is named",
        )
    with localcontext(_EXACT):
        search = _Search([[_priced(option) for option in listed] for listed in candidates.values()])
        picked = search.run()
    baselines = [_baseline(listed) for listed in by_workload.values()]
    total, fleet = total_cost(picked)
    return Choice(
        chosen=tuple(picked),
        plan_usd=total,
        baseline_usd=total_cost(baselines)[0] if all(item.cost_usd is not None for item in baselines) else None,
        fleet=fleet,
        is_proven=search.is_proven,
        why=tuple(_why(item, by_workload[item.workload]) for item in picked),
    )


def total_cost(chosen: Sequence[Option]) -> tuple[Decimal, dict[str, int]]:
    """Return what `chosen` costs together in USD, to 12 places, and the whole machines of each fleet."""
    with localcontext(_EXACT):
        picked = _Picked()
        for option in chosen:
            picked.add(_priced(option))
        return picked.usd().quantize(_PLACES), {name: picked.machines(name) for name in picked.fleets()}


@dataclass(frozen=True, slots=True)
class _Priced:
    """An option's share of a total: `own_usd` besides its fleet, of which it needs `work`; `terms` are None without."""

    option: Option
    own_usd: Decimal
    fleet: str | None = None
    work: Decimal = Decimal(0)
    terms: _Terms | None = None

    @property
    def least_usd(self) -> Decimal:
        """What it adds to any total at least: of a machine no more than its work."""
        return self.own_usd if self.terms is None else self.own_usd + self.work * self.terms.machine_usd

    @property
    def alone_usd(self) -> Decimal:
        """What it costs if nothing shares its machines."""
        return self.own_usd if self.terms is None else self.own_usd + self.terms.usd(self.work)


@dataclass(frozen=True, slots=True)
class _Terms:
    """What an option states of its fleet; where options state it differently, the most of each holds for all."""

    reserve: int
    machine_usd: Decimal
    once_usd: Decimal

    def usd(self, work: Decimal) -> Decimal:
        """Return what the fleet costs with `work`."""
        return (_whole(work) + self.reserve) * self.machine_usd + self.once_usd

    def least_usd(self, work: Decimal) -> Decimal:
        """Return what it costs at least, whatever work is added: fractions of machines."""
        return (min(work, Decimal(_whole(work))) + self.reserve) * self.machine_usd + self.once_usd

    def joined(self, other: _Terms) -> _Terms:
        """Return the terms of a fleet that options of both share."""
        if self == other:
            return self
        return _Terms(
            max(self.reserve, other.reserve),
            max(self.machine_usd, other.machine_usd),
            max(self.once_usd, other.once_usd),
        )


def _priced(option: Option) -> _Priced:
    usd, share = option.cost_usd or Decimal(0), option.shared
    if share is None:
        return _Priced(option, usd)
    with localcontext(_EXACT):
        machine_usd = share.usd_per_machine
        if machine_usd is None:
            machine_usd = max(usd - share.usd_once - share.usd_of_work, Decimal(0)) / max(share.machines, 1)
            usd = share.usd_of_work
        terms = _Terms(share.reserve, machine_usd, share.usd_once)
        return _Priced(option, usd, share.fleet, Decimal(repr(share.work)), terms)


def _whole(work: Decimal) -> int:
    return max(math.ceil(work - _DUST), 0)


_Fleets = dict[str, tuple[Decimal, _Terms]]  # the work of each, and its terms


class _Picked:
    """Options that are bought together: what they cost as they come and go."""

    def __init__(self) -> None:
        self._own_usd = Decimal(0)
        self._work: defaultdict[str, Decimal] = defaultdict(Decimal)
        self._terms: defaultdict[str, Counter[_Terms]] = defaultdict(Counter)

    def add(self, one: _Priced) -> None:
        self._own_usd += one.own_usd
        if one.fleet is not None and one.terms is not None:
            self._work[one.fleet] += one.work
            self._terms[one.fleet][one.terms] += 1

    def remove(self, one: _Priced) -> None:
        self._own_usd -= one.own_usd
        if one.fleet is not None and one.terms is not None:
            self._work[one.fleet] -= one.work
            self._terms[one.fleet][one.terms] -= 1
            if not self._terms[one.fleet][one.terms]:
                del self._terms[one.fleet][one.terms]

    def fleets(self) -> list[str]:
        return [name for name, terms in self._terms.items() if terms]

    def machines(self, fleet: str) -> int:
        return _whole(self._work[fleet]) + functools.reduce(_Terms.joined, self._terms[fleet]).reserve

    def usd_with(self, fleets: Iterable[str | None]) -> Decimal:
        """Return what the options cost with those fleets, and without the others."""
        return sum((self._fleet_usd(name) for name in fleets if name is not None), self._own_usd)

    def usd(self) -> Decimal:
        return self.usd_with(self.fleets())

    def _fleet_usd(self, fleet: str) -> Decimal:
        if not self._terms[fleet]:
            return Decimal(0)
        return functools.reduce(_Terms.joined, self._terms[fleet]).usd(self._work[fleet])


class _Search:
    """Depth-first, dearest decisions first, cut where even fractional machines cost no less than the best known."""

    def __init__(self, candidates: list[list[_Priced]]) -> None:
        self._order = sorted(range(len(candidates)), key=lambda index: -max(one.alone_usd for one in candidates[index]))
        self._candidates = [
            _without_dearer(sorted(candidates[index], key=lambda one: (one.least_usd, one.alone_usd)))
            for index in self._order
        ]
        self._best: list[_Priced] = []
        self.is_proven = True

    def run(self) -> list[Option]:
        """Return the best options found, in the order the workloads were given."""
        starts = [
            [listed[0] for listed in self._candidates],  # the best there is where fleets are full
            [min(listed, key=lambda one: one.alone_usd) for listed in self._candidates],
            [next((one for one in listed if one.terms is None), listed[0]) for listed in self._candidates],
        ]
        self._best = min((self._improved(start) for start in starts), key=_usd_of)
        self._descend()
        in_order = dict(zip(self._order, self._best, strict=True))
        return [in_order[index].option for index in range(len(in_order))]

    def _improved(self, best: list[_Priced]) -> list[_Priced]:
        """Move whole groups onto a fleet and off it, then single workloads, while it helps: it cuts the search."""
        picked = _Picked()
        for one in best:
            picked.add(one)
        groups: dict[str, dict[int, _Priced]] = {}
        for index, listed in enumerate(self._candidates):
            for one in listed:
                if one.fleet is not None:
                    groups.setdefault(one.fleet, {}).setdefault(index, one)
        is_better, tried = True, 0
        while is_better and tried < _MOST_MOVES:
            is_better = False
            for fleet, onto in sorted(groups.items()):
                is_better = _move(best, picked, onto) or is_better
                is_better = _move(best, picked, self._moves_off(best, fleet, onto)) or is_better
            for index, listed in enumerate(self._candidates):
                for one in listed:
                    is_better = _move(best, picked, {index: one}) or is_better
                tried += len(listed)
        return best

    def _moves_off(self, best: list[_Priced], fleet: str, members: Iterable[int]) -> dict[int, _Priced]:
        others = {
            index: next((one for one in self._candidates[index] if one.fleet != fleet), None)
            for index in members
            if best[index].fleet == fleet
        }
        return {index: one for index, one in others.items() if one is not None}

    def _descend(self) -> None:
        """Try all that may be cheaper than the best, depth by depth; a loop, as workloads may be many."""
        best_usd = _usd_of(self._best)
        rest = [Decimal(0)]
        for listed in reversed(self._candidates):
            rest.append(rest[-1] + min(one.least_usd for one in listed))
        rest.reverse()
        fleets: _Fleets = {}
        picked: list[_Priced] = []
        undo: list[tuple[Decimal, tuple[Decimal, _Terms] | None]] = []  # as it was before each of the picked
        least_usd = Decimal(0)
        ways: list[Iterator[_Priced]] = [iter(self._candidates[0])]
        tried = 0
        while ways:
            one = next(ways[-1], None)
            if one is None:
                ways.pop()
                if picked:
                    least_usd, before = undo.pop()
                    _put(fleets, picked.pop().fleet, before)
                continue
            tried += 1
            if tried > _LARGEST_SEARCH:
                self.is_proven = False
                return
            now, usd = _with(fleets, one)
            if least_usd + usd + rest[len(picked) + 1] >= best_usd:
                continue
            undo.append((least_usd, fleets.get(one.fleet or "")))
            picked.append(one)
            least_usd += usd
            _put(fleets, one.fleet, now)
            ways.append(iter(self._candidates[len(picked)] if len(picked) < len(self._candidates) else ()))
            if len(picked) == len(self._candidates) and (total := least_usd + _rest_of_machines(fleets)) < best_usd:
                self._best, best_usd = list(picked), total


def _move(best: list[_Priced], picked: _Picked, moves: Mapping[int, _Priced]) -> bool:
    """Take the moves, by workload, if they make the best cheaper."""
    moves = {index: one for index, one in moves.items() if one is not best[index]}
    before = {index: best[index] for index in moves}
    fleets = {one.fleet for one in (*before.values(), *moves.values())}
    usd = picked.usd_with(fleets)
    _exchange(best, picked, moves)
    if picked.usd_with(fleets) < usd:
        return True
    _exchange(best, picked, before)
    return False


def _exchange(best: list[_Priced], picked: _Picked, moves: Mapping[int, _Priced]) -> None:
    for index, one in moves.items():
        picked.remove(best[index])
        picked.add(one)
        best[index] = one


def _without_dearer(listed: list[_Priced]) -> list[_Priced]:
    """Return the options less those that cost no less than one without a fleet, whatever they share."""
    apart = next((one for one in listed if one.terms is None), None)
    if apart is None:
        return listed
    return [one for one in listed if one is apart or (one.terms is not None and one.own_usd < apart.own_usd)]


def _usd_of(options: Iterable[_Priced]) -> Decimal:
    picked = _Picked()
    for one in options:
        picked.add(one)
    return picked.usd()


def _with(fleets: _Fleets, one: _Priced) -> tuple[tuple[Decimal, _Terms] | None, Decimal]:
    """Return its fleet's work and terms with one option more, and what that adds to the least they cost."""
    if one.fleet is None or one.terms is None:
        return None, one.own_usd
    if (before := fleets.get(one.fleet)) is None:
        return (one.work, one.terms), one.own_usd + one.terms.least_usd(one.work)
    work, terms = before[0] + one.work, before[1].joined(one.terms)
    return (work, terms), one.own_usd + terms.least_usd(work) - before[1].least_usd(before[0])


def _rest_of_machines(fleets: _Fleets) -> Decimal:
    """Return what whole machines cost more than the fractions that are worked."""
    return sum((terms.usd(work) - terms.least_usd(work) for work, terms in fleets.values()), Decimal(0))


def _put(fleets: _Fleets, fleet: str | None, work_and_terms: tuple[Decimal, _Terms] | None) -> None:
    if fleet is not None and work_and_terms is not None:
        fleets[fleet] = work_and_terms
    elif fleet is not None:
        fleets.pop(fleet, None)


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
