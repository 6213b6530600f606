"""Words and numbers as models write them, brought to one form, so that graders and judges compare what is meant.

All of it takes time linear in the text: the gateway reads answers so between requests.
"""

from __future__ import annotations

import re
import string
import unicodedata
from typing import Final

_MINUS: Final = str.maketrans(
    dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{SMALL HYPHEN-MINUS}\N{FULLWIDTH HYPHEN-MINUS}", "-")
)
_SPACED: Final = "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}'\N{RIGHT SINGLE QUOTATION MARK}"
# Thousands that stand apart by no comma: 1 234, 1'234, 1_000, and LaTeX's 1{,}234 and 1\,234.
_APART: Final = re.compile(rf"(?<=\d)(?:\{{,\}}|\\,|[_{_SPACED}])(?=\d{{3}}(?!\d))")
# A comma for the decimals is known by what stands for the thousands: 1.234,50. So are two dots: 1.234.567.
_COMMA_LAST: Final = re.compile(rf"(?<![\w.,])(\d{{1,3}}(?:[.{_SPACED}]\d{{3}})+),(\d+)(?!\d|[.,]\d)")
_DOTS: Final = re.compile(r"(?<![\w.,])\d{1,3}(?:\.\d{3}){2,}(?!\d|[.,]\d)")
_TIMES_TEN: Final = re.compile(r"(?<=\d) {0,2}(?:×|·|\*|\\times|\\cdot) {0,2}10 ?(?:\^|\*\*) ?\{? ?([-+]?\d{1,4}) ?\}?")
_POWER: Final = re.compile(r"\^\{?[-+]?\d+\}?")
# A sign stands before no word or number (a hyphen does); groups of thousands, or of lakhs; `.5`; exponents.
_NUMBER: Final = re.compile(
    r"(?:(?<![\w.])-[$€£¥]?)?(?:(?<!\d)(?<!\d,)\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\d)\.\d+)"
    r"(?:[eE][+-]?\d+)?"
)
_NOT_DIGITS: Final = str.maketrans("", "", ",$€£¥")
_MINUS_OF_A_NUMBER: Final = re.compile(r"(?<![\w.)])-(?=[$€£¥]?\.?\d)")
_OPERATORS: Final = re.compile(r"[+<>^]")
_WITHOUT_SPACES: Final = ("CJK UNIFIED IDEOGRAPH", "HIRAGANA LETTER", "KATAKANA LETTER")


def last_number(text: str) -> str | None:
    """Return the last number in `text` in Python's notation, or None; an exponent alone (cm^2) is none.

    >>> last_number("about 1.234,50 €"), last_number(r"$-1{,}234$"), last_number("5 × 10^3")
    ('1234.50', '-1234', '5e3')
    """
    last = None
    for match in _NUMBER.finditer(_in_one_notation(text)):  # one at a time: there may be millions
        last = match
    return last[0].translate(_NOT_DIGITS) if last is not None else None


def plain(text: str) -> str:
    """Return the words of `text`: punctuation, case, width and what is not seen aside.

    Scripts that write no spaces are read letter by letter.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_PLAIN).split())


def is_same(value: str, expected: str) -> bool:
    """Return whether two texts say the same: as numbers where both are, else as words, signs and operators."""
    left, right = (_whole_number(text) for text in (value, expected))
    if left is not None and right is not None:
        return left == right
    words = _with_signs(value), _with_signs(expected)
    return words[0] == words[1] and (bool(words[0]) or value.strip() == expected.strip())


def _in_one_notation(text: str) -> str:
    text = _COMMA_LAST.sub(lambda found: re.sub(r"\D", "", found[1]) + "." + found[2], text.translate(_MINUS))
    text = _DOTS.sub(lambda found: found[0].replace(".", ""), text)
    return _POWER.sub("", _TIMES_TEN.sub(r"e\1", _APART.sub(",", text)))


def _whole_number(text: str) -> float | None:
    """Return the number that is all of `text`."""
    found = _NUMBER.fullmatch(_in_one_notation(text.strip()).removeprefix("+"))
    return float(found[0].translate(_NOT_DIGITS)) if found is not None else None


def _with_signs(text: str) -> str:
    text = _MINUS_OF_A_NUMBER.sub(" minus ", text.translate(_MINUS))
    return plain(_OPERATORS.sub(lambda found: f" operator{ord(found[0])} ", text))


class _Plain(dict[int, str | None]):
    """What stands for each character, looked up when it is first met."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        category = unicodedata.category(character)
        found: str | None = character
        if category.startswith("P") or character in string.punctuation:
            found = " "
        elif category == "Cf":
            found = None
        elif category == "Lo" and unicodedata.name(character, "").startswith(_WITHOUT_SPACES):
            found = f" {character} "
        self[code] = found
        return found


_PLAIN: Final = _Plain()
