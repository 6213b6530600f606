"""Task files and the run over them."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

from ownward.core import BadInput
from ownward.trials import Answer, Task, TaskResult, count_repeated, read_tasks, run_tasks

ROW = {
    "task_id": "t1",
    "messages": [{"role": "user", "content": "2+2?"}],
    "expected": "4",
    "grader": {"kind": "number"},
}


def tasks(*rows: object) -> list[Task]:
    return read_tasks(io.StringIO("\n".join(json.dumps(row) for row in rows)), name="tasks.jsonl")


def test_results_keep_the_order_of_the_tasks_and_the_bound_on_concurrency() -> None:
    running = 0
    most = 0

    async def ask(task: Task) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return Answer(text="4" if task.task_id != "t3" else "5")

    seen: list[TaskResult] = []
    given = tasks(*({**ROW, "task_id": f"t{index}"} for index in range(6)))
    results = asyncio.run(run_tasks(given, ask, concurrency=2, on_result=seen.append))
    assert [result.task.task_id for result in results] == [f"t{index}" for index in range(6)]
    assert [result.grade.is_completed for result in results] == [True, True, True, False, True, True]
    assert most == 2
    assert len(seen) == 6


def test_a_task_without_an_answer_is_not_completed() -> None:
    async def ask(task: Task) -> Answer:
        return Answer(text=None, error="429")

    (result,) = asyncio.run(run_tasks(tasks(ROW), ask))
    assert not result.grade.is_completed
    assert result.grade.why == "429"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "not an object"),
        ({"task_id": "x"}, "without messages, grader"),
        ({**ROW, "messages": "hi"}, "not a list of chat messages"),
        ({**ROW, "grader": {"kind": "vibes"}}, "no known kind"),
        ({**ROW, "grader": {"kind": "label"}}, "without 'labels'"),
        ({**ROW, "grader": "exact"}, "not an object"),
    ],
)
def test_a_row_that_is_no_task_is_refused_with_its_line(row: object, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        tasks(ROW, row)
    assert caught.value.where == "tasks.jsonl:2"


def test_a_repeated_task_is_refused() -> None:
    with pytest.raises(BadInput, match="twice"):
        tasks(ROW, ROW)


def test_tasks_that_ask_the_same_under_other_names_are_counted() -> None:
    other = {**ROW, "messages": [{"role": "user", "content": "3+3?"}]}
    rows = [{**ROW, "task_id": "t1"}, {**ROW, "task_id": "t2"}, {**other, "task_id": "t3"}]
    assert count_repeated(tasks(*rows)) == 1
    assert count_repeated(tasks(rows[0], rows[2], {**ROW, "task_id": "t4", "extra": {"seed": 2}})) == 0
