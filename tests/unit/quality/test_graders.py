"""Graders: what completes a task and what does not."""

from __future__ import annotations

import pytest

from ownward.core import BadInput
from ownward.quality import (
    ExactMatch,
    JsonSchema,
    LabelSet,
    NumberMatch,
    RegexMatch,
    Slots,
    ToolCalls,
    find_json_object,
)

LABELS = LabelSet(("card_arrival", "card_linking", "lost_or_stolen_card", "card"))


@pytest.mark.parametrize(
    ("answer", "completed"),
    [
        ("card_arrival", True),
        ("The intent is: Card Arrival.", True),
        ("card_arrival or card_linking", False),
        ("arrival", False),
        ("", False),
    ],
)
def test_label_set_wants_exactly_the_expected_label(answer: str, completed: bool) -> None:
    assert LABELS.grade(answer, "card_arrival").is_completed is completed


def test_a_label_inside_a_longer_one_does_not_count() -> None:
    assert LABELS.find("lost or stolen card") == ("lost_or_stolen_card",)


def test_an_expected_label_outside_the_set_is_an_error_not_a_failure() -> None:
    with pytest.raises(BadInput):
        LABELS.grade("card", "unknown")


def test_exact_match_ignores_case_and_spaces_around() -> None:
    assert ExactMatch().grade(" Paris\n", "paris").is_completed
    assert not ExactMatch(ignore_case=False).grade("Paris", "paris").is_completed


def test_the_last_number_counts() -> None:
    assert NumberMatch().grade("3 + 4 = 7, so 1,234.50", "1234.5").is_completed
    assert not NumberMatch().grade("none", "1").is_completed


def test_regex_takes_its_first_group() -> None:
    assert RegexMatch(r"#### (\S+)").grade("so\n#### 42", "42").is_completed


def test_slots_score_shares_and_punish_inventions() -> None:
    slots = Slots(("date", "people"))
    right = slots.grade('Sure: {"date": "next Friday", "people": "2"}', {"date": "next friday", "people": "2"})
    assert right.is_completed
    invented = slots.grade('{"date": "next friday", "people": 2}', {"date": "next friday"})
    assert not invented.is_completed
    assert invented.score == 0.5
    assert slots.grade('{"date": null}', {}).is_completed
    assert slots.grade("no json", {"date": "x"}).score == 0


def test_json_schema_accepts_and_says_why_not() -> None:
    grader = JsonSchema({"type": "object", "required": ["city"]})
    assert grader.grade('{"city": "Bern"}', None).is_completed
    assert "city" in grader.grade("{}", None).why
    assert not grader.grade("{", None).is_completed


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/s.json", "https://x.test/s#/a", "file:///etc/hostname", "s.json"]
)
def test_what_a_json_schema_refers_to_elsewhere_is_refused_and_never_fetched(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(_uri: str) -> None:
        pytest.fail("a document was fetched")

    monkeypatch.setattr("urllib.request.urlopen", fetch)
    with pytest.raises(BadInput, match="nothing is fetched"):
        JsonSchema({"properties": {"a": {"$ref": address}}})


@pytest.mark.parametrize(
    "schema",
    [{"type": "objekt"}, {"$ref": "#/definitions/none"}, {"properties": {"a": {"pattern": "("}}}, {"properties": 3}],
)
def test_a_json_schema_of_no_use_is_refused_before_anything_is_graded(schema: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="the JSON schema cannot be used"):
        JsonSchema(schema)


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ({"type": "object"}, '{"a":' * 50_000 + "1" + "}" * 50_000),
        ({"type": "object"}, '{"a": ' + "1" * 5000 + "}"),
        ({"$ref": "#"}, "{}"),
    ],
    ids=["a deep answer", "a number of thousands of digits", "a schema that is its own"],
)
def test_what_no_json_schema_can_be_held_against_is_not_completed(schema: dict[str, object], answer: str) -> None:
    assert not JsonSchema(schema).grade(answer, None).is_completed


@pytest.mark.parametrize("noise", ["{" * 900, '{"a": ' + "1" * 5000 + "}", "if (x) { y(); } "])
def test_the_first_json_object_is_found_behind_what_is_none(noise: str) -> None:
    assert find_json_object(noise + ' {"b": 2}') == {"b": 2}


@pytest.mark.parametrize("noise", ["{" * 200_000, '{"a":' * 50_000, ('{"a":' * 400 + "[" + "1," * 100_000)])
def test_a_text_made_to_be_slow_is_not_looked_through(noise: str) -> None:
    assert find_json_object(noise + ' {"b": 2}') is None


def test_tool_calls_are_compared_as_values_in_any_order() -> None:
    made = '[{"name": "b", "arguments": "{\\"y\\": 2}"}, {"name": "a", "arguments": {"x": 1}}]'
    expected = [{"name": "a", "arguments": {"x": 1}}, {"name": "b", "arguments": {"y": 2}}]
    assert ToolCalls().grade(made, expected).is_completed
    assert not ToolCalls().grade("[]", expected).is_completed
