"""The arithmetic of a month, once, over floats and numpy arrays alike.

Every figure (the table, the band, the tornado) comes from these functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from ownward.economics.assumptions import HOURS_PER_MONTH, Assumption, Assumptions
from ownward.economics.options import HourlyOption, OwnedOption, Volume

_MONTHS_PER_YEAR = 12.0
_SECONDS_PER_HOUR = 3600.0
_WATTS_PER_KW = 1000.0
_SPEEDS = ("prefill_tokens_per_s", "decode_tokens_per_s")

Inputs = dict[str, Any]  # parameter name -> float, or array (samples,)


@dataclass(frozen=True, slots=True)
class Terms:
    """A month's costs in USD, apart by what they grow with; energy is None where watts are unknown."""

    depreciation: Any  # a machine
    capital: Any  # a machine
    maintenance: Any  # a machine
    hosting: Any  # a machine
    rent: Any  # a machine
    people: Any  # the fleet
    idle_energy: Any  # a machine, powered all month
    busy_energy_above_idle: Any  # the month's work, at the power above idle
    busy_energy: Any  # the month's work, at full busy power
    work_hours: Any  # machine-hours of the month
    peak_machines: Any  # machines' worth of work at the peak, without reserve

    @property
    def fixed_a_machine(self) -> Any:
        """What each machine costs, busy or not."""
        energy = 0.0 if self.idle_energy is None else self.idle_energy
        return self.depreciation + self.capital + self.maintenance + self.hosting + self.rent + energy


def find_assumptions(option: OwnedOption | HourlyOption, shared: Assumptions, volume: Volume) -> dict[str, Assumption]:
    """Return every assumption that the option's cost uses, by parameter name."""
    found = dict(shared)
    if not volume.cached_input_tokens:
        found["cache_reuse_fraction"] = replace(shared.cache_reuse_fraction, low80=None, high80=None)  # of no weight
    if isinstance(option, HourlyOption):
        # a rented machine brings its power, price and upkeep with it
        for name in (
            "amortisation_months",
            "residual_fraction",
            "cost_of_capital_fraction_per_year",
            "pue",
            "usd_per_kwh",
            "hosting_usd_per_month",
            "maintenance_fraction_per_year",
        ):
            del found[name]
        found["usd_per_hour"] = option.usd_per_hour
    else:
        found["capex_usd"] = option.capex_usd
        for name in ("idle_watts", "busy_watts"):
            watts = getattr(option, name)
            if watts is not None:
                found[name] = watts
    for name in _SPEEDS:
        found[name] = getattr(option.capacity, name)
    return found


def at_traffic(option: OwnedOption | HourlyOption, values: Inputs) -> Inputs:
    """Return the values with the speeds of the time that the machines really work at the traffic."""
    if isinstance(option, HourlyOption) or option.running is None:
        return values
    return values | {
        name: values[name] * (getattr(option.running, name).value.value / getattr(option.capacity, name).value.value)
        for name in _SPEEDS
    }


def compute_peak_machines(volume: Volume, values: Inputs) -> Any:
    """Return machines' worth of work at the peak."""
    return (
        volume.peak_input_tokens_per_s * _computed_fraction(volume, values) / values["prefill_tokens_per_s"]
        + volume.peak_output_tokens_per_s / values["decode_tokens_per_s"]
    )


def _computed_fraction(volume: Volume, values: Inputs) -> Any:
    import numpy as np

    return 1.0 - volume.cached_fraction * np.minimum(values["cache_reuse_fraction"], 1.0)


def find_peak_factor(option: OwnedOption | HourlyOption, volume: Volume, middle: Inputs) -> float:
    """Return by what the peak's work is to be multiplied so that it takes the machines that a simulation found."""
    worked_out = compute_peak_machines(volume, middle)
    if option.machines is None or not worked_out:
        return 1.0
    return float(find_load_fraction(option) * option.machines * middle["peak_load_fraction"] / worked_out)


def find_load_fraction(option: OwnedOption | HourlyOption) -> float:
    """Return how much of what the option's machines hold the traffic is; 1 where nobody has found out."""
    if isinstance(option, HourlyOption) or option.machines is None or option.machines_needed is None:
        return 1.0
    return option.machines_needed / option.machines


