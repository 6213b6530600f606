"""How a workload's tasks are served: the strategy, its options and its hard caps.

What the options do is the strategies' own knowledge; here stands which there are and what they may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, NamedTuple, get_args

from ownward.core import closest
from ownward.plan._problems import (
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
OptionValue = str | int | float

EXTRACTORS = frozenset({"text", "first_line", "last_line", "last_number", "choice", "label", "json", "regex"})
"""How an answer is made comparable: which part of it votes or agrees."""

GRADERS = frozenset(
    {"exact", "label", "regex", "json_schema", "json_valid", "unit_tests", "tool_call", "embedding", "judge"}
)
"""What scores an answer from 0 to 1."""

MAX_FAN_OUT = 64


class OptionRule(NamedTuple):
    """What one option may be: its form, whether it must be there, and its closed set or least value."""

    form: Literal["count", "fraction", "number", "choice", "text", "tier"]
    is_required: bool = False
    choices: frozenset[str] = frozenset()
    least: int = 1


class KindRule(NamedTuple):
    """What one kind of strategy needs: how many tiers, and which options."""

    least_tiers: int
    most_tiers: int | None
    options: Mapping[str, OptionRule]


_EXTRACTOR = OptionRule("choice", choices=EXTRACTORS)
_GRADER = OptionRule("choice", choices=GRADERS)
_COMMON = {
    "temperature": OptionRule("number"),
    "pattern": OptionRule("text"),
    "judge_tier": OptionRule("tier"),
}

RULES: Mapping[str, KindRule] = {
    "direct": KindRule(1, 1, {}),
    "cascade": KindRule(
        2,
        None,
        {
            "accept": OptionRule("choice", is_required=True, choices=frozenset({"agreement", "grader"})),
            "threshold_fraction": OptionRule("fraction", is_required=True),
            "samples": OptionRule("count", least=2),
            "extractor": _EXTRACTOR,
            "grader": _GRADER,
            **_COMMON,
        },
    ),
    "vote": KindRule(
        1,
        None,
        {
            "k": OptionRule("count", is_required=True, least=2),
            "extractor": _EXTRACTOR._replace(is_required=True),
            "threshold_fraction": OptionRule("fraction"),
            "temperature": _COMMON["temperature"],
            "pattern": _COMMON["pattern"],
        },
    ),
    "best_of": KindRule(
        1,
        None,
        {
            "k": OptionRule("count", is_required=True, least=2),
            "grader": _GRADER._replace(is_required=True),
            **_COMMON,
        },
    ),
    "revise": KindRule(
        1,
        2,
        {
            "rounds": OptionRule("count", is_required=True),
            "grader": _GRADER,
            "threshold_fraction": OptionRule("fraction"),
            **_COMMON,
        },
    ),
    "forest": KindRule(
        1,
        1,
        {
            "trees": OptionRule("count", is_required=True, least=2),
            "depth": OptionRule("count", is_required=True),
            "width": OptionRule("count"),
            "extractor": _EXTRACTOR,
            "grader": _GRADER,
            **_COMMON,
        },
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """How tasks are served over named tiers, with hard caps for each task.

    `tiers` are in order: a cascade's from the cheapest to the strongest, a
    revision's the writer and then the critic. `max_calls` left out is what the
    options come to at most. The other caps are None where there is none.
    `options` differ by kind; see RULES.
    """

    kind: StrategyKind
    tiers: tuple[str, ...]
    max_calls: int = 0
    max_output_tokens: int | None = None
    max_usd: Decimal | None = None
    max_seconds: float | None = None
    options: Mapping[str, OptionValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the options, work out `max_calls`, and refuse what no strategy could do."""
        object.__setattr__(self, "tiers", tuple(self.tiers))
        object.__setattr__(self, "options", freeze(self.options))
        refuse(f"strategy {shown(self.kind)}", _strategy_problems(self))
        if self.max_calls == 0:
            object.__setattr__(self, "max_calls", _most_calls(self))

    @property
    def tier_references(self) -> tuple[tuple[str, str], ...]:
        """Every tier it names, with the key that names it."""
        named = [("tiers", name) for name in self.tiers]
        judge = self.options.get("judge_tier")
        return tuple(named) + ((("options.judge_tier", judge),) if isinstance(judge, str) else ())


def _most_calls(strategy: Strategy) -> int:
    """Return how many model calls the options come to at most, judges included."""

    def count(name: str, default: int = 1) -> int:
        value = strategy.options.get(name, default)
        return value if isinstance(value, int) else default

    judged = 2 if strategy.options.get("grader") == "judge" else 1
    match strategy.kind:
        case "direct":
            return 1
        case "cascade":
            tries = count("samples", 2) if strategy.options.get("accept") == "agreement" else judged
            return tries * (len(strategy.tiers) - 1) + 1
        case "vote":
            return count("k")
        case "best_of":
            return count("k") * judged
        case "revise":
            return 1 + count("rounds") * (judged + 1)
        case "forest":
            return count("trees") * count("depth") * count("width") * judged


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
    needed = []
    if options.get("accept") == "agreement":
        needed += ["samples", "extractor"]
    if options.get("accept") == "grader":
        needed += ["grader"]
    if "regex" in {options.get("extractor"), options.get("grader")}:
        needed += ["pattern"]
    if options.get("grader") == "judge":
        needed += ["judge_tier"]
    for name in needed:
        if name not in options and name in rule.options:
            yield Problem(f"options.{name}", "is missing", _example(name, rule.options[name]))
    k = options.get("k")
    if isinstance(k, int) and 0 < strategy.max_calls < k:
        yield Problem("max_calls", f"is {strategy.max_calls}, below k = {k}", "Raise it, or lower options.k")


def _value_problems(key: str, value: OptionValue, rule: OptionRule) -> Iterable[Problem]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match rule.form:
        case "count":
            if not isinstance(value, int) or isinstance(value, bool) or not rule.least <= value <= MAX_FAN_OUT:
                yield Problem(key, f"is {shown(value)}", f"Write a whole number from {rule.least} to {MAX_FAN_OUT}")
        case "fraction":
            if isinstance(value, str) or not is_number:
                yield Problem(key, f"is {shown(value)}", "Write a share above 0 and at most 1")
            else:
                yield from fraction_problems(key, value, may_be_one=True)
        case "number":
            if isinstance(value, str) or not is_number or not 0 <= value < float("inf"):
                yield Problem(key, f"is {shown(value)}", "Write a number of zero or more")
        case "choice":
            if value not in rule.choices:
                yield Problem(key, f"is {shown(value)}", suggest(str(value), rule.choices))
        case "text" | "tier":
            if not isinstance(value, str):
                yield Problem(key, f"is {shown(value)}, not a text")
            else:
                yield from text_problems(key, value)


def _example(name: str, rule: OptionRule) -> str:
    match rule.form:
        case "count":
            return f"Write {name} = {max(rule.least, 3)}"
        case "fraction":
            return f"Write {name} = 0.9"
        case "choice":
            return f"Write one of {', '.join(shown(choice) for choice in sorted(rule.choices))}"
        case _:
            return f'Write {name} = "…"'
