"""Pages and the JSON behind them.

It does not know the hot path and keeps no state of its own.
"""

from ownward.dashboard._on_demand import Dashboard

__all__ = ["Dashboard"]
