"""Graders: was the task completed? Pure functions of the answer and the expected value."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Protocol

from ownward.core import BadInput, MissingExtra
from ownward.quality._wording import is_same, last_number, plain

_MOST_BRACES: Final = 1000
_MOST_CHARACTERS_IN_VAIN: Final = 4_000_000


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
        left, right = (unicodedata.normalize("NFC", text).strip() for text in (answer, str(expected)))
        if self.ignore_case:
            left, right = left.casefold(), right.casefold()
        return _judged(is_right=left == right, why=f"answered {_short(answer)}, expected {_short(str(expected))}")


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Completed, if exactly one label of the set stands in the answer and it is the expected one.

    Underscores, hyphens, spaces, quotes and case are alike. A label inside a longer label that stands there too
    does not count.
    Raises, when made: BadInput, if two labels are alike by that, or one is nothing but punctuation.
    """

    labels: tuple[str, ...]
    _needles: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Lay out what is looked for, and refuse labels that no answer could tell apart."""
        known: dict[str, str] = {}
        for label in self.labels:
            words = plain(label)
            if not words or known.setdefault(words, label) != label:
                why = f"are {known[words]!r} and {label!r}, which are alike" if words else f"have {label!r}"
                raise BadInput(
                    f"the labels {why}",
                    allowed="Labels that differ in letters or digits, and not in case or punctuation alone",
                    next_step="Use a regex to tell signs apart",
                )
        longest_first = sorted(known.items(), key=lambda item: -len(item[0]))
        object.__setattr__(self, "_needles", tuple((f" {words} ", label) for words, label in longest_first))

    def find(self, answer: str) -> tuple[str, ...]:
        """Return the labels that stand in `answer`, longest first."""
        text = f" {plain(answer)} "
        found: list[str] = []
        for needle, label in self._needles:
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
        last = None
        for match in re.finditer(self.pattern, answer):  # one at a time: there may be millions
            last = match
        if last is None:
            return None
        return last[1] if last.re.groups else last[0]  # None, where the group took no part in the match

    def grade(self, answer: str, expected: Any) -> Grade:
        """Return the grade; the last match in the answer counts."""
        value = self.find(answer)
        if value is None:
            return _failed(f"nothing in {_short(answer)} matches {self.pattern!r}")
        return _judged(is_right=is_same(value, str(expected)), why=f"extracted {value!r}, expected {expected!r}")


@dataclass(frozen=True, slots=True)
class NumberMatch:
    """Completed, if the last number in the answer equals the expected one within `tolerance` (absolute)."""

    tolerance: float = 0.0

    def find(self, answer: str) -> float | None:
        """Return the last number in `answer`, or None."""
        said = last_number(answer)
        return float(said) if said is not None else None

    def grade(self, answer: str, expected: Any) -> Grade:
        """Return the grade; thousands separators and currency signs are ignored.

        Raises: BadInput, if no number is expected.
        """
        wanted = self.find(str(expected))
        if wanted is None:
            raise BadInput(f"expected is {_short(str(expected))}", allowed="A number")
        value = self.find(answer)
        if value is None:
            return _failed(f"no number in {_short(answer)}")
        return _judged(is_right=abs(value - wanted) <= self.tolerance, why=f"answered {value:g}, expected {wanted:g}")


@dataclass(frozen=True, slots=True)
class Slots:
    """Score is the share of expected slots with the right value; completed, if all are right and none is invented."""

    names: tuple[str, ...]

    def filled(self, found: Mapping[str, Any]) -> dict[str, str]:
        """Return the slots of an object that hold something, as text."""
        return {name: str(found[name]) for name in self.names if _is_filled(found.get(name))}

    def grade(self, answer: str, expected: Any) -> Grade:
        """Return the grade; the answer is the first JSON object in the text, `expected` maps slot to value.

        A slot that is expected to hold nothing (null) has to be left out or empty.
        Raises: BadInput, if `expected` is no mapping of these slots.
        """
        if not isinstance(expected, Mapping):
            raise BadInput(f"expected is {_short(str(expected))}", allowed="An object of slots and their values")
        strange = [name for name in expected if name not in self.names]
        if strange:
            raise BadInput(f"expected has a slot {strange[0]!r}", allowed=", ".join(self.names))
        wanted = self.filled(expected)
        found = find_json_object(answer)
        if found is None:
            return Grade(is_completed=False, score=0.0, why=f"no JSON object in {_short(answer)}")
        given = self.filled(found)
        right = sum(name in given and is_same(given[name], value) for name, value in wanted.items())
        invented = sorted(set(given) - set(wanted))
        union = len(set(given) | set(wanted))
        score = right / union if union else 1.0
        detail = f"{right} of {len(wanted)} slots right" + (f", invented {', '.join(invented)}" if invented else "")
        return Grade(is_completed=right == len(wanted) and not invented, score=score, why=detail)


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """Completed, if the answer is one JSON value that the schema accepts; `expected` is not looked at.

    The schema stands by itself: what it refers to elsewhere is not fetched.
    Raises, when made: BadInput, if it cannot be used; MissingExtra, if what reads schemas is not installed.
    """

    schema: Mapping[str, Any]
    _validate: Callable[[Any], Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the schema."""
        object.__setattr__(self, "_validate", _compiled(self.schema))

    def grade(self, answer: str, expected: Any) -> Grade:  # noqa: ARG002 - the protocol gives it
        """Return the grade."""
        try:
            self._validate(_json_of(answer))
        except json.JSONDecodeError as error:
            return _failed(f"not JSON: {error.msg}")
        except RecursionError:
            return _failed("nested too deeply")
        except ValueError as error:  # the validator's own is one, and so is that of a number with thousands of digits
            return _failed(str(error))
        return _judged(is_right=True, why="the schema accepts it")


