"""What a call may cost at most, from its bounds in tokens, and what it did cost: what intents and settlements state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from math import lcm

from ownward.core import PICOUSD_PER_USD
from ownward.pricing import Price, PriceStep, Usage
from ownward.upstreams import (
    ADDED_EXTRAS,
    NO_TERMS,
    NOTHING_ASKED,
    SUMMARIES,
    TAKEN_OFF_EXTRAS,
    AskedTerms,
    Terms,
)

_CHEAPER = frozenset({"batch", "flex"})
"""What providers sell below their standard price, each by its name."""

_SOLD_APART = frozenset({"batch", "fast", "flex"})
"""Modes that a provider names in its answers; others are models of their own there."""

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

    __slots__ = ("_levels", "_per_request", "_price", "_rates", "_same_day")

    def __init__(self, price: Price) -> None:
        """Work the rates out once."""
        per_request = Fraction(price.usd_per_request) * PICOUSD_PER_USD
        self._per_request = -(-per_request.numerator // per_request.denominator)
        self._levels = [_level(0, price), *(_level(step.above_input_tokens, step) for step in price.steps)]
        self._price = price
        self._same_day: date | None = None  # on which it was last found to hold
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

    def why_unbounded(self, asked: AskedTerms, *, day: date) -> str | None:
        """Return why the charge of a request that asks for this may pass every bound; None where it cannot."""
        why = self._why_day(day) if day != self._same_day else None
        if asked is NOTHING_ASKED:
            return why
        why = why or self._why_extra(self._unpriced(asked.extras))
        if why is not None or (asked.mode in _CHEAPER and self._price.mode == "standard"):
            return why
        return self._why_mode(asked.mode)

    def bracket_picousd(
        self, usage: Usage, asked: AskedTerms, told: Terms, *, day: date
    ) -> tuple[int | None, int | None, int | None, str | None]:
        """Return the charge, the least and the most it may be, and why it is not known where it is not.

        A price says what tokens cost in its own mode, from `valid_from` on until before `valid_to` (UTC). Of what was
        served in another one or on another `day`, or has parts that no rate of tokens covers, the charge is unknown:
        less than a list price is as wrong as more.
        """
        if day != self._same_day and (why_day := self._why_day(day)) is not None:
            return None, 0, None, why_day
        charge = self.compute_charge_picousd(usage)
        if asked is NOTHING_ASKED and told is NO_TERMS:
            return charge, charge, charge, None
        extras = self._unpriced(told.extras | asked.untold)
        mode = told.mode if told.mode is not None else asked.mode
        why_extra, why_mode = self._why_extra(extras), self._why_mode(mode)
        if why_extra is None and why_mode is None:
            return charge, charge, charge, None
        is_least = why_mode is None and extras <= ADDED_EXTRAS
        is_most = extras <= TAKEN_OFF_EXTRAS and (
            why_mode is None or (mode in _CHEAPER and self._price.mode == "standard")
        )
        return None, charge if is_least else 0, charge if is_most else None, why_extra or why_mode

    def _why_day(self, day: date) -> str | None:
        why = self._price.why_not_on(day)
        if why is None:
            self._same_day = day
            return None
        return f"the price in the plan is not today's, {why}"

    def _why_mode(self, mode: str | None) -> str | None:
        of_price = self._price.mode
        if mode is None or mode == of_price or (mode == "standard" and of_price not in _SOLD_APART):
            return None
        return f"it is served as {mode!r}, and the price in the plan is of {of_price!r}"

    def _unpriced(self, extras: frozenset[str]) -> frozenset[str]:
        """Return what the price does not charge for; summaries are tokens, unless steps hold for each by itself."""
        return extras - {SUMMARIES} if not self._price.steps and SUMMARIES in extras else extras

    @staticmethod
    def _why_extra(extras: frozenset[str]) -> str | None:
        if not extras:
            return None
        return f"{' and '.join(sorted(extras))}: the plan's price is of tokens of text"


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
