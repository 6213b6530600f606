"""This machine: what it is, and what its memory, disk and engines really do.

It does not know models or prices.
"""

from ownward.probe._cores import measure_busy_cores, usable_cores

__all__ = ["measure_busy_cores", "usable_cores"]
