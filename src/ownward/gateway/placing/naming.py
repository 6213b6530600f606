"""Which of the plan's names a client may ask for as `model`: those to which its key's scope and label leave a way."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from ownward.gateway.errors import OutOfScope, UnknownRoute
from ownward.gateway.placing.accepting import ANYTHING
from ownward.plan import Workload

if TYPE_CHECKING:
    from ownward.gateway.placing.choice import KeyScope
    from ownward.gateway.placing.routing import RoutingTable

_Way = tuple[Workload | None, tuple[str, ...]]


def names_for(key: KeyScope | None, table: RoutingTable) -> tuple[str, ...]:
    """Return the names that a request with this key may have as its model; what a header may add counts as added."""
    if key is None or (key.workloads is None and key.tiers is None and key.label is None):
        return table.route_names
    found: tuple[str, ...] | None = table.memory.get(("names", key))
    if found is None:
        leaving: dict[str, bool] = {}  # by workload: many names share many of them

        def leaves(way: _Way) -> bool:
            workload = way[0]
            if workload is None:
                return _leaves(key, way, table)
            if workload.name not in leaving:
                leaving[workload.name] = _leaves(key, way, table)
            return leaving[workload.name]

        found = tuple(name for name in table.route_names if any(map(leaves, _ways(name, key, table))))
        table.memory.remember(("names", key), found)
    return found


def may_ask_for(name: str, key: KeyScope | None, table: RoutingTable) -> bool:
    """Return whether a request with this key may have such a model: one of the names, or one that a pattern accepts."""
    if name in names_for(key, table):
        return True
    return any(way[1] and (key is None or _leaves(key, way, table)) for way in _ways(name, key, table))


def tiers_for(key: KeyScope | None, table: RoutingTable) -> tuple[str, ...]:
    """Return the tiers that a request with this key may name: those of its scope, else of its workloads, else all."""
    if key is None:
        return tuple(table.targets)
    named = key.tiers
    if named is None and key.workloads is not None and key.workloads <= table.plan.workloads.keys():
        named = frozenset(tier for name in key.workloads for tier in tiers_of(table.plan.workloads[name]))
    return tuple(name for name in table.targets if named is None or name in named)


def tiers_of(workload: Workload) -> tuple[str, ...]:
    """Return the tiers that a workload's requests may go to, first those of its strategy."""
    return (*workload.strategy.tiers, *workload.fallback)


def check_workload_name(name: str | None, key: KeyScope | None, table: RoutingTable) -> None:
    """Refuse a workload's name that stands for none: misspelt, it would leave the request to a wider label.

    Names are free where no workload of the plan could be meant, and where the key's scope holds the very name.
    Raises: UnknownRoute, with the names that the key may use; OutOfScope, where its scope holds others.
    """
    if name is None or stands_for_workload(name, key, table):
        return
    if key is not None and key.workloads is not None:
        raise out_of_scope(key, (name,), key.workloads, "workload")
    known = [known for known in names_for(key, table) if known in table.plan.workloads]
    raise UnknownRoute(name, known, what="workload")


def stands_for_workload(name: str, key: KeyScope | None, table: RoutingTable) -> bool:
    """Return whether a request with this key may state `name` as its workload: one of the plan, or one of its own."""
    if name in table.plan.workloads or table.has_free_names:
        return True
    return key is not None and key.workloads is not None and name in key.workloads


def out_of_scope(key: KeyScope, wanted: Sequence[str], scope: Collection[str], what: str) -> OutOfScope:
    """Return what a client is told whose key may use other workloads or tiers than it asks for."""
    return OutOfScope(
        f"the key {key.key_id!r} may not use the {what} {', '.join(map(repr, wanted))}",
        allowed=f"It may use {', '.join(sorted(scope)) or 'none'}",
        next_step="Use another key, or make one with a wider scope: ownward keys create",
    )


def _ways(name: str, key: KeyScope | None, table: RoutingTable) -> Iterator[_Way]:
    """Give each workload that may serve the name, with its tiers; None for no workload, where none is certain to."""
    declared = table.plan.workloads.get(name)
    found = ((declared, True),) if declared is not None else table.accepting(name, None if key is None else key.key_id)
    for workload, is_certain in found:
        yield workload, tiers_of(workload)
        if is_certain:
            return
    yield None, (name,) if name in table.targets else table.tiers_by_model.get(name, ())


def _leaves(key: KeyScope, way: _Way, table: RoutingTable) -> bool:
    workload, tiers = way
    if key.workloads is not None and (workload is None or workload.name not in key.workloads):
        takes_any_name = workload is None or (workload.match == ANYTHING and workload.budget is None)
        if not takes_any_name or key.workloads <= table.plan.workloads.keys():
            return False
    label = table.default_label if workload is None else workload.label
    if key.label is not None:
        label = label.meet(key.label)
    left = [name for name in tiers if key.tiers is None or name in key.tiers]
    return any(label.permits(target.place) for name in left for target in table.targets[name])
