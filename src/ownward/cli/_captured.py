"""Captured requests of a workload, read from the ledger as tasks of a trial."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ownward.cli._output import say
from ownward.core import UsageError

if TYPE_CHECKING:
    from ownward.ledger import BodyRow, Ledger
    from ownward.quality import Grader
    from ownward.trials import Task


def read_captured(
    opened: Ledger, *, workload: str | None, grader: str | None, limit: int
) -> tuple[list[Task], dict[str, Any]]:
    """Return the newest captured requests of a workload as tasks, and what was left out and why.

    Raises: UsageError, if there is no workload, no grader, or nothing that could be asked.
    """
    from ownward.ledger import is_of_trial
    from ownward.trials import CapturedRequest, tasks_from_captured

    if workload is None or grader is None:
        raise UsageError(
            "captured requests need a workload, and a way to compare their answers",
            allowed='--workload NAME and --grader exact, or \'{"kind": "label", "labels": ["refund", "card"]}\'',
        )
    chosen = _grader(grader)
    bodies: dict[str, dict[str, BodyRow]] = {}
    for body in opened.query_bodies(workload=workload):
        bodies.setdefault(body.request_id, {})[body.kind] = body
    outcomes = {
        task.task_id: None if task.outcome is None else task.outcome.completed
        for task in opened.query_tasks(workload=workload)
    }
    captured: list[CapturedRequest] = []
    seen: set[str] = set()
    for row in opened.query_requests(workload=workload, newest_first=True):
        kept = bodies.get(row.request_id, {})
        if row.request_id in seen or is_of_trial(row.task_id) or not kept.keys() >= {"request", "response"}:
            continue
        seen.add(row.request_id)
        captured.append(
            CapturedRequest(
                request_id=row.request_id,
                label=row.label,
                dialect=row.dialect,
                request=kept["request"].content,
                answer=kept["response"].content,
                is_completed=outcomes.get(row.task_id),
            )
        )
        if len(captured) >= limit:
            break
    found = tasks_from_captured(captured, chosen)
    if not found.tasks:
        raise UsageError(
            f"no captured request of workload {workload!r} can be asked: {_why(found.left_out) or 'none is kept'}",
            allowed="Requests that were captured and have not expired",
            next_step=f'Write capture = {{ sample_fraction = 0.1, retention = "7d" }} in [workloads.{workload}] of the'
            " plan, and serve for a while",
        )
    left_out = sum(found.left_out.values())
    if left_out:
        say(f"{left_out} captured requests are left out: {_why(found.left_out)}")
    return found.tasks, {"left_out": left_out, "left_out_why": dict(found.left_out)}


def _why(left_out: Any) -> str:
    return "; ".join(f"{count} times {why}" for why, count in left_out.items())


def _grader(stated: str) -> Grader:
    from ownward.trials import grader_from

    if not stated.lstrip().startswith("{"):
        return grader_from({"kind": stated.strip()}, where="--grader")
    try:
        spec = json.loads(stated)
    except ValueError as error:
        raise UsageError(f"--grader is not JSON: {error}", allowed='{"kind": "regex", "pattern": "…"}') from None
    return grader_from(spec, where="--grader")
