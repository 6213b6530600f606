"""What an attempt's row says of hedging, in words that are read back: which call was the second, which was too late."""

from __future__ import annotations

from typing import Final

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
