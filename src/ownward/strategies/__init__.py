"""How a task is served: direct, cascade, vote and their kin, as pure steps over named tiers.

It sends nothing itself and does not know addresses, prices or the truth.
"""

from ownward.strategies._from_plan import from_plan
from ownward.strategies._judges import GraderJudge, judge_for
from ownward.strategies._steps import check, leads_with_probability, run
from ownward.strategies._types import Ask, Caps, Chosen, Judge, Reply, Steps, StrategyKind, StrategySpec

__all__ = [
    "Ask",
    "Caps",
    "Chosen",
    "GraderJudge",
    "Judge",
    "Reply",
    "Steps",
    "StrategyKind",
    "StrategySpec",
    "check",
    "from_plan",
    "judge_for",
    "leads_with_probability",
    "run",
]
