"""Where a request goes and why: pure functions over plain values.

Order of the questions: which workload, which label (`matching`); which tiers may have the data (policy), which of them
can do it (dialect, capability: `eligible`); and here, which are up (breakers, slots), which is least loaded. The reason
is part of the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Mapping, Sequence

from ownward.gateway.headers import ascii_of
from ownward.gateway.placing.breaker import CLOSED, Breaker
from ownward.gateway.placing.choice import Asked, Choice, Eligible, Matched
from ownward.gateway.placing.eligible import compute_eligible, find_translated, leave_out_untranslatable
from ownward.gateway.placing.matching import compute_label, match
from ownward.gateway.placing.no_target import describe_down, none_up
from ownward.gateway.placing.routing import Memory, RoutingTable, Target
from ownward.policy import Label

_LAST_RESORT = " (a probe: nothing else is up)"
_NO_PEERS: Mapping[str, int] = {}

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
    peer_load: Mapping[str, int] = _NO_PEERS,
) -> Choice:
    """Return the candidates for a request in order, with the reason.

    `breakers` and `in_flight` are by target key, absent meaning closed and none. `by_prefix` orders the upstreams of
    tiers that balance so; without it, and in other tiers, the one with the fewest calls in flight comes first, those of
    other workers, which `peer_load` holds, among them.
    Raises: UnknownRoute, OutOfScope, PolicyRefusal, Incapable, NoUpstream.
    """
    plain = _plain_key(asked)
    if not breakers and (known := _recall(plain, table.memory, full_tiers)) is not None:
        return known
    matched, label, eligible = _find_eligible(asked, table)
    if eligible.needs_translation and asked.why_untranslatable is not None:
        eligible = leave_out_untranslatable(asked, eligible, matched, asked.why_untranslatable)
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
            ordered, why = _order(usable, by_prefix, in_flight=in_flight, peer_load=peer_load)
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
        answer_headers=((b"x-ownward-workload", ascii_of(matched.workload)), (b"x-ownward-reason", ascii_of(reason))),
        declared=matched.declared,
        is_pinned=asked.tier is not None,
        is_last_resort=is_last_resort,
        left_alone=() if is_last_resort else tuple(left_alone),
    )
    if (
        plain is not None
        and not down
        and not eligible.needs_translation
        and all(len(tier) == 1 for tier in eligible.tiers)
    ):
        table.memory.remember(plain, choice)
    return choice


def find_to_translate(asked: Asked, table: RoutingTable) -> list[Target]:
    """Return the upstreams that are asked in another dialect and that `choose` wants to know the words for.

    Raises: UnknownRoute, OutOfScope, PolicyRefusal, Incapable, NoUpstream.
    """
    if (plain := _plain_key(asked)) is not None and plain in table.memory:
        return []
    return find_translated(asked, _find_eligible(asked, table)[2])


def _find_eligible(asked: Asked, table: RoutingTable) -> tuple[Matched, Label, Eligible]:
    matched = match(asked, table)
    label, label_why = compute_label(asked, table, matched.declared)
    return matched, label, _remembered(asked, table, matched, label, label_why)


def _plain_key(asked: Asked) -> Hashable | None:
    """Return all that a choice hangs on while nothing is down or full; None where it is not worth remembering."""
    if asked.found or asked.inherited is not None:
        return None
    if asked.headers is not None or asked.metadata is not None or asked.fingerprint is not None:
        return None
    return "choice", asked.endpoint.path, asked.model, asked.workload, asked.tier, asked.label, asked.key, asked.needs


def _recall(key: Hashable | None, memory: Memory, full_tiers: Container[str]) -> Choice | None:
    """Return what was chosen before where this is asked; None where nothing was, or one of its tiers is full."""
    choice: Choice | None = None if key is None else memory.get(key)
    if choice is not None:
        for target in choice.targets:  # without a limit none is full
            if target.tier.max_concurrency is not None and target.tier.name in full_tiers:
                return None
    return choice


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


def _order(
    usable: Sequence[Target], by_prefix: Order | None, *, in_flight: Mapping[str, int], peer_load: Mapping[str, int]
) -> tuple[list[Target], str]:
    """Return the upstreams of one tier, best first, and why where that is more than how busy they are."""
    if by_prefix is not None and usable[0].tier.balances_by_prefix:
        return by_prefix(usable)
    return sorted(usable, key=lambda target: in_flight.get(target.key, 0) + peer_load.get(target.key, 0)), ""


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
