"""Which workload a request is of, and which label its data has, which a key, a header and its own words only shrink."""

from __future__ import annotations

from ownward.gateway.errors import UnknownRoute
from ownward.gateway.placing.accepting import ANYTHING
from ownward.gateway.placing.choice import UNASSIGNED, Asked, Matched
from ownward.gateway.placing.naming import check_workload_name, names_for, stands_for_workload, tiers_for, tiers_of
from ownward.gateway.placing.routing import Detection, RoutingTable
from ownward.plan import Workload
from ownward.policy import Label


def match(asked: Asked, table: RoutingTable) -> Matched:
    """Return the workload and the tiers that a request asks for.

    A workload is found by the header, by its own name as `model`, or by its match rules, in this order; the
    header x-ownward-tier then narrows to one tier. Else `model` may name a tier, or the model of one.
    Raises: UnknownRoute, if nothing has the name, or none the one that the header states; OutOfScope likewise.
    """
    check_workload_name(asked.workload, asked.key, table)
    matched = _find_match(asked, table)
    if matched is not None:
        return matched
    if asked.tier is not None:
        raise UnknownRoute(asked.tier, tiers_for(asked.key, table), what="tier")
    raise UnknownRoute(asked.model, names_for(asked.key, table))


def name_refused(asked: Asked, table: RoutingTable) -> tuple[str, Label]:
    """Return the workload and the label of a request that was refused, as far as they can be told."""
    matched = _find_match(asked, table)  # in no words: finding the closest name once is enough
    if matched is None or not (asked.workload is None or stands_for_workload(asked.workload, asked.key, table)):
        return asked.workload or UNASSIGNED, compute_label(asked, table, None)[0]
    return matched.workload, compute_label(asked, table, matched.declared)[0]


def find_detection(asked: Asked, table: RoutingTable) -> tuple[Detection, ...]:
    """Return what is looked for in a request of this workload, or of none."""
    declared, _ = _declared(asked, table)
    of_all: tuple[Detection, ...] = table.detection.get(None, ())
    return of_all if declared is None else table.detection.get(declared.name, of_all)


def _find_match(asked: Asked, table: RoutingTable) -> Matched | None:
    declared, why = _declared(asked, table)
    if asked.tier is not None:
        if asked.tier not in table.targets:
            return None
        name = declared.name if declared else asked.workload or UNASSIGNED
        return Matched(workload=name, declared=declared, tiers=(asked.tier,), why=f"{why}, tier by header")
    if declared is not None:
        tiers = tiers_of(declared)
        # A workload that accepts everything keeps the name that a request states of its own, unless a budget must
        # find all its requests under one name.
        takes_names = declared.match == ANYTHING and declared.budget is None
        name = asked.workload if asked.workload is not None and takes_names else declared.name
        return Matched(workload=name, declared=declared, tiers=tiers, why=why)
    name = asked.workload or UNASSIGNED
    if asked.model in table.targets:
        return Matched(workload=name, declared=None, tiers=(asked.model,), why="the model names a tier")
    by_model = table.tiers_by_model.get(asked.model)
    if by_model is None:
        return None
    return Matched(workload=name, declared=None, tiers=by_model, why="the model of a tier")


def _declared(asked: Asked, table: RoutingTable) -> tuple[Workload | None, str]:
    if asked.workload is not None:
        stated = table.plan.workloads.get(asked.workload)
        if stated is not None:
            return stated, "by header"
    named = table.plan.workloads.get(asked.model)
    if named is not None:
        return named, "by model name"
    key_id = asked.key.key_id if asked.key is not None else None
    for workload, is_certain in table.accepting(asked.model, key_id):
        if is_certain or workload.match.accepts(
            model=asked.model,
            headers=asked.headers,
            key_id=key_id,
            metadata=asked.metadata,
            fingerprint=asked.fingerprint,
        ):
            return workload, "by its match rules"
    return None, "named by no workload"


def compute_label(asked: Asked, table: RoutingTable, declared: Workload | None) -> tuple[Label, str]:
    """Return the places a request's data may travel to, and who says so.

    A key, a header, earlier turns and what was found in the request only shrink them.
    """
    label, why = table.default_label, table.default_label_origin
    if declared is not None:
        label, why = declared.label, "the workload's"
    key_label = asked.key.label if asked.key is not None else None
    narrowing = ((key_label, "the key"), (asked.label, "the request's header"), (asked.inherited, "an earlier turn"))
    for narrower, who in narrowing:
        if narrower is None:
            continue
        met = label.meet(narrower)
        if met != label:
            label, why = met, f"{why}, shrunk by {who}"
    for found in asked.found:
        met = label.meet(found.label)
        if met != label:
            label, why = met, f"{why}, shrunk by {found.name} found in it"
    return label, why
