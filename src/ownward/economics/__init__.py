"""What owning costs, what renting costs, where they cross, and the cost of a completed task.

It does not know how utilisation was found.
"""

from ownward.economics.assumptions import HOURS_PER_MONTH, Assumption, Assumptions, assume
from ownward.economics.break_even import BreakEven, Swing, compute_break_even
from ownward.economics.comparison import (
    MonthlyCost,
    OwnedCost,
    OwnVsRent,
    RentedCost,
    StatedAssumption,
    compute_owned_cost,
    own_vs_rent,
)
from ownward.economics.cpct import Cpct, compute_affordable_completion_loss, compute_cpct
from ownward.economics.investment import SCENARIOS, Investment, Return, Scenario, compute_return, compute_returns
from ownward.economics.options import ApiOption, Capacity, HourlyOption, OwnedOption, Volume, compute_trace_charge_usd

__all__ = [
    "HOURS_PER_MONTH",
    "SCENARIOS",
    "ApiOption",
    "Assumption",
    "Assumptions",
    "BreakEven",
    "Capacity",
    "Cpct",
    "HourlyOption",
    "Investment",
    "MonthlyCost",
    "OwnVsRent",
    "OwnedCost",
    "OwnedOption",
    "RentedCost",
    "Return",
    "Scenario",
    "StatedAssumption",
    "Swing",
    "Volume",
    "assume",
    "compute_affordable_completion_loss",
    "compute_break_even",
    "compute_cpct",
    "compute_owned_cost",
    "compute_return",
    "compute_returns",
    "compute_trace_charge_usd",
    "own_vs_rent",
]
