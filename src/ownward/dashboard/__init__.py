"""Pages and the JSON behind them.

It does not know the hot path and keeps no state of its own.
"""

from ownward.dashboard._app import make_dashboard

__all__ = ["make_dashboard"]
