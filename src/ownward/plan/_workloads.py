"""Requests of one kind: how they are recognised, how they are served, and within which bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from ownward.plan._budgets import Budget
from ownward.plan._detection import detection_problems
from ownward.plan._problems import (
    Figures,
    Problem,
    figure_problems,
    find_repeated,
    fraction_problems,
    freeze,
    looks_like_secret,
    name_problems,
    positive_problems,
    refuse,
    shown,
    text_problems,
    usd_problems,
)
from ownward.plan._strategies import Strategy
from ownward.policy import LOCAL_ONLY, DetectorKind, Label


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What recognises a workload's requests; a condition that is not stated holds for all.

    Every stated condition must hold, and of one condition's list any entry is
    enough (of `headers` and `metadata`, which are named, every entry must hold).
    In models, headers and metadata `*` stands for any text. Header names are
    compared in lower case.
    """

    models: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    fingerprints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Freeze, and bring header names to lower case."""
        object.__setattr__(self, "models", tuple(self.models))
        object.__setattr__(self, "keys", tuple(self.keys))
        object.__setattr__(self, "fingerprints", tuple(self.fingerprints))
        object.__setattr__(self, "headers", freeze({name.lower(): value for name, value in self.headers.items()}))
        object.__setattr__(self, "metadata", freeze(self.metadata))
        refuse("match", _match_problems(self))

    def accepts(
        self,
        *,
        model: str,
        headers: Mapping[str, str] | None = None,
        key_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        fingerprint: str | None = None,
    ) -> bool:
        """Tell whether a request is of this workload. Header names are expected in lower case.

        >>> Match(models=("gpt-*",)).accepts(model="gpt-5"), Match(keys=("team-a",)).accepts(model="gpt-5")
        (True, False)
        """
        return (
            (not self.models or any(_fits(pattern, model) for pattern in self.models))
            and (not self.keys or key_id in self.keys)
            and (not self.fingerprints or fingerprint in self.fingerprints)
            and (not self.headers or _all_fit(self.headers, headers))
            and (not self.metadata or _all_fit(self.metadata, metadata))
        )

    @property
    def specificity(self) -> tuple[int, int, int]:
        """How narrow it is, for comparison: conditions stated, of these without a `*`, literal characters."""
        patterns = [*self.models, *self.headers.values(), *self.metadata.values()]
        conditions = sum(map(bool, (self.models, self.keys, self.fingerprints)))
        conditions += len(self.headers) + len(self.metadata)
        if self.models and all(not pattern.strip("*") for pattern in self.models):
            conditions -= 1
        exact = sum("*" not in pattern for pattern in patterns)
        return conditions, exact, min((len(pattern.replace("*", "")) for pattern in patterns), default=0)


def _fits(pattern: str, text: str) -> bool:
    """Tell whether `text` is `pattern`, in which `*` stands for any text; linear in both."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    last = rest.pop()
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    place, end = len(first), len(text) - len(last)
    for part in rest:
        found = text.find(part, place, end)
        if found < 0:
            return False
        place = found + len(part)
    return True


def _all_fit(patterns: Mapping[str, str], values: Mapping[str, str] | None) -> bool:
    if values is None:
        return False
    for name, pattern in patterns.items():
        value = values.get(name)
        if value is None or not _fits(pattern, value):
            return False
    return True


def _match_problems(match: Match) -> Iterable[Problem]:
    for key in ("models", "keys", "fingerprints"):
        values: tuple[str, ...] = getattr(match, key)
        for index, value in enumerate(values):
            yield from text_problems(f"{key}[{index}]", value)
            if key == "keys" and looks_like_secret(value):
                yield Problem(f"{key}[{index}]", "looks like a secret", "Write the key's id: ownward keys list")
        for index, value in find_repeated(values):
            yield Problem(f"{key}[{index}]", f"is {shown(value)} for a second time", "Write it once")
    for key in ("headers", "metadata"):
        for name, value in getattr(match, key).items():
            yield from text_problems(key, name)
            yield from text_problems(f"{key}.{name}", value, may_be_empty=True)
            if looks_like_secret(value):
                yield Problem(f"{key}.{name}", "looks like a secret", 'Match on keys = ["the key\'s id"] instead')


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Which share of a workload's bodies is kept, for how long, and up to which size each."""

    sample_fraction: float
    retention_s: float
    max_body_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        """Refuse a share outside (0, 1] and a retention that keeps nothing."""
        problems = [
            *fraction_problems("sample_fraction", self.sample_fraction, may_be_one=True),
            *positive_problems("retention_s", self.retention_s),
            *positive_problems("max_body_bytes", self.max_body_bytes),
        ]
        refuse("capture", problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Requests of one kind of work: what recognises them, how they are served, and within which bounds.

    `fallback` are the tiers asked in order once the strategy's own cannot serve. `baseline` is the tier that this
    workload is compared with, where that is not the plan's.
    `floor_fraction` is the share of the baseline's completion that must hold, at
    `confidence_fraction`; None means no floor is stated. `budget` holds all calls of the
    workload together, `task_budget_usd` those of each task. `continues_streams` has a stream
    that was cut go on at another upstream. A request that waited `spill_after_s` for a place in a full
    tier goes to the next that has one free; None: it keeps to the order. Where one of `detect` or `detect_patterns`
    is found in a request, its data travels no further than `detected_label` allows.
    """

    name: str
    match: Match
    strategy: Strategy
    label: Label
    fallback: tuple[str, ...] = ()
    baseline: str | None = None
    floor_fraction: float | None = None
    confidence_fraction: float | None = None
    budget: Budget | None = None
    task_budget_usd: Decimal | None = None
    continues_streams: bool = False
    spill_after_s: float | None = None
    detect: tuple[DetectorKind, ...] = ()
    detect_patterns: Mapping[str, str] = field(default_factory=dict)
    detected_label: Label = LOCAL_ONLY
    capture: Capture | None = None
    figures: Figures = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze; refuse bounds outside (0, 1) and a fallback that leads back."""
        object.__setattr__(self, "fallback", tuple(self.fallback))
        object.__setattr__(self, "detect", tuple(self.detect))
        object.__setattr__(self, "detect_patterns", freeze(self.detect_patterns))
        object.__setattr__(self, "figures", freeze(self.figures))
        refuse(f"workload {shown(self.name)}", _workload_problems(self))


def _workload_problems(workload: Workload) -> Iterable[Problem]:
    yield from name_problems("name", workload.name)
    yield from fraction_problems("floor_fraction", workload.floor_fraction)
    yield from fraction_problems("confidence_fraction", workload.confidence_fraction)
    if workload.task_budget_usd is not None:
        yield from usd_problems("task_budget_usd", workload.task_budget_usd, may_be_zero=False)
    spill_s = workload.spill_after_s
    if spill_s is not None and not 0 <= spill_s < float("inf"):
        yield Problem("spill_after_s", f"is {spill_s}", "Write seconds, 0 or more")
    for _, name in find_repeated(workload.fallback):
        yield Problem("fallback", f"names {shown(name)} twice", "Name each tier once")
    for name in dict.fromkeys(workload.fallback):
        if name in workload.strategy.tiers:
            allowed = "Name tiers that the strategy does not use"
            yield Problem("fallback", f"leads back to {shown(name)}, which the strategy has tried", allowed)
    yield from detection_problems(workload.detect, workload.detect_patterns)
    yield from figure_problems(workload.figures)
