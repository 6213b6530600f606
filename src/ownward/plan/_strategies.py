"""How a workload's tasks are served: the strategy, its options and its hard caps.

What the options do is the strategies' own knowledge; here stands which there are and what they may be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, get_args

from ownward.core import closest
from ownward.plan._problems import (
    Option,
    Problem,
    find_repeated,
    fraction_problems,
    freeze,
    positive_problems,
    refuse,
    shown,
    suggest,
    text_problems,
    usd_problems,
)

StrategyKind = Literal["direct", "cascade", "vote", "best_of", "revise", "forest"]

MAX_SAMPLES: Final = 64
MAX_SCHEMA_CHARACTERS: Final = 65_536

JUDGES = ("labels", "regex", "number", "json_field", "json_schema")
"""How an answer is read and checked without knowing the truth; every kind but `direct` states exactly one."""


class OptionRule(NamedTuple):
    """What one option may be: its form, whether it must be there, and its least value."""

    form: Literal["count", "fraction", "number", "flag", "text", "texts", "regex", "json"]
    is_required: bool = False
    least: int = 1


class KindRule(NamedTuple):
    """What one kind of strategy needs: how many tiers, and which options."""

    least_tiers: int
    most_tiers: int | None
    options: Mapping[str, OptionRule]


_JUDGED: Mapping[str, OptionRule] = {
    "labels": OptionRule("texts"),
    "regex": OptionRule("regex"),
    "number": OptionRule("flag"),
    "json_field": OptionRule("text"),
    "json_schema": OptionRule("json"),
    "temperature": OptionRule("number"),
}
_SAMPLES = OptionRule("count", is_required=True, least=2)
_AGREEMENT = OptionRule("fraction")

RULES: Mapping[str, KindRule] = {
    "direct": KindRule(1, 1, {}),
    "cascade": KindRule(2, None, {"samples": OptionRule("count"), "agreement_fraction": _AGREEMENT, **_JUDGED}),
    "vote": KindRule(1, 1, {"samples": _SAMPLES, "agreement_fraction": _AGREEMENT, **_JUDGED}),
    "best_of": KindRule(1, 1, {"samples": _SAMPLES, **_JUDGED}),
    "revise": KindRule(1, 1, {"revisions": OptionRule("count", is_required=True), **_JUDGED}),
    "forest": KindRule(1, 2, {"samples": _SAMPLES, **_JUDGED}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """How tasks are served over named tiers, with hard caps for each task.

    `tiers` are in order: a cascade's from the cheapest to the strongest, a
    forest's second is asked where the first finds no majority. `max_calls` left
    out is what the options come to at most. The other caps are None where there
    is none. `options` differ by kind; see RULES.
    """

    kind: StrategyKind
    tiers: tuple[str, ...]
    max_calls: int = 0
    max_output_tokens: int | None = None
    max_usd: Decimal | None = None
    max_seconds: float | None = None
    options: Mapping[str, Option] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the options, work out `max_calls`, and refuse what no strategy could do."""
        object.__setattr__(self, "tiers", tuple(self.tiers))
        object.__setattr__(self, "options", freeze(self.options))
        refuse(f"strategy {shown(self.kind)}", _strategy_problems(self))
        if self.max_calls == 0:
            object.__setattr__(self, "max_calls", _most_calls(self))

    @property
    def judge_options(self) -> Mapping[str, Any]:
        """The judge that the options state, under its key: a JSON schema as the object it is. Empty for `direct`."""
        stated = {key: self.options[key] for key in JUDGES if key in self.options}
        return {key: json.loads(str(value)) if key == "json_schema" else value for key, value in stated.items()}


def _most_calls(strategy: Strategy) -> int:
    """Return how many model calls the options come to at most."""

    def count(name: str) -> int:
        value = strategy.options.get(name, 1)
        return value if isinstance(value, int) else 1

    tiers = len(strategy.tiers)
    match strategy.kind:
        case "direct":
            return 1
        case "cascade":
            return count("samples") * (tiers - 1) + 1
        case "vote" | "best_of":
            return count("samples")
        case "revise":
            return 1 + count("revisions")
        case "forest":
            return 2 * count("samples") + tiers - 1


def _strategy_problems(strategy: Strategy) -> Iterable[Problem]:
    rule = RULES.get(strategy.kind)
    if rule is None:
        yield Problem("kind", f"is {shown(strategy.kind)}", suggest(strategy.kind, get_args(StrategyKind)))
        return
    yield from _tier_count_problems(strategy, rule)
    if strategy.max_calls < 0:
        yield Problem("max_calls", f"is {strategy.max_calls}", "Write a whole number above zero, or leave it out")
    yield from positive_problems("max_output_tokens", strategy.max_output_tokens)
    yield from positive_problems("max_seconds", strategy.max_seconds)
    yield from usd_problems("max_usd", strategy.max_usd, may_be_zero=False)
    yield from _option_problems(strategy, rule)


