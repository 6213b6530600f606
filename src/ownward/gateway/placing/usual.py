"""The choice for a request while nothing is down and nothing full: what it hangs on, so that it can be remembered."""

from __future__ import annotations

from collections.abc import Container, Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ownward.gateway.placing.choice import Asked, Choice
    from ownward.gateway.placing.routing import Memory

_NOT_LOOKED_AT = (None, None, None, None)


def key_of(asked: Asked) -> Hashable | None:
    """Return all that the choice for a request hangs on; None where that is more than is worth remembering."""
    if asked.found or (asked.headers, asked.metadata, asked.fingerprint, asked.inherited) != _NOT_LOOKED_AT:
        return None
    return "choice", asked.endpoint.path, asked.model, asked.workload, asked.tier, asked.label, asked.key, asked.needs


def recall(key: Hashable | None, memory: Memory, full_tiers: Container[str]) -> Choice | None:
    """Return what was chosen before where this is asked; None where nothing was, or one of its tiers is full."""
    choice: Choice | None = None if key is None else memory.get(key)
    if choice is not None:
        for target in choice.targets:
            if target.tier.name in full_tiers:
                return None
    return choice
