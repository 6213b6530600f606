"""Members of a request that an engine would pass over without a word: an answer without them is none to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ownward.gateway import json_body
from ownward.gateway.errors import Incapable

if TYPE_CHECKING:
    from ownward.gateway.placing.routing import Target

_UNSAID: Final = frozenset({b"", b"null", b"false", b'""'})


def refuse_passed_over(body: bytes, target: Target) -> None:
    """Do nothing, unless a completion states what the engine of `target` would pass over.

    Raises: Incapable.
    """
    members = target.habits.passes_over
    if not any(name.encode() in body for name in members):
        return
    top = json_body.read_top(body)
    said = [name for name in sorted(members) if bytes(top.get(name, b"")) not in _UNSAID]
    if said:
        raise Incapable(
            f"the engine of tier {target.tier.name!r} passes over {' and '.join(said)}, and would answer without",
            next_step=f"Leave out {' and '.join(said)}, or ask a tier that knows it",
            field=said[0],
        )
