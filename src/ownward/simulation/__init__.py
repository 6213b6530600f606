"""A trace replayed against a deployment: latency percentiles, goodput, utilisation, the smallest fleet.

It does not know where step times come from, or prices.
"""

from ownward.simulation.fleet import Fleet, smallest_fleet
from ownward.simulation.result import Goodput, RequestTimes, Simulation
from ownward.simulation.scheduler import Policy, Scheduler, Slo
from ownward.simulation.simulate import Routing, route, simulate

__all__ = [
    "Fleet",
    "Goodput",
    "Policy",
    "RequestTimes",
    "Routing",
    "Scheduler",
    "Simulation",
    "Slo",
    "route",
    "simulate",
    "smallest_fleet",
]
