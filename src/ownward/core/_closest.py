"""Which known names a mistyped one may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_LEAST_ALIKE = 0.6
_LEAST_WORDS = 0.5
# What speaks for a name besides its likeness: it goes on where the typed one ends; it has each of its words.
_BEGINS, _HAS_WORDS = 0.25, 0.15
# What speaks against a name that goes on after what is alike.
_UNFINISHED = 0.06
_WORD = re.compile(r"[a-z]+|[0-9]+(?:\.[0-9]+)?")
_LONGEST = 256
"""What is longer is no slip of the pen, and comparing it would take as long as somebody wishes."""


def closest(name: str, known: Iterable[str], *, limit: int = 3) -> tuple[str, ...]:
    """Return up to `limit` of `known` that resemble `name`, best first; empty if none does.

    Case and the separators `-`, `_`, `.`, `/` and space are ignored. Names that go on where `name` ends, from their
    start or from one of their words, and those that have the beginnings of all its words, go before others as alike;
    those that contain it or share half of its words count as close.

    >>> closest("tires", ["tiers", "workloads"])
    ('tiers',)
    >>> closest("RTX 40", ["RTX A4000", "GeForce RTX 4090", "RTX 3060"], limit=2)
    ('GeForce RTX 4090', 'RTX A4000')
    """
    if len(name) > _LONGEST:
        return ()
    wanted = _fold(name)
    words = _WORD.findall(name.lower())
    matcher = difflib.SequenceMatcher(None, b=wanted)  # it is looked at once, for all that it is compared with
    ranked = []
    for candidate in dict.fromkeys(known):
        folded = _fold(candidate)
        likeness = _likeness(wanted, words, folded, candidate, matcher)
        if likeness > 0:
            ranked.append((-likeness, len(folded), folded, candidate))
    found: dict[str, str] = {}
    for _, _, folded, candidate in sorted(ranked):
        found.setdefault(folded, candidate)
    return tuple(found.values())[:limit]


def _likeness(
    wanted: str, words: list[str], folded: str, candidate: str, matcher: difflib.SequenceMatcher[str]
) -> float:
    """Return how likely `candidate` was meant; 0 for not at all. `matcher` compares with what was wanted."""
    if not wanted:
        return 0.0
    theirs = _WORD.findall(candidate.lower())
    begun = next((rest for rest in _rests(folded, theirs) if rest.startswith(wanted)), None)
    if begun is not None:
        return _alike(begun, matcher) + _BEGINS
    shared = sum(any(their.startswith(word) for their in theirs) for word in words) / max(len(words), 1)
    has_all = shared == 1.0
    least = 0.0 if has_all or wanted in folded else _LEAST_ALIKE
    unfinished = _alike(folded[: len(wanted) + 1], matcher, least=least + _UNFINISHED) - _UNFINISHED
    alike = max(_alike(folded, matcher, least=least) + (_HAS_WORDS if has_all else 0.0), unfinished)
    if has_all or alike >= least:
        return alike
    has_telling = any(len(word) > 1 and not word[0].isdigit() for word in words)
    return shared / 2 if shared >= _LEAST_WORDS and has_telling else 0.0


def _rests(folded: str, words: list[str]) -> list[str]:
    """Return the name, and what is left of it from each of its words on."""
    found = [folded]
    at = 0
    for word in words:
        at = folded.find(word, at)
        if at < 0:
            break
        found.append(folded[at:])
        at += len(word)
    return found


def _alike(left: str, matcher: difflib.SequenceMatcher[str], *, least: float = 0.0) -> float:
    """Return how alike `left` and what the matcher compares with are; 0, and quickly, below `least`."""
    matcher.set_seq1(left)
    if matcher.real_quick_ratio() < least or matcher.quick_ratio() < least:
        return 0.0
    return matcher.ratio()


def _fold(name: str) -> str:
    return "".join(character for character in name.lower() if character not in "-_./ ")
