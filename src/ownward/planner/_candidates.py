"""Where a workload could be served: models on machines one would own, and API models one would rent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from ownward.anatomy import Anatomy
from ownward.catalog import Machine
from ownward.core import MissesSlo, NoCapacity
from ownward.economics import ApiOption, Assumption, Capacity, OwnedOption, assume
from ownward.perf import Deployment, StepModel, deploy
from ownward.pricing import Price
from ownward.simulation import Scheduler, Slo, simulate, smallest_fleet
from ownward.traffic import Trace

_LARGEST_BATCH = 256
# Batches differ more from a single stream than the fitted band of one tells: a third either way at least. Assumed.
_LEAST_BAND = 0.3
_PROMPT_CHUNK_TOKENS = 2048
_LEAST_CHUNK_TOKENS = 64
# Of the time a token may take, what a step that also reads a prompt may use.
_STEP_FRACTION = 0.8
_MOST_REPLICAS = 64
# What a machine draws while it waits, as a share of its stated power: a default to be measured.
_IDLE_FRACTION = 0.15
# A card needs a host: processor, board, memory, case, power supply. Defaults to be replaced by a quote.
_HOST_FRACTION = 0.35
_LEAST_HOST_USD = 800.0
_SELLS_TWELVE_HOURS = "openai"  # where other providers' longer writes are kept for one


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedCandidate:
    """A model in a weight format under an engine on `machines_count` devices that make one replica."""

    tier: str
    anatomy: Anatomy
    machine: Machine
    machines_count: int = 1
    engine: str
    weights: str
    price_usd: Assumption | None = None
    watts: Assumption | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RentedCandidate:
    """An API model at a price."""

    tier: str
    price: Price
    region: str | None = None

    def as_option(self, trace: Trace, *, served_by: str | None = None) -> ApiOption:
        """Return what economics compares; a price with steps depends on the trace's lengths.

        What a log of the provider `served_by` wrote to a cache for an hour asks OpenAI for no twelve, nor the reverse.
        """
        price = self.price
        if served_by is not None and (served_by == _SELLS_TWELVE_HOURS) != (price.provider == _SELLS_TWELVE_HOURS):
            steps = tuple(replace(step, cache_write_1h_usd_per_mtok=None) for step in price.steps)
            price = replace(price, cache_write_1h_usd_per_mtok=None, steps=steps)
        return ApiOption.from_price(price, trace, name=self.tier)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """How a candidate serves a workload at its service level: speeds, replicas and how busy they are."""

    option: OwnedOption
    replicas: int
    batch: int
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
    batch = _largest_batch(deployment, context, slo, usable)
    if batch == 0:
        return "tpot: one sequence alone is slower than the service level"
    try:
        step_model = deployment.compute_step_model(sequences=batch, context_tokens=context)
        scheduler = Scheduler(max_batch=batch, token_budget=_token_budget(step_model, batch, slo))
        fleet = smallest_fleet(
            trace,
            step_model,
            scheduler,
            slo,
            redundancy=0,
            max_replicas=_MOST_REPLICAS,
            recorded_reuse_fraction=cache_reuse_fraction,
        )
    except MissesSlo as error:
        return f"service level: {error.message}"
    except NoCapacity as error:
        return error.message
    option = _option(candidate, deployment, batch=batch, context=context, at=at)
    replicas, found = fleet.replicas, fleet.simulation
    if (least := _replicas_for_the_mean(option, trace, cache_reuse_fraction)) > replicas:
        replicas = least
        found = simulate(
            trace, step_model, scheduler, slo=slo, replicas=least, recorded_reuse_fraction=cache_reuse_fraction
        )
    return Sizing(
        option=replace(option, machines=replicas),
        replicas=replicas,
        batch=batch,
        utilisation_fraction=found.utilisation_fraction,
        ttft_p95_s=found.ttft_s.p95 if found.ttft_s else None,
        tpot_p95_s=found.tpot_s.p95 if found.tpot_s else None,
    )


def _replicas_for_the_mean(option: OwnedOption, trace: Trace, cache_reuse_fraction: float) -> int:
    """Return how many keep up with the traffic for ever: a trace that ends soon hides a queue that only grows."""
    duration_s = float(trace.arrival_s[-1] - trace.arrival_s[0])
    if duration_s <= 0:
        return 1
    computed = float(trace.input_tokens.sum()) - cache_reuse_fraction * float(trace.cached_input_tokens.sum())
    work_s = (
        computed / option.capacity.prefill_tokens_per_s.value.value
        + float(trace.output_tokens.sum()) / option.capacity.decode_tokens_per_s.value.value
    )
    return math.ceil(work_s / duration_s)


def _largest_batch(deployment: Deployment, context: int, slo: Slo, usable: int | None) -> int:
    """Return the largest power of two of sequences that memory holds and that keep the time a token; 0 for none."""
    best = 0
    batch = 1
    while batch <= _LARGEST_BATCH:
        memory = deployment.compute_memory(concurrency=batch, context_tokens=context).total
        step_s = deployment.compute_decode_step_s(sequences=batch, context_tokens=context)
        if (usable is not None and memory > usable) or (slo.tpot_s is not None and step_s > slo.tpot_s):
            break
        best, batch = batch, batch * 2
    return best


def _token_budget(step_model: StepModel, batch: int, slo: Slo) -> int:
    """Return the largest prompt chunk whose step still keeps the time a token, as one would tune an engine."""
    if slo.tpot_s is None or step_model.per_prefill_token_s <= 0:
        return max(_PROMPT_CHUNK_TOKENS, batch)
    fitting = (_STEP_FRACTION * slo.tpot_s - step_model.fixed_s) / step_model.per_prefill_token_s
    return max(min(int(fitting), _PROMPT_CHUNK_TOKENS), _LEAST_CHUNK_TOKENS, batch)


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
        idle_watts=_watts(candidate, at, fraction=_IDLE_FRACTION),
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


# Where a provider's API answers, in which dialect, and which variable usually holds its key.
PROVIDERS: Mapping[str, tuple[str, str, str]] = {
    "openai": ("https://api.openai.com/v1", "openai", "OPENAI_API_KEY"),
    "anthropic": ("https://api.anthropic.com", "anthropic", "ANTHROPIC_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "openai", "DEEPSEEK_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1", "openai", "MISTRAL_API_KEY"),
    "google": ("https://generativelanguage.googleapis.com/v1beta/openai", "openai", "GEMINI_API_KEY"),
    "xai": ("https://api.x.ai/v1", "openai", "XAI_API_KEY"),
    "groq": ("https://api.groq.com/openai/v1", "openai", "GROQ_API_KEY"),
    "together": ("https://api.together.xyz/v1", "openai", "TOGETHER_API_KEY"),
    "fireworks": ("https://api.fireworks.ai/inference/v1", "openai", "FIREWORKS_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1", "openai", "OPENROUTER_API_KEY"),
}


def marginal_and_loaded(
    candidate: OwnedCandidate,
    *,
    marginal: tuple[Decimal | None, Decimal | None],
    loaded: tuple[Decimal | None, Decimal | None],
    at: date,
) -> tuple[Price | None, Price | None]:
    """Return an owned tier's two price rows (input, output USD per Mtok); None where a cost is unknown."""

    def row(pair: tuple[Decimal | None, Decimal | None], what: str) -> Price | None:
        if pair[0] is None or pair[1] is None:
            return None
        return Price(
            provider="owned",
            model=candidate.anatomy.name,
            input_usd_per_mtok=pair[0],
            output_usd_per_mtok=pair[1],
            cached_input_usd_per_mtok=Decimal(0),
            cache_write_usd_per_mtok=None,
            valid_from=at,
            valid_to=None,
            basis="fitted",
            source=f"{what} on {candidate.machine.name}, computed by ownward plan",
            checked_on=at,
        )

    return row(marginal, "energy only"), row(loaded, "fully loaded")
