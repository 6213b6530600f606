"""Decide: fit a model to a machine, plan a ledger's workloads onto tiers.

It is a library without I/O and does not know how a plan is run.
"""

from ownward.planner._candidates import PROVIDERS, OwnedCandidate, RentedCandidate, Sizing, size
from ownward.planner._choose import Choice, FleetShare, Option, choose, options_from, total_cost
from ownward.planner._fit import FitOption, Host, default_engine, fit
from ownward.planner._make import Comparison, Decision, Evidence, WorkloadToPlan, make_plan

__all__ = [
    "PROVIDERS",
    "Choice",
    "Comparison",
    "Decision",
    "Evidence",
    "FitOption",
    "FleetShare",
    "Host",
    "Option",
    "OwnedCandidate",
    "RentedCandidate",
    "Sizing",
    "WorkloadToPlan",
    "choose",
    "default_engine",
    "fit",
    "make_plan",
    "options_from",
    "size",
    "total_cost",
]
