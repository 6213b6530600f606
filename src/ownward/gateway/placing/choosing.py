"""Where a request goes and why: pure functions over plain values.

Order of the questions: which workload, which label, which tiers may have the data (policy), which of them can
do it (dialect, capability), which are up (breakers, slots), which is least loaded. The reason is part of the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from ownward.core import PolicyRefusal
from ownward.gateway.endpoints import COUNT_TOKENS, EMBEDDINGS, Endpoint
from ownward.gateway.errors import Incapable, NoUpstream, Threadless, UnknownRoute
from ownward.gateway.placing import usual
from ownward.gateway.placing.accepting import ANYTHING
from ownward.gateway.placing.breaker import CLOSED, Breaker
from ownward.gateway.placing.crossings import THREADS, UNSTATED, may_keep_threads
from ownward.gateway.placing.naming import (
    check_workload_name,
    names_for,
    out_of_scope,
    stands_for_workload,
    tiers_for,
)
from ownward.gateway.placing.nowhere import describe_down, forbidden, none_up
from ownward.gateway.placing.routing import Detection, RoutingTable, Target
from ownward.plan import Budget, Workload
from ownward.policy import Label

if TYPE_CHECKING:
    from ownward.upstreams import translation

_SHOWN_FIELDS = 6
_LAST_RESORT = " (a probe: nothing else is up)"
_NONE_ELSEWHERE: Mapping[str, int] = {}

LimitsBy = Literal["window", "bucket"]
"""How a key's minute is counted: no 60 s hold more, or a minute's worth at once that refills evenly."""

UNASSIGNED = "unassigned"
"""The workload of a request that no workload of the plan accepts and that names none."""


class KeyScope(msgspec.Struct, frozen=True, kw_only=True):
    """What a key permits; None is no restriction."""

    key_id: str
    workloads: frozenset[str] | None = None
    tiers: frozenset[str] | None = None
    label: Label | None = None
    budget: Budget | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    limits_by: LimitsBy = "bucket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a detector found in a request, by the detector's name, and where data with it may go."""

    name: str
    label: Label


class Asked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a request states of itself; `inherited` is the label of what was said before it, where it goes on."""

    endpoint: Endpoint
    model: str
    workload: str | None = None
    tier: str | None = None
    label: Label | None = None
    key: KeyScope | None = None
    headers: Mapping[str, str] | None = None
    metadata: Mapping[str, str] | None = None
    fingerprint: str | None = None
    needs: frozenset[str] = frozenset()
    found: tuple[Found, ...] = ()
    inherited: Label | None = None
    carries: Callable[[Target], translation.Untranslatable | None] | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The candidates in the order they are tried, and why; `is_pinned` where the request names its one tier.

    `is_last_resort` where every candidate was left alone for failing, and these are tried all the same; else
    `left_alone` are those that were.
    """

    workload: str
    label: Label
    targets: tuple[Target, ...]
    reason: str
    declared: Workload | None = None
    is_pinned: bool = False
    is_last_resort: bool = False
    left_alone: tuple[Target, ...] = ()


