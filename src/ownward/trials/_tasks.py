"""Task files: JSON Lines, one task a row, each with its messages, what was expected and how to grade it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from ownward.core import BadInput
from ownward.quality import ExactMatch, Grader, JsonSchema, LabelSet, NumberMatch, RegexMatch, Slots, ToolCalls

GRADERS = ("exact", "label", "regex", "number", "slots", "json_schema", "tool_calls")
_LARGEST_ROW_BYTES = 1 << 20
_SAID_BY_THE_TRIAL = ("model", "messages", "stream", "stream_options")
_SETTINGS = {
    "label": "labels", "regex": "pattern", "number": "tolerance", "slots": "names", "json_schema": "schema",
}  # fmt: skip


CHAT_PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task: chat messages, the expected value and its grader; `extra` are further fields of the request.

    One that was captured has its whole request as `body`, for `path`, and may travel no further than `label`.
    """

    task_id: str
    messages: Sequence[Mapping[str, Any]]
    expected: Any
    grader: Grader
    max_tokens: int = 256
    extra: Mapping[str, Any] = field(default_factory=dict)
    path: str = CHAT_PATH
    body: Mapping[str, Any] | None = None
    label: str | None = None


def read_tasks(stream: TextIO, *, name: str) -> list[Task]:
    """Return the tasks of a JSON Lines text.

    A row: `task_id, messages, expected, grader {kind, …}`, optionally `max_tokens` and `extra`; kinds are in GRADERS.
    Raises: BadInput, with the line, at the first row that is not a task, and for a repeated task_id.
    """
    tasks: dict[str, Task] = {}
    for number, text in enumerate(stream, start=1):
        if not text.strip():
            continue
        where = f"{name}:{number}"
        if len(text) > _LARGEST_ROW_BYTES:
            raise BadInput(f"a row of {len(text)} characters", where=where, allowed=f"at most {_LARGEST_ROW_BYTES}")
        try:
            row = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise BadInput(f"not JSON: {error}", where=where) from error
        task = _task(row, where)
        if task.task_id in tasks:
            raise BadInput(f"task {task.task_id!r} appears twice", where=where, allowed="Each task_id once")
        tasks[task.task_id] = task
    if not tasks:
        raise BadInput("no tasks", where=name, allowed='{"task_id", "messages", "expected", "grader"} a row')
    return list(tasks.values())


def count_repeated(tasks: Iterable[Task]) -> int:
    """Return how many of `tasks` ask what another before them asks: evidence of those is counted more than once."""
    asked = [json.dumps([task.path, task.body or [task.messages, task.extra]], sort_keys=True) for task in tasks]
    return len(asked) - len(set(asked))


def _task(row: object, where: str) -> Task:
    if not isinstance(row, dict):
        raise BadInput(f"a {type(row).__name__}, not an object", where=where)
    missing = [key for key in ("task_id", "messages", "grader") if key not in row]
    if missing:
        raise BadInput(f"a task without {', '.join(missing)}", where=where)
    messages = row["messages"]
    if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
        raise BadInput("messages is not a list of chat messages", where=where)
    grader, expected, extra = grader_from(row["grader"], where=where), row.get("expected"), row.get("extra") or {}
    if expected is None and not isinstance(grader, JsonSchema):
        raise BadInput("a task without expected", where=where)
    if not isinstance(extra, dict):
        raise BadInput(f"extra is {extra!r}", where=where, allowed="An object of further fields of the request")
    told = [name for name in _SAID_BY_THE_TRIAL if name in extra]
    if told:  # a model of its own would be asked of both, and certify it against itself
        raise BadInput(f"extra has {told[0]!r}", where=where, allowed="Fields that the trial does not state itself")
    if isinstance(grader, ExactMatch | RegexMatch) and not isinstance(expected, str | int | float):
        raise BadInput(f"expected is {expected!r}", where=where, allowed="A text or a number")
    try:
        grader.grade("", expected)  # what cannot be graded is told before anything is asked, and paid
    except BadInput as error:
        raise BadInput(error.message, where=where, allowed=error.allowed) from error
    max_tokens = row.get("max_tokens", 256)
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
        raise BadInput(f"max_tokens is {max_tokens!r}", where=where, allowed="A whole number from 1 on")
    return Task(
        task_id=_task_id(row["task_id"], where),
        messages=messages,
        expected=expected,
        grader=grader,
        max_tokens=max_tokens,
        extra=extra,
    )


def _task_id(stated: object, where: str) -> str:
    if isinstance(stated, bool) or not isinstance(stated, str | int) or stated == "":
        raise BadInput(f"task_id is {stated!r}", where=where, allowed="A text or a whole number")
    return str(stated)


def grader_from(spec: object, *, where: str) -> Grader:
    """Return the grader that `spec` ({kind, …}) describes.

    Raises: BadInput, naming the kinds allowed.
    """
    if not isinstance(spec, dict):
        raise BadInput(f"grader {spec!r} is not an object", where=where, allowed=", ".join(GRADERS))
    setting = _SETTINGS.get(str(spec.get("kind")))
    strange = [name for name in spec if name not in {"kind", setting}]
    if strange and spec.get("kind") in GRADERS:
        allowed = "kind" if setting is None else f"kind and {setting}"
        raise BadInput(f"a grader of kind {spec['kind']!r} has {strange[0]!r}", where=where, allowed=allowed)
    match spec.get("kind"):
        case "exact":
            return ExactMatch()
        case "label":
            return _labels(spec, where)
        case "regex":
            return RegexMatch(_pattern(spec, where))
        case "number":
            return NumberMatch(_tolerance(spec, where))
        case "slots":
            return Slots(_texts(spec, "names", where))
        case "json_schema":
            schema = _setting(spec, "schema", where)
            if not isinstance(schema, dict):
                raise BadInput(f"the schema of a grader is {schema!r}", where=where, allowed="A JSON schema")
            return JsonSchema(schema)
        case "tool_calls":
            return ToolCalls()
        case _:
            raise BadInput(f"grader {spec!r} has no known kind", where=where, allowed=", ".join(GRADERS))


def _setting(spec: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in spec:
        raise BadInput(f"a grader of kind {spec['kind']!r} without {key!r}", where=where)
    return spec[key]


def _texts(spec: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    found = _setting(spec, key, where)
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise BadInput(f"{key} of a grader is {found!r}", where=where, allowed="A list of texts")
    return tuple(found)


def _labels(spec: Mapping[str, Any], where: str) -> LabelSet:
    try:
        return LabelSet(_texts(spec, "labels", where))
    except BadInput as error:
        raise BadInput(error.message, where=where, allowed=error.allowed, next_step=error.next_step) from error


def _pattern(spec: Mapping[str, Any], where: str) -> str:
    found = _setting(spec, "pattern", where)
    try:
        re.compile(found)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise BadInput(
            f"pattern of a grader is {found!r}: {error}", where=where, allowed="A regular expression"
        ) from error
    return str(found)


def _tolerance(spec: Mapping[str, Any], where: str) -> float:
    found = spec.get("tolerance", 0.0)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < math.inf:
        raise BadInput(f"tolerance of a grader is {found!r}", where=where, allowed="A number from 0 on")
    return float(found)
