"""Which known names a mistyped one may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str], *, limit: int = 3) -> tuple[str, ...]:
    """Return up to `limit` of `known` that resemble `name`, best first; empty if none does.

    Case and the separators `-`, `_`, `.`, `/` and space are ignored, and a name
    that contains `name` counts as close.

    >>> closest("tires", ["tiers", "workloads"])
    ('tiers',)
    """
    folded = {_fold(candidate): candidate for candidate in sorted(known, reverse=True)}
    wanted = _fold(name)
    containing = sorted(key for key in folded if wanted and wanted in key)
    similar = difflib.get_close_matches(wanted, list(folded), n=limit, cutoff=0.6)
    ordered = dict.fromkeys([*similar, *containing])
    return tuple(folded[key] for key in ordered)[:limit]


def _fold(name: str) -> str:
    return "".join(character for character in name.lower() if character not in "-_./ ")
