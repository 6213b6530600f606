"""How many machines hold a workload's service level, how much of them it takes up, and what they cost and draw."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from ownward.catalog import Machine
from ownward.core import MissesSlo, NoCapacity
from ownward.economics import Assumption, Capacity, OwnedOption, assume
from ownward.perf import Deployment, StepModel, deploy
from ownward.planner._candidates import OwnedCandidate
from ownward.simulation import Fleet, Scheduler, Simulation, Slo, simulate, smallest_fleet
from ownward.traffic import Trace

_LARGEST_BATCH = 256
# Batches differ more from a single stream than the fitted band of one tells: a third either way at least. Assumed.
_LEAST_BAND = 0.3
_PROMPT_CHUNK_TOKENS = 2048
_LEAST_CHUNK_TOKENS = 64
# Of the time a token may take, what a step that also reads a prompt may use.
_STEP_FRACTION = 0.8
_MOST_REPLICAS = 64
# How much more traffic a fleet holds is found to this, on the busiest so many requests.
_CLOSE_ENOUGH = 1.05
_BUSIEST = 20_000
IDLE_FRACTION = 0.15
"""What a machine draws while it waits, as a share of its stated power: a default to be measured."""
# A card needs a host: processor, board, memory, case, power supply. Defaults to be replaced by a quote.
_HOST_FRACTION = 0.35
_LEAST_HOST_USD = 800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """How a candidate serves a workload at its service level: speeds, replicas, and the engine's limits that do it."""

    deployment: Deployment
    longest_tokens: int
    option: OwnedOption
    replicas: int
    scheduler: Scheduler
    utilisation_fraction: float | None
    ttft_p95_s: float | None
    tpot_p95_s: float | None


def size_fleet(
    candidate: OwnedCandidate, trace: Trace, slo: Slo, *, at: date, cache_reuse_fraction: float = 0.0
) -> Sizing | str:
    """Return how many replicas of `candidate` hold `slo` on `trace`, or the constraint that binds.

    `cache_reuse_fraction` of the input that the trace calls cached is taken as cached here too.
    """
    deployment = deploy(
        candidate.anatomy,
        machine=candidate.machine,
        machines_count=candidate.machines_count,
        engine=candidate.engine,
        weights=candidate.weights,
    )
    if isinstance(deployment, str):
        return deployment
    if candidate.price_usd is None and candidate.machine.price_usd is None:
        return f"the price of {candidate.machine.name} is not known"
    context = int(float((trace.input_tokens + trace.output_tokens).mean()))
    longest = int((trace.input_tokens + trace.output_tokens).max())
    allowed = candidate.anatomy.max_context_tokens
    if allowed is not None and longest > allowed:
        return f"context: the longest request takes {longest:,} tokens, and the model {allowed:,}"
    usable = deployment.usable_bytes
    if usable is not None and deployment.compute_memory(concurrency=1, context_tokens=longest).total > usable:
        return "memory: the weights and one longest request do not fit"
    batch = _largest_batch(deployment, context, slo, usable, longest=longest)
    if batch == 0:
        return "tpot: one sequence alone is slower than the service level"
    option = _option(candidate, deployment, batch=batch, context=context, at=at)
    try:
        step_model = deployment.compute_step_model(context_tokens=context)
        scheduler, fleet = _fewest(trace, step_model, batch, slo, cache_reuse_fraction)
    except MissesSlo as error:
        return f"service level: {error.message}"
    except NoCapacity as error:
        return error.message

    def replay(traffic: Trace, replicas: int) -> Simulation:
        return simulate(
            traffic, step_model, scheduler, slo=slo, replicas=replicas, recorded_reuse_fraction=cache_reuse_fraction
        )

    def speeds(traffic: Trace, run: Simulation) -> Capacity:
        return _speeds(option.capacity, run, traffic, cache_reuse_fraction)

    replicas, found = fleet.replicas, fleet.simulation
    needed = _machines_for_the_mean(option, trace, cache_reuse_fraction)
    capacity = option.capacity
    if needed > replicas:
        replicas = math.ceil(needed)
        found = replay(trace, replicas)
    else:
        share, fullest, run = _fill(trace, found, least_needed=needed, replay=replay)
        needed, capacity = replicas * share, speeds(fullest, run)
    return Sizing(
        deployment=deployment,
        longest_tokens=longest,
        option=replace(
            option, capacity=capacity, running=speeds(trace, found), machines=replicas, machines_needed=needed
        ),
        replicas=replicas,
        scheduler=scheduler,
        utilisation_fraction=found.utilisation_fraction,
        ttft_p95_s=found.ttft_s.p95 if found.ttft_s else None,
        tpot_p95_s=found.tpot_s.p95 if found.tpot_s else None,
    )


