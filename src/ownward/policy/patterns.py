"""Patterns of one's own that cannot be made slow: a part of regular expressions with one way to match each text.

Python's engine tries every way in which repeats can share a text, which takes years for some. Here a repeat must be
followed by something that it cannot take itself, and is bounded, so that nothing is ever tried twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ownward.core import UsageError

MOST_PATTERN_BYTES: Final = 256
_MOST_REPEATS: Final = 64
_ALLOWED: Final = (
    r"Letters and signs, classes such as [A-Z0-9], \d \w \s, a full stop, alternatives |, the word boundary \b,"
    " and ? {n} {n,m} * + after one of these; (?i) at the beginning for either case. No groups, no look-around"
)

_ALL: Final = (1 << 256) - 1


def _bits(*ranges: tuple[int, int]) -> int:
    return sum(1 << byte for low, high in ranges for byte in range(low, high + 1))


_DIGIT: Final = _bits((0x30, 0x39))
_WORD: Final = _DIGIT | _bits((0x41, 0x5A), (0x61, 0x7A), (0x5F, 0x5F))
_SPACE: Final = _bits((0x09, 0x0D), (0x20, 0x20))
_CLASSES: Final = {
    "d": _DIGIT, "w": _WORD, "s": _SPACE, "D": _ALL ^ _DIGIT, "W": _ALL ^ _WORD, "S": _ALL ^ _SPACE,
    "n": 1 << 0x0A, "r": 1 << 0x0D, "t": 1 << 0x09,
}  # fmt: skip
_COUNT: Final = re.compile(r"\{(\d{1,3})(?:(,)(\d{1,3})?)?\}")


@dataclass(slots=True)
class _Item:
    """One byte out of `accepts` (a bit for each), `least` to `most` times; a word boundary accepts nothing."""

    accepts: int
    least: int = 1
    most: int = 1

    @property
    def is_boundary(self) -> bool:
        return self.accepts == 0

    @property
    def is_literal(self) -> bool:
        return self.accepts.bit_count() == 1 and self.least == self.most == 1


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> tuple[re.Pattern[bytes], ...]:
    r"""Return expressions, one for each alternative, that are searched for in time linear in the text.

    The longest of what they find is 256 bytes.

    Raises: UsageError, naming what is not taken and what to write.

    >>> [bool(one.search(b"by EMP-20417.")) for one in compile_pattern(r"\bEMP-\d{4,8}\b|\d{3}-\d{3}")]
    [True, False]
    """
    flags = re.NOFLAG
    text = pattern
    if text.startswith("(?i)"):
        flags, text = re.IGNORECASE, text.removeprefix("(?i)")
    alternatives = [_parse(part, pattern, ignore_case=bool(flags)) for part in _split(text)]
    for items in alternatives:
        _check(items, pattern, ignore_case=bool(flags))
    return tuple(re.compile(_write(items), flags) for items in alternatives)


def _refuse(pattern: str, why: str, allowed: str = _ALLOWED) -> UsageError:
    return UsageError(f"the pattern {pattern!r} {why}", allowed=allowed)


def _split(text: str) -> list[str]:
    """Split at `|` outside of classes and escapes."""
    parts, start, place, is_in_class = [], 0, 0, False
    while place < len(text):
        character = text[place]
        if character == "\\":
            place += 1
        elif character == "[":
            is_in_class = True
        elif character == "]":
            is_in_class = False
        elif character == "|" and not is_in_class:
            parts.append(text[start:place])
            start = place + 1
        place += 1
    return [*parts, text[start:]]


def _parse(text: str, pattern: str, *, ignore_case: bool) -> list[_Item]:
    items: list[_Item] = []
    place = 0
    while place < len(text):
        accepted, place = _parse_one(text, place, pattern, ignore_case=ignore_case)
        items.extend(_Item(bits) for bits in accepted)
        count = _parse_count(text, place, pattern)
        if count is None:
            continue
        least, most, place = count
        if len(accepted) != 1 or items[-1].is_boundary:
            raise _refuse(pattern, f"repeats {text[place - 1]!r} after what cannot be repeated")
        items[-1].least, items[-1].most = least, most
    return items


def _parse_one(text: str, place: int, pattern: str, *, ignore_case: bool) -> tuple[list[int], int]:
    """Return what stands at `place`, a set for each byte, and where it ends."""
    character = text[place]
    if character == "\\":
        if place + 1 == len(text):
            raise _refuse(pattern, "ends in a backslash")
        escaped = text[place + 1]
        if escaped == "b":
            return [0], place + 2
        return [_escaped(escaped, pattern)], place + 2
    if character == "[":
        return _parse_class(text, place + 1, pattern, ignore_case=ignore_case)
    if character == ".":
        return [_ALL ^ (1 << 0x0A)], place + 1
    if character in "()^$*+?{}":
        raise _refuse(pattern, f"has {character!r} where it is not allowed")
    return [1 << byte for byte in character.encode()], place + 1


def _escaped(character: str, pattern: str) -> int:
    if character in _CLASSES:
        return _CLASSES[character]
    if character.isalnum() or not character.isascii():
        raise _refuse(pattern, f"has \\{character}, which is not accepted")
    return 1 << ord(character)


def _parse_class(text: str, place: int, pattern: str, *, ignore_case: bool) -> tuple[list[int], int]:
    is_negated = text[place : place + 1] == "^"
    place += is_negated
    bits = 0
    first = place
    while True:
        if place >= len(text):
            raise _refuse(pattern, "has a [ without its ]")
        if text[place] == "]" and place > first:
            break
        low, place = _class_member(text, place, pattern)
        is_range = text[place : place + 1] == "-" and text[place + 1 : place + 2] not in {"", "]"}
        if is_range:
            high, place = _class_member(text, place + 1, pattern)
            ends = (low.bit_length() - 1, high.bit_length() - 1)
            if low.bit_count() != 1 or high.bit_count() != 1 or ends[0] > ends[1]:
                raise _refuse(pattern, "has a range that is not valid")
            low = _bits(ends)
        bits |= low
    accepted = _ALL ^ _folded(bits, ignore_case) if is_negated else bits
    if not accepted:
        raise _refuse(pattern, "has a class that matches nothing")
    return [accepted], place + 1


def _class_member(text: str, place: int, pattern: str) -> tuple[int, int]:
    if text[place] == "\\" and place + 1 < len(text):
        return _escaped(text[place + 1], pattern), place + 2
    if not text[place].isascii():
        raise _refuse(pattern, "has a character outside ASCII in a class", "Write it as an alternative: ä|ö")
    return 1 << ord(text[place]), place + 1


def _parse_count(text: str, place: int, pattern: str) -> tuple[int, int, int] | None:
    """Return the least and the most repeats stated at `place`, and where that ends; None where none are."""
    sign = text[place : place + 1]
    if sign and sign in "?*+":
        least, most = {"?": (0, 1), "*": (0, _MOST_REPEATS), "+": (1, _MOST_REPEATS)}[sign]
        return least, most, place + 1
    found = _COUNT.match(text, place)
    if found is None:
        return None
    least = int(found[1])
    most = least if found[2] is None else _MOST_REPEATS if found[3] is None else int(found[3])
    if not least <= most <= _MOST_REPEATS or most == 0:
        raise _refuse(pattern, f"repeats {found[0]}", f"Up to {_MOST_REPEATS} repeats")
    return least, most, found.end()


def _check(items: list[_Item], pattern: str, *, ignore_case: bool) -> None:
    if not any(item.least and not item.is_boundary for item in items):
        raise _refuse(pattern, "matches every text", "Something in each alternative that must be there")
    if sum(item.most for item in items) > MOST_PATTERN_BYTES:
        raise _refuse(pattern, "can be longer than 256 bytes", "Fewer repeats, written as {n,m}")
    for index, item in enumerate(items):
        if item.least == item.most:
            continue
        for following in items[index + 1 :]:
            if _folded(item.accepts, ignore_case) & _folded(following.accepts, ignore_case):
                raise _refuse(
                    pattern,
                    "has a repeat whose end is ambiguous",
                    r"After a repeat, something that the repeat itself cannot match, as in [A-Z]{2,4}\d{6}",
                )
            if following.least and not following.is_boundary:
                break


def _folded(bits: int, ignore_case: bool) -> int:
    if not ignore_case:
        return bits
    letters = _bits((0x41, 0x5A))
    return bits | (bits & letters) << 32 | (bits >> 32) & letters


def _write(items: list[_Item]) -> bytes:
    """Return the expression; a word boundary before literals is looked for after them, which is ten times as fast."""
    literals = 0
    if items[0].is_boundary:
        for item in items[1:]:
            if not item.is_literal:
                break
            literals += 1
    if not literals:
        return b"".join(map(_write_item, items))
    begin = b"".join(map(_write_item, items[1 : literals + 1]))
    return begin + rb"(?<=\b" + begin + b")" + b"".join(map(_write_item, items[literals + 1 :]))


def _write_item(item: _Item) -> bytes:
    if item.is_boundary:
        return rb"\b"
    members = b"".join(b"\\x%02x" % byte for byte in range(256) if item.accepts >> byte & 1)
    if item.is_literal:
        return members
    if (item.least, item.most) == (1, 1):
        return b"[" + members + b"]"
    return b"[%b]{%d,%d}+" % (members, item.least, item.most)
