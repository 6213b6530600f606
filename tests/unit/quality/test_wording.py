"""Answers as models really write them: typographic quotes, other scripts and notations of numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ownward.core import BadInput, ConfigError
from ownward.quality import JsonSchema, LabelSet, RegexMatch, Slots, ToolCalls, last_number
from ownward.strategies import judge_for

LABELS = LabelSet(("refund", "card_arrival"))


@pytest.mark.parametrize(
    "answer",
    [
        "“refund”", "The label is «refund».", "refund。", "refund…", "refund—because", "¿refund?", "ＲＥＦＵＮＤ",
        "refund\u200b", "**Refund**", r"\text{refund}",
    ],
)  # fmt: skip
def test_a_label_is_found_between_punctuation_of_any_script(answer: str) -> None:
    assert LABELS.find(answer) == ("refund",)


@pytest.mark.parametrize("hyphen", ["\N{NON-BREAKING HYPHEN}", "\N{EN DASH}", "-", "_", " "])
def test_hyphens_of_every_kind_are_alike_in_a_label(hyphen: str) -> None:
    assert LABELS.find(f"card{hyphen}arrival") == ("card_arrival",)


def test_a_label_is_found_in_a_script_that_writes_no_spaces() -> None:
    assert LabelSet(("退款", "信用卡")).find("答案是退款。") == ("退款",)


@pytest.mark.parametrize("labels", [("C", "C++"), ("+", "-"), ("card_arrival", "Card arrival")])
def test_labels_that_no_answer_could_tell_apart_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(BadInput, match="the labels"):
        LabelSet(labels)
    with pytest.raises(ConfigError, match="the labels"):
        judge_for({"labels": list(labels)})


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("$1{,}234$", "1234"),
        (r"1\,234", "1234"),
        ("1\u00a0234,50 €", "1234.50"),
        ("1\u202f234", "1234"),
        ("CHF 1'234.5", "1234.5"),
        ("1.234,50", "1234.50"),
        ("1.234.567", "1234567"),
        ("1_000", "1000"),
        ("5 × 10^3", "5e3"),
        (r"5 \times 10^{-3}", "5e-3"),
        ("42 cm^2", "42"),
        ("-$5", "-5"),
        ("\N{EN DASH}5", "-5"),
        ("10\N{EN DASH}20", "20"),
        ("1.234", "1.234"),
        ("pi is 3.141, e 2.718", "2.718"),
    ],
)
def test_a_number_is_read_in_the_notation_it_is_written_in(answer: str, number: str) -> None:
    assert last_number(answer) == number


@pytest.mark.parametrize(
    ("one", "other"), [("\N{MINUS SIGN}5", "it is -5"), ("1e3", "1,000"), ("pages 3-5", "5"), ("1\u202f000", "1000.0")]
)
def test_samples_agree_on_a_number_however_each_writes_it(one: str, other: str) -> None:
    judge = judge_for({"number": True})
    assert judge is not None
    assert judge.extract(one) == judge.extract(other)


def test_an_exponent_makes_no_text_of_a_million_digits() -> None:
    judge = judge_for({"number": True})
    assert judge is not None
    assert len(judge.extract("1e999999") or "") < 100


@pytest.mark.parametrize(
    ("said", "expected", "is_right"),
    [
        ("-5 °C", "5 °C", False), ("+", "-", False), ("<", ">", False), ("C++", "C", False), ("x-1", "x+1", False),
        ("1,5", "15", False), ("“Rome”.", "rome", True), ("$5", "5", True), ("\N{MINUS SIGN}5", "-5", True),
        ("+", "+", True),
    ],
)  # fmt: skip
def test_signs_and_operators_are_part_of_what_is_said(said: str, expected: str, is_right: bool) -> None:
    assert RegexMatch("(?s)(.+)").grade(said, expected).is_completed is is_right


@pytest.mark.parametrize("said", [{"city": "Rome"}, {"city": "Rome", "time": None}, {"city": "Rome", "time": ""}])
def test_a_slot_that_is_to_hold_nothing_is_left_out_or_empty(said: dict[str, Any]) -> None:
    expected = {"city": "Rome", "time": None}
    assert Slots(("city", "time")).grade(json.dumps(said), expected).is_completed
    assert not Slots(("city", "time")).grade('{"city": "Rome", "time": "9"}', expected).is_completed


def test_a_slot_that_the_grader_does_not_know_cannot_be_expected() -> None:
    with pytest.raises(BadInput, match="'time'"):
        Slots(("city",)).grade("", {"city": "Rome", "time": "9"})


@pytest.mark.parametrize("arguments", ["", None, "{}", {}])
def test_a_call_without_arguments_is_one_however_they_are_left_out(arguments: Any) -> None:
    assert ToolCalls().grade(json.dumps([{"name": "now", "arguments": arguments}]), [{"name": "now"}]).is_completed


@pytest.mark.parametrize(("said", "is_right"), [(5.0, True), (5, True), (5.5, False), ("5", False), (True, False)])
def test_arguments_are_equal_as_json_values(said: Any, is_right: bool) -> None:
    made = json.dumps([{"name": "f", "arguments": json.dumps({"x": [said]})}])
    assert ToolCalls().grade(made, [{"name": "f", "arguments": {"x": [5]}}]).is_completed is is_right


def test_what_json_has_no_word_for_is_no_json() -> None:
    grader = JsonSchema({"type": "object", "properties": {"a": {"type": "number"}}})
    assert not grader.grade('{"a": NaN}', None).is_completed