def _fewest(
    trace: Trace, step_model: StepModel, batch: int, slo: Slo, cache_reuse_fraction: float
) -> tuple[Scheduler, Fleet]:
    """Return the smallest fleet that holds the service level, and the engine's limits with which it does.

    Two budgets of a step are tried: what keeps each step within the time a token, and an engine's usual one. Where
    hardly a prompt fits beside full steps, it is better read at once: an answer's mean bears a slow step among many.
    Raises: MissesSlo, if neither does.
    """
    found: tuple[Scheduler, Fleet] | None = None
    missed: MissesSlo | None = None
    for budget in dict.fromkeys((_token_budget(step_model, batch, slo), max(_PROMPT_CHUNK_TOKENS, batch))):
        scheduler = Scheduler(max_batch=batch, token_budget=budget)
        most = _MOST_REPLICAS if found is None else found[1].replicas - 1
        if most < 1:
            break
        try:
            fleet = smallest_fleet(
                trace,
                step_model,
                scheduler,
                slo,
                redundancy=0,
                max_replicas=most,
                recorded_reuse_fraction=cache_reuse_fraction,
            )
        except MissesSlo as error:
            missed = missed or error
        else:
            found = scheduler, fleet
    if found is None:
        assert missed is not None
        raise missed
    return found


def _fill(
    trace: Trace, found: Simulation, *, least_needed: float, replay: Callable[[Trace, int], Simulation]
) -> tuple[float, Trace, Simulation]:
    """Return how much of what a run's machines hold the trace is, and the trace that fills them with its run.

    They are filled by the same requests closer together, the busiest ones of a long trace; but never so close that one
    machine less would do for the trace, or that more comes for ever than they put out.
    """
    count = found.replicas
    low, high = 1.0, count / max(least_needed, count - 1, 1e-9)
    busiest, fullest, run = _busiest(trace), trace, found
    while high > low * _CLOSE_ENOUGH:
        middle = math.sqrt(low * high)
        closer = replace(busiest, arrival_s=busiest.arrival_s / middle)
        tried = replay(closer, count)
        if tried.goodput is not None and tried.goodput.is_met:
            low, fullest, run = middle, closer, tried
        else:
            high = middle
    return 1 / low, fullest, run


def _busiest(trace: Trace) -> Trace:
    """Return the requests in a row that came in the shortest time, as many as there are or are enough."""
    if len(trace) <= _BUSIEST:
        return trace
    start = int((trace.arrival_s[_BUSIEST:] - trace.arrival_s[:-_BUSIEST]).argmin())
    return trace.take(np.arange(start, start + _BUSIEST))


def _speeds(capacity: Capacity, found: Simulation, trace: Trace, cache_reuse_fraction: float) -> Capacity:
    """Return the tokens a second of the time in which the machines of a run worked, for prompts and answers apart.

    A run's batches are those at which as many sequences finish as arrive (Little 1961): few where traffic is thin, and
    each of them then pays for weights that a full batch would share. What prompts add to steps that decode is
    theirs, the rest is the answers'. Machines that a short burst keeps busy past its end would, with more of it
    to come, decode more at a time: their time is no more than lasts from its first request to its last.
    """
    duration_s = _duration_s(trace)
    most_s = duration_s * found.replicas
    share = min(most_s / found.busy_s, 1.0) if most_s > 0 and found.busy_s > 0 else 1.0

    def rate(tokens: float, seconds: float, alone: Assumption) -> Assumption:
        if tokens <= 0 or seconds <= 0:
            return alone
        factor = tokens / seconds / alone.value.value
        assert alone.low80 is not None
        assert alone.high80 is not None
        return replace(
            alone,
            value=replace(alone.value, value=tokens / seconds),
            low80=alone.low80 * factor,
            high80=alone.high80 * factor,
        )

    return Capacity(
        prefill_tokens_per_s=rate(
            _computed_tokens(trace, cache_reuse_fraction), share * found.prefill_s, capacity.prefill_tokens_per_s
        ),
        decode_tokens_per_s=rate(
            float(trace.output_tokens.sum()), share * (found.busy_s - found.prefill_s), capacity.decode_tokens_per_s
        ),
    )


def _computed_tokens(trace: Trace, cache_reuse_fraction: float) -> float:
    """Return the input tokens that no cache has."""
    return float(trace.input_tokens.sum()) - cache_reuse_fraction * float(trace.cached_input_tokens.sum())


def _duration_s(trace: Trace) -> float:
    return float(trace.arrival_s[-1] - trace.arrival_s[0])


