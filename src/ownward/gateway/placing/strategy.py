"""A workload's strategy as its plan states it, made ready: what `calling.strategy_run` runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ownward import plan as plan_room

if TYPE_CHECKING:
    from ownward.strategies import Judge, StrategySpec

_UNBOUNDED = frozenset({"regex", "json_schema"})
"""Judges whose patterns may try many ways to match an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledStrategy:
    """A workload's strategy with its judge, where it needs one, and the rule of it as JSON.

    `is_bounded` where the judge reads in a time that hangs on an answer's length alone.
    """

    spec: StrategySpec
    judge: Judge | None
    rule: bytes
    is_bounded: bool


def is_carried_out(strategy: plan_room.Strategy) -> bool:
    """Return whether a strategy is more than its tiers: it makes several calls, or caps hold its one."""
    caps = strategy.max_usd, strategy.max_output_tokens, strategy.max_seconds
    return strategy.kind != "direct" or any(cap is not None for cap in caps)


def compile_strategy(strategy: plan_room.Strategy, *, of: str) -> CompiledStrategy:
    """Return the strategy of the workload `of` with its judge.

    Raises: ConfigError, if it cannot be carried out; MissingExtra, if what its judge needs is not installed.
    """
    from ownward import strategies

    spec, judge = strategies.from_plan(strategy, file=f"workload {of!r}")
    options = strategy.judge_options
    return CompiledStrategy(
        spec=spec,
        judge=judge,
        rule=json.dumps(dict(options)).encode(),
        is_bounded=_UNBOUNDED.isdisjoint(options),
    )
