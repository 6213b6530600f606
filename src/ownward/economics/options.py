"""What is compared: machines owned or rented by the hour, APIs by the token, and a month's volume."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from ownward.core import BadInput, Basis, Sourced
from ownward.economics.assumptions import HOURS_PER_MONTH, Assumption
from ownward.pricing import Price, PriceStep

if TYPE_CHECKING:
    from ownward.traffic import Trace, TraceSummary

_SECONDS_PER_HOUR = 3600.0
_MTOK = Decimal(1_000_000)
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A month of traffic: totals, and the token rates at its peak (means where the peak is unknown)."""

    requests: float
    input_tokens: float
    cached_input_tokens: float
    output_tokens: float
    peak_input_tokens_per_s: float
    peak_output_tokens_per_s: float
    cache_write_tokens: float = 0.0
    cache_write_1h_tokens: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a month without requests, and more cached and written than input tokens."""
        held = self.cached_input_tokens + max(self.cache_write_tokens, self.cache_write_1h_tokens)
        if not self.requests > 0 or held > self.input_tokens * (1 + _ROUNDING):
            raise BadInput(
                f"a month of {self.requests} requests, {self.input_tokens} input and"
                f" {self.cached_input_tokens} cached input tokens, {self.cache_write_tokens} written to a cache,"
                f" {self.cache_write_1h_tokens} of them for an hour",
                allowed="More than 0 requests, and cached tokens counted inside input tokens",
            )

    @classmethod
    def from_summary(cls, summary: TraceSummary, *, active_hours_per_month: float = HOURS_PER_MONTH) -> Volume:
        """Return the month in which traffic runs as in the trace for `active_hours_per_month` hours.

        Raises: BadInput, for a trace without duration.
        """
        if not summary.duration_s:
            raise BadInput("the trace has no duration, so that it cannot be scaled to a month")
        scale = active_hours_per_month * _SECONDS_PER_HOUR / summary.duration_s
        peak_input = summary.peak.input_tokens_per_s if summary.peak else summary.input_tokens_per_s
        peak_output = summary.peak.output_tokens_per_s if summary.peak else summary.output_tokens_per_s
        return cls(
            requests=summary.requests * scale,
            input_tokens=summary.input_tokens * scale,
            cached_input_tokens=summary.cached_input_tokens * scale,
            output_tokens=summary.output_tokens * scale,
            peak_input_tokens_per_s=peak_input or 0.0,
            peak_output_tokens_per_s=peak_output or 0.0,
            cache_write_tokens=summary.cache_write_tokens * scale,
            cache_write_1h_tokens=summary.cache_write_1h_tokens * scale,
        )

    @property
    def uncached_input_tokens(self) -> float:
        """Input tokens that the log says were computed."""
        return self.input_tokens - self.cached_input_tokens

    @property
    def cached_fraction(self) -> float:
        """Share of the input that was cached; 0 without input."""
        return self.cached_input_tokens / self.input_tokens if self.input_tokens else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What one machine serves at the service level and mix of the traffic: tokens a second of its time for each."""

    prefill_tokens_per_s: Assumption
    decode_tokens_per_s: Assumption

    def __post_init__(self) -> None:
        """Refuse rates that are not above zero."""
        for name in ("prefill_tokens_per_s", "decode_tokens_per_s"):
            if not getattr(self, name).value.value > 0:
                raise BadInput(f"{name} is {getattr(self, name).value.value}", allowed="It has to be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedOption:
    """A model on machines one buys. Unknown watts stay None and leave the energy unknown, never 0.

    A step that few sequences share takes nearly as long as one that many do, so that a machine below its `capacity`
    works longer for each token than one at it: `running` is what decides work, energy and a token's price. The fleet
    that a simulation found may hold more than the traffic: `machines_needed` is what grows with the volume.
    """

    name: str
    capex_usd: Assumption
    idle_watts: Assumption | None
    busy_watts: Assumption | None
    capacity: Capacity
    running: Capacity | None = None  # of the time that it really works at this traffic; None: as at its capacity
    machines: int | None = None  # as found by a simulation, without redundancy; None: from the peak's work
    machines_needed: float | None = None  # how much of them the traffic takes up; None: all

    def __post_init__(self) -> None:
        """Refuse a fleet of none, and one that needs more than it has."""
        _check_machines(self.machines)
        if self.machines_needed is not None and not 0 < self.machines_needed <= (self.machines or 0):
            raise BadInput(f"machines_needed is {self.machines_needed}", allowed=f"Above 0, at most {self.machines}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HourlyOption:
    """A model on machines rented by the hour; power is in the price."""

    name: str
    usd_per_hour: Assumption
    capacity: Capacity
    hours_per_month: float = HOURS_PER_MONTH
    machines: int | None = None

    def __post_init__(self) -> None:
        """Refuse a fleet of none."""
        _check_machines(self.machines)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOption:
    """An API by the token. Without a cached price, cached input costs what input costs; so does what is written.

    What is written for an hour costs what is written, unless it has a price of its own.
    """

    name: str
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    cache_write_1h_usd_per_mtok: Decimal | None = None
    usd_per_request: Decimal = Decimal(0)
    basis: Basis = "price page"
    source: str
    checked_on: date

    @classmethod
    def from_price(cls, price: Price, trace: Trace | None = None, *, name: str | None = None) -> ApiOption:
        """Return the option of a price row, named by its model where no name is given.

        A price with steps needs the trace, as a request's length decides its rate: the rates are then the means that
        give the trace its exact cost.
        Raises: BadInput, for a price with steps and no trace.
        """
        if price.steps and trace is None:
            raise BadInput(
                f"the price of {price.model!r} has steps by a request's length, which totals do not tell",
                next_step="Give the trace",
            )
        rates = _mean_rates(price, trace) if price.steps and trace is not None else None
        inputs, cached, written, hour, outputs = rates or (
            price.input_usd_per_mtok,
            price.cached_input_usd_per_mtok,
            price.cache_write_usd_per_mtok,
            price.cache_write_1h_usd_per_mtok,
            price.output_usd_per_mtok,
        )
        return cls(
            name=name or price.model,
            input_usd_per_mtok=inputs,
            output_usd_per_mtok=outputs,
            cached_input_usd_per_mtok=cached,
            cache_write_usd_per_mtok=written,
            cache_write_1h_usd_per_mtok=hour,
            usd_per_request=price.usd_per_request,
            basis=price.basis,
            source=price.source,
            checked_on=price.checked_on,
        )

    def compute_usd(self, volume: Volume) -> Decimal:
        """Return what the month's tokens cost at these prices.

        >>> from datetime import date
        >>> api = ApiOption(name="a", input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(4), source="page",
        ...                 cached_input_usd_per_mtok=Decimal("0.1"), checked_on=date(2026, 11, 21))
        >>> api.compute_usd(Volume(requests=1, input_tokens=3_000_000, cached_input_tokens=1_000_000,
        ...                        output_tokens=500_000, peak_input_tokens_per_s=0, peak_output_tokens_per_s=0))
        Decimal('4.1')
        """
        written, hour = to_decimal(volume.cache_write_tokens), to_decimal(volume.cache_write_1h_tokens)
        total = (
            (to_decimal(volume.uncached_input_tokens) - written) * self.input_usd_per_mtok
            + (written - hour) * _write_rate(self)
            + hour * _hour_rate(self)
            + to_decimal(volume.cached_input_tokens) * _cached_rate(self)
            + to_decimal(volume.output_tokens) * self.output_usd_per_mtok
        )
        return (total / _MTOK + to_decimal(volume.requests) * self.usd_per_request).normalize()

    @property
    def sourced(self) -> Sourced[str]:
        """The prices as a sourced text, for printing."""
        shown = f"{self.input_usd_per_mtok} in, {self.output_usd_per_mtok} out USD per million tokens"
        if self.cached_input_usd_per_mtok is not None:
            shown = f"{shown}, {self.cached_input_usd_per_mtok} cached in"
        return Sourced(value=shown, basis=self.basis, source=self.source, checked_on=self.checked_on)


def compute_trace_charge_usd(trace: Trace, price: Price) -> Decimal:
    """Return what the trace's requests are charged at a price, each at the rate of its own length; exact."""
    fresh, cached, written, hour, outputs = _tokens_by_step(price, trace)
    holders: tuple[Price | PriceStep, ...] = (price, *price.steps)
    total = sum(
        (
            fresh[at] * holder.input_usd_per_mtok
            + cached[at] * _cached_rate(holder)
            + written[at] * _write_rate(holder)
            + hour[at] * _hour_rate(holder)
            + outputs[at] * holder.output_usd_per_mtok
            for at, holder in enumerate(holders)
        ),
        Decimal(0),
    )
    return total / _MTOK + len(trace) * price.usd_per_request


def _mean_rates(price: Price, trace: Trace) -> tuple[Decimal, Decimal, Decimal, Decimal, Decimal]:
    fresh, cached, written, hour, outputs = _tokens_by_step(price, trace)
    holders: tuple[Price | PriceStep, ...] = (price, *price.steps)

    def mean(tokens: list[int], rates: list[Decimal]) -> Decimal:
        whole = sum(tokens)
        return (
            sum((one * rate for one, rate in zip(tokens, rates, strict=True)), Decimal(0)) / whole
            if whole
            else rates[0]
        )

    return (
        mean(fresh, [holder.input_usd_per_mtok for holder in holders]),
        mean(cached, [_cached_rate(holder) for holder in holders]),
        mean(written, [_write_rate(holder) for holder in holders]),
        mean(hour, [_hour_rate(holder) for holder in holders]),
        mean(outputs, [holder.output_usd_per_mtok for holder in holders]),
    )


def _tokens_by_step(price: Price, trace: Trace) -> list[list[int]]:
    """Return the requests' tokens at the base rate and at each step, by kind.

    Fresh input, cached input, written for minutes, written for an hour, output.
    """
    import numpy as np

    step = np.searchsorted([one.above_input_tokens for one in price.steps], trace.input_tokens, side="left")
    none = np.zeros(len(trace), dtype=np.int64)
    written = none if trace.cache_write_tokens is None else trace.cache_write_tokens
    hour = none if trace.cache_write_1h_tokens is None else trace.cache_write_1h_tokens
    fresh = trace.input_tokens - trace.cached_input_tokens - written
    columns = (fresh, trace.cached_input_tokens, written - hour, hour, trace.output_tokens)
    return [[int(column[step == at].sum()) for at in range(len(price.steps) + 1)] for column in columns]


def _cached_rate(holder: ApiOption | Price | PriceStep) -> Decimal:
    cached = holder.cached_input_usd_per_mtok
    return holder.input_usd_per_mtok if cached is None else cached


def _write_rate(holder: ApiOption | Price | PriceStep) -> Decimal:
    written = holder.cache_write_usd_per_mtok
    return holder.input_usd_per_mtok if written is None else written


def _hour_rate(holder: ApiOption | Price | PriceStep) -> Decimal:
    hour = holder.cache_write_1h_usd_per_mtok
    return _write_rate(holder) if hour is None else hour


def to_decimal(value: float) -> Decimal:
    """Return the decimal that a float shows as."""
    return Decimal(repr(float(value)))


def _check_machines(machines: int | None) -> None:
    if machines is not None and machines < 1:
        raise BadInput(f"machines is {machines}", allowed="1 or more, or None to derive it from the peak")
