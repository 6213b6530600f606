"""The errors of a request that no upstream may or can serve: by its label, by a new plan, or as all are down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ownward.core import PolicyRefusal, RateLimited
from ownward.gateway.errors import NoUpstream
from ownward.gateway.placing.breaker import CLOSED, Breaker

if TYPE_CHECKING:
    from ownward.gateway.placing.choice import Eligible, Matched
    from ownward.gateway.placing.routing import Target
    from ownward.policy import Label


def forbidden(matched: Matched, label: Label, label_why: str, targets: Iterable[Target]) -> PolicyRefusal:
    """Return the refusal of a label that permits none of the workload's tiers, with the line of the plan that would."""
    listed = list(targets)
    places = "; ".join(f"{target.tier.name} is at {target.place}" for target in listed)
    first = listed[0].place
    wider = "site" if first.is_on_site else first.region or (f"provider:{first.provider}" if first.provider else "any")
    if "found in it" in label_why:
        next_step = "Name a tier within that label in the workload, or leave the personal data out of the request"
    elif "shrunk" in label_why:
        next_step = "Send a wider x-ownward-label, or use another key, if the data may go there"
    elif matched.declared is not None:
        next_step = f'If the data may go there, write in the plan: [workloads.{matched.workload}] label = "{wider}"'
    else:
        next_step = f'If the data may go there, write in the plan: default_label = "{wider}"'
    return PolicyRefusal(
        f'the label "{label}" ({label_why}) of workload {matched.workload!r} permits none of its tiers: {places}',
        allowed="This machine alone" if label.is_local_only else f"This machine, and {label}",
        next_step=f"Nothing was sent. {next_step}",
    )


def describe_down(target: Target, breakers: Mapping[str, Breaker]) -> str:
    """Return a target that is down as messages name it, with the reason where an operator has to act."""
    breaker = breakers.get(target.key, CLOSED)
    return f"{target.key} (its account has no credit)" if breaker.is_unpaid else target.key


def none_up(
    eligible: Eligible, down: Sequence[str], *, breakers: Mapping[str, Breaker], now_s: float
) -> NoUpstream | RateLimited:
    """Return the error of a request whose eligible upstreams are all down, with when to try again."""
    waits = [
        breakers[target.key].last_allowed_s() - now_s
        for targets in eligible.tiers
        for target in targets
        if target.key in breakers
    ]
    wait_s = max(min(waits, default=1.0), 1.0)
    next_step = f"Try again in {wait_s:.0f} s; nothing was sent and nothing charged"
    known = [breakers.get(key) for key in down]
    if down and all(breaker is not None and breaker.asks_to_wait for breaker in known):
        return RateLimited(
            f"every upstream that can serve the request has answered 429 and asks to wait: {', '.join(down)}",
            retry_after_s=wait_s,
            next_step=next_step,
        )
    return NoUpstream(
        f"no upstream can take the request now: {', '.join(down)}", retry_after_s=wait_s, next_step=next_step
    )


def refuse_anew(label: Label, target: Target) -> PolicyRefusal:
    """Return the refusal of a request that a plan loaded meanwhile no longer lets go to `target`."""
    return PolicyRefusal(
        f'the plan was loaded anew, and "{label}" is where the request may go by both it and the one before: not to'
        f" {target.key}, which is at {target.place}",
        allowed="Where both plans let it go",
        next_step="Ask again: the new plan alone holds then",
    )
