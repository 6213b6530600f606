"""Which tiers may have a request's data and can do what it asks: its key's scope, its label, dialects, capabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ownward.gateway.endpoints import COUNT_TOKENS, EMBEDDINGS, Endpoint
from ownward.gateway.errors import Incapable, NoUpstream, Threadless
from ownward.gateway.needs import THREADS, UNSTATED
from ownward.gateway.placing.choice import Asked, Eligible, Matched
from ownward.gateway.placing.naming import out_of_scope, tiers_of
from ownward.gateway.placing.no_target import forbidden
from ownward.gateway.placing.routing import RoutingTable, Target
from ownward.gateway.placing.substitutes import may_keep_threads
from ownward.policy import Label

if TYPE_CHECKING:
    from ownward.upstreams import translation

_SHOWN_FIELDS = 6

_START_S = 1.0
"""After so long a client may ask again for an engine that is being started: small ones are back by then."""

_WHY_ENGINES_LACK = {
    "audio": "as the engine serves it without sound",
    "embeddings": "as its engine_options state no embedding = true",
    "functions": "as its engine reads tools alone",
    "tools": "as the chat template of its model knows none and the engine would leave them out",
    "tools beside a form of JSON": "as its engine holds every answer to the form and would call none",
    "vision": "as the engine serves it without pictures",
}

_NO_THREADS = "keeps no threads"

_WITHOUT_OTHER = {
    EMBEDDINGS.path: f"Add a tier that serves {EMBEDDINGS.path} to the workload",
    COUNT_TOKENS.path: "Add a tier that speaks anthropic, or state the capability count_tokens where its server counts",
}
"""What to do where a tier speaks another dialect that has nothing like the endpoint."""


def compute_eligible(asked: Asked, table: RoutingTable, matched: Matched, label: Label, label_why: str) -> Eligible:
    """Return the tiers that a key's scope, the label, the dialect and the needed capabilities leave.

    Raises: OutOfScope, PolicyRefusal or Incapable, by the first question that leaves none; Threadless, if the request
    wants its conversation held, and a tier that could serve it otherwise does not.
    """
    _check_scope(asked, matched)
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
    needs_translation = any(target.substitute(asked.endpoint, asked.needs) for targets in tiers for target in targets)
    return Eligible(
        tiers=tuple(targets for targets in tiers if targets), reason=reason, needs_translation=needs_translation
    )


def find_translated(asked: Asked, eligible: Eligible) -> list[Target]:
    """Return the upstreams for which `leave_out_untranslatable` looks whether the request can be translated."""
    tiers = _before_own_dialect(asked, eligible)
    return [target for targets in tiers for target in targets if target.substitute(asked.endpoint, asked.needs)]


def _before_own_dialect(asked: Asked, eligible: Eligible) -> Sequence[tuple[Target, ...]]:
    for place, targets in enumerate(eligible.tiers):
        if not any(target.substitute(asked.endpoint, asked.needs) for target in targets):
            return eligible.tiers[:place]
    return eligible.tiers


def leave_out_untranslatable(
    asked: Asked,
    eligible: Eligible,
    matched: Matched,
    why_untranslatable: Callable[[Target], translation.Untranslatable | None],
) -> Eligible:
    """Return the upstreams without those that are asked in another dialect, into which the request does not translate.

    Only the tiers up to the first that speaks the client's own dialect are looked at: those behind it are asked, and
    their translation made, where it fails. Those that merely cannot read the reasoning of the running turn, as another
    provider sealed it, stand behind those that can: where all of these fail, the conversation goes on without it.
    Raises: Incapable, if none is left.
    """
    tiers: list[tuple[Target, ...]] = []
    forgetful: dict[str, list[Target]] = {}
    lacking: dict[str, translation.Untranslatable] = {}
    in_question = _before_own_dialect(asked, eligible)
    for targets in in_question:
        kept = []
        for target in targets:
            why = why_untranslatable(target) if target.substitute(asked.endpoint, asked.needs) else None
            if why is None:
                kept.append(target)
                continue
            lacking[target.tier.name] = why
            if why.is_of_seals:
                forgetful.setdefault(target.tier.name, []).append(target)
        if kept:
            tiers.append(tuple(kept))
    tiers += eligible.tiers[len(in_question) :]
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
    return Eligible(tiers=(*tiers, *map(tuple, forgetful.values())), reason=reason, needs_translation=True)


def _check_scope(asked: Asked, matched: Matched) -> None:
    key = asked.key
    if key is None:
        return
    checks = ((key.workloads, (matched.workload,), "workload"), (key.tiers, matched.tiers, "tier"))
    for scope, wanted, what in checks:
        if scope is not None and not scope.intersection(wanted):
            raise out_of_scope(key, wanted, scope, what)
    if asked.tier is None or key.workloads is None or key.tiers is not None or matched.declared is None:
        return
    of_workload = tiers_of(matched.declared)  # a header opens no other tier to it, as the model's name does not
    if asked.tier not in of_workload:
        raise out_of_scope(key, matched.tiers, of_workload, "tier")


def _can_take(target: Target, label: Label, asked: Asked) -> bool:
    return target.unusable is None and label.permits(target.place) and _serves(target, asked.endpoint)


def _serves(target: Target, endpoint: Endpoint) -> bool:
    if endpoint.dialect in target.dialects or endpoint.path in target.substitutes:
        return True
    return endpoint is COUNT_TOKENS and target.counts_tokens


def _lack(asked: Asked, targets: Sequence[Target]) -> str | None:
    """Return what a tier cannot do of what is asked; one that states no capability is taken to have them all."""
    if not any(_serves(target, asked.endpoint) for target in targets):
        return f"speaks {targets[0].upstream.dialect} only"
    first = targets[0]
    instead, stated = first.substitute(asked.endpoint, asked.needs), first.tier.capabilities
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
        return None if may_keep_threads(first.tier, is_translated=instead is not None) else _NO_THREADS
    return None


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
