"""A workload's strategy as its plan states it, made ready: what `calling.carrying` carries out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ownward import plan as plan_room

if TYPE_CHECKING:
    from ownward.strategies import Judge, StrategySpec


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledStrategy:
    """A workload's strategy with its judge, where it needs one."""

    spec: StrategySpec
    judge: Judge | None


def compile_strategy(strategy: plan_room.Strategy) -> CompiledStrategy:
    """Return a plan's strategy with its judge.

    Raises: ConfigError, if it cannot be carried out.
    """
    from ownward import strategies

    options = strategy.options
    stated: dict[str, Any] = {
        name: options[option]
        for name, option in (
            ("samples", "samples"),
            ("agreement", "agreement_fraction"),
            ("revisions", "revisions"),
            ("temperature", "temperature"),
        )
        if option in options
    }
    caps = strategies.Caps(
        max_calls=strategy.max_calls,
        max_output_tokens=strategy.max_output_tokens,
        max_usd=None if strategy.max_usd is None else float(strategy.max_usd),
        max_seconds=strategy.max_seconds,
    )
    spec = strategies.StrategySpec(kind=strategy.kind, tiers=strategy.tiers, caps=caps, **stated)
    judge = strategies.judge_for(strategy.judge_options)
    strategies.check(spec, has_judge=judge is not None)
    return CompiledStrategy(spec=spec, judge=judge)
