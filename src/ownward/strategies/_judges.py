"""Judges that need no truth: by label set, by pattern, by number, by JSON field or schema."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context
from typing import Any, Final

from ownward.core import BadInput, ConfigError, Fault
from ownward.quality import JsonSchema, LabelSet, RegexMatch, find_json_object, last_number
from ownward.strategies._types import Judge

JUDGE_KEYS = ("labels", "regex", "number", "json_field", "json_schema")
_EXACT: Final = Context(prec=100, traps=[])  # nobody means more digits, and none of any number is an error
_MOST_DIGITS: Final = 1000  # an exponent makes as many of them as it says


@dataclass(frozen=True, slots=True, kw_only=True)
class GraderJudge:
    """Extracts by exactly one rule; what it can extract passes."""

    labels: LabelSet | None = None
    regex: str | None = None
    number: bool = False
    json_field: str | None = None
    json_schema: JsonSchema | None = None

    def extract(self, text: str) -> str | None:
        """Return the label, group, number, field or canonical JSON in `text`, or None."""
        if self.labels is not None:
            found = self.labels.find(text)
            return found[0] if len(found) == 1 else None
        if self.regex is not None:
            said = RegexMatch(self.regex).find(text)
            return None if said is None else said.strip()
        if self.number:
            said = last_number(text)
            return None if said is None else _canonical(said)
        value = find_json_object(text)
        if value is None:
            return None
        if self.json_field is not None:
            return json.dumps(value[self.json_field], sort_keys=True) if self.json_field in value else None
        return json.dumps(value, sort_keys=True)

    def verify(self, text: str) -> float | None:
        """Return 1, if the answer has the required form, else 0."""
        if self.json_schema is not None:
            return self.json_schema.grade(text, None).score
        return float(self.extract(text) is not None)


def _canonical(number: str) -> str:
    """Return a number in the form in which equal ones are equal texts."""
    exact = _EXACT.normalize(_EXACT.plus(_EXACT.create_decimal(number)))  # of zeros, the one without a sign
    return f"{exact:f}" if exact.is_finite() and abs(exact.adjusted()) <= _MOST_DIGITS else str(exact)


def judge_for(options: Mapping[str, Any], *, file: str = "plan") -> Judge | None:
    """Return the judge that a strategy's options describe, or None where they describe none.

    Raises: ConfigError, if there are several rules, or a pattern or a schema that cannot be used; MissingExtra.
    """
    given = {key: options[key] for key in JUDGE_KEYS if options.get(key)}
    if not given:
        return None
    if len(given) > 1:
        raise ConfigError([Fault(file=file, key="strategy", message=f"has several judges: {', '.join(sorted(given))}")])
    ((key, value),) = given.items()
    if key == "labels":
        try:
            return GraderJudge(labels=LabelSet(tuple(value)))
        except BadInput as error:
            raise ConfigError([Fault(file=file, key="strategy.labels", message=f"is refused: {error}")]) from error
    if key == "regex":
        try:
            re.compile(value)
        except re.error as error:
            fault = Fault(file=file, key="strategy.regex", message=f"{value!r} does not compile: {error}")
            raise ConfigError([fault]) from error
        return GraderJudge(regex=value)
    if key == "number":
        return GraderJudge(number=True)
    if key == "json_field":
        return GraderJudge(json_field=value)
    try:
        return GraderJudge(json_schema=JsonSchema(value))
    except BadInput as error:
        fault = Fault(file=file, key="strategy.json_schema", message=f"is refused: {error}")
        raise ConfigError([fault]) from error
