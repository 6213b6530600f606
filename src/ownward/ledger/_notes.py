"""What rows say in words that are read back: which call was the second, which was too late, which task is a trial's."""

from __future__ import annotations

import re
from typing import Final

TRIAL_PREFIX: Final = "trial_"
_OF_TRIAL: Final = re.compile(rf"{TRIAL_PREFIX}[0-9A-Z]{{26}}/")
_HEDGE: Final = "hedge: "
_BEATEN: Final = "beaten by "


def hedge_note(first: str, *, after_s: float) -> str:
    """Return the note of a second call, by which its row is known.

    >>> hedge_note("own/a", after_s=0.4)
    'hedge: sent 0.400 s after own/a'
    """
    return f"{_HEDGE}sent {after_s:.3f} s after {first}"


def beaten_note(winner: str, *, asked_later_s: float | None) -> str:
    """Return the note of a call that was cancelled since another one had answered; None, where that was asked before.

    >>> beaten_note("own/b", asked_later_s=0.4)
    'beaten by own/b, asked 0.400 s later'
    """
    return f"{_BEATEN}{winner}" if asked_later_s is None else f"{_BEATEN}{winner}, asked {asked_later_s:.3f} s later"


def says_hedge(note: str | None) -> bool:
    """Return whether an attempt was a second call.

    >>> says_hedge("hedge: sent 0.400 s after own/a"), says_hedge("beaten by own/b"), says_hedge(None)
    (True, False, False)
    """
    return note is not None and note.startswith(_HEDGE)


def says_beaten(note: str | None) -> bool:
    """Return whether an attempt was cancelled since another one had answered first.

    >>> says_beaten("hedge: sent 0.400 s after own/a; beaten by own/a; it was cancelled")
    True
    """
    return note is not None and (note.startswith(_BEATEN) or (says_hedge(note) and f"; {_BEATEN}" in note))


def is_of_trial(task_id: str) -> bool:
    """Return whether a task was asked by a trial, whose id its name begins with.

    >>> is_of_trial("trial_01M83SVRV51A293W2F32A9FNDC/api/0"), is_of_trial("trial_run/7")
    (True, False)
    """
    return _OF_TRIAL.match(task_id) is not None


def is_of_trial_sql(column: str) -> str:
    """Return the condition, in SQL, that the task named in `column` was asked by a trial."""
    return f"SUBSTR({column}, 1, 6) = '{TRIAL_PREFIX}' AND SUBSTR({column}, 33, 1) = '/'"
