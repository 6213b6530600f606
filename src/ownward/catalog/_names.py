"""Forgiving names: what people type, and the one machine or model it can mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

_WORD = re.compile(r"[a-z]+[0-9][a-z0-9.]*|[0-9]+[a-z0-9.]*|[a-z]+|\+")
_LISTED = 8
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
    spaced = _SIZE.sub(r"\1\2", _spaced(name))
    return tuple(re.sub(r"^sxm\d$", "sxm", word.strip(".")) for word in _WORD.findall(spaced))


def has_words(name: str, text: str) -> bool:
    """Return whether every word of `text` starts a word, or the number in one, of `name`.

    >>> has_words("Qwen3.5-397B-A17B", "qwen 397b"), has_words("GH200", "h200"), has_words("GH200", "200")
    (True, False, True)
    """
    spaced = _spaced(name)
    return all(re.search(_start_of(piece) + re.escape(piece), spaced) for piece in _spaced(text).split())


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
        of `name` among the words of one name, the plainest where one is; then
        the words that are written as one (`rtx3090`, `7900xtx`).
        """
        exact = self._exact.get(fold(name))
        if exact:
            return tuple(exact)
        return self._find_by_words(name) or self._find_by_words(self._parted(name))

    def _find_by_words(self, name: str) -> tuple[str, ...]:
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
        return tuple(key for key, spelled in self._names.items() if any(has_words(name, text) for name in spelled))

    def _parted(self, name: str) -> str:
        after_brand = re.sub(rf"\b({'|'.join(sorted(self._filler))})(?=\d)", r"\1 ", name.lower())
        return re.sub(r"(?<=\d)(?=[a-z]{2})", " ", after_brand)

    def _telling(self, name: str) -> frozenset[str]:
        return frozenset(split_words(name)) - self._filler

    def _worded(self) -> list[tuple[frozenset[str], str]]:
        if not self._words:
            pairs = ((self._telling(name), key) for key, spelled in self._names.items() for name in spelled)
            self._words = [(words, key) for words, key in pairs if words]
        return self._words


def _spaced(name: str) -> str:
    return re.sub(r"[^a-z0-9.+]+", " ", name.lower())


def _start_of(piece: str) -> str:
    return "(?<![a-z])" if piece[0].isalpha() else "(?<![0-9.])"


def _keys(pairs: Iterable[tuple[frozenset[str], str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for _, key in pairs))


def listed(names: Sequence[str]) -> str:
    """Return names quoted for an error, cut with a count."""
    shown = ", ".join(repr(name) for name in names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"
