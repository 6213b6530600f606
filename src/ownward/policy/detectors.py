"""Detectors of personal data: what they find can only shrink where a request may travel.

They find what people write without a thought, not what somebody hides. Every search is linear in the text, so that no
request can make it slow, and everything in a body is text: all messages, tool calls and their results, in every
dialect, through any depth of JSON escapes.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import Final, Literal, get_args

from ownward.policy.patterns import MOST_PATTERN_BYTES, compile_pattern

DetectorKind = Literal["email", "phone", "iban", "card"]
DETECTOR_KINDS: Final[tuple[str, ...]] = get_args(DetectorKind)

UNEXAMINED: Final = "text too long to examine"
MOST_EXAMINED_BYTES: Final = 16 << 20
"""Of longer bodies nothing is known, so that they count as if something had been found."""
UNEXAMINED_YET: Final = "text that takes too long to examine"
"""What callers say who stop a scan before its end: it counts as if something had been found."""

_PIECE_BYTES: Final = 32 * 1024
_OVERLAP_BYTES: Final = 4096  # the longest of what is found, each of its characters escaped
assert MOST_PATTERN_BYTES * 8 <= _OVERLAP_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Detectors:
    """What is looked for: shipped detectors by name, and patterns of one's own by a name for each.

    Raises: UsageError, if a detector is unknown or a pattern is none of those that are taken.
    """

    kinds: tuple[str, ...]
    patterns: Mapping[str, str] = field(default_factory=dict)
    _searches: tuple[tuple[str, Callable[[bytes], bool]], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile."""
        searches = [(kind, _SEARCHES[kind]) for kind in dict.fromkeys(self.kinds)]
        for name, pattern in self.patterns.items():
            searches.append((name, partial(_is_any_in, compile_pattern(pattern))))
        object.__setattr__(self, "_searches", tuple(searches))

    def scan(self, body: bytes) -> Iterator[str | None]:
        r"""Yield the name of what was found, and end; or None for each piece of 32 KiB that holds nothing.

        A caller that has other work does it between pieces.

        >>> list(Detectors(kinds=("email", "iban")).scan(b'{"content": "to ada@example.org"}'))
        ['email']
        """
        if len(body) > MOST_EXAMINED_BYTES:
            yield UNEXAMINED
            return
        start = 0
        while True:
            text = plain_text(body[start : start + _PIECE_BYTES + _OVERLAP_BYTES])
            for name, is_in in self._searches:
                if is_in(text):
                    yield name
                    return
            yield None
            start += _PIECE_BYTES
            if start + _OVERLAP_BYTES >= len(body):
                return

    def find(self, body: bytes) -> str | None:
        """Return the name of the first thing found, or None."""
        return next((found for found in self.scan(body) if found is not None), None)


def plain_text(text: bytes) -> bytes:
    r"""Return text as it reads: JSON escapes of any depth undone, typographic spaces and dashes and digits plain.

    >>> plain_text(rb'{"arguments": "{\"to\": \"ada\\u0040example.org\"}"}')
    b'{"arguments": "{\\"to\\": \\"ada@example.org\\"}"}'
    """
    if b"\\" in text:
        for escape, character in _SHORT_ESCAPES:
            text = text.replace(escape, character)
        if b"\\u" in text:
            text = _UNICODE_ESCAPE.sub(_unescape, text)
    if not text.isascii():
        text = _TYPOGRAPHY.sub(_narrow, text)
    if b"%40" in text:
        text = text.replace(b"%40", b"@")
    return text


_SHORT_ESCAPES: Final = (
    (b"\\n", b"\n"), (b"\\r", b"\r"), (b"\\t", b"\t"), (b"\\b", b"\b"), (b"\\f", b"\f"), (b"\\/", b"/"),
)  # fmt: skip
_UNICODE_ESCAPE: Final = re.compile(rb"\\++u([0-9a-fA-F]{4})")
_TYPOGRAPHY: Final = re.compile(
    rb"\xc2[\xa0\xad]|\xe2\x80[\x80-\x95\xaf]|\xe2\x81[\x9f\xa0]|\xe2\x88\x92|\xe3\x80\x80|\xef\xbb\xbf"
    rb"|\xef\xbc[\x81-\xbf]|\xef\xbd[\x80-\x9e]"
    rb"|\xd9[\xa0-\xa9]|\xdb[\xb0-\xb9]|\xe0[\xa5\xa7][\xa6-\xaf]"
)
_NOT_ASCII: Final = b"\xff"  # stands for a character that is a letter to us, whichever it is


def _unescape(found: re.Match[bytes]) -> bytes:
    return _narrowed(int(found[1], 16), b"")


def _narrow(found: re.Match[bytes]) -> bytes:
    return _narrowed(ord(found[0].decode("utf-8", "replace")[:1]), found[0])


def _narrowed(code: int, otherwise: bytes) -> bytes:
    if code <= _LAST_ASCII:
        return bytes((code,))
    if code in _WIDE:
        return bytes((code - _WIDE.start + ord("!"),))
    if code in _INVISIBLE:
        return b""
    if code in _SPACES:
        return b" "
    if code in _DASHES:
        return b"-"
    zero = next((first for first in _ZEROS if first <= code < first + 10), None)
    if zero is not None:
        return b"%d" % (code - zero)
    return otherwise or _NOT_ASCII


_LAST_ASCII: Final = 0x7F
_WIDE: Final = range(0xFF01, 0xFF5F)  # the full-width forms of ! to ~
_ZEROS: Final = (0x0660, 0x06F0, 0x0966, 0x09E6)  # of the digits of Arabic, Persian and Urdu, Devanagari, Bengali
_INVISIBLE: Final = frozenset({0x00AD, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2060, 0xFEFF})
_SPACES: Final = frozenset({0x00A0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000})
_DASHES: Final = frozenset({*range(0x2010, 0x2016), 0x2212})


