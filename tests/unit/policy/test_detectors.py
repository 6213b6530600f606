"""What is taken for personal data, what is not, through every disguise that JSON and typesetting put on it."""

from __future__ import annotations

import json
import time

import pytest

from ownward.core import UsageError
from ownward.policy import Detectors
from ownward.policy.detectors import MOST_EXAMINED_BYTES, UNEXAMINED
from ownward.policy.patterns import compile_pattern

ALL = Detectors(kinds=("email", "phone", "iban", "card"))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("email", "write to ada@example.org."),
        ("email", "Ada <a.b+c@mail.example.co.uk>"),
        ("email", "müller@bücher.example"),
        ("email", "mailto:ada%40example.org"),
        ("email", "ada＠example．org".replace("．", ".")),
        ("phone", "+49 30 1234567"),
        ("phone", "+1 (212) 555-0123"),
        ("phone", "0049-30-1234567"),
        ("phone", "tel:+442071838750, 2026"),
        ("phone", "+49\u202f30\u202f1234\u20111567"),
        ("phone", "+49 30 1234567 2026 12 11"),
        ("phone", "+٢٠ ١٠ ١٢٣٤ ٥٦٧٨"),  # Arabic
        ("phone", "+۹۸ ۲۱ ۱۲۳۴۵۶۷۸"),  # Persian
        ("phone", "+९१ ९८७६५ ४३२१०"),  # Devanagari
        ("phone", "+৮৮০ ১৭১২ ৩৪৫৬৭৮"),  # Bengali
        ("iban", "DE89370400440532013000"),
        ("iban", "IBAN GB82 WEST 1234 5698 7654 32, thanks"),
        ("iban", "fr14 2004 1010 0505 0001 3m02 606"),
        ("iban", "NO93-8601-1117-947"),
        ("iban", "AB12 CD34 DE89 3704 00\u00a004 0532 0130 00".replace("00\u00a004", "0044")),
        ("card", "4111 1111 1111 1111"),
        ("card", "5500-0000-0000-0004"),
        ("card", "378282246310005 03/29"),
        ("card", "2026 4111 1111 1111 1111 12/27"),
        ("card", "4\u00a01\u00a01\u00a01 1 1 1 1 1 1 1 1 1 1 1 1"),
        ("card", "6011 0009 9013 9424"),
        ("card", "٤١١١ ١١١١ ١١١١ ١١١١"),
    ],
)
def test_what_is_personal_is_found_however_it_is_written(kind, text):
    detectors = Detectors(kinds=(kind,))
    inner = {"messages": [{"role": "tool", "content": text}]}
    once = json.dumps(inner)
    forms = [
        text,
        once,
        json.dumps(inner, ensure_ascii=False),
        json.dumps({"arguments": once}),
        json.dumps({"input": json.dumps({"arguments": once})}),
        json.dumps({"content": f"line\n{text}\tnext"}),
        "".join(f"\\u{ord(character):04x}" for character in text),
        json.dumps({"arguments": "".join(f"\\u{ord(character):04X}" for character in text)}),
    ]
    for form in forms:
        assert detectors.find(form.encode()) == kind, form


@pytest.mark.parametrize(
    "text",
    [
        "install @angular/core and x@localhost",
        "@app.route('/x')",
        "user@ example.com",
        "1 + 2 = 3, +12, 2026-11-21T09:14:03.121+00:00",
        "a+4912345678 b",
        "DE89 3704 0544 0532 0130 01",
        "4111 1111 1111 1112",
        "0000 0000 0000 0000",
        "1111111111111117",
        '"sha": "403eac1d526245842c634035a4c6a69e100c196bf99a33afd873d5a829c451ca"',
        "version 1.2.3 of 192.168.100.200",
        "",
    ],
)
def test_what_is_not_personal_is_left_alone(text):
    assert ALL.find(json.dumps({"content": text}).encode()) is None


def test_numbers_in_json_are_text_too():
    assert Detectors(kinds=("card",)).find(b'{"card": 4111111111111111}') == "card"


