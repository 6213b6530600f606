"""From what a plan states of a workload to a strategy that can run."""

from __future__ import annotations

from ownward.plan import Strategy
from ownward.strategies._judges import judge_for
from ownward.strategies._steps import check
from ownward.strategies._types import Caps, Judge, StrategySpec


def from_plan(strategy: Strategy, *, file: str = "plan") -> tuple[StrategySpec, Judge | None]:
    """Return the specification and the judge that a plan's strategy states.

    Raises: ConfigError, if the strategy needs a judge and states none.
    """
    options = strategy.options

    def number(name: str, default: float) -> float:
        value = options.get(name, default)
        return float(value) if isinstance(value, int | float) else default

    spec = StrategySpec(
        kind=strategy.kind,
        tiers=strategy.tiers,
        samples=int(number("samples", 1)),
        agreement=number("agreement_fraction", 0.95 if strategy.kind == "vote" else 1.0),
        revisions=int(number("revisions", 2)),
        temperature=number("temperature", 0.7),
        caps=Caps(
            max_calls=strategy.max_calls,
            max_output_tokens=strategy.max_output_tokens,
            max_usd=strategy.max_usd,
            max_seconds=strategy.max_seconds,
        ),
    )
    judge = judge_for(strategy.judge_options, file=file)
    check(spec, has_judge=judge is not None, file=file)
    return spec, judge