def _is_any_in(patterns: Sequence[re.Pattern[bytes]], text: bytes) -> bool:
    return any(pattern.search(text) is not None for pattern in patterns)


# Each expression below begins with a literal, which the engine finds ten times as fast as a class: what stands before
# is looked at afterwards. Where nothing literal begins, the text's shape is searched: 0 for a digit, A for a letter.
_SHAPE: Final = bytes(0x30 if chr(b).isdigit() else 0x41 if chr(b).isalpha() else b for b in range(0x80)) + bytes(
    range(0x80, 0x100)
)


# Addresses: a dot in the domain is demanded, as nobody's mail goes to a bare host. RFC 5321 has the lengths.
_DOMAIN: Final = re.compile(
    rb"@(?:[A-Za-z0-9\x80-\xff][A-Za-z0-9\x80-\xff-]{0,62}+\.){1,8}[A-Za-z\x80-\xff][A-Za-z0-9\x80-\xff-]"
)
_LOCAL_PART: Final = frozenset(b"!#$%&'*+-.=?^_`{|}~") | frozenset(range(0x80, 0x100)) | frozenset(
    byte for byte in range(0x80) if chr(byte).isalnum()
)  # fmt: skip


def _has_email(text: bytes) -> bool:
    if b"@" not in text:
        return False
    return any(
        found.start() > 0 and text[found.start() - 1] in _LOCAL_PART for found in _DOMAIN.finditer(text)
    )  # fmt: skip


# Telephone numbers as ITU-T E.164 writes them: a plus, or the prefix 00, and 8 to 15 digits. National forms are not
# looked for: without the country any number of that length may be one.
_NUMBER: Final = rb"[ .\-/()]{0,2}+[1-9](?:[ .\-/()]{0,2}+[0-9]){7,14}(?![0-9])"
_PHONES: Final = (
    re.compile(rb"\+(?<![A-Za-z0-9_+]\+)" + _NUMBER),
    re.compile(rb"00(?<![A-Za-z0-9_+.,-]00)" + _NUMBER),
)
_has_phone: Final = partial(_is_any_in, _PHONES)


# Account numbers by ISO 13616: country, two check digits, up to 30 characters, all of which are 1 modulo 97.
_IBAN_BEGIN: Final = re.compile(rb"AA00(?<![A0]AA00)(?=[ -]?[A0])")
_IBAN: Final = re.compile(rb"[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}")
_IBAN_SHORTEST, _IBAN_LONGEST = 15, 34
_IBAN_DIGITS: Final = {ord(character): str(int(character, 36)) for character in string.ascii_letters + string.digits}
_MOST_CANDIDATES: Final = 1000
"""Beginnings of account numbers in one piece; a piece with more is taken for one that holds one."""


def _has_iban(text: bytes) -> bool:
    for count, begin in enumerate(_IBAN_BEGIN.finditer(text.translate(_SHAPE))):
        found = _IBAN.match(text, begin.start())
        if found is not None and (count >= _MOST_CANDIDATES or _starts_iban(found[0])):
            return True
    return False


def _starts_iban(text: bytes) -> bool:
    """Tell whether some whole groups at the beginning of `text` are an account number."""
    groups = text.replace(b"-", b" ").split(b" ")
    values = [_IBAN_DIGITS[byte] for byte in b"".join(groups)]
    head = "".join(values[:4])
    length = 0
    for group in groups:
        length += len(group)
        if _IBAN_SHORTEST <= length <= _IBAN_LONGEST and int("".join(values[4:length]) + head) % 97 == 1:
            return True
    return False


# Payment cards by ISO/IEC 7812: 13 to 19 digits whose last one is Luhn's, of the industries that issue cards.
_DIGITS: Final = re.compile(rb"0(?:[ -]?0){12,}+")
_CARD_SHORTEST, _CARD_LONGEST = 13, 19
_CARD_INDUSTRIES: Final = b"23456"
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def _has_card(text: bytes) -> bool:
    runs = (text[found.start() : found.end()] for found in _DIGITS.finditer(text.translate(_SHAPE)))
    return any(_holds_card(run.replace(b"-", b" ").split(b" ")) for run in runs)


def _holds_card(groups: Sequence[bytes]) -> bool:
    """Tell whether some neighbouring groups of digits are together a card's number.

    The sums of Luhn over every beginning are worked out once, with either half of the digits doubled.
    """
    number = b"".join(groups)
    digits = [byte - 0x30 for byte in number]
    ends = list(accumulate(map(len, groups)))
    even = [0, *accumulate(_DOUBLED[digit] if place % 2 else digit for place, digit in enumerate(digits))]
    odd = [0, *accumulate(digit if place % 2 else _DOUBLED[digit] for place, digit in enumerate(digits))]
    is_end = frozenset(ends)
    for start in (0, *ends[:-1]):
        if number[start] not in _CARD_INDUSTRIES:
            continue
        for end in range(start + _CARD_SHORTEST, start + _CARD_LONGEST + 1):
            if end not in is_end:
                continue
            sums = odd if end % 2 == 0 else even  # the last digit is not doubled
            if (sums[end] - sums[start]) % 10:
                continue
            if number.count(number[start], start, end) < end - start:  # not of one digit throughout, as rows of zeros
                return True
    return False


_SEARCHES: Final[Mapping[str, Callable[[bytes], bool]]] = {
    "email": _has_email,
    "phone": _has_phone,
    "iban": _has_iban,
    "card": _has_card,
}
