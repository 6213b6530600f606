"""Task files: what cannot be asked or graded is refused with its line, before anything is asked and paid."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from ownward.core import BadInput
from ownward.trials import read_tasks

TASK = {
    "task_id": "1",
    "messages": [{"role": "user", "content": "2+2?"}],
    "expected": "4",
    "grader": {"kind": "number"},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expected": None}, "without expected"),
        ({"expected": "four"}, "expected is 'four'"),
        ({"grader": {"kind": "number", "tolerance": "some"}}, "tolerance of a grader is 'some'"),
        ({"grader": {"kind": "number", "tolerance": -1}}, "tolerance of a grader is -1"),
        ({"grader": {"kind": "regex", "pattern": "("}}, "pattern of a grader is '\\('"),
        ({"grader": {"kind": "label", "labels": "yes"}}, "labels of a grader is 'yes'"),
        ({"grader": {"kind": "label", "labels": ["yes", "no"]}}, "expected label '4'"),
        ({"grader": {"kind": "json_schema", "schema": 3}}, "schema of a grader is 3"),
        ({"grader": {"kind": "tool_calls"}}, "expected is '4'"),
        ({"max_tokens": "many"}, "max_tokens is 'many'"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": True}, "max_tokens is True"),
        ({"task_id": None}, "task_id is None"),
        ({"task_id": ""}, "task_id is ''"),
        ({"extra": {"model": "gpt"}}, "extra has 'model'"),
        ({"extra": {"stream": True}}, "extra has 'stream'"),
        ({"grader": {"kind": "number", "tolerence": 1}}, "has 'tolerence'"),
        ({"grader": {"kind": "exact"}, "expected": ["a", "b"]}, "expected is \\['a', 'b'\\]"),
        ({"extra": [1]}, "extra is \\[1\\]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_task_that_cannot_be_graded_or_asked_is_refused_with_its_line(changes: dict[str, Any], message: str) -> None:
    text = io.StringIO("".join(json.dumps(row) + "\n" for row in (TASK, TASK | {"task_id": "2"} | changes)))
    with pytest.raises(BadInput, match=message) as caught:
        read_tasks(text, name="tasks.jsonl")
    assert caught.value.where == "tasks.jsonl:2"


def test_a_schema_expects_nothing_and_no_call_may_be_expected() -> None:
    rows = [
        TASK | {"expected": None, "grader": {"kind": "json_schema", "schema": {"type": "object"}}},
        TASK | {"task_id": "2", "expected": [], "grader": {"kind": "tool_calls"}},
    ]
    assert len(read_tasks(io.StringIO("\n".join(map(json.dumps, rows))), name="tasks.jsonl")) == 2
