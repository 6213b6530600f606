"""What comparisons take for granted: the settings' economics, where they differ from our defaults, and flags."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from ownward.core import Basis

if TYPE_CHECKING:
    from ownward.config import Settings
    from ownward.economics import Assumptions


def assumptions_from(settings: Settings, *, at: date, **flags: float | None) -> Assumptions:
    """Return the assumptions in effect. A value of the user's own is taken as certain; ours keep their ranges.

    `flags` are values of the command line by the assumption's name; None means not given.
    """
    from ownward.economics import Assumptions, assume

    ours = Assumptions()
    stated: dict[str, Any] = {"redundancy": settings.economics.redundancy}
    for name, default in ours:
        flag = flags.get(name)
        value = float(getattr(settings.economics, name))
        if flag is not None:
            stated[name] = assume(flag, f"stated with --{name.replace('_', '-')}", checked_on=at)
        elif value != default.value.value:
            source, basis = settings.origins.get(f"economics.{name}", "settings"), _basis(settings, name)
            stated[name] = assume(value, source, checked_on=at, basis=basis)
    return Assumptions(**stated)


def _basis(settings: Settings, name: str) -> Basis:
    return settings.economics.usd_per_kwh_basis if name == "usd_per_kwh" else "assumed"
