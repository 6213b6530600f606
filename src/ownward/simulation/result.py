"""What a simulation found: one row a request, and the figures over all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ownward.simulation.scheduler import Scheduler, Slo
from ownward.traffic import Percentiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = "ownward.simulation/1"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequestTimes:
    """Times of each request, in the trace's order; NaN where there is none (see `rows`)."""

    request_ids: tuple[str, ...] | None
    arrival_s: NDArray[np.float64]
    ttft_s: NDArray[np.float64]
    tpot_s: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    cached_input_tokens: NDArray[np.int64]
    preemptions: NDArray[np.int64]
    replica: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.arrival_s)

    def compute_sequences_at_once(self) -> float:
        """Return how many sequences a replica decodes at a time, as one of them sees it, itself included; 0: none."""
        first_s, last_s = self.arrival_s + self.ttft_s, self.arrival_s + self.latency_s
        decodes = last_s > first_s  # NaN is not
        count = int(np.count_nonzero(decodes))
        if not count:
            return 0.0
        at_s = np.concatenate((first_s[decodes], last_s[decodes]))
        replica = np.tile(self.replica[decodes], 2)
        order = np.lexsort((at_s, replica))
        running = np.cumsum(np.repeat((1, -1), count)[order])[:-1].astype(np.float64)
        lasts_s = np.where(np.diff(replica[order]) == 0, np.diff(at_s[order]), 0.0)
        return float((running**2 * lasts_s).sum() / (running * lasts_s).sum())

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row a request as CONTRACTS has it: None for no time (refused, no output, or one token's TPOT)."""
        columns = {
            "request_id": map(str, range(len(self))) if self.request_ids is None else self.request_ids,
            "arrival_s": map(float, self.arrival_s),
            "ttft_s": _or_none(self.ttft_s),
            "tpot_s": _or_none(self.tpot_s),
            "latency_s": _or_none(self.latency_s),
            "cached_input_tokens": map(int, self.cached_input_tokens),
            "preemptions": map(int, self.preemptions),
        }
        for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """Requests that met every part of the SLO; refused ones count as missed."""

    slo: Slo
    good_requests: int
    good_fraction: float
    good_requests_per_s: float | None
    is_met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """The figures of a run.

    `makespan_s` is from the first arrival to the last finish, all rates are over
    it. `utilisation_fraction` is the share of it that replicas were busy; of `busy_s`, prompts took
    `prefill_s`: steps of prompts alone, and what prompts added to steps that decode.
    `energy_joules` is None where the power is unknown, `requests_per_wall_s`
    where no clock was passed in. `refused` requests never fit the cache.
    """

    requests: int
    finished: int
    refused: int
    replicas: int
    makespan_s: float
    ttft_s: Percentiles | None
    tpot_s: Percentiles | None
    latency_s: Percentiles | None
    goodput: Goodput | None
    requests_per_s: float | None
    output_tokens_per_s: float | None
    utilisation_fraction: float | None
    busy_s: float
    prefill_s: float
    steps: int
    preemptions: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    energy_joules: float | None
    requests_per_wall_s: float | None
    scheduler: Scheduler
    routing: str
    seed: int
    trace_sha256: str
    per_request: RequestTimes = field(compare=False, repr=False)

    def as_record(self) -> dict[str, Any]:
        """Return the object of `ownward.simulation/1`, without the rows."""
        names = [name for name in self.__dataclass_fields__ if name != "per_request"]
        return {"schema": SCHEMA} | {name: getattr(self, name) for name in names}


def find_goodput(times: RequestTimes, slo: Slo, makespan_s: float) -> Goodput:
    """Return how many requests met every part of the SLO."""
    good = ~np.isnan(times.latency_s)
    for limit, values in ((slo.ttft_s, times.ttft_s), (slo.tpot_s, times.tpot_s), (slo.latency_s, times.latency_s)):
        if limit is not None:
            good &= ~(values > limit)  # NaN misses nothing
    count = int(np.count_nonzero(good))
    fraction = count / len(times) if len(times) else 1.0
    return Goodput(
        slo=slo,
        good_requests=count,
        good_fraction=fraction,
        good_requests_per_s=count / makespan_s if makespan_s > 0 else None,
        is_met=fraction >= slo.fraction,
    )


def _or_none(values: NDArray[np.float64]) -> Iterator[float | None]:
    return (None if math.isnan(value) else value for value in map(float, values))
