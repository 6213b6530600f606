"""What a comparison of owning and renting takes for granted: each number with its basis, its source and a range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import date

from ownward.core import BadInput, Basis, Sourced

HOURS_PER_MONTH = 730.0  # 8,760 / 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """A sourced number and the range that holds the truth in 8 of 10 cases; no range means taken as certain.

    Raises: BadInput, if the range does not enclose the value.
    """

    value: Sourced[float]
    low80: float | None = None
    high80: float | None = None

    def __post_init__(self) -> None:
        """Refuse a half or inverted range."""
        low, high = self.low80, self.high80
        if (low is None) != (high is None) or (
            low is not None and high is not None and not low <= self.value.value <= high
        ):
            raise BadInput(
                f"the range {low} to {high} does not enclose {self.value.value}",
                allowed="low80 <= value <= high80, or neither",
            )

    @property
    def basis(self) -> Basis:
        """How the value is known."""
        return self.value.basis


def assume(
    value: float,
    source: str,
    *,
    checked_on: date,
    low80: float | None = None,
    high80: float | None = None,
    basis: Basis = "assumed",
    note: str = "",
) -> Assumption:
    """Return a number with its source and range, by default of basis `assumed`."""
    return Assumption(
        value=Sourced(value=float(value), basis=basis, source=source, checked_on=checked_on, note=note),
        low80=low80,
        high80=high80,
    )


_DAY = date(2026, 11, 21)
_OURS = "ownward's default; state your own"


def _default(value: float, low80: float, high80: float, note: str) -> Assumption:
    return assume(value, _OURS, checked_on=_DAY, low80=low80, high80=high80, note=note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What holds for every option compared; defaults are marked `assumed` and meant to be replaced.

    `people_hours_per_month` is for the whole fleet, everything else is a machine's.
    `peak_load_fraction` is the share of its capacity that a machine may carry at
    the peak; `redundancy` machines stand by. `cache_reuse_fraction` is how much of
    the input that was cached in the log an own machine has in its cache as well. `api_price_factor` multiplies every
    API price (1 = list price) and holds how unsure it is.
    """

    amortisation_months: Assumption = field(
        default_factory=lambda: _default(36, 24, 48, "straight line over the time the machine is used")
    )
    residual_fraction: Assumption = field(
        default_factory=lambda: _default(0.20, 0.05, 0.35, "share of the price that a sale brings at the end")
    )
    cost_of_capital_fraction_per_year: Assumption = field(
        default_factory=lambda: _default(0.08, 0.04, 0.12, "on the mean capital bound")
    )
    pue: Assumption = field(
        default_factory=lambda: _default(1.2, 1.05, 1.5, "power of the whole room divided by power of the machine")
    )
    usd_per_kwh: Assumption = field(default_factory=lambda: _default(0.25, 0.12, 0.35, "business tariff"))
    hosting_usd_per_month: Assumption = field(
        default_factory=lambda: _default(0, 0, 200, "a room that is there already")
    )
    maintenance_fraction_per_year: Assumption = field(
        default_factory=lambda: _default(0.03, 0.0, 0.08, "of the price: spares, warranty")
    )
    people_hours_per_month: Assumption = field(
        default_factory=lambda: _default(8, 2, 20, "hours that someone spends on the fleet")
    )
    people_usd_per_hour: Assumption = field(default_factory=lambda: _default(60, 40, 100, "loaded cost of that hour"))
    peak_load_fraction: Assumption = field(
        default_factory=lambda: _default(0.65, 0.5, 0.8, "above it queues grow quickly")
    )
    cache_reuse_fraction: Assumption = field(
        default_factory=lambda: _default(
            0.8, 0.3, 1.0, "of the input that the log says was cached, what an own engine reuses"
        )
    )
    redundancy: int = 1
    api_price_factor: Assumption = field(
        default_factory=lambda: _default(1.0, 0.5, 1.1, "list price now; prices fall more often than they rise")
    )

    def __post_init__(self) -> None:
        """Refuse what makes no cost."""
        if self.redundancy < 0:
            raise BadInput(f"redundancy is {self.redundancy}", allowed="0 or more machines")
        for name in ("amortisation_months", "peak_load_fraction", "pue"):
            if not getattr(self, name).value.value > 0:
                raise BadInput(f"{name} is {getattr(self, name).value.value}", allowed="It has to be above 0")

    def __iter__(self) -> Iterator[tuple[str, Assumption]]:
        """Yield each assumption with its name, for printing."""
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, Assumption):
                yield one.name, value
