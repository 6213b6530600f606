"""Graders on numbers as models write them, on calls that are broken or none, and on what cannot be graded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ownward.core import BadInput
from ownward.quality import Grader, NumberMatch, RegexMatch, Slots, ToolCalls

WEATHER = [{"name": "weather", "arguments": {"city": "Rome"}}]


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("about .5", 0.5),
        ("x = \N{MINUS SIGN}5", -5),
        ("x = -5", -5),
        ("a range of 10-20", 20),
        ("pages 3,4", 4),
        ("$1,234.50 in all", 1234.5),
        ("Rs 1,00,000", 100_000),
        ("6.02e23", 6.02e23),
        ("1,234,567.", 1_234_567),
        ("it is 42.", 42),
        ("GPT-4 says 7", 7),
        ("no digits", None),
    ],
)
def test_the_last_number_is_read_as_it_is_written(answer: str, number: float | None) -> None:
    assert NumberMatch().find(answer) == number


@pytest.mark.parametrize(("answer", "is_right"), [("-5", False), ("5.0", True), ("5", True), ("1,5", False)])
def test_an_extracted_number_is_compared_as_a_number(answer: str, is_right: bool) -> None:
    assert RegexMatch(r"Answer: (\S+)").grade(f"Answer: {answer}", "5").is_completed is is_right
    assert Slots(("n",)).grade(json.dumps({"n": answer}), {"n": 5}).is_completed is is_right


def test_a_group_that_took_no_part_is_no_answer() -> None:
    assert not RegexMatch("yes|answer (a)").grade("yes", "a").is_completed


@pytest.mark.parametrize(
    "answer",
    ['[{"name": "weather", "arguments": "{broken"}]', "[1, 2]", '[{"arguments": {}}]', "[" * 100_000, "sunny", ""],
)
def test_calls_that_are_broken_or_none_are_not_the_ones_expected(answer: str) -> None:
    assert not ToolCalls().grade(answer, WEATHER).is_completed


@pytest.mark.parametrize("answer", ["I cannot help with that.", "[]", "7"])
def test_an_answer_in_words_makes_no_call_where_none_is_expected(answer: str) -> None:
    assert ToolCalls().grade(answer, []).is_completed
    assert not ToolCalls().grade(json.dumps(WEATHER), []).is_completed


@pytest.mark.parametrize(
    ("grader", "expected"),
    [
        (NumberMatch(), "four"),
        (Slots(("n",)), ["n"]),
        (ToolCalls(), "weather"),
        (ToolCalls(), [{"name": "w", "arguments": "{"}]),
    ],
    ids=["no number", "no slots", "no calls", "broken arguments"],
)
def test_what_cannot_be_expected_is_refused_whatever_was_answered(grader: Grader, expected: Any) -> None:
    with pytest.raises(BadInput):
        grader.grade("", expected)
