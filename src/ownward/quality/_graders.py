"""Graders: was the task completed? Pure functions of the answer and the expected value."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ownward.core import BadInput, MissingExtra


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """Whether an answer completes its task, a score from 0 to 1, and why."""

    is_completed: bool
    score: float
    why: str


class Grader(Protocol):
    """Anything that grades an answer against what was expected."""

    def grade(self, answer: str, expected: Any) -> Grade:
        """Return the grade of `answer`."""
        ...


@dataclass(frozen=True, slots=True)
class ExactMatch:
    """Completed, if the answer equals the expected text, spaces around and (by default) case aside."""

    ignore_case: bool = True

    def grade(self, answer: str, expected: Any) -> Grade:
        """Return the grade; `expected` is a string."""
        left, right = answer.strip(), str(expected).strip()
        if self.ignore_case:
            left, right = left.casefold(), right.casefold()
        return _judged(is_right=left == right, why=f"answered {_short(answer)}, expected {_short(str(expected))}")


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Completed, if exactly one label of the set stands in the answer and it is the expected one.

    Underscores, hyphens, spaces and case are alike. A label inside a longer label that stands there too
    does not count.
    """

    labels: tuple[str, ...]

    def find(self, answer: str) -> tuple[str, ...]:
        """Return the labels that stand in `answer`, longest first."""
        text = f" {_plain(answer)} "
        found: list[str] = []
        for label in sorted(self.labels, key=lambda item: -len(_plain(item))):
            needle = f" {_plain(label)} "
            if needle in text:
                found.append(label)
                text = text.replace(needle, " \0 ")
        return tuple(found)

    def grade(self, answer: str, expected: Any) -> Grade:
        """Return the grade; `expected` is one of the labels."""
        if expected not in self.labels:
            raise BadInput(f"expected label {expected!r} is not in the label set", allowed=", ".join(self.labels[:8]))
        found = self.find(answer)
        if len(found) != 1:
            said = "no label" if not found else "several labels: " + ", ".join(found[:3])
            return _failed(f"{said} in {_short(answer)}")
        return _judged(is_right=found[0] == expected, why=f"answered {found[0]!r}, expected {expected!r}")


@dataclass(frozen=True, slots=True)
class RegexMatch:
    """Completed, if the first group of `pattern` (or its whole match) equals the expected text."""

    pattern: str

    def find(self, answer: str) -> str | None:
        """Return what the last match in `answer` extracts, or None."""
        matches = list(re.finditer(self.pattern, answer))
        if not matches:
            return None
        last = matches[-1]
        return last[1] if last.re.groups else last[0]

    def grade(self, answer: str, expected: Any) -> Grade:
        """Return the grade; the last match in the answer counts."""
        value = self.find(answer)
        if value is None:
            return _failed(f"nothing in {_short(answer)} matches {self.pattern!r}")
        return _judged(
            is_right=_plain(value) == _plain(str(expected)), why=f"extracted {value!r}, expected {expected!r}"
        )


@dataclass(frozen=True, slots=True)
class NumberMatch:
    """Completed, if the last number in the answer equals the expected one within `tolerance` (absolute)."""

    tolerance: float = 0.0

    def find(self, answer: str) -> float | None:
        """Return the last number in `answer`, or None."""
        numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", answer)
        return float(numbers[-1].replace(",", "")) if numbers else None

    def grade(self, answer: str, expected: Any) -> Grade:
        """Return the grade; thousands separators and currency signs are ignored."""
        value = self.find(answer)
        if value is None:
            return _failed(f"no number in {_short(answer)}")
        wanted = float(str(expected).replace(",", ""))
        return _judged(is_right=abs(value - wanted) <= self.tolerance, why=f"answered {value:g}, expected {wanted:g}")


@dataclass(frozen=True, slots=True)
class Slots:
    """Score is the share of expected slots with the right value; completed, if all are right and none is invented."""

    names: tuple[str, ...]

    def filled(self, found: Mapping[str, Any]) -> dict[str, str]:
        """Return the slots of an object that hold something, as text."""
        return {name: str(found[name]) for name in self.names if _is_filled(found.get(name))}

    def grade(self, answer: str, expected: Any) -> Grade:
        """Return the grade; the answer is the first JSON object in the text, `expected` maps slot to value."""
        wanted: Mapping[str, str] = expected
        found = find_json_object(answer)
        if found is None:
            return Grade(is_completed=False, score=0.0, why=f"no JSON object in {_short(answer)}")
        given = {name: _plain(value) for name, value in self.filled(found).items()}
        want = {name: _plain(value) for name, value in wanted.items()}
        right = sum(given.get(name) == value for name, value in want.items())
        invented = sorted(set(given) - set(want))
        union = len(set(given) | set(want))
        score = right / union if union else 1.0
        detail = f"{right} of {len(want)} slots right" + (f", invented {', '.join(invented)}" if invented else "")
        return Grade(is_completed=right == len(want) and not invented, score=score, why=detail)


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """Completed, if the answer is one JSON value that the schema accepts; `expected` is not looked at."""

    schema: Mapping[str, Any]

    def grade(self, answer: str, expected: Any) -> Grade:  # noqa: ARG002 - the protocol gives it
        """Return the grade."""
        try:
            import fastjsonschema
        except ImportError as error:
            raise MissingExtra(needed_for="the JSON schema grader", package="fastjsonschema", extra="trials") from error
        try:
            value = json.loads(answer)
            fastjsonschema.validate(dict(self.schema), value)
        except json.JSONDecodeError as error:
            return _failed(f"not JSON: {error.msg}")
        except fastjsonschema.JsonSchemaValueException as error:
            return _failed(str(error.message))
        return _judged(is_right=True, why="the schema accepts it")


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Completed, if the calls made are the calls expected, in any order, arguments equal as JSON values."""

    def grade(self, answer: str, expected: Any) -> Grade:
        """Return the grade; both are lists of {name, arguments}, `answer` as JSON text."""
        try:
            made = json.loads(answer)
        except json.JSONDecodeError as error:
            return _failed(f"the calls are not JSON: {error.msg}")
        return _judged(is_right=_call_keys(made) == _call_keys(expected), why=f"made {_short(answer)}")


def find_json_object(text: str) -> dict[str, Any] | None:
    """Return the first JSON object that stands in `text`, or None."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\{", text):
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def _call_keys(calls: Sequence[Mapping[str, Any]]) -> list[str]:
    if not isinstance(calls, list):
        return ["not a list of calls"]
    keys = []
    for call in calls:
        arguments = call.get("arguments")
        parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
        keys.append(json.dumps([call.get("name"), parsed], sort_keys=True))
    return sorted(keys)


def _is_filled(value: object) -> bool:
    return value is not None and str(value).strip().lower() not in {"", "null", "none", "n/a"}


def _plain(text: str) -> str:
    lowered = text.casefold().translate(str.maketrans("_-", "  "))
    kept = "".join(character if character not in string.punctuation else " " for character in lowered)
    return " ".join(kept.split())


def _short(text: str, limit: int = 60) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= limit else line[: limit - 1] + "…")


def _failed(why: str) -> Grade:
    return Grade(is_completed=False, score=0.0, why=why)


def _judged(*, is_right: bool, why: str) -> Grade:
    return Grade(is_completed=is_right, score=float(is_right), why=why)
