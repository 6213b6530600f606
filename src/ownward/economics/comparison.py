"""Owning against renting for one month of traffic: both costs of owning, the API's, and where they cross."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from ownward.core import Basis, Sourced, weakest_basis
from ownward.economics import _model
from ownward.economics.assumptions import HOURS_PER_MONTH, Assumption, Assumptions
from ownward.economics.break_even import BreakEven, compute_break_even
from ownward.economics.options import ApiOption, HourlyOption, OwnedOption, Volume, to_decimal

if TYPE_CHECKING:
    from ownward.traffic import TraceSummary

_PLACES = Decimal("0.000001")
_MTOK = Decimal(1_000_000)
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthlyCost:
    """What a fleet costs in a month, by part; `total_usd` is None where a part is unknown, and `unknown` names it."""

    depreciation_usd: Decimal
    capital_usd: Decimal
    energy_usd: Decimal | None
    hosting_usd: Decimal
    maintenance_usd: Decimal
    people_usd: Decimal
    rent_usd: Decimal

    @property
    def unknown(self) -> tuple[str, ...]:
        """The parts that are not known."""
        return ("energy_usd",) if self.energy_usd is None else ()

    @property
    def known_usd(self) -> Decimal:
        """The sum of the known parts: a lower bound where something is unknown."""
        return (
            self.depreciation_usd
            + self.capital_usd
            + (self.energy_usd or Decimal(0))
            + self.hosting_usd
            + self.maintenance_usd
            + self.people_usd
            + self.rent_usd
        )

    @property
    def total_usd(self) -> Decimal | None:
        """The sum, or None where a part is unknown."""
        return None if self.unknown else self.known_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedCost:
    """What the month costs on machines of one's own (or by the hour).

    `marginal_usd` is the energy of the machines while they work, which is what
    articles call the cost; `loaded_usd` is everything. Both per token are shared
    out by work: a token costs in proportion to the time a machine spends on it
    (input: a token that is computed; a reused one costs nothing).
    `utilisation_fraction` is work over the hours of all machines, reserve included.
    """

    name: str
    machines: int
    redundancy: int
    utilisation_fraction: float
    work_hours: float
    breakdown: MonthlyCost
    marginal_usd: Decimal | None
    loaded_usd: Decimal | None
    marginal_usd_per_request: Decimal | None
    loaded_usd_per_request: Decimal | None
    marginal_input_usd_per_mtok: Decimal | None
    marginal_output_usd_per_mtok: Decimal | None
    loaded_input_usd_per_mtok: Decimal | None
    loaded_output_usd_per_mtok: Decimal | None
    is_within_capacity: bool
    basis: Basis | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RentedCost:
    """What the month costs at an API."""

    name: str
    usd: Decimal
    usd_per_request: Decimal
    basis: Basis
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedAssumption:
    """An assumption as it is printed: of which option (None: of all), its name, value and source."""

    option: str | None
    name: str
    assumption: Assumption


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnVsRent:
    """The comparison: every option's month, a break-even for each pair, and all that was assumed."""

    volume: Volume
    active_hours_per_month: Sourced[float] | None
    owned: tuple[OwnedCost, ...]
    rented: tuple[RentedCost, ...]
    break_evens: tuple[BreakEven, ...]
    assumptions: tuple[StatedAssumption, ...]
    basis: Basis | None

    def find_break_even(self, owned: str, rented: str) -> BreakEven:
        """Return the break-even of a pair by name.

        Raises: KeyError, if the pair was not compared.
        """
        for one in self.break_evens:
            if (one.owned, one.rented) == (owned, rented):
                return one
        raise KeyError((owned, rented))


