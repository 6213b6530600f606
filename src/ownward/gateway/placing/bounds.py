"""What a call may cost at most, from its bounds in tokens, and what it did cost: what intents and settlements state."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from ownward.core import PICOUSD_PER_USD
from ownward.pricing import Price, PriceStep, Usage

_PICOUSD_PER_USD_PER_MTOK = Fraction(PICOUSD_PER_USD, 10**6)


@dataclass(frozen=True, slots=True)
class _Level:
    """The dearest rates above an input length, as whole numbers over one denominator."""

    above_input_tokens: int
    per_input: int
    per_output: int
    denominator: int


class ChargeBound:
    """The dearest way in which a price can charge given numbers of tokens, in whole picodollars, rounded up.

    Every input token may turn out fresh, cached or written to a cache, and every step of the price that the
    input can reach may apply, so the bound takes the largest of them.
    """

    __slots__ = ("_levels", "_per_request", "_price", "_rates")

    def __init__(self, price: Price) -> None:
        """Work the rates out once."""
        per_request = Fraction(price.usd_per_request) * PICOUSD_PER_USD
        self._per_request = -(-per_request.numerator // per_request.denominator)
        self._levels = [_level(0, price), *(_level(step.above_input_tokens, step) for step in price.steps)]
        self._price = price
        self._rates = [_whole_rates(0, price), *(_whole_rates(step.above_input_tokens, step) for step in price.steps)]
        if per_request.denominator != 1:
            self._rates = [None]

    def compute_picousd(self, *, input_tokens_high: int, output_tokens_high: int) -> int:
        """Return the most that may be charged."""
        highest = 0
        for level in self._levels:
            if level.above_input_tokens and input_tokens_high <= level.above_input_tokens:
                break
            product = level.per_input * input_tokens_high + level.per_output * output_tokens_high
            highest = max(highest, -(-product // level.denominator))
        return highest + self._per_request

    def compute_charge_picousd(self, usage: Usage) -> int:
        """Return what is charged for `usage`, as the price itself says: in whole numbers where its rates are whole."""
        read = usage.input_tokens
        found = None
        for rates in self._rates:
            if rates is None:
                return self._price.compute_charge_picousd(usage)
            if found is None or read > rates[0]:
                found = rates
        assert found is not None
        _, fresh, cached, write, write_1h, output = found
        charge = fresh * read + output * usage.output_tokens + self._per_request
        if usage.cached_input_tokens or usage.cache_write_tokens:
            charge += (cached - fresh) * usage.cached_input_tokens + (write - fresh) * usage.cache_write_tokens
            charge += (write_1h - write) * usage.cache_write_1h_tokens
        return charge


def _whole_rates(above_input_tokens: int, holder: Price | PriceStep) -> tuple[int, ...] | None:
    """Return picodollars a token: input, cached, written, written for an hour, output; None if one is not whole."""
    fresh = holder.input_usd_per_mtok
    cached = fresh if holder.cached_input_usd_per_mtok is None else holder.cached_input_usd_per_mtok
    write = fresh if holder.cache_write_usd_per_mtok is None else holder.cache_write_usd_per_mtok
    write_1h = write if holder.cache_write_1h_usd_per_mtok is None else holder.cache_write_1h_usd_per_mtok
    exact = [Fraction(rate) * _PICOUSD_PER_USD_PER_MTOK for rate in (fresh, cached, write, write_1h)]
    exact.append(Fraction(holder.output_usd_per_mtok) * _PICOUSD_PER_USD_PER_MTOK)
    if any(rate.denominator != 1 for rate in exact):
        return None
    return (above_input_tokens, *(rate.numerator for rate in exact))


def _level(above_input_tokens: int, holder: Price | PriceStep) -> _Level:
    rates = (
        holder.input_usd_per_mtok,
        holder.cached_input_usd_per_mtok,
        holder.cache_write_usd_per_mtok,
        holder.cache_write_1h_usd_per_mtok,
    )
    per_input = Fraction(max(rate for rate in rates if rate is not None)) * _PICOUSD_PER_USD_PER_MTOK
    per_output = Fraction(holder.output_usd_per_mtok) * _PICOUSD_PER_USD_PER_MTOK
    denominator = lcm(per_input.denominator, per_output.denominator)
    return _Level(above_input_tokens, int(per_input * denominator), int(per_output * denominator), denominator)
