"""A trace against replicas of one deployment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ownward.core import BadInput, Clock
from ownward.perf import StepModel
from ownward.simulation import _compiled, _loop
from ownward.simulation.result import RequestTimes, Simulation, find_goodput
from ownward.simulation.scheduler import Scheduler, Slo
from ownward.traffic import Percentiles, Trace

if TYPE_CHECKING:
    from numpy.typing import NDArray

Routing = Literal["round_robin", "least_work"]

_COMPILE_FROM_REQUESTS = 50_000  # below it, the plain loop is done before the compiler is


@dataclass(frozen=True, slots=True)
class _Run:
    """What happened to requests, in the order of theirs (NaN: refused), and how long and in how many steps."""

    first_s: NDArray[np.float64]
    finish_s: NDArray[np.float64]
    cached: NDArray[np.int64]
    preemptions: NDArray[np.int64]
    busy_s: float
    prefill_s: float
    steps: int


def simulate(
    trace: Trace,
    step_model: StepModel,
    scheduler: Scheduler | None = None,
    *,
    replicas: int = 1,
    slo: Slo | None = None,
    routing: Routing = "round_robin",
    seed: int = 0,
    recorded_reuse_fraction: float = 0.0,
    clock: Clock | None = None,
    is_compiled: bool | None = None,
) -> Simulation:
    """Return what users of `replicas` copies of a deployment would have seen.

    Requests go to replicas as they arrive: `round_robin` in a seeded order of
    replicas, or `least_work` to the one with the least estimated work left. A
    seeded run is equal byte for byte. The prefix cache is used where the trace has
    prefix blocks; without them, `recorded_reuse_fraction` of each request's `cached_input_tokens` counts as cached
    until it is preempted. `is_compiled` None compiles where numba is installed and the trace is long.
    Raises: BadInput, if there are no replicas, or the trace's prefix blocks are no multiple of the cache's.
    """
    chosen = scheduler or Scheduler()
    if replicas < 1:
        raise BadInput(f"replicas is {replicas}", allowed="1 or more")
    if not 0 <= recorded_reuse_fraction <= 1:
        raise BadInput(f"recorded_reuse_fraction is {recorded_reuse_fraction}", allowed="Between 0 and 1")
    if routing not in get_args(Routing):
        raise BadInput(f"routing is {routing!r}", allowed=f"One of {', '.join(get_args(Routing))}")
    started_s = clock.monotonic_s() if clock else 0.0
    fast = _compiled.is_available() and len(trace) >= _COMPILE_FROM_REQUESTS if is_compiled is None else is_compiled
    replica = route(trace, step_model, replicas, routing=routing, seed=seed)
    count = len(trace)
    since_s = trace.arrival_s - trace.arrival_s[:1]  # seconds since the first: epoch times would cost digits
    run = _run_replicas(
        trace, since_s, replica, step_model, chosen, reuse_fraction=recorded_reuse_fraction, is_compiled=fast
    )
    took_s = clock.monotonic_s() - started_s if clock else 0.0
    times = RequestTimes(
        request_ids=trace.request_ids,
        arrival_s=trace.arrival_s,
        ttft_s=np.where(trace.output_tokens > 0, run.first_s - since_s, np.nan),
        tpot_s=_tpot(run.first_s, run.finish_s, trace.output_tokens),
        latency_s=run.finish_s - since_s,
        cached_input_tokens=run.cached,
        preemptions=run.preemptions,
        replica=replica,
    )
    is_finished = ~np.isnan(run.finish_s)
    finished = int(np.count_nonzero(is_finished))
    makespan_s = float(np.nanmax(run.finish_s)) if finished else 0.0
    output_tokens = int(trace.output_tokens[is_finished].sum())
    return Simulation(
        requests=count,
        finished=finished,
        refused=count - finished,
        replicas=replicas,
        makespan_s=makespan_s,
        ttft_s=Percentiles.of(times.ttft_s),
        tpot_s=Percentiles.of(times.tpot_s),
        latency_s=Percentiles.of(times.latency_s),
        goodput=None if slo is None else find_goodput(times, slo, makespan_s),
        requests_per_s=finished / makespan_s if makespan_s > 0 else None,
        output_tokens_per_s=output_tokens / makespan_s if makespan_s > 0 else None,
        utilisation_fraction=run.busy_s / (makespan_s * replicas) if makespan_s > 0 else None,
        busy_s=run.busy_s,
        prefill_s=run.prefill_s,
        steps=run.steps,
        preemptions=int(run.preemptions.sum()),
        input_tokens=int(trace.input_tokens[is_finished].sum()),
        cached_input_tokens=int(run.cached.sum()),
        output_tokens=output_tokens,
        energy_joules=_energy(step_model, run.busy_s, makespan_s * replicas),
        requests_per_wall_s=count / took_s if took_s > 0 else None,
        scheduler=chosen,
        routing=routing,
        seed=seed,
        trace_sha256=trace.compute_sha256(),
        per_request=times,
    )


def route(
    trace: Trace, step_model: StepModel, replicas: int, *, routing: Routing = "round_robin", seed: int = 0
) -> NDArray[np.int64]:
    """Return the replica of each request.

    `least_work` estimates a request's work as its prefill alone and its decoding at the cost of one sequence, and
    lets a replica's work run down with time.
    """
    order = np.random.default_rng(seed).permutation(replicas).astype(np.int64)
    count = len(trace)
    if routing == "round_robin" or replicas == 1:
        return order[np.arange(count) % replicas]
    inputs, outputs = trace.input_tokens.astype(np.float64), trace.output_tokens.astype(np.float64)
    decode_s = step_model.per_decode_sequence_s + step_model.per_kv_byte_s * step_model.kv_bytes_per_token * (
        inputs + outputs / 2
    )
    work = (
        step_model.per_prefill_token_s * inputs
        + step_model.per_prefill_token_context_s * inputs * np.maximum(inputs - 1, 0) / 2
        + decode_s * outputs
    ).tolist()
    free_at = [0.0] * replicas
    chosen = np.empty(count, dtype=np.int64)
    ranked = order.tolist()
    for index, now in enumerate(trace.arrival_s.tolist()):
        best = min(ranked, key=lambda one: max(free_at[one], now))
        free_at[best] = max(free_at[best], now) + work[index]
        chosen[index] = best
    return chosen


def _run_replicas(
    trace: Trace,
    since_s: NDArray[np.float64],
    replica: NDArray[np.int64],
    model: StepModel,
    scheduler: Scheduler,
    *,
    reuse_fraction: float,
    is_compiled: bool,
) -> _Run:
    """Return the runs of all replicas as one: `replica` says which of them each request went to."""
    count = len(trace)
    first_s, finish_s = np.full(count, np.nan), np.full(count, np.nan)
    cached, preemptions = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    busy_s, prefill_s, steps = 0.0, 0.0, 0
    for number in np.unique(replica):
        rows = np.flatnonzero(replica == number)
        part = trace if len(rows) == count else trace.take(rows)
        one = _run_replica(
            part, since_s[rows], model, scheduler, reuse_fraction=reuse_fraction, is_compiled=is_compiled
        )
        first_s[rows], finish_s[rows] = one.first_s, one.finish_s
        cached[rows], preemptions[rows] = one.cached, one.preemptions
        busy_s += one.busy_s
        prefill_s += one.prefill_s
        steps += one.steps
    return _Run(
        first_s=first_s,
        finish_s=finish_s,
        cached=cached,
        preemptions=preemptions,
        busy_s=busy_s,
        prefill_s=prefill_s,
        steps=steps,
    )


def _run_replica(
    trace: Trace,
    since_s: NDArray[np.float64],
    model: StepModel,
    scheduler: Scheduler,
    *,
    reuse_fraction: float,
    is_compiled: bool,
) -> _Run:
    count = len(trace)
    inputs = np.maximum(trace.input_tokens, 1)  # an empty prompt still has its first token
    outputs = np.maximum(trace.output_tokens, 1)  # no output ends with the prefill
    offsets, blocks, units, unit_tokens = _prefixes(trace, model)
    requests = np.zeros((_loop.ROWS, count), dtype=np.int64)
    requests[_loop.INPUT], requests[_loop.OUTPUT], requests[_loop.TOTAL] = inputs, outputs, inputs
    requests[_loop.LAST] = -1
    requests[_loop.CACHED] = -1
    if trace.prefix_offsets is None:  # the last token of a prompt is always computed
        requests[_loop.REUSED] = np.minimum((trace.cached_input_tokens * reuse_fraction).astype(np.int64), inputs - 1)
    match scheduler.policy:
        case "shortest_first":
            requests[_loop.KEY] = inputs
        case "priority":
            requests[_loop.KEY] = 0 if trace.priority is None else trace.priority
        case "fcfs":
            pass
    first_s, finish_s = np.full(count, -1.0), np.full(count, -1.0)
    state = np.zeros(_loop.SLOTS, dtype=np.int64)
    arrays: list[Any] = [
        since_s,
        requests,
        offsets,
        blocks,
        units,
        unit_tokens,
        state,
        np.zeros(model.block_tokens, dtype=np.int64),
        np.zeros(count, dtype=np.int64),
        np.zeros(count, dtype=np.int64),
        np.zeros(scheduler.max_batch, dtype=np.int64),
        np.zeros(scheduler.max_batch, dtype=np.int64),
        np.zeros(scheduler.max_batch, dtype=np.int64),
        first_s,
        finish_s,
        *_step_seconds(model, scheduler, most_tokens=int((inputs + outputs).max(initial=0))),
    ]
    if not is_compiled:  # plain lists are several times faster than arrays to index one by one
        arrays = [one.tolist() if isinstance(one, np.ndarray) else one for one in arrays]
    run: Callable[..., tuple[float, float]] = _compiled.compiled_run() if is_compiled else _loop.run
    busy_s, prefill_s = run(
        *arrays,
        model.per_prefill_token_s,
        model.per_prefill_token_context_s,
        model.per_kv_byte_s * model.kv_bytes_per_token,
        model.capacity_blocks,
        model.block_tokens,
        scheduler.max_batch,
        scheduler.token_budget,
        scheduler.chunked_prefill,
        scheduler.policy != "fcfs",
    )
    requests, state = np.asarray(arrays[1]), arrays[6]
    finish_s = np.asarray(arrays[14], dtype=np.float64)
    first_s = np.asarray(arrays[13], dtype=np.float64)
    return _Run(
        first_s=np.where(finish_s < 0, np.nan, first_s),
        finish_s=np.where(finish_s < 0, np.nan, finish_s),
        cached=np.maximum(requests[_loop.CACHED], 0),
        preemptions=requests[_loop.PREEMPTED],
        busy_s=float(busy_s),
        prefill_s=float(prefill_s),
        steps=int(state[_loop.STEP]),
    )


def _step_seconds(
    model: StepModel, scheduler: Scheduler, *, most_tokens: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a decoding step's seconds by its sequences, cache aside, and what `by_tokens_s` says of its tokens."""
    sequences = np.arange(scheduler.max_batch + 1)
    steps_s = model.fixed_s + model.per_decode_sequence_s * sequences + _on(model.by_sequences_s, sequences)
    most = scheduler.token_budget if scheduler.chunked_prefill else max(scheduler.token_budget, most_tokens)
    return steps_s, _on(model.by_tokens_s, np.arange(scheduler.max_batch + most + 1))


