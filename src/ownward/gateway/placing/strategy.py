"""A workload's strategy as its plan states it, made ready: what `calling.carrying` carries out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ownward import plan as plan_room

if TYPE_CHECKING:
    from ownward.strategies import Judge, StrategySpec


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledStrategy:
    """A workload's strategy with its judge, where it needs one."""

    spec: StrategySpec
    judge: Judge | None


def compile_strategy(strategy: plan_room.Strategy, *, of: str) -> CompiledStrategy:
    """Return the strategy of the workload `of` with its judge.

    Raises: ConfigError, if it cannot be carried out; MissingExtra, if what its judge needs is not installed.
    """
    from ownward import strategies

    spec, judge = strategies.from_plan(strategy, file=f"workload {of!r}")
    return CompiledStrategy(spec=spec, judge=judge)
