"""Measure quality: sampled tasks on candidate strategies, graded into evidence.

It does not know how certificates are computed or requests are sent.
"""

from ownward.trials._answers import text_of_answer
from ownward.trials._captured import CapturedRequest, CapturedTasks, tasks_from_captured
from ownward.trials._run import Answer, TaskResult, pair_results, run_tasks
from ownward.trials._tasks import GRADERS, Task, count_repeated, grader_from, read_tasks

__all__ = [
    "GRADERS",
    "Answer",
    "CapturedRequest",
    "CapturedTasks",
    "Task",
    "TaskResult",
    "count_repeated",
    "grader_from",
    "pair_results",
    "read_tasks",
    "run_tasks",
    "tasks_from_captured",
    "text_of_answer",
]
