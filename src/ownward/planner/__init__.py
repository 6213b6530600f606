"""Decide: fit a model to a machine, plan a ledger's workloads onto tiers.

It is a library without I/O and does not know how a plan is run.
"""

from ownward.planner._choose import Choice, FleetShare, Option, choose, options_from, total_cost

__all__ = ["Choice", "FleetShare", "Option", "choose", "options_from", "total_cost"]