def _tier_count_problems(strategy: Strategy, rule: KindRule) -> Iterable[Problem]:
    count = len(strategy.tiers)
    if count < rule.least_tiers or (rule.most_tiers is not None and count > rule.most_tiers):
        most = rule.most_tiers
        wanted = (
            f"exactly {most}" if most == rule.least_tiers
            else f"at least {rule.least_tiers}" if most is None
            else f"{rule.least_tiers} to {most}"
        )  # fmt: skip
        yield Problem("tiers", f"names {count} for the strategy {strategy.kind}", f"It takes {wanted}")
    for _, name in find_repeated(strategy.tiers):
        yield Problem("tiers", f"names {shown(name)} twice", "Name each tier once")


def _option_problems(strategy: Strategy, rule: KindRule) -> Iterable[Problem]:
    options = strategy.options
    meant = {near for name in options if name not in rule.options for near in closest(name, rule.options, limit=1)}
    for name, value in options.items():
        key = f"options.{name}"
        if name not in rule.options:
            allowed = suggest(name, rule.options) or "It takes none"
            yield Problem(key, f"is not an option of the strategy {strategy.kind}", allowed)
        else:
            yield from _value_problems(key, value, rule.options[name])
    for name, option in rule.options.items():
        if option.is_required and name not in options and name not in meant:
            yield Problem(f"options.{name}", f"is missing for the strategy {strategy.kind}", _example(name, option))
    if strategy.kind != "direct":
        yield from _judge_problems(strategy, meant)
    samples = options.get("samples", 1)
    if isinstance(samples, int) and samples > 1:
        if strategy.kind == "cascade" and not {"agreement_fraction"} & (set(options) | meant):
            yield Problem("options.agreement_fraction", "is missing", _example("agreement_fraction", _AGREEMENT))
        if 0 < strategy.max_calls < samples:
            message = f"is {strategy.max_calls}, below samples = {samples}"
            yield Problem("max_calls", message, "Raise it, or lower options.samples")


def _judge_problems(strategy: Strategy, meant: set[str]) -> Iterable[Problem]:
    stated = [key for key in JUDGES if key in strategy.options]
    if not stated and not meant & set(JUDGES):
        allowed = f"State one of {', '.join(JUDGES)}: how answers are compared without knowing the truth"
        yield Problem("options", f"names no judge, which {strategy.kind} needs", allowed)
    for key in stated[1:]:
        yield Problem(f"options.{key}", f"is a second judge beside {stated[0]}", "State exactly one")


def _value_problems(key: str, value: Option, rule: OptionRule) -> Iterable[Problem]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match rule.form:
        case "count":
            if not isinstance(value, int) or isinstance(value, bool) or not rule.least <= value <= MAX_SAMPLES:
                yield Problem(key, f"is {shown(value)}", f"Write a whole number from {rule.least} to {MAX_SAMPLES}")
        case "fraction":
            if not isinstance(value, int | float) or not is_number:
                yield Problem(key, f"is {shown(value)}", "Write a share above 0 and at most 1")
            else:
                yield from fraction_problems(key, value, may_be_one=True)
        case "number":
            if not isinstance(value, int | float) or not is_number or not 0 <= value < float("inf"):
                yield Problem(key, f"is {shown(value)}", "Write a number of zero or more")
        case "flag":
            if value is not True:
                yield Problem(key, f"is {shown(value)}", "Write true, or leave it out")
        case "texts":
            yield from _texts_problems(key, value)
        case "text" | "regex" | "json":
            if not isinstance(value, str):
                yield Problem(key, f"is {shown(value)}, not a text")
            else:
                yield from _text_problems(key, value, rule.form)


def _texts_problems(key: str, value: Option) -> Iterable[Problem]:
    if not isinstance(value, tuple) or not value:
        yield Problem(key, f"is {shown(value)}", 'Write the labels: ["…", "…"]')
        return
    for text in value:
        yield from text_problems(key, text)
    for _, text in find_repeated(value):
        yield Problem(key, f"names {shown(text)} twice", "Write each once")


def _text_problems(key: str, text: str, form: str) -> Iterable[Problem]:
    if form == "json":
        try:
            schema = json.loads(text) if len(text) <= MAX_SCHEMA_CHARACTERS else None
        except (ValueError, RecursionError):
            schema = None
        if not isinstance(schema, dict):
            yield Problem(key, "is not a JSON schema", "Write the schema's JSON object as one text of at most 64 KiB")
        return
    yield from text_problems(key, text)
    if form == "regex":
        try:
            re.compile(text)
        except (re.error, RecursionError, OverflowError) as error:
            yield Problem(key, f"is {shown(text)}, which does not compile: {error}")


def _example(name: str, rule: OptionRule) -> str:
    return f"Write {name} = {max(rule.least, 3) if rule.form == 'count' else 0.9}"
