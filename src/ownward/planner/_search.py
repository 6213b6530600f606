"""The cheapest option of each workload together, where options share fleets of whole machines.

A fixed-charge assignment, solved exactly by branch and bound (the fleets' whole machines relaxed to
fractions give the bound); where the search is cut short, the answer is not proven.
Dollars are added as they were written, to the last digit.
"""

from __future__ import annotations

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

from ownward.planner._options import Option

_LARGEST_SEARCH = 500_000  # options tried, in a few seconds
_MOST_MOVES = 30_000  # from each start: one pass at least
_EXACT = Context(prec=60)  # 10**15 dollars x 10**9 machines, and the digits of a machine's share of a price
_PLACES = Decimal("1e-12")
_DUST = Decimal("1e-9")  # of a machine: what sums of floats may be off


def find_cheapest(candidates: Sequence[Sequence[Option]]) -> tuple[list[Option], bool]:
    """Return an option of each list, such that together they cost least, and whether that is proven."""
    with localcontext(_EXACT):
        search = _Search([[_priced(option) for option in listed] for listed in candidates])
        return search.run(), search.is_proven


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
