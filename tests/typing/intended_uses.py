"""Uses that must pass the type checker; it is checked, never run."""

from __future__ import annotations

from datetime import date

from ownward.core import Sourced, weakest_basis

bandwidth = Sourced(value=3350e9, basis="datasheet", source="H100 datasheet, page 2", checked_on=date(2026, 11, 21))
doubled: float = bandwidth.value * 2
weakest = weakest_basis([bandwidth.basis, "assumed"])
