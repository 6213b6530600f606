"""Forgiving names: what people type, and the one machine or model it can mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

_WORD = re.compile(r"[a-z]+[0-9][a-z0-9.]*|[0-9]+[a-z0-9.]*|[a-z]+|\+")
_SIZE = re.compile(r"(\d+)\s+(gib|gb|core)\b")


def fold(name: str) -> str:
    """Return `name` without case, blanks and separators: what exact matching compares.

    >>> fold("GeForce RTX-4090"), fold("Qwen3.5_397B")
    ('geforcertx4090', 'qwen3.5397b')
    """
    return re.sub(r"[^a-z0-9.+]", "", name.lower())


def split_words(name: str) -> tuple[str, ...]:
    """Return the words of a name, a size and its unit together, `SXM5` as `sxm`.

    >>> split_words("H100-SXM5 80 GB")
    ('h100', 'sxm', '80gb')
    """
    spaced = _SIZE.sub(r"\1\2", re.sub(r"[^a-z0-9.+]+", " ", name.lower()))
    return tuple(re.sub(r"^sxm\d$", "sxm", word.strip(".")) for word in _WORD.findall(spaced))


class NameIndex:
    """Names and aliases of one kind of thing, each leading to an id."""

    def __init__(self, names: Mapping[str, Iterable[str]], *, filler: frozenset[str] = frozenset()) -> None:
        """Take the names of each id; words of `filler` (brands) do not tell one from another."""
        self._exact: dict[str, list[str]] = {}
        self._words: list[tuple[frozenset[str], str]] = []
        self._filler = filler
        for key, spelled in names.items():
            for name in dict.fromkeys((key, *spelled)):
                owners = self._exact.setdefault(fold(name), [])
                if key not in owners:
                    owners.append(key)
        self._names = {key: tuple(dict.fromkeys((key, *spelled))) for key, spelled in names.items()}

    def find(self, name: str) -> tuple[str, ...]:
        """Return the ids that `name` can mean: one if it is clear, several if it is not, none if unknown.

        First the exact spelling, then the same telling words, then all words
        of `name` among the words of one name, the plainest where one is.
        """
        exact = self._exact.get(fold(name))
        if exact:
            return tuple(exact)
        wanted = self._telling(name)
        if not wanted:
            return ()
        candidates = [(words, key) for words, key in self._worded() if wanted <= words]
        same = _keys(pair for pair in candidates if pair[0] == wanted)
        # `5070` means the plain RTX 5070 and not the RTX 5070 Ti, whose words include all of the other's.
        plain = _keys(pair for pair in candidates if all(pair[0] <= words for words, _ in candidates))
        return same or plain or _keys(candidates)

    def search(self, text: str) -> tuple[str, ...]:
        """Return the ids of which one name contains every word of `text`, in the order of the catalogue."""
        pieces = [fold(piece) for piece in text.split()]
        pieces = [piece for piece in pieces if piece]
        return tuple(
            key
            for key, spelled in self._names.items()
            if all(any(piece in fold(name) for name in spelled) for piece in pieces)
        )

    def _telling(self, name: str) -> frozenset[str]:
        return frozenset(split_words(name)) - self._filler

    def _worded(self) -> list[tuple[frozenset[str], str]]:
        if not self._words:
            pairs = ((self._telling(name), key) for key, spelled in self._names.items() for name in spelled)
            self._words = [(words, key) for words, key in pairs if words]
        return self._words


def _keys(pairs: Iterable[tuple[frozenset[str], str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for _, key in pairs))


def listed(names: Sequence[str], *, limit: int = 8) -> str:
    """Return names quoted for an error, cut with a count."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
