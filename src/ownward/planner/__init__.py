"""Decide: fit a model to a machine, plan a ledger's workloads onto tiers.

It is a library without I/O and does not know how a plan is run.
"""

from ownward.planner._buy import HOST_USD, Advice, Purchase, advise
from ownward.planner._candidates import PROVIDERS, OwnedCandidate, RentedCandidate
from ownward.planner._choose import Choice, choose, held_to
from ownward.planner._curves import CurvePoint, Curves, compute_curves
from ownward.planner._fit import (
    ANSWER_TOKENS,
    PROMPT_TOKENS,
    READING_TOKENS_PER_S,
    FitConditions,
    FitOption,
    at_load,
    default_engine,
    fit,
)
from ownward.planner._fit_cost import UTILISATION_FRACTION, TokenCost, TokenCosts
from ownward.planner._launch import vllm_options
from ownward.planner._make import Comparison, Decision, Evidence, WorkloadToPlan, make_plan
from ownward.planner._merits import Merit, compute_merits
from ownward.planner._nearest import Nearest, find_nearest
from ownward.planner._options import FleetShare, Option, options_from
from ownward.planner._placement import Host, Split
from ownward.planner._search import total_cost
from ownward.planner._sizing import IDLE_FRACTION, Sizing, size_fleet
from ownward.planner._variants import StoredAs, stored_as_of

__all__ = [
    "ANSWER_TOKENS",
    "HOST_USD",
    "IDLE_FRACTION",
    "PROMPT_TOKENS",
    "PROVIDERS",
    "READING_TOKENS_PER_S",
    "UTILISATION_FRACTION",
    "Advice",
    "Choice",
    "Comparison",
    "CurvePoint",
    "Curves",
    "Decision",
    "Evidence",
    "FitConditions",
    "FitOption",
    "FleetShare",
    "Host",
    "Merit",
    "Nearest",
    "Option",
    "OwnedCandidate",
    "Purchase",
    "RentedCandidate",
    "Sizing",
    "Split",
    "StoredAs",
    "TokenCost",
    "TokenCosts",
    "WorkloadToPlan",
    "advise",
    "at_load",
    "choose",
    "compute_curves",
    "compute_merits",
    "default_engine",
    "find_nearest",
    "fit",
    "held_to",
    "make_plan",
    "options_from",
    "size_fleet",
    "stored_as_of",
    "total_cost",
    "vllm_options",
]