def _on(points: tuple[tuple[float, float], ...], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the seconds at `counts` on the lines through (0, 0) and `points`, past the last as before it."""
    if not points:
        return np.zeros(len(counts))
    at, seconds = np.array(((0.0, 0.0), *points)).T
    slope = (seconds[-1] - seconds[-2]) / (at[-1] - at[-2])
    found: NDArray[np.float64] = np.interp(counts, at, seconds) + slope * np.maximum(counts - at[-1], 0.0)
    return found


def _prefixes(trace: Trace, model: StepModel) -> tuple[Any, Any, Any, int]:
    if trace.prefix_offsets is None or trace.prefix_block_ids is None:
        units = np.zeros((_loop.UNIT_ROWS, 1), dtype=np.int64)
        return np.zeros(len(trace) + 1, dtype=np.int64), np.zeros(0, dtype=np.int64), units, model.block_tokens
    tokens = trace.prefix_block_tokens or model.block_tokens
    if tokens % model.block_tokens:
        raise BadInput(
            f"the trace's prefix blocks hold {tokens} tokens and the cache's blocks {model.block_tokens}",
            allowed="A prefix block has to be a whole number of cache blocks",
        )
    offsets, ids = _cut_repeats(trace.prefix_offsets, trace.prefix_block_ids)
    names, blocks = np.unique(ids, return_inverse=True)
    units = np.zeros((_loop.UNIT_ROWS, len(names) + 1), dtype=np.int64)
    return offsets.copy(), blocks.astype(np.int64), units, tokens


def _cut_repeats(offsets: NDArray[np.int64], ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut each request's prefix before the first id that it has twice: an id stands for all before it as well."""
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((ids, rows))  # stable, so that of equal ids the earlier comes first
    repeats = (np.diff(rows[order]) == 0) & (np.diff(ids[order]) == 0)
    if not repeats.any():
        return offsets, ids
    ends = offsets[1:].copy()
    second = order[1:][repeats]
    np.minimum.at(ends, rows[second], second)
    kept = np.arange(len(ids)) < ends[rows]
    return np.concatenate([[0], np.cumsum(ends - offsets[:-1])]).astype(np.int64), ids[kept]


def _tpot(
    first_s: NDArray[np.float64], finish_s: NDArray[np.float64], output_tokens: NDArray[np.int64]
) -> NDArray[np.float64]:
    gaps = output_tokens - 1
    return np.where(gaps > 0, (finish_s - first_s) / np.maximum(gaps, 1), np.nan)


def _energy(model: StepModel, busy_s: float, whole_s: float) -> float | None:
    if model.power_idle_watts is None or model.power_busy_watts is None:
        return None
    return model.power_busy_watts * busy_s + model.power_idle_watts * max(whole_s - busy_s, 0.0)