def compute_owned_cost(
    option: OwnedOption | HourlyOption, volume: Volume, assumptions: Assumptions | None = None
) -> OwnedCost:
    """Return the month's cost of an option at its stated values, without a band."""
    shared = assumptions or Assumptions()
    used = _model.find_assumptions(option, shared, volume)
    full = {name: one.value.value for name, one in used.items()}
    at_capacity = _model.compute_terms(option, volume, full)
    values = _model.at_traffic(option, full)
    terms = _model.compute_terms(option, volume, values)
    working = _model.count_machines(at_capacity.peak_machines, values["peak_load_fraction"], option.machines)
    machines = working + shared.redundancy
    energy = None if terms.idle_energy is None else machines * terms.idle_energy + terms.busy_energy_above_idle
    breakdown = MonthlyCost(
        depreciation_usd=_usd(machines * terms.depreciation),
        capital_usd=_usd(machines * terms.capital),
        energy_usd=None if energy is None else _usd(energy),
        hosting_usd=_usd(machines * terms.hosting),
        maintenance_usd=_usd(machines * terms.maintenance),
        people_usd=_usd(terms.people),
        rent_usd=_usd(machines * terms.rent),
    )
    marginal = None if terms.busy_energy is None else _usd(terms.busy_energy)
    loaded = breakdown.total_usd
    hours = option.hours_per_month if isinstance(option, HourlyOption) else HOURS_PER_MONTH
    return OwnedCost(
        name=option.name,
        machines=machines,
        redundancy=shared.redundancy,
        utilisation_fraction=float(terms.work_hours) / (machines * hours),
        work_hours=float(terms.work_hours),
        breakdown=breakdown,
        marginal_usd=marginal,
        loaded_usd=loaded,
        marginal_usd_per_request=_share(marginal, volume.requests),
        loaded_usd_per_request=_share(loaded, volume.requests),
        marginal_input_usd_per_mtok=_per_mtok(marginal, terms.work_hours, values["prefill_tokens_per_s"]),
        marginal_output_usd_per_mtok=_per_mtok(marginal, terms.work_hours, values["decode_tokens_per_s"]),
        loaded_input_usd_per_mtok=_per_mtok(loaded, terms.work_hours, values["prefill_tokens_per_s"]),
        loaded_output_usd_per_mtok=_per_mtok(loaded, terms.work_hours, values["decode_tokens_per_s"]),
        is_within_capacity=bool(at_capacity.work_hours <= working * hours),
        basis=weakest_basis(one.basis for one in used.values()),
    )


def own_vs_rent(
    traffic: TraceSummary | Volume,
    owned: Sequence[OwnedOption | HourlyOption],
    rented: Sequence[ApiOption],
    assumptions: Assumptions | None = None,
    *,
    active_hours_per_month: Sourced[float] | None = None,
    samples: int = 4000,
    seed: int = 0,
) -> OwnVsRent:
    """Return every option's monthly cost and a break-even volume for each pair.

    A trace's summary is scaled to a month as if traffic ran like it for
    `active_hours_per_month` (all 730 where not stated). The band of each
    break-even comes from `samples` draws of all ranges with `seed`.
    Raises: BadInput, for a trace without duration.
    """
    shared = assumptions or Assumptions()
    if isinstance(traffic, Volume):
        volume = traffic
    else:
        hours = active_hours_per_month.value if active_hours_per_month else HOURS_PER_MONTH
        volume = Volume.from_summary(traffic, active_hours_per_month=hours)
    factor = to_decimal(shared.api_price_factor.value.value)
    costs = tuple(compute_owned_cost(option, volume, shared) for option in owned)
    apis = tuple(_rented_cost(option, volume, factor) for option in rented)
    pairs = tuple(
        compute_break_even(own, api, volume, shared, samples=samples, seed=seed) for own in owned for api in rented
    )
    stated = [StatedAssumption(option=None, name=name, assumption=one) for name, one in shared]
    for option in owned:
        own = _model.find_assumptions(option, shared, volume)
        stated += [
            StatedAssumption(option=option.name, name=name, assumption=one)
            for name, one in own.items()
            if name not in dict(shared)
        ]
        if isinstance(option, OwnedOption) and option.running is not None:
            stated += [
                StatedAssumption(option=option.name, name=f"running_{name}", assumption=getattr(option.running, name))
                for name in ("prefill_tokens_per_s", "decode_tokens_per_s")
            ]
    bases = [one.basis for one in costs if one.basis] + [api.basis for api in apis]
    if active_hours_per_month:
        bases.append(active_hours_per_month.basis)
    return OwnVsRent(
        volume=volume,
        active_hours_per_month=active_hours_per_month,
        owned=costs,
        rented=apis,
        break_evens=pairs,
        assumptions=tuple(stated),
        basis=weakest_basis(bases),
    )


def _rented_cost(option: ApiOption, volume: Volume, factor: Decimal) -> RentedCost:
    usd = option.compute_usd(volume) * factor
    return RentedCost(
        name=option.name,
        usd=usd.quantize(_PLACES),
        usd_per_request=(usd / to_decimal(volume.requests)).quantize(Decimal("1e-12")),
        basis=option.basis,
        source=option.source,
    )


def _usd(value: float) -> Decimal:
    return to_decimal(value).quantize(_PLACES)


def _share(usd: Decimal | None, parts: float) -> Decimal | None:
    return None if usd is None else (usd / to_decimal(parts)).quantize(Decimal("1e-12"))


def _per_mtok(usd: Decimal | None, work_hours: float, tokens_per_s: float) -> Decimal | None:
    if usd is None or not work_hours:
        return None
    return (usd * _MTOK / to_decimal(work_hours * _SECONDS_PER_HOUR * tokens_per_s)).quantize(_PLACES)
