"""Owning as an investment: net present value and payback while API prices fall and memory gets dearer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ownward.core import BadInput

_MONTHS_PER_YEAR = 12
_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A future: what changes in it, as fractions.

    `api_price_change_per_year` -0.5 means half the price after a year;
    `capex_change` raises what is paid now (memory prices);
    `residual_change` what a sale brings at the end; `volume_growth_per_year` the traffic.
    """

    name: str
    api_price_change_per_year: float = 0.0
    capex_change: float = 0.0
    residual_change: float = 0.0
    volume_growth_per_year: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a change that leaves less than nothing."""
        for name in ("api_price_change_per_year", "capex_change", "residual_change", "volume_growth_per_year"):
            if getattr(self, name) < -1:
                raise BadInput(f"{name} is {getattr(self, name)}", allowed="It has to be -1 or more")


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(name="prices stay"),
    Scenario(name="API prices halve every year", api_price_change_per_year=-0.5),
    Scenario(name="API prices fall 20% a year", api_price_change_per_year=-0.2),
    Scenario(name="memory is 30% dearer", capex_change=0.3, residual_change=0.3),
    Scenario(name="traffic doubles every year", volume_growth_per_year=1.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Investment:
    """What is paid at the start, what each month costs, what each month of API would have cost, and what is left."""

    capex_usd: Decimal
    residual_usd: Decimal
    fixed_usd_per_month: Decimal
    variable_usd_per_month: Decimal
    avoided_usd_per_month: Decimal
    months: int
    discount_fraction_per_year: float

    def __post_init__(self) -> None:
        """Refuse a horizon of nothing."""
        if self.months < 1 or self.discount_fraction_per_year <= -1:
            raise BadInput(f"{self.months} months at a discount of {self.discount_fraction_per_year} a year")


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """What an investment brings in a scenario: `payback_months` is None where the horizon ends before."""

    scenario: Scenario
    npv_usd: Decimal
    payback_months: float | None
    last_month_saving_usd: Decimal


def compute_return(investment: Investment, scenario: Scenario) -> Return:
    """Return net present value and (undiscounted) payback of an investment in a scenario.

    Month t, from 1, saves avoided * ((1 + price change)(1 + growth))^((t - 1) / 12) less fixed and growing variable
    cost; all at each month's end. The residual is paid at the horizon's end and does not count for the payback.
    """
    capex = float(investment.capex_usd) * (1 + scenario.capex_change)
    residual = float(investment.residual_usd) * (1 + scenario.residual_change)
    discount = (1 + investment.discount_fraction_per_year) ** (1 / _MONTHS_PER_YEAR)
    npv, paid_back, payback, saving = -capex, -capex, None, 0.0
    for month in range(1, investment.months + 1):
        years = (month - 1) / _MONTHS_PER_YEAR
        growth = (1 + scenario.volume_growth_per_year) ** years
        price = (1 + scenario.api_price_change_per_year) ** years
        saving = (
            float(investment.avoided_usd_per_month) * price * growth
            - float(investment.fixed_usd_per_month)
            - float(investment.variable_usd_per_month) * growth
        )
        npv += saving / discount**month
        if payback is None and paid_back + saving >= 0 and saving > 0:
            payback = month - 1 + max(-paid_back, 0.0) / saving
        paid_back += saving
    npv += residual / discount**investment.months
    return Return(
        scenario=scenario,
        npv_usd=_cents(npv),
        payback_months=payback,
        last_month_saving_usd=_cents(saving),
    )


def compute_returns(investment: Investment, scenarios: Sequence[Scenario] = SCENARIOS) -> tuple[Return, ...]:
    """Return one `Return` a scenario, in order."""
    return tuple(compute_return(investment, scenario) for scenario in scenarios)


def _cents(value: float) -> Decimal:
    return Decimal(repr(value)).quantize(_CENT)