class _NothingElsewhere(dict[str, Callable[[str], Any]]):
    """Handlers of references to other documents: for every scheme, one that refuses."""

    def __contains__(self, scheme: object) -> bool:
        return True

    def __missing__(self, scheme: str) -> Callable[[str], Any]:
        return self._refuse

    @staticmethod
    def _refuse(address: str) -> Any:
        raise BadInput(
            f"the JSON schema refers to {address!r}, and nothing is fetched",
            next_step='Write what it refers to under "$defs" or "definitions" of the schema itself',
        )


def _compiled(schema: Mapping[str, Any]) -> Callable[[Any], Any]:
    try:
        import fastjsonschema
    except ImportError as error:
        raise MissingExtra(needed_for="the JSON schema grader", package="fastjsonschema", extra="trials") from error
    try:
        validate: Callable[[Any], Any] = fastjsonschema.compile(dict(schema), handlers=_NothingElsewhere())
    except (
        fastjsonschema.JsonSchemaDefinitionException, re.error, RecursionError,
        AttributeError, LookupError, SyntaxError, TypeError, ValueError,  # what it meets in schemas of a wrong form
    ) as error:  # fmt: skip
        raise BadInput(
            f"the JSON schema cannot be used: {error}", allowed="A JSON schema of draft 4, 6 or 7"
        ) from error
    return validate


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Completed, if the calls made are the calls expected, in any order, arguments equal as JSON values.

    An answer in words made no calls, which is right where none are expected.
    """

    def grade(self, answer: str, expected: Any) -> Grade:
        """Return the grade; both are lists of {name, arguments}, `answer` as JSON text.

        Raises: BadInput, if `expected` is no such list.
        """
        if not _are_calls(expected):
            raise BadInput(
                f"expected is {_short(str(expected))}", allowed="A list of {name, arguments}, empty for none"
            )
        try:
            wanted = _call_keys(expected)
        except ValueError as error:
            raise BadInput(f"the arguments expected are not JSON: {error}") from error
        try:
            made = json.loads(answer)
        except (ValueError, RecursionError):
            made = None
        try:
            keys = _call_keys(made) if _are_calls(made) else []
        except (ValueError, RecursionError) as error:
            return _failed(f"the arguments of a call are not JSON: {error}")
        return _judged(is_right=keys == wanted, why=f"made {_short(answer)}")


def find_json_object(text: str) -> dict[str, Any] | None:
    """Return the first JSON object that stands in `text`, or None.

    Behind 1,000 braces that begin none, or 4 million characters read in vain, nothing is looked for any more: a text
    can be made that would take hours.
    """
    decoder = json.JSONDecoder()
    left = _MOST_CHARACTERS_IN_VAIN
    for match in islice(re.finditer(r"\{", text), _MOST_BRACES):
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except json.JSONDecodeError as error:
            left -= error.pos - match.start()
        except (RecursionError, ValueError):  # nested too deeply; a number with thousands of digits
            left -= len(text) - match.start()
        else:
            return value if isinstance(value, dict) else None
        if left < 0:
            break
    return None


def _are_calls(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(call, dict) and "name" in call for call in value)


def _call_keys(calls: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = []
    for call in calls:
        arguments = call.get("arguments")
        if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
            arguments = {}  # of a call without any, engines say so in several ways
        parsed = _json_of(arguments) if isinstance(arguments, str) else arguments
        keys.append(json.dumps([call.get("name"), _equal_as_json(parsed)], sort_keys=True))
    return sorted(keys)


def _json_of(text: str) -> Any:
    """Return the JSON value that `text` is; NaN and its like are none."""
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _equal_as_json(value: Any) -> Any:
    """Return `value` with each whole number written alike: 5.0 is the JSON number 5."""
    match value:
        case dict():
            return {name: _equal_as_json(item) for name, item in value.items()}
        case list():
            return [_equal_as_json(item) for item in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def _is_filled(value: object) -> bool:
    return value is not None and str(value).strip().lower() not in {"", "null", "none", "n/a"}


def _short(text: str, limit: int = 60) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= limit else line[: limit - 1] + "…")


def _failed(why: str) -> Grade:
    return Grade(is_completed=False, score=0.0, why=why)


def _judged(*, is_right: bool, why: str) -> Grade:
    return Grade(is_completed=is_right, score=float(is_right), why=why)