def _machines_for_the_mean(option: OwnedOption, trace: Trace, cache_reuse_fraction: float) -> float:
    """Return how many keep up with the traffic for ever: a trace that ends soon hides a queue that only grows."""
    duration_s = _duration_s(trace)
    if duration_s <= 0:
        return 1.0
    work_s = (
        _computed_tokens(trace, cache_reuse_fraction) / option.capacity.prefill_tokens_per_s.value.value
        + float(trace.output_tokens.sum()) / option.capacity.decode_tokens_per_s.value.value
    )
    return work_s / duration_s


def _largest_batch(deployment: Deployment, context: int, slo: Slo, usable: int | None, *, longest: int) -> int:
    """Return the largest power of two of sequences that memory holds and that keep the time a token; 0 for none.

    Each slot of llama.cpp has room of its own, which the longest request needs; other engines share theirs.
    """
    best = 0
    batch = 1
    held = longest if deployment.is_llama_like else context
    while batch <= _LARGEST_BATCH:
        memory = deployment.compute_memory(concurrency=batch, context_tokens=held).total
        step_s = deployment.compute_decode_step_s(sequences=batch, context_tokens=context)
        if (usable is not None and memory > usable) or (slo.tpot_s is not None and step_s > slo.tpot_s):
            break
        best, batch = batch, batch * 2
    return best


def _token_budget(step_model: StepModel, batch: int, slo: Slo) -> int:
    """Return the most tokens a step may compute and still keep the time a token, as one would tune an engine."""
    most = max(_PROMPT_CHUNK_TOKENS, batch)
    if slo.tpot_s is None:
        return most
    least, limit_s = max(_LEAST_CHUNK_TOKENS, batch), _STEP_FRACTION * slo.tpot_s

    def is_late(tokens: int) -> bool:
        taken_s = step_model.compute_step_s(
            prefill_tokens=tokens - batch, prefill_token_contexts=0, decode_sequences=batch, decode_context_tokens=0
        )
        return taken_s > limit_s

    return least + max(bisect_left(range(least, most + 1), x=True, key=is_late) - 1, 0)


def _option(candidate: OwnedCandidate, deployment: Deployment, *, batch: int, context: int, at: date) -> OwnedOption:
    machine, count = candidate.machine, candidate.machines_count
    efficiency = deployment.efficiency
    low, high = efficiency.decode_band
    decode = batch / deployment.compute_decode_step_s(sequences=batch, context_tokens=context)
    prefill = _PROMPT_CHUNK_TOKENS / deployment.compute_prefill_s(tokens=_PROMPT_CHUNK_TOKENS)

    def speed(value: float, band: tuple[float, float]) -> Assumption:
        return assume(
            value,
            f"predicted: {efficiency.source}",
            checked_on=at,
            basis=deployment.basis,
            low80=value * math.exp(band[0]),
            high80=value * math.exp(band[1]),
        )

    return OwnedOption(
        name=candidate.tier,
        capex_usd=candidate.price_usd or _capex(machine, count, at),
        idle_watts=_watts(candidate, at, fraction=IDLE_FRACTION),
        busy_watts=_watts(candidate, at, fraction=1.0),
        capacity=Capacity(
            prefill_tokens_per_s=speed(prefill, efficiency.prefill_band),
            decode_tokens_per_s=speed(decode, (min(low, -_LEAST_BAND), max(high, _LEAST_BAND))),
        ),
    )


def _capex(machine: Machine, count: int, at: date) -> Assumption:
    assert machine.price_usd is not None  # checked by `size_fleet`
    device = float(machine.price_usd.value) * count
    needs_host = not machine.is_whole_computer
    host = max(_HOST_FRACTION * device, _LEAST_HOST_USD * count) if needs_host else 0.0
    return assume(
        device + host,
        f"{machine.price_usd.source} ({machine.price_kind}, {machine.price_dated})"
        + (f", and {host:,.0f} USD assumed for its share of a host" if needs_host else ""),
        checked_on=at,
        basis="assumed" if needs_host else machine.price_usd.basis,
        low80=0.8 * device + 0.5 * host,
        high80=1.8 * device + 2.0 * host,
        note="street prices moved far from list prices in 2026",
    )


def _watts(candidate: OwnedCandidate, at: date, *, fraction: float) -> Assumption | None:
    if candidate.watts is not None:
        stated = candidate.watts.value
        return assume(stated.value * fraction, stated.source, checked_on=at, basis=stated.basis)
    tdp = candidate.machine.tdp_watts
    if tdp is None:
        return None
    watts = tdp.value * candidate.machines_count * fraction
    source = tdp.source if fraction == 1.0 else f"{fraction:.0%} of {tdp.source}"
    return assume(watts, source, checked_on=at, basis=tdp.basis if fraction == 1.0 else "assumed")
