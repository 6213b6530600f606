"""The volume from which owning is cheaper: an answer with a band, and what it hangs on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from ownward.economics import _model
from ownward.economics.assumptions import Assumption, Assumptions
from ownward.economics.options import ApiOption, HourlyOption, OwnedOption, Volume

_Z80 = NormalDist().inv_cdf(0.9)  # an 80% range ends at the 10th and 90th percentile


@dataclass(frozen=True, slots=True, kw_only=True)
class Swing:
    """What one assumption does to the break-even, all others at their value; None: owning never pays there."""

    name: str
    low80: float
    high80: float
    requests_per_month_at_low: float | None
    requests_per_month_at_high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """The requests a month, at the traffic's own mix, above which owning always costs less than the API.

    None means never: even full machines cost more a request than the API.
    `first_requests_per_month` is where owning pays for the first time; between the two a further machine,
    bought whole, can turn the answer back. The band holds 8 of 10 draws of all
    ranges; its ends can be None likewise, and `never_fraction` is the share of
    draws in which owning never pays. `is_reached` compares the costs of the traffic
    given. `tornado` is sorted, the assumption that the answer hangs on most first.
    """

    owned: str
    rented: str
    requests_per_month: float | None
    requests_per_month_low80: float | None
    requests_per_month_high80: float | None
    first_requests_per_month: float | None
    tokens_per_day: float | None
    times_traffic: float | None
    never_fraction: float | None
    is_reached: bool | None
    tornado: tuple[Swing, ...]
    reason: str
    samples: int
    seed: int


def compute_break_even(
    owned: OwnedOption | HourlyOption,
    rented: ApiOption,
    volume: Volume,
    assumptions: Assumptions | None = None,
    *,
    samples: int = 4000,
    seed: int = 0,
) -> BreakEven:
    """Return the break-even volume of a pair, with band and tornado.

    `volume` gives the mix and the shape of the day; its size only serves
    `times_traffic`. The fleet grows with the volume: in whole machines, from what the traffic takes of the option's
    own number where a simulation found that, else from the peak's work. Where watts are unknown the result is None
    throughout, with the reason.
    """
    import numpy as np

    shared = assumptions or Assumptions()
    used = _model.find_assumptions(owned, shared, volume)
    api_usd = float(rented.compute_usd(volume))
    middle = {name: one.value.value for name, one in used.items()}

    peak_factor = _model.find_peak_factor(owned, volume, middle)

    def scales_at(values: _model.Inputs) -> tuple[Any, Any]:
        return _model.compute_break_even_scales(
            _model.compute_terms(owned, volume, values, peak_factor=peak_factor),
            _model.compute_terms(owned, volume, _model.at_traffic(owned, values)),
            api_usd * values["api_price_factor"],
            values,
            shared.redundancy,
            load_fraction=_model.find_load_fraction(owned),
        )

    def requests_at(values: _model.Inputs) -> float | None:
        return _finite(float(scales_at(values)[1]) * volume.requests)

    terms = _model.compute_terms(owned, volume, middle)
    if terms.idle_energy is None:
        return _unknown(owned.name, rented.name, samples, seed)
    once, times = (float(one) for one in scales_at(middle))
    working = _model.count_machines(terms.peak_machines, middle["peak_load_fraction"], owned.machines)
    now = _model.compute_terms(owned, volume, _model.at_traffic(owned, middle))
    is_cheaper = _model.compute_total(now, working + shared.redundancy) <= api_usd * middle["api_price_factor"]
    drawn = np.sort(np.broadcast_to(scales_at(_draw(used, samples, seed))[1], (samples,)))
    requests = _finite(times * volume.requests)
    tokens = volume.input_tokens + volume.output_tokens
    swings = [
        Swing(
            name=name,
            low80=one.low80,
            high80=one.high80,
            requests_per_month_at_low=requests_at(middle | {name: one.low80}),
            requests_per_month_at_high=requests_at(middle | {name: one.high80}),
        )
        for name, one in used.items()
        if one.low80 is not None and one.high80 is not None and one.low80 < one.high80
    ]
    return BreakEven(
        owned=owned.name,
        rented=rented.name,
        requests_per_month=requests,
        requests_per_month_low80=_finite(float(drawn[int(0.1 * (samples - 1))]) * volume.requests),
        requests_per_month_high80=_finite(float(drawn[math.ceil(0.9 * (samples - 1))]) * volume.requests),
        first_requests_per_month=_finite(once * volume.requests),
        tokens_per_day=None if requests is None else times * tokens * 12 / 365,
        times_traffic=_finite(times),
        never_fraction=float(np.isinf(drawn).mean()),
        is_reached=is_cheaper,
        tornado=tuple(sorted(swings, key=_width, reverse=True)),
        reason=_reason(times, is_cheaper=is_cheaper),
        samples=samples,
        seed=seed,
    )


def _draw(used: dict[str, Assumption], samples: int, seed: int) -> _model.Inputs:
    """Return one draw a sample: log-normal on each side of the value where the range is positive, else normal."""
    import numpy as np

    generator = np.random.default_rng(seed)
    drawn: _model.Inputs = {}
    for name in sorted(used):
        one = used[name]
        middle = one.value.value
        normal = generator.standard_normal(samples)  # drawn for each name, so that a range does not move the others
        if one.low80 is None or one.high80 is None:
            drawn[name] = middle
        elif one.low80 > 0:
            reach = np.where(normal < 0, math.log(middle / one.low80), math.log(one.high80 / middle))
            drawn[name] = middle * np.exp(normal * reach / _Z80)
        else:
            reach = np.where(normal < 0, middle - one.low80, one.high80 - middle)
            drawn[name] = np.maximum(middle + normal * reach / _Z80, 0.0)
    return drawn


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _width(swing: Swing) -> tuple[float, str]:
    low, high = swing.requests_per_month_at_low, swing.requests_per_month_at_high
    if low is None or high is None:
        return (0.0 if low is high else math.inf), swing.name
    return abs(math.log(high / low)) if low and high else math.inf, swing.name


def _reason(times: float, *, is_cheaper: bool) -> str:
    if math.isinf(times):
        never = "never lastingly: even fully used machines cost more per request than the API"
        return f"at this traffic owning costs less, but {never}" if is_cheaper else never
    if is_cheaper and times > 1:
        return (
            "reached: at this traffic owning costs less, but the next machine you have to buy reverses that for a while"
        )
    if is_cheaper:
        return "reached: at this traffic owning costs less"
    return "not reached: at this traffic the API costs less"


def _unknown(owned: str, rented: str, samples: int, seed: int) -> BreakEven:
    return BreakEven(
        owned=owned,
        rented=rented,
        requests_per_month=None,
        requests_per_month_low80=None,
        requests_per_month_high80=None,
        first_requests_per_month=None,
        tokens_per_day=None,
        times_traffic=None,
        never_fraction=None,
        is_reached=None,
        tornado=(),
        reason="not known: the machine's idle or busy watts are unknown, and unknown energy is not taken as 0",
        samples=samples,
        seed=seed,
    )
