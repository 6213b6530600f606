"""What a page about a fit is made of: options with what stands beside them, what comes nearest, what to buy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

    from ownward.catalog import Machine, Model, Score
    from ownward.engines import ServingChoice
    from ownward.planner import Advice, Curves, FitOption, Host, Nearest
    from ownward.pricing import Price


@dataclass(frozen=True, slots=True, kw_only=True)
class FitFacts:
    """What the catalogue knows of a model: its release, licence, published scores, the cheapest API of its weights."""

    release: Model | None = None
    licence: str | None = None
    scores: tuple[Score, ...] = ()
    cheapest_api: Price | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchCommand:
    """A command that runs an option, as its words, and what it needs that is not there."""

    words: tuple[str, ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FitLine:
    """An option with its model's facts, the commands that run it (the exact one first) and curves, if any.

    `serving` is how its weights are best held, where processor and model share a memory. `rests_on`, in a ranking of
    models, are the benchmarks whose published scores it was ranked by: none, if only its size and age stand for it.
    """

    option: FitOption
    facts: FitFacts
    commands: tuple[LaunchCommand, ...]
    curves: Curves | None = None
    serving: ServingChoice | None = None
    rests_on: tuple[str, ...] | None = None

    @property
    def is_unscored(self) -> bool:
        """Whether it was ranked by size and age alone."""
        return self.rests_on == ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """A fit as pages show it. `lines` are best first; `is_ranking` says that they are different models.

    `models` are those that were named; none where the catalogue was asked for its best.
    """

    models: tuple[str, ...] = ()
    machine: Machine | None
    machines_count: int
    host: Host | None
    context_tokens: int
    concurrency: int
    lines: tuple[FitLine, ...]
    is_ranking: bool
    nearest: tuple[Nearest, ...] = ()
    advice: Advice | None = None
    notes: tuple[str, ...] = ()
    at: date

    @property
    def fitting(self) -> tuple[FitLine, ...]:
        """The options that fit, or may."""
        return tuple(line for line in self.lines if line.option.fits is not False)

    @property
    def failing(self) -> tuple[FitLine, ...]:
        """The options that do not fit, the nearest first."""
        return tuple(line for line in self.lines if line.option.fits is False)