class Matched(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The workload and the tiers that a request asks for."""

    workload: str
    declared: Workload | None
    tiers: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Eligible:
    """The upstreams that may have the data and can do the work, by tier in order; `reason` is what is known so far."""

    tiers: tuple[tuple[Target, ...], ...]
    reason: str
    crosses: bool = False


Order = Callable[[Sequence[Target]], tuple[list[Target], str]]
"""How the upstreams of one tier are ordered, best first, and why."""


def choose(
    asked: Asked,
    table: RoutingTable,
    *,
    breakers: Mapping[str, Breaker],
    in_flight: Mapping[str, int],
    full_tiers: Container[str],
    now_s: float,
    by_prefix: Order | None = None,
    elsewhere: Mapping[str, int] = _NONE_ELSEWHERE,
) -> Choice:
    """Return the candidates for a request in order, with the reason.

    `breakers` and `in_flight` are by target key, absent meaning closed and none. `by_prefix` orders the upstreams of
    tiers that balance so; without it, and in other tiers, the one with the fewest calls in flight comes first, those of
    other workers, which `elsewhere` holds, among them.
    Raises: UnknownRoute, OutOfScope, PolicyRefusal, Incapable, NoUpstream.
    """
    plain = usual.key_of(asked)
    if not breakers and (known := usual.recall(plain, table.memory, full_tiers)) is not None:
        return known
    matched = match(asked, table)
    label, label_why = compute_label(asked, table, matched.declared)
    eligible = _remembered(asked, table, matched, label, label_why)
    if eligible.crosses and asked.carries is not None:
        eligible = _leave_out_untold(asked, eligible, matched, asked.carries)
    up: list[Target] = []
    down: list[str] = []
    left_alone: list[Target] = []
    first_why = ""
    for targets in eligible.tiers:
        usable = [target for target in targets if breakers.get(target.key, CLOSED).allows(now_s)]
        if len(usable) < len(targets):
            out = [target for target in targets if target not in usable]
            down += [describe_down(target, breakers) for target in out]
            left_alone += out
        if usable and usable[0].tier.name in full_tiers:
            down.append(f"{usable[0].tier.name} (full)")
        elif len(usable) > 1:
            ordered, why = _order(usable, by_prefix, in_flight=in_flight, elsewhere=elsewhere)
            if not up and why:
                first_why = f" ({why})"
            up += ordered
        else:
            up += usable
    is_last_resort = not up
    if not up:
        up = _last_resorts(eligible, breakers=breakers, full_tiers=full_tiers, now_s=now_s)
        first_why = _LAST_RESORT
    if not up:
        raise none_up(eligible, down, breakers=breakers, now_s=now_s)
    reason = f"{eligible.reason}; first {up[0].key}{first_why} of {len(up)}"
    if down:
        reason = f"{reason}; down: {', '.join(down)}"
    choice = Choice(
        workload=matched.workload,
        label=label,
        targets=tuple(up),
        reason=reason,
        declared=matched.declared,
        is_pinned=asked.tier is not None,
        is_last_resort=is_last_resort,
        left_alone=() if is_last_resort else tuple(left_alone),
    )
    if plain is not None and not down and not eligible.crosses and all(len(tier) == 1 for tier in eligible.tiers):
        table.memory.remember(plain, choice)
    return choice


def _order(
    usable: Sequence[Target], by_prefix: Order | None, *, in_flight: Mapping[str, int], elsewhere: Mapping[str, int]
) -> tuple[list[Target], str]:
    """Return the upstreams of one tier, best first, and why where that is more than how busy they are."""
    if by_prefix is not None and usable[0].tier.balances_by_prefix:
        return by_prefix(usable)
    return sorted(usable, key=lambda target: in_flight.get(target.key, 0) + elsewhere.get(target.key, 0)), ""


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


def _find_match(asked: Asked, table: RoutingTable) -> Matched | None:
    declared, why = _declared(asked, table)
    if asked.tier is not None:
        if asked.tier not in table.targets:
            return None
        name = declared.name if declared else asked.workload or UNASSIGNED
        return Matched(workload=name, declared=declared, tiers=(asked.tier,), why=f"{why}, tier by header")
    if declared is not None:
        tiers = (*declared.strategy.tiers, *declared.fallback)
        # A workload that accepts everything keeps the name that a request states of its own, unless a budget must
        # find all its requests under one name.
        is_renamed = asked.workload is not None and declared.match == ANYTHING and declared.budget is None
        name = asked.workload if asked.workload is not None and is_renamed else declared.name
        return Matched(workload=name, declared=declared, tiers=tiers, why=why)
    name = asked.workload or UNASSIGNED
    if asked.model in table.targets:
        return Matched(workload=name, declared=None, tiers=(asked.model,), why="the model names a tier")
    by_model = table.tiers_by_model.get(asked.model)
    if by_model is None:
        return None
    return Matched(workload=name, declared=None, tiers=by_model, why="the model of a tier")


def name_refused(asked: Asked, table: RoutingTable) -> tuple[str, Label]:
    """Return the workload and the label of a request that was refused, as far as they can be told."""
    matched = _find_match(asked, table)  # in no words: finding the closest name once is enough
    if matched is None or not (asked.workload is None or stands_for_workload(asked.workload, asked.key, table)):
        return asked.workload or UNASSIGNED, compute_label(asked, table, None)[0]
    return matched.workload, compute_label(asked, table, matched.declared)[0]


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


def refuse_anew(label: Label, target: Target) -> PolicyRefusal:
    """Return what is said where a plan that was loaded since lets a request no longer go where it was about to."""
    return PolicyRefusal(
        f'the plan was loaded anew, and "{label}" is where the request may go by both it and the one before: not to'
        f" {target.key}, which is at {target.place}",
        allowed="Where both plans let it go",
        next_step="Ask again: the new plan alone holds then",
    )


def find_detection(asked: Asked, table: RoutingTable) -> tuple[Detection, ...]:
    """Return what is looked for in a request of this workload, or of none."""
    declared, _ = _declared(asked, table)
    of_all: tuple[Detection, ...] = table.detection.get(None, ())
    return of_all if declared is None else table.detection.get(declared.name, of_all)


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


def _remembered(asked: Asked, table: RoutingTable, matched: Matched, label: Label, label_why: str) -> Eligible:
    key_tiers = asked.key.tiers if asked.key is not None else None
    key_workloads = asked.key.workloads if asked.key is not None else None
    memory_key = (
        matched.workload, matched.why, matched.tiers, label, label_why, asked.endpoint.path, asked.needs,
        key_tiers, key_workloads,
    )  # fmt: skip
    found: Eligible | None = table.memory.get(memory_key)
    if found is None:
        found = compute_eligible(asked, table, matched, label, label_why)
        table.memory.remember(memory_key, found)
    return found


def compute_eligible(asked: Asked, table: RoutingTable, matched: Matched, label: Label, label_why: str) -> Eligible:
    """Return the tiers that a key's scope, the label, the dialect and the needed capabilities leave.

    Raises: OutOfScope, PolicyRefusal or Incapable, by the first question that leaves none; Threadless, if the request
    wants its conversation held, and a tier that could serve it otherwise does not.
    """
    _check_scope(asked.key, matched)
    key_tiers = asked.key.tiers if asked.key is not None else None
    names = [name for name in matched.tiers if key_tiers is None or name in key_tiers]
    permitted = [name for name in names if any(label.permits(target.place) for target in table.targets[name])]
    if not permitted:
        raise forbidden(matched, label, label_why, [table.targets[name][0] for name in names])
    tiers: list[tuple[Target, ...]] = []
    lacking: list[str] = []
    for name in permitted:
        lack = _lack(asked, table.targets[name])
        if lack is _NO_THREADS:
            raise Threadless(matched.workload, name)
        if lack is not None:
            lacking.append(f"{name} {lack}")
            continue
        tiers.append(tuple(target for target in table.targets[name] if _can_take(target, label, asked)))
    if not any(tiers):
        raise _incapable(asked, matched, lacking, [target for name in permitted for target in table.targets[name]])
    notes = [f"{name} not permitted" for name in names if name not in permitted] + lacking
    reason = f"workload {matched.workload} ({matched.why}); label {label} ({label_why})"
    if notes:
        reason = f"{reason}; left out: {', '.join(notes)}"
    crosses = any(target.crossing(asked.endpoint, asked.needs) for targets in tiers for target in targets)
    return Eligible(tiers=tuple(targets for targets in tiers if targets), reason=reason, crosses=crosses)


def _leave_out_untold(
    asked: Asked, eligible: Eligible, matched: Matched, carries: Callable[[Target], translation.Untranslatable | None]
) -> Eligible:
    """Return the upstreams without those that are asked in another dialect, which has no words for the request.

    Only the tiers up to the first that speaks the client's own dialect are looked at: those behind it are asked, and
    their translation made, where it fails. Those that merely cannot read the reasoning of the running turn, as another
    provider sealed it, stand behind those that can: where all of these fail, the conversation goes on without it.
    Raises: Incapable, if none is left.
    """
    tiers: list[tuple[Target, ...]] = []
    forgetful: dict[str, list[Target]] = {}
    lacking: dict[str, translation.Untranslatable] = {}
    for place, targets in enumerate(eligible.tiers):
        if not any(target.crossing(asked.endpoint, asked.needs) for target in targets):
            tiers += eligible.tiers[place:]
            break
        kept = []
        for target in targets:
            why = carries(target) if target.crossing(asked.endpoint, asked.needs) else None
            if why is None:
                kept.append(target)
                continue
            lacking[target.tier.name] = why
            if why.is_of_seals:
                forgetful.setdefault(target.tier.name, []).append(target)
        if kept:
            tiers.append(tuple(kept))
    told = "; ".join(
        f"{name} is asked in another dialect, with no words for {why}"
        for name, why in lacking.items()
        if not (tiers and name in forgetful)
    )
    if not tiers:
        fields = tuple(dict.fromkeys(field for why in lacking.values() for field in why.fields))
        raise Incapable(
            f"no tier of workload {matched.workload!r} can serve this request: {told}",
            allowed="What another dialect can say: see the table in docs/reference/translation.md",
            next_step=f"Leave out {', '.join(fields[:_SHOWN_FIELDS])}, or add a tier that speaks your dialect",
            field=fields[0],
        )
    if not lacking:
        return eligible
    reason = eligible.reason
    if told:
        reason = f"{reason}; left out: {told}"
    if forgetful:
        reason = f"{reason}; last: {', '.join(forgetful)}, which cannot read the reasoning of this turn"
    return Eligible(tiers=(*tiers, *map(tuple, forgetful.values())), reason=reason, crosses=True)


def _can_take(target: Target, label: Label, asked: Asked) -> bool:
    return target.unusable is None and label.permits(target.place) and _serves(target, asked.endpoint)


def _serves(target: Target, endpoint: Endpoint) -> bool:
    if endpoint.dialect in target.dialects or endpoint.path in target.crossings:
        return True
    return endpoint is COUNT_TOKENS and target.counts_tokens


_START_S = 1.0
"""After so long a client may ask again for an engine that is being started: small ones are back by then."""

_WHY_ENGINES_LACK = {
    "audio": "as the engine serves it without sound",
    "embeddings": "as its engine_options state no embedding = true",
    "functions": "as its engine reads tools alone",
    "tools": "as the chat template of its model knows none and the engine would leave them out",
    "vision": "as the engine serves it without pictures",
}
_NO_THREADS = "keeps no threads"


def _lack(asked: Asked, targets: Sequence[Target]) -> str | None:
    """Return what a tier cannot do of what is asked; one that states no capability is taken to have them all."""
    if not any(_serves(target, asked.endpoint) for target in targets):
        return f"speaks {targets[0].upstream.dialect} only"
    first = targets[0]
    instead, stated = first.crossing(asked.endpoint, asked.needs), first.tier.capabilities
    if stated:
        needed = (instead or asked.endpoint).needs
        if not stated & needed:
            return (
                f"does not serve {asked.endpoint.path}:"
                f" its capabilities are stated without {' or '.join(sorted(needed))}"
            )
        missing = asked.needs - stated - UNSTATED
        if missing:
            return f"lacks {', '.join(sorted(missing))}"
    if not first.lacks.isdisjoint(asked.endpoint.needs):
        return f"does not serve {asked.endpoint.path}, {_WHY_ENGINES_LACK['embeddings']}"
    if unable := asked.needs & first.lacks:
        return f"lacks {', '.join(sorted(unable))}, {_WHY_ENGINES_LACK[min(unable)]}"
    if THREADS in asked.needs and asked.endpoint.dialect == "anthropic":
        return None if may_keep_threads(first.tier, is_crossed=instead is not None) else _NO_THREADS
    return None


def _check_scope(key: KeyScope | None, matched: Matched) -> None:
    if key is None:
        return
    checks = ((key.workloads, (matched.workload,), "workload"), (key.tiers, matched.tiers, "tier"))
    for scope, wanted, what in checks:
        if scope is not None and not scope.intersection(wanted):
            raise out_of_scope(key, wanted, scope, what)


_WITHOUT_OTHER = {
    EMBEDDINGS.path: f"Add a tier that serves {EMBEDDINGS.path} to the workload",
    COUNT_TOKENS.path: "Add a tier that speaks anthropic, or state the capability count_tokens where its server counts",
}
"""What to do where a tier speaks another dialect that has nothing like the endpoint."""


def _incapable(
    asked: Asked, matched: Matched, lacking: Sequence[str], targets: Sequence[Target]
) -> Incapable | NoUpstream:
    unusable = [f"{target.key}: {target.unusable}" for target in targets if target.unusable]
    if unusable and len(lacking) < len({target.tier.name for target in targets}):
        is_starting = any(target.is_starting for target in targets)
        return NoUpstream(
            f"no upstream of workload {matched.workload!r} can be used: {'; '.join(unusable)}",
            retry_after_s=_START_S if is_starting else None,
            next_step="Try again in a second" if is_starting else "The log of ownward serve says more",
        )
    other = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
    dialect = targets[0].upstream.dialect
    translate = None
    if not _serves(targets[0], asked.endpoint):
        translate = _WITHOUT_OTHER.get(asked.endpoint.path, f"Ask at {other[dialect]} instead")
    return Incapable(
        f"no tier of workload {matched.workload!r} can serve this request: {'; '.join(lacking)}",
        allowed="Capabilities stand in [tiers.NAME] of the plan; what is translated, in docs/reference/translation.md",
        next_step=translate or "Leave out what is lacking, or add a tier that has it to the workload",
    )


def _last_resorts(
    eligible: Eligible, *, breakers: Mapping[str, Breaker], full_tiers: Container[str], now_s: float
) -> list[Target]:
    """Return what may be tried although it failed, since nothing else is left; first what would be tried first."""
    allowed = [
        target
        for targets in eligible.tiers
        for target in targets
        if target.tier.name not in full_tiers and breakers.get(target.key, CLOSED).allows_last(now_s)
    ]
    return sorted(allowed, key=lambda target: breakers.get(target.key, CLOSED).open_until_s)