def compute_terms(
    option: OwnedOption | HourlyOption, volume: Volume, values: Inputs, *, peak_factor: float = 1.0
) -> Terms:
    """Return the month's costs by what they grow with.

    Work, not tokens, divides a machine: work = input not reused / prefill rate + output / decode rate.
    Capital: straight-line depreciation to the residual, and interest on the mean of price and residual.
    """
    work_hours = (
        volume.input_tokens * _computed_fraction(volume, values) / values["prefill_tokens_per_s"]
        + volume.output_tokens / values["decode_tokens_per_s"]
    ) / _SECONDS_PER_HOUR
    peak_machines = compute_peak_machines(volume, values) * peak_factor
    people = values["people_hours_per_month"] * values["people_usd_per_hour"]
    if isinstance(option, HourlyOption):
        return Terms(
            depreciation=0.0,
            capital=0.0,
            maintenance=0.0,
            hosting=0.0,
            rent=values["usd_per_hour"] * option.hours_per_month,
            people=people,
            idle_energy=0.0,
            busy_energy_above_idle=0.0,
            busy_energy=0.0,
            work_hours=work_hours,
            peak_machines=peak_machines,
        )
    capex = values["capex_usd"]
    residual = capex * values["residual_fraction"]
    idle, busy = values.get("idle_watts"), values.get("busy_watts")
    usd_per_watt_hour = values["pue"] * values["usd_per_kwh"] / _WATTS_PER_KW
    idle_energy = busy_energy_above_idle = None
    if idle is not None and busy is not None:
        idle_energy = idle * HOURS_PER_MONTH * usd_per_watt_hour
        busy_energy_above_idle = (busy - idle) * work_hours * usd_per_watt_hour
    return Terms(
        depreciation=(capex - residual) / values["amortisation_months"],
        capital=(capex + residual) / 2 * values["cost_of_capital_fraction_per_year"] / _MONTHS_PER_YEAR,
        maintenance=capex * values["maintenance_fraction_per_year"] / _MONTHS_PER_YEAR,
        hosting=values["hosting_usd_per_month"],
        rent=0.0,
        people=people,
        idle_energy=idle_energy,
        busy_energy_above_idle=busy_energy_above_idle,
        busy_energy=None if busy is None else busy * work_hours * usd_per_watt_hour,
        work_hours=work_hours,
        peak_machines=peak_machines,
    )


def compute_break_even_scales(
    terms: Terms, now: Terms, api_usd: Any, values: Inputs, redundancy: int, *, load_fraction: float
) -> tuple[Any, Any]:
    """Return by what factor the volume has to grow until owning pays for the first time, and for good.

    Infinity is never. Machines are bought whole, so that a little more traffic can turn the answer back. With k
    machines at work, r in reserve, fixed cost F a machine, P for people, variable
    cost e and API cost a at the volume given, and room for c volumes a machine,
    k machines pay from (P + r F + k (F + f)) / (a - e). For the first time: with the
    smallest k whose room k c reaches that far. For good: after the last k at
    whose start, (k - 1) c, they do not yet pay.

    Full machines share each step among more sequences than those of the traffic as it is: `terms` has the energy of
    the first, `now` that of the others, which are at `load_fraction` of what they hold. Between the two a machine's
    energy is taken to lie on a line: f whatever it holds, and e with the volume.
    """
    import numpy as np

    a_machine = terms.fixed_a_machine
    room = values["peak_load_fraction"] / np.maximum(terms.peak_machines, 1e-300)
    full = 0.0 if terms.busy_energy_above_idle is None else terms.busy_energy_above_idle
    present = 0.0 if now.busy_energy_above_idle is None else now.busy_energy_above_idle
    rising = present
    if load_fraction < 1:
        rising = np.clip((full - load_fraction * present) / (1 - load_fraction), 0.0, present)
    at_work = a_machine + (present - rising) * load_fraction * room
    margin = api_usd - rising
    earns = margin * room  # what one full machine's traffic is worth
    standing = terms.people + redundancy * a_machine
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.maximum(1.0, np.ceil(standing / (earns - at_work)))
        last = np.maximum(1.0, np.ceil((standing + earns) / (earns - at_work)) - 1.0)
        once = (standing + first * at_work) / margin
        for_good = np.minimum((standing + last * at_work) / margin, last * room)
    pays = (margin > 0) & (earns > at_work)
    return np.where(pays, once, np.inf), np.where(pays, for_good, np.inf)


def compute_total(terms: Terms, machines: int) -> float:
    """Return the month's cost on a number of machines; energy counts as far as it is known."""
    above_idle = 0.0 if terms.busy_energy_above_idle is None else terms.busy_energy_above_idle
    return float(machines * terms.fixed_a_machine + terms.people + above_idle)


def count_machines(peak_machines: float, peak_load_fraction: float, given: int | None) -> int:
    """Return the machines at work: as given, or enough for the peak; never below one, reserve not counted."""
    if given is not None:
        return given
    return max(1, math.ceil(peak_machines / peak_load_fraction - 1e-12))
