"""Run tasks through whatever answers them, a few at a time, and grade what comes back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from ownward.quality import Grade
from ownward.trials._tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back for a task: the text, or None and the error; unknown costs and times are None.

    `not_asked` says why whoever was to answer was never asked (a label, a key, a budget), which says nothing of them.
    """

    text: str | None
    error: str | None = None
    request_id: str | None = None
    cost_usd: Decimal | None = None
    ttft_s: float | None = None
    latency_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    not_asked: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """A task, its answer and its grade; a task without an answer is graded as not completed."""

    task: Task
    answer: Answer
    grade: Grade


async def run_tasks(
    tasks: Sequence[Task],
    ask: Callable[[Task], Awaitable[Answer]],
    *,
    concurrency: int = 4,
    on_result: Callable[[TaskResult], None] = lambda _: None,
) -> list[TaskResult]:
    """Return the results of `tasks` in their order, with at most `concurrency` asked at once.

    `ask` gives errors of the model's side as an Answer with `error`; what it raises ends the run.
    """
    gate = asyncio.Semaphore(concurrency)

    async def one(task: Task) -> TaskResult:
        async with gate:
            answer = await ask(task)
        if answer.text is None:
            grade = Grade(is_completed=False, score=0.0, why=answer.error or "no answer")
        else:
            grade = task.grader.grade(answer.text, task.expected)
        result = TaskResult(task=task, answer=answer, grade=grade)
        on_result(result)
        return result

    async with asyncio.TaskGroup() as group:
        running = [group.create_task(one(task)) for task in tasks]
    return [done.result() for done in running]


def pair_results(
    baseline: Sequence[TaskResult], candidate: Sequence[TaskResult]
) -> tuple[list[tuple[TaskResult, TaskResult]], Counter[str]]:
    """Return the results of the same tasks that can be held against each other, and why others cannot.

    A task that one of the two was not asked shows nothing. One that the baseline gave no answer to is left out: an
    outage of the baseline would certify anything. The candidate's is a task not completed.
    """
    paired: list[tuple[TaskResult, TaskResult]] = []
    left_out: Counter[str] = Counter()
    for base, own in zip(baseline, candidate, strict=True):
        not_asked = base.answer.not_asked or own.answer.not_asked
        if not_asked is not None:
            left_out[not_asked] += 1
        elif base.answer.text is None:
            left_out["the baseline gave no answer"] += 1
        else:
            paired.append((base, own))
    return paired, left_out
