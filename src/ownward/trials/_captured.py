"""Tasks from captured requests: asked again as they were, and graded against the answer that was given.

A request travels no further than the label under which it was captured.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ownward.core import BadInput, OwnwardError
from ownward.quality import Grader, LabelSet, NumberMatch, RegexMatch, Slots, ToolCalls, find_json_object
from ownward.trials._answers import text_of_answer
from ownward.trials._tasks import CHAT_PATH, Task

_NOT_ASKED_AGAIN = frozenset({"stream", "stream_options", "background", "previous_response_id"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedRequest:
    """One request with its answer, as both were kept; `is_completed` is what is known of its task's outcome."""

    request_id: str
    label: str
    dialect: str
    request: bytes
    answer: bytes
    is_completed: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedTasks:
    """The tasks that could be made, and how many could not, by reason."""

    tasks: list[Task]
    left_out: Mapping[str, int]


def tasks_from_captured(captured: Iterable[CapturedRequest], grader: Grader) -> CapturedTasks:
    """Return a task for each request whose answer can be held against another.

    What the captured answer says is what is expected, so that one known not to have completed its task is left out,
    as is one that the grader itself would not accept.
    """
    tasks: list[Task] = []
    left_out: Counter[str] = Counter()
    for one in captured:
        try:
            tasks.append(_task(one, grader))
        except BadInput as error:
            left_out[error.message] += 1
    return CapturedTasks(tasks=tasks, left_out=dict(left_out))


def _task(one: CapturedRequest, grader: Grader) -> Task:
    if one.is_completed is False:
        raise BadInput("its outcome says that it was not completed")
    try:
        body = json.loads(one.request)
    except (ValueError, RecursionError):
        body = None
    path = _path_of(body, one.dialect)
    if not isinstance(body, dict) or path is None:
        raise BadInput("it is not a chat, message, response or completion")
    text = text_of_answer(one.answer)
    if text is None:
        raise BadInput("its answer cannot be read")
    expected = _expected(text, grader)
    try:
        is_accepted = expected is not None and grader.grade(text, expected).is_completed
    except (OwnwardError, ValueError, LookupError, TypeError, AttributeError):
        is_accepted = False
    if not is_accepted:
        raise BadInput("the grader does not accept the captured answer itself")
    again = {name: value for name, value in body.items() if name not in _NOT_ASKED_AGAIN}
    if path == "/v1/responses":
        again["store"] = False
    messages = body.get("messages") or []
    return Task(
        task_id=one.request_id,
        messages=messages,
        expected=expected,
        grader=grader,
        path=path,
        body=again,
        label=one.label,
    )


def _path_of(body: Any, dialect: str) -> str | None:
    """Return where a body of this form and dialect is sent."""
    if not isinstance(body, dict):
        return None
    if dialect == "anthropic":
        return "/v1/messages"
    found = {"messages": CHAT_PATH, "input": "/v1/responses", "prompt": "/v1/completions"}
    return next((path for member, path in found.items() if member in body), None)


def _expected(text: str, grader: Grader) -> Any:
    """Return what a captured answer says, in the form that the grader expects; None where it says nothing of it."""
    match grader:
        case LabelSet():
            found = grader.find(text)
            return found[0] if len(found) == 1 else None
        case RegexMatch():
            return grader.find(text)
        case NumberMatch():
            return grader.find(text)
        case Slots():
            said = find_json_object(text)
            return None if said is None else grader.filled(said)
        case ToolCalls():
            return json.loads(text) if text.startswith("[") else None
        case _:
            return text
