"""Changes written into a plan's file so that a person's comments, order and spelling survive."""

from __future__ import annotations

from ownward.plan._plan import Plan


def rewrite(plan: Plan, previous_text: str) -> str:
    """Return `previous_text` with what differs from `plan` changed."""
    from ownward.plan._dumps import dumps
    from ownward.plan._read import loads

    return previous_text if loads(previous_text) == plan else dumps(plan)
