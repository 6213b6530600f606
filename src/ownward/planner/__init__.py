"""Decide: fit a model to a machine, plan a ledger's workloads onto tiers.

It is a library without I/O and does not know how a plan is run.
"""

from ownward.planner._choose import Choice, FleetShare, Option, choose, options_from, total_cost
from ownward.planner._fit import FitOption, default_engine, fit

__all__ = [
    "Choice",
    "FitOption",
    "FleetShare",
    "Option",
    "choose",
    "default_engine",
    "fit",
    "options_from",
    "total_cost",
]
