"""What calls without an answer say of baseline and candidate, and texts that come in parts."""

from __future__ import annotations

import json

import pytest

from ownward.quality import ExactMatch, Grade
from ownward.trials import Answer, Task, TaskResult, pair_results, text_of_answer


def result(text: str | None, *, not_asked: str | None = None) -> TaskResult:
    task = Task(task_id="t", messages=[{"role": "user", "content": "?"}], expected="4", grader=ExactMatch())
    grade = Grade(is_completed=text == "4", score=float(text == "4"), why="")
    return TaskResult(task=task, answer=Answer(text=text, not_asked=not_asked), grade=grade)


def test_a_task_without_the_baselines_answer_is_left_out_and_one_without_the_candidates_is_not_completed() -> None:
    paired, left_out = pair_results([result("4"), result(None)], [result(None), result("4")])
    assert [own.grade.is_completed for _, own in paired] == [False]
    assert left_out == {"the baseline gave no answer": 1}


@pytest.mark.parametrize("side", ["baseline", "candidate"])
def test_a_task_that_one_of_the_two_was_not_asked_shows_nothing(side: str) -> None:
    sides = {"baseline": [result("4")], "candidate": [result("4")]}
    sides[side] = [result(None, not_asked="over budget")]
    assert pair_results(sides["baseline"], sides["candidate"]) == ([], {"over budget": 1})


def test_a_text_in_parts_is_read_as_one_without_its_thoughts() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "5?"}]}, {"type": "text", "text": "it is 4"}]
    whole = {"choices": [{"message": {"content": parts}}]}
    chunk = {"choices": [{"index": 0, "delta": {"content": parts}, "finish_reason": "stop"}]}
    assert text_of_answer(json.dumps(whole).encode()) == "it is 4"
    assert text_of_answer(f"data: {json.dumps(chunk)}\n\n".encode()) == "it is 4"


CHUNK = 'data: {"choices": [{"index": 0, "delta": {"content": "it is"}}]}\n\n'


@pytest.mark.parametrize(
    "body",
    [CHUNK, CHUNK + 'data: {"error": {"message": "cut"}}\n\ndata: [DONE]\n\n', '{"status": "failed", "output": []}'],
    ids=["a stream without its end", "a stream that says it broke", "a response that failed"],
)
def test_what_broke_off_is_no_answer(body: str) -> None:
    assert text_of_answer(body.encode()) is None


def test_a_stream_that_ended_is_an_answer_and_a_completion_without_text_is_an_empty_one() -> None:
    assert text_of_answer((CHUNK + "data: [DONE]\n\n").encode()) == "it is"
    assert text_of_answer(b'{"choices": [{"text": null}]}') == ""
