"""What a page about a fit is made of: options with what stands beside them, what comes nearest, what to buy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ownward.core import format_bytes

if TYPE_CHECKING:
    from datetime import date

    from ownward.catalog import Machine, Model, Score
    from ownward.engines import ServingChoice
    from ownward.perf import Prediction
    from ownward.planner import Advice, Curves, FitOption, Host, Nearest
    from ownward.pricing import Price

_KILO = 1000.0
_MEGA = 1e6
_GIGA = 1e9
_TEN = 9.95
Phase = Literal["start", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitFacts:
    """What the catalogue knows of a model: its release, licence, published scores, the cheapest API of its weights."""

    release: Model | None = None
    licence: str | None = None
    scores: tuple[Score, ...] = ()
    cheapest_api: Price | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A command that runs an option, as its words, and what it needs that is not there."""

    words: tuple[str, ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FitLine:
    """An option with its model's facts, the ways to run it (the exact one first) and, where asked for, its curves.

    `serving` is how its weights are best held, where processor and model share a memory. `rests_on`, in a ranking of
    models, are the benchmarks whose published scores it was ranked by: none, if only its size and age stand for it.
    """

    option: FitOption
    facts: FitFacts
    ways: tuple[Way, ...]
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


def name_machine(machine: Machine, count: int, host: Host | None = None) -> str:
    """Return devices and what stands behind them in a reader's words."""
    name = machine.name if count == 1 else f"{count} x {machine.name}"
    size = "" if machine.memory_label is None else machine.memory_label.value
    if machine.is_whole_computer and size.replace(" ", "") not in name.replace(" ", ""):
        name += f" with {size}"  # it is sold, or built, with several
    if host is None:
        return name
    behind = []
    if host.memory_bytes:
        behind.append(f"{format_bytes(host.memory_bytes)} of RAM")
    if host.disk_bytes_per_s:
        behind.append(f"a disk of {host.disk_bytes_per_s / _GIGA:g} GB/s")
    return f"{name}, behind it {' and '.join(behind)}" if behind else name


def name_tokens(count: float | None) -> str:
    """Return tokens as people say them: 8K for 8,192.

    >>> name_tokens(8192), name_tokens(40960), name_tokens(1000), name_tokens(1048576)
    ('8K', '40K', '1000', '1M')
    """
    if count is None:
        return "?"
    if count >= 1 << 20 and count % (1 << 20) == 0:
        return f"{int(count) >> 20}M"
    return f"{int(count) >> 10}K" if count >= 1 << 10 else f"{count:.0f}"


def short(value: float | None) -> str:
    """Return a rate in two or three figures.

    >>> short(8.42), short(110.4), short(3734), short(41029), short(1.2e6), short(None)
    ('8.4', '110', '3.7K', '41K', '1.2M', '?')
    """
    if value is None:
        return "?"
    if value < _KILO - 0.5:
        return f"{value:.1f}" if value < _TEN else f"{value:.0f}"
    amount, unit = (value / _KILO, "K") if value < _MEGA - 500 else (value / _MEGA, "M")
    return f"{amount:.1f}{unit}" if amount < _TEN else f"{amount:,.0f}{unit}"


def banded(prediction: Prediction) -> str:
    """Return a prediction with the range meant to hold the truth in 8 of 10 cases: `110 (63-158)`."""
    if prediction.value is None:
        return "?"
    if prediction.low80 is None or prediction.high80 is None:
        return short(prediction.value)
    return f"{short(prediction.value)} ({short(prediction.low80)}-{short(prediction.high80)})"


def seconds(milliseconds: float | None) -> str:
    """Return a wait in seconds or minutes, in two figures.

    >>> seconds(84), seconds(1500), seconds(42_000), seconds(600_000)
    ('0.08 s', '1.5 s', '42 s', '10 min')
    """
    if milliseconds is None:
        return "?"
    value = milliseconds / 1e3
    if value >= 120:  # noqa: PLR2004 -- from two minutes on, minutes
        return f"{value / 60:,.0f} min"
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s" if value < _TEN else f"{value:.0f} s"


def name_shortage(missing_bytes: int | None) -> str:
    """Return what is missing, or that it is not known."""
    return "?" if missing_bytes is None else f"misses {format_bytes(missing_bytes)}"


def remarks(serving: ServingChoice) -> list[str]:
    """Return why weights are held as they are, and what their user should know, a sentence each."""
    return [*serving.reasons, *(f"warning: {text}" for text in serving.warnings)]
