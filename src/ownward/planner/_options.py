"""One way to serve a workload for the period planned, as it is worked out here or stated in a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from ownward.core import BadInput

_MOST_USD = 10**15
_MOST_MACHINES = 10**9
_EPSILON = 1e-9  # of a machine


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


def options_from(rows: Iterable[tuple[int, Mapping[str, Any]]], *, name: str) -> list[Option]:
    """Return the options that numbered JSON objects state.

    Raises: BadInput, with the line, for a row that is none.
    """
    return [_option(row, f"{name}:{line}") for line, row in rows]


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
