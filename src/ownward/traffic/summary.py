"""What a trace is like, in figures: totals, rates, percentiles, the busiest window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ownward.core import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """A distribution in six figures; a percentile between two values lies on the line between them."""

    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    max: float

    @classmethod
    def of(cls, values: NDArray[np.float64] | NDArray[np.int64]) -> Percentiles | None:
        """Return the percentiles of the values that are not NaN; None where there are none.

        Source: Hyndman and Fan 1996, definition 7, as numpy's default.

        >>> import numpy as np
        >>> Percentiles.of(np.arange(1, 102)).p90
        91.0
        """
        known = np.asarray(values, dtype=np.float64)
        known = known[~np.isnan(known)]
        if not len(known):
            return None
        p50, p90, p95, p99 = (float(one) for one in np.percentile(known, (50, 90, 95, 99)))
        return cls(p50=p50, p90=p90, p95=p95, p99=p99, mean=float(known.mean()), max=float(known.max()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The busiest window: the one in which most arrive, by requests, and by input and output tokens apart."""

    window_s: float
    start_s: float
    requests: int
    requests_per_s: float
    input_tokens_per_s: float
    output_tokens_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """Totals, rates and percentiles of a trace.

    `duration_s` runs from the first to the last arrival; rates are totals over
    it, None where all arrive at once. `peak` holds the highest of each rate over
    any window of its length, None for a trace shorter than the window.
    """

    requests: int
    duration_s: float
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    requests_per_s: float | None
    input_tokens_per_s: float | None
    output_tokens_per_s: float | None
    input_percentiles: Percentiles | None
    output_percentiles: Percentiles | None
    peak: Peak | None
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0

    @property
    def uncached_input_tokens(self) -> int:
        """Input tokens whose KV had to be computed."""
        return self.input_tokens - self.cached_input_tokens

    @property
    def cached_fraction(self) -> float | None:
        """Share of the input tokens that was cached; None without input."""
        return self.cached_input_tokens / self.input_tokens if self.input_tokens else None


def summarise(
    *,
    arrival_s: NDArray[np.float64],
    input_tokens: NDArray[np.int64],
    cached_input_tokens: NDArray[np.int64],
    output_tokens: NDArray[np.int64],
    window_s: float,
    cache_write_tokens: NDArray[np.int64] | None = None,
    cache_write_1h_tokens: NDArray[np.int64] | None = None,
) -> TraceSummary:
    """Return the summary of columns sorted by arrival.

    Raises: BadInput, if `window_s` is not above zero.
    """
    if not window_s > 0:
        raise BadInput(f"the window is {window_s} s", allowed="It has to be above 0")
    count = len(arrival_s)
    duration_s = float(arrival_s[-1] - arrival_s[0]) if count else 0.0
    totals = {
        "input_tokens": int(input_tokens.sum()),
        "cached_input_tokens": int(cached_input_tokens.sum()),
        "output_tokens": int(output_tokens.sum()),
    }
    return TraceSummary(
        requests=count,
        duration_s=duration_s,
        **totals,
        cache_write_tokens=0 if cache_write_tokens is None else int(cache_write_tokens.sum()),
        cache_write_1h_tokens=0 if cache_write_1h_tokens is None else int(cache_write_1h_tokens.sum()),
        requests_per_s=count / duration_s if duration_s else None,
        input_tokens_per_s=totals["input_tokens"] / duration_s if duration_s else None,
        output_tokens_per_s=totals["output_tokens"] / duration_s if duration_s else None,
        input_percentiles=Percentiles.of(input_tokens),
        output_percentiles=Percentiles.of(output_tokens),
        peak=_peak(arrival_s, input_tokens, output_tokens, window_s) if duration_s >= window_s else None,
    )


def _peak(
    arrival_s: NDArray[np.float64],
    input_tokens: NDArray[np.int64],
    output_tokens: NDArray[np.int64],
    window_s: float,
) -> Peak:
    # a busiest window starts at an arrival: rows first..last-1 lie in [arrival, arrival + window)
    first = np.arange(len(arrival_s))
    last = np.searchsorted(arrival_s, arrival_s + window_s, side="left")
    inputs = np.concatenate([[0], np.cumsum(input_tokens)])
    outputs = np.concatenate([[0], np.cumsum(output_tokens)])
    requests = last - first
    busiest = int(np.argmax(requests))
    return Peak(
        window_s=window_s,
        start_s=float(arrival_s[busiest]),
        requests=int(requests[busiest]),
        requests_per_s=float(requests[busiest] / window_s),
        input_tokens_per_s=float((inputs[last] - inputs[first]).max() / window_s),
        output_tokens_per_s=float((outputs[last] - outputs[first]).max() / window_s),
    )
