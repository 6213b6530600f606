"""System messages behind others, where the upstream's model takes them at the beginning alone.

They are told in their place, in a user's message and marked as Anthropic documents it for its models that take none
there. That is less than what the client said, so that it is done where the upstream has refused, and named.
"""

from __future__ import annotations

from dataclasses import replace

from ownward.upstreams.translation._core import Asked, Text, Turn
from ownward.upstreams.translation._members import Report


def has_later_system(asked: Asked) -> bool:
    """Return whether a request has system messages behind others."""
    return any(turn.role == "system" for turn in asked.turns)


def with_reminders(asked: Asked, report: Report) -> Asked:
    """Return a request whose later system messages are a user's, and name each of them as one that lost its role."""
    return replace(
        asked, turns=tuple(_reminder(turn, report) if turn.role == "system" else turn for turn in asked.turns)
    )


def _reminder(turn: Turn, report: Report) -> Turn:
    report.drop(f"{turn.path}.role")
    said = tuple(
        replace(part, text=f"<system-reminder>\n{part.text}\n</system-reminder>") if isinstance(part, Text) else part
        for part in turn.parts
    )
    return replace(turn, role="user", parts=said)
