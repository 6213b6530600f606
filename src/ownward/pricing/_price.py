"""One model's price at one provider over one span of time, and what a request costs at it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Context, Decimal, Inexact
from typing import Literal, get_args

from ownward.core import PICOUSD_PER_USD, BadInput, Basis
from ownward.pricing._usage import Usage

PriceMode = Literal["standard", "batch", "fast", "flex", "thinking", "ultrafast"]

# Products of prices and token counts are exact in it: a price of 20 digits times 10^15 tokens has room left.
_EXACT = Context(prec=80, traps=[Inexact])
_ROUND = Context(prec=80)
_ONE = Decimal(1)
_PICO = Decimal(PICOUSD_PER_USD)
_ID_HEX_DIGITS = 16
_SELLS_TWELVE_HOURS = "openai"  # where other providers' longer writes are kept for one


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceStep:
    """The rates of a whole request whose input exceeds `above_input_tokens`, in USD per million tokens.

    Cached and written tokens count toward the input. None: charged at this step's input rate.
    """

    above_input_tokens: int
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    cache_write_1h_usd_per_mtok: Decimal | None = None

    def __post_init__(self) -> None:
        """Refuse what no price list can mean."""
        if self.above_input_tokens <= 0:
            raise BadInput(f"a price step starts above {self.above_input_tokens} tokens", allowed="1 or more")
        _check_rates(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a provider charges for a model, in USD per million tokens, from `valid_from` up to before `valid_to`.

    A cached or cache-write price of None means that such tokens are charged at
    the input price (one-hour writes: at the cache-write price). `steps` replace
    the rates for the whole request when its input is longer. `mode` is `batch`
    for delayed processing (others as providers sell them), `period` names a time-of-day rate (`peak`,
    `off_peak`). A price of zero is a statement that the model is free, with its
    basis; an unknown price is no `Price` at all. `price_id` is a stable digest
    of everything else, so that a ledger row can name the price it was charged by.
    Raises: BadInput, if a rate is negative, not finite or no `Decimal`, or the span is empty.
    """

    provider: str
    model: str
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    cache_write_1h_usd_per_mtok: Decimal | None = None
    usd_per_request: Decimal = Decimal(0)
    steps: tuple[PriceStep, ...] = ()
    mode: PriceMode = "standard"
    period: str | None = None
    valid_from: date | None = None
    valid_to: date | None = None
    basis: Basis
    source: str
    checked_on: date
    note: str = ""
    price_id: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Check the invariants and name the contents."""
        _check_rates(self)
        _check_rate("usd_per_request", self.usd_per_request)
        if self.basis not in get_args(Basis):
            raise BadInput(f"basis {self.basis!r} of the price of {self.model!r} is unknown", allowed=_listed(Basis))
        if self.mode not in get_args(PriceMode):
            raise BadInput(f"mode {self.mode!r} of the price of {self.model!r} is unknown", allowed=_listed(PriceMode))
        if not self.provider or not self.model or not self.source.strip():
            raise BadInput(
                f"a price of {self.model!r} at {self.provider!r} lacks its provider, model or source",
                allowed="All three are stated",
            )
        if self.valid_from and self.valid_to and self.valid_to <= self.valid_from:
            raise BadInput(
                f"the price of {self.model!r} at {self.provider!r} holds from {self.valid_from} to {self.valid_to}",
                allowed="valid_to is the first day it no longer holds, later than valid_from",
            )
        starts = [step.above_input_tokens for step in self.steps]
        if starts != sorted(set(starts)):
            raise BadInput(f"the price steps of {self.model!r} start above {starts}", allowed="Rising, each once")
        object.__setattr__(self, "price_id", _digest(self))

    @property
    def is_free(self) -> bool:
        """Whether nothing is charged at any length."""
        holders: tuple[Price | PriceStep, ...] = (self, *self.steps)
        rates = [rate for holder in holders for rate in _rates(holder).values()]
        return not self.usd_per_request and not any(rates)

    def holds_on(self, day: date) -> bool:
        """Return whether `day` lies in the span; an open end reaches for ever."""
        starts = self.valid_from is None or self.valid_from <= day
        return starts and (self.valid_to is None or day < self.valid_to)

    def why_not_on(self, day: date) -> str | None:
        """Return since when or from when on it does not hold on `day`; None where it does."""
        if self.holds_on(day):
            return None
        if self.valid_from is not None and day < self.valid_from:
            return f"it holds from {self.valid_from} on"
        return f"it held until before {self.valid_to}"

    def rates_for(self, input_tokens: int) -> Price | PriceStep:
        """Return the price itself, or the highest step that a request of `input_tokens` is above."""
        for step in reversed(self.steps):
            if input_tokens > step.above_input_tokens:
                return step
        return self

    def at_length(self, input_tokens: int) -> Price:
        """Return the price with the rates for a request of `input_tokens`, whatever the length: for sums of such."""
        return replace(self, steps=(), **_rates(self.rates_for(input_tokens)))  # type: ignore[arg-type]

    def for_traffic_of(self, provider: str | None) -> Price:
        """Return the price for requests that `provider` (None: none that sells lifetimes) served.

        What others keep in their caches for an hour asks OpenAI for no twelve, nor the reverse.
        """
        if provider is None or (provider == _SELLS_TWELVE_HOURS) == (self.provider == _SELLS_TWELVE_HOURS):
            return self
        steps = tuple(replace(step, cache_write_1h_usd_per_mtok=None) for step in self.steps)
        return replace(self, cache_write_1h_usd_per_mtok=None, steps=steps)

    def compute_charge_usd(self, usage: Usage) -> Decimal:
        """Return what the request is charged, in dollars, exact to the last digit.

        >>> from decimal import Decimal
        >>> from datetime import date
        >>> price = Price(provider="p", model="m", input_usd_per_mtok=Decimal("0.15"),
        ...     output_usd_per_mtok=Decimal("0.6"), basis="price page", source="doctest", checked_on=date(2026, 11, 1))
        >>> price.compute_charge_usd(Usage(input_tokens=1000, output_tokens=500)).normalize()
        Decimal('0.00045')
        """
        at = self.rates_for(usage.input_tokens)
        cached, write, write_1h = _cache_rates(at)
        parts = (
            (usage.fresh_input_tokens, at.input_usd_per_mtok),
            (usage.cached_input_tokens, cached),
            (usage.cache_write_tokens - usage.cache_write_1h_tokens, write),
            (usage.cache_write_1h_tokens, write_1h),
            (usage.output_tokens, at.output_usd_per_mtok),
        )
        total = Decimal(0)
        for tokens, rate in parts:
            if tokens:
                total = _EXACT.fma(rate, Decimal(tokens), total)
        return _EXACT.add(_EXACT.scaleb(total, -6), self.usd_per_request)

    def compute_charge_picousd(self, usage: Usage) -> int:
        """Return the charge in whole picodollars (1e-12 USD), rounded half to even once for the request.

        Exact, with nothing to round, for every price of at most six decimals per million tokens.
        """
        exact = _EXACT.multiply(self.compute_charge_usd(usage), _PICO)
        return int(_ROUND.quantize(exact, _ONE))


def _rates(holder: Price | PriceStep) -> dict[str, Decimal | None]:
    return {
        "input_usd_per_mtok": holder.input_usd_per_mtok,
        "output_usd_per_mtok": holder.output_usd_per_mtok,
        "cached_input_usd_per_mtok": holder.cached_input_usd_per_mtok,
        "cache_write_usd_per_mtok": holder.cache_write_usd_per_mtok,
        "cache_write_1h_usd_per_mtok": holder.cache_write_1h_usd_per_mtok,
    }


def _cache_rates(at: Price | PriceStep) -> tuple[Decimal, Decimal, Decimal]:
    cached = at.input_usd_per_mtok if at.cached_input_usd_per_mtok is None else at.cached_input_usd_per_mtok
    write = at.input_usd_per_mtok if at.cache_write_usd_per_mtok is None else at.cache_write_usd_per_mtok
    write_1h = write if at.cache_write_1h_usd_per_mtok is None else at.cache_write_1h_usd_per_mtok
    return cached, write, write_1h


def _check_rates(holder: Price | PriceStep) -> None:
    for name, rate in _rates(holder).items():
        if rate is not None:
            _check_rate(name, rate)


def _check_rate(name: str, rate: object) -> None:
    if not isinstance(rate, Decimal) or not rate.is_finite() or rate < 0:
        raise BadInput(f"{name} is {rate!r}", allowed="A Decimal of 0 or more; unknown is None, or no price at all")


def _digest(price: Price) -> str:
    content = [
        price.provider,
        price.model,
        [_text(rate) for rate in _rates(price).values()],
        _text(price.usd_per_request),
        [[step.above_input_tokens, [_text(rate) for rate in _rates(step).values()]] for step in price.steps],
        price.mode,
        price.period,
        None if price.valid_from is None else price.valid_from.isoformat(),
        None if price.valid_to is None else price.valid_to.isoformat(),
        price.basis,
        price.source,
        price.checked_on.isoformat(),
        price.note,
    ]
    canonical = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_ID_HEX_DIGITS]


def _text(rate: Decimal | None) -> str | None:
    """Return one spelling for equal numbers, so that 1.0 and 1 name the same price."""
    return None if rate is None else format(rate.normalize(_ROUND), "f")


def _listed(closed: object) -> str:
    return f"One of {', '.join(get_args(closed))}"
