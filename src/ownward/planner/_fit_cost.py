"""What a million tokens cost on a machine of one's own: the energy, and everything."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import NamedTuple

from ownward.catalog import Machine
from ownward.economics import HOURS_PER_MONTH, Assumptions, Capacity, OwnedOption, Volume, assume, compute_owned_cost

UTILISATION_FRACTION = 0.30
"""Of a month, what a machine is taken to be at work, where nobody has measured it."""

# What a machine draws while it waits, as a share of its stated power: a default to be measured.
_IDLE_FRACTION = 0.15
_SECONDS_PER_HOUR = 3600
_MTOK = Decimal(1_000_000)
_MICRO = Decimal("1e-6")
_ONE_MONTH = Volume(
    requests=1.0,
    input_tokens=0.0,
    cached_input_tokens=0.0,
    output_tokens=0.0,
    peak_input_tokens_per_s=0.0,
    peak_output_tokens_per_s=0.0,
)


class TokenCost(NamedTuple):
    """USD per million output tokens: energy alone, and with the machine's price, capital and upkeep; None: unknown."""

    marginal_usd: Decimal | None
    loaded_usd: Decimal | None


class TokenCosts:
    """The cost of tokens on `count` of a machine, by how many it makes in a second.

    It is at work for `UTILISATION_FRACTION` of the month; nobody's hours are counted, and no machine stands by.
    """

    def __init__(self, machine: Machine, count: int, assumptions: Assumptions | None, *, at: date) -> None:
        """Work out a month of the machine; tokens only divide it."""
        watts, price = machine.tdp_watts, machine.price_usd
        self._month_marginal: Decimal | None = None
        self._month_loaded: Decimal | None = None
        if watts is None:
            return
        drawn = watts.value * count
        capex = 0.0 if price is None else float(price.value) * count
        one = assume(1.0, "the month alone is asked for", checked_on=at)
        option = OwnedOption(
            name=machine.id,
            capex_usd=assume(capex, price.source if price else "unknown", checked_on=at),
            idle_watts=assume(drawn * _IDLE_FRACTION, "15% of TDP", checked_on=at),
            busy_watts=assume(drawn, watts.source, checked_on=at, basis=watts.basis),
            capacity=Capacity(prefill_tokens_per_s=one, decode_tokens_per_s=one),
            machines=1,
        )
        nobody = assume(0.0, "a machine of one's own, looked after by its user", checked_on=at)
        from dataclasses import replace

        stated = replace(assumptions or Assumptions(), redundancy=0, people_hours_per_month=nobody)
        busy_s = HOURS_PER_MONTH * _SECONDS_PER_HOUR * UTILISATION_FRACTION
        month = replace(_ONE_MONTH, output_tokens=busy_s)  # at one token a second
        cost = compute_owned_cost(option, month, stated)
        self._month_marginal = cost.marginal_usd
        self._month_loaded = None if price is None else cost.loaded_usd
        self._busy_s = busy_s

    def at(self, output_tokens_per_s: float | None) -> TokenCost:
        """Return the cost at this rate, over all sequences served together."""
        if not output_tokens_per_s or self._month_marginal is None:
            return TokenCost(None, None)
        mtok = Decimal(str(output_tokens_per_s * self._busy_s)) / _MTOK
        loaded = None if self._month_loaded is None else (self._month_loaded / mtok).quantize(_MICRO)
        return TokenCost((self._month_marginal / mtok).quantize(_MICRO), loaded)