@pytest.mark.parametrize("at", [0, 32 * 1024 - 8, 32 * 1024, 36 * 1024 - 3, 68 * 1024 - 10, 100_000])
def test_nothing_hides_between_two_pieces(at):
    body = b"x " * (at // 2) + b" ada@example.org " + b" y" * 20_000
    assert ALL.find(body) == "email"


def test_others_can_be_served_between_pieces():
    assert list(ALL.scan(b"x " * 50_000)) == [None] * 3
    assert list(ALL.scan(b"")) == [None]


def test_a_body_too_long_to_examine_counts_as_if_something_was_found():
    assert ALL.find(b"x" * (MOST_EXAMINED_BYTES + 1)) == UNEXAMINED


@pytest.mark.parametrize(
    "hostile",
    [
        b"\\" * 200_000,
        b"\\u0041" * 30_000,
        b"@" + b"a." * 100_000,
        b"a@a.a" * 40_000,
        b"DE12 " * 40_000,
        b"4 " * 100_000,
        b"4" * 200_000,
        b"+1" * 100_000,
        b"+1 " * 60_000,
        b"00" * 100_000,
        b"EMP-" * 50_000,
        b"a" * 200_000,
        "\u200b".encode() * 60_000,
    ],
)
def test_no_text_makes_the_search_slow(hostile):
    """200 KB of the worst there is take well under a second; a search that backtracks would take years."""
    detectors = Detectors(kinds=ALL.kinds, patterns={"emp": r"\bEMP-\d{4,8}\b", "long": r"[a-z]{1,64}\d"})
    began = time.process_time()
    detectors.find(hostile)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("pattern", "found", "left"),
    [
        (r"\bEMP-\d{4,8}\b", ["EMP-1234", "(EMP-12345678)"], ["EMP-123", "TEMP-1234", "EMP-123456789"]),
        (r"(?i)case-[a-f0-9]{4}", ["Case-00fA"], ["case-00g0"]),
        (r"MRN:? ?\d{6}|PAT\d+x", ["MRN 123456", "MRN: 123456", "PAT1x"], ["MRN-123456", "PATx"]),
        (r"[^a-z ]{3}-[]x]", ["ABC-]", "123-x"], ["abc-x"]),
        (r"[A-Z]{2}\d{6}[A-Z]?", ["AB123456"], ["A123456"]),
        (r"ä\.b", ["ä.b"], ["äxb"]),
        (r"\w\s\d.", ["a 1!"], ["a1!"]),
    ],
)
def test_patterns_of_ones_own_mean_what_regular_expressions_mean(pattern, found, left):
    searches = compile_pattern(pattern)
    for text in found:
        assert any(search.search(text.encode()) for search in searches), text
    for text in left:
        assert not any(search.search(text.encode()) for search in searches), text


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a+)+b", "is not allowed"),
        ("a*a*b", "whose end is ambiguous"),
        (r"\d+\d", "whose end is ambiguous"),
        (r"\w{2,5}-?x", "whose end is ambiguous"),
        ("(?i)[a-z]+Z", "whose end is ambiguous"),
        ("a*", "matches every text"),
        ("", "matches every text"),
        ("x|", "matches every text"),
        (r"\b", "matches every text"),
        ("^a", "is not allowed"),
        ("a$", "is not allowed"),
        ("a{0,65}b", "repeats {0,65}"),
        ("[a-z]{60}" * 5, "longer than 256"),
        ("[a", "without its ]"),
        ("[z-a]", "range that is not valid"),
        ("[ä]", "outside ASCII"),
        (r"a\1", "is not accepted"),
        ("a\\", "ends in a backslash"),
        (r"\b+a", "repeats '+' after what cannot be repeated"),
        ("ä+b", "repeats '+' after what cannot be repeated"),
    ],
)
def test_a_pattern_that_could_be_slow_or_is_none_is_refused(pattern, why):
    with pytest.raises(UsageError, match="pattern") as refused:
        compile_pattern(pattern)
    assert why in str(refused.value)
    assert refused.value.allowed


def test_in_either_case_a_class_of_others_leaves_out_both_cases():
    (search,) = compile_pattern("(?i)[^b]a")
    assert [bool(search.search(text)) for text in (b"ba", b"Ba", b"ca")] == [False, False, True]
    with pytest.raises(UsageError, match="matches nothing"):
        compile_pattern(r"[^\w\W]x")
