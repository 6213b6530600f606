"""Does a model run on a machine: every weight format tried, memory laid out, speed and cost predicted, best first."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from ownward.anatomy import Anatomy
from ownward.catalog import Machine
from ownward.core import Basis
from ownward.economics import Assumptions
from ownward.perf import (
    Case,
    Coefficients,
    Deployment,
    Memory,
    Prediction,
    deploy,
    predict_deployed,
    predict_streamed,
)
from ownward.planner._fit_cost import TokenCosts
from ownward.planner._placement import (
    Host,
    Split,
    find_split,
    longest_context,
    name_placement,
)
from ownward.planner._priced import without_foreign_price
from ownward.planner._variants import StoredAs, Variant, stored_as_of, variant_of, variants_of

# Above this width nobody has shown a loss; below it each step down costs some.
WIDE_ENOUGH_BITS = 6.5
# Wider weights are not worth a second, slower memory.
_NEEDLESSLY_WIDE_BITS = 7.0
# Four-bit formats with their scales: narrower weights lose much.
SENSIBLE_BITS = 4.4
# Below this a person waits for words: such an option ranks after faster, narrower ones.
READING_TOKENS_PER_S = 8.0
PROMPT_TOKENS = 2048
"""A typical prompt, whose first token is predicted."""
ANSWER_TOKENS = 128
"""The answer to it."""
_MOST_DOUBLINGS = 99
_TOO_OLD_FOR_VLLM = re.compile(r"\b(K80|M40|M60|P4|P40|P100|V100|T4|MI25|MI50|MI60|GTX \d+|RTX 20\d+)\b")
# Prompts are read in larger pieces where experts come from the host's memory: each piece brings most of them once.
_WIDE_CHUNK_TOKENS = 2048
# The nearest cache type of an engine that lacks the one asked for.
_KV_TYPES = {
    "llama.cpp": {"fp8": "q8_0"},
    "vllm": {"q8_0": "fp8", "q4_0": "fp8"},
}
# What another setting than the engine's default has to gain, and the most that it may lose elsewhere.
_WORTH_FACTOR = 1.1
_LOSS_FACTOR = 0.97


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConditions:
    """What options are worked out for: the machine with the host behind it, the load, and what is assumed."""

    machine: Machine
    machines_count: int = 1
    host: Host | None = None
    context_tokens: int = 8192
    concurrency: int = 1
    kv_type: str = "bf16"
    coefficients: Coefficients | None = None
    assumptions: Assumptions | None = None
    at: date

    def as_keywords(self) -> dict[str, Any]:
        """Return them as keywords of `fit`."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOption:
    """One way to run a model here. Speeds are for `concurrency` sequences at `context_tokens`, costs in USD.

    `usd_per_mtok_marginal` is energy alone; `usd_per_mtok_loaded` adds the machine's price, capital and upkeep
    (nobody's hours) at 30% utilisation. Both are for output tokens; None where power, price or speed is not known.
    `fits` is None where the machine's memory is not known. What does not fit has no speed. `max_concurrency` is how
    many sequences of `context_tokens` memory holds at a time. `attention_data_parallel`: each device computes the
    attention of sequences of its own and keeps their caches alone, while experts are divided among all.
    """

    model: str
    variant: str
    engine: str
    placement: str
    machines_count: int
    fits: bool | None
    missing_bytes: int | None
    memory: Memory
    usable_bytes: int | None
    max_context_tokens: int | None
    max_concurrency: int | None
    context_tokens: int
    concurrency: int
    prompt_tokens: int
    prefill_tokens_per_s: Prediction
    decode_tokens_per_s: Prediction
    ttft_ms: Prediction
    kv_type: str
    layer_count: int
    layers_on_host: int
    is_split_by_expert: bool
    tensor_parallel: int
    pipeline_parallel: int
    attention_data_parallel: bool
    usd_per_mtok_marginal: Decimal | None
    usd_per_mtok_loaded: Decimal | None
    input_usd_per_mtok_marginal: Decimal | None
    input_usd_per_mtok_loaded: Decimal | None
    basis: Basis | None
    unknown: tuple[str, ...]
    bits: float
    deployment: Deployment = field(repr=False)
    split: Split | None = field(repr=False)
    conditions: FitConditions = field(repr=False)

    @property
    def free_bytes(self) -> int | None:
        """What the option leaves of the device's memory; None where that is not known."""
        if self.usable_bytes is None:
            return None
        return max(self.usable_bytes - self.memory.total, 0)

    @property
    def prefill_chunk_tokens(self) -> int:
        """How many tokens of a prompt the engine reads at a time, in the prediction and so in the command."""
        return self.deployment.chunk_tokens


def fit(
    anatomies: Sequence[Anatomy],
    *,
    machine: Machine,
    machines_count: int = 1,
    engine: str | None = None,
    formats: Sequence[str] = (),
    context_tokens: int = 8192,
    concurrency: int = 1,
    kv_type: str = "bf16",
    host: Host | None = None,
    coefficients: Coefficients | None = None,
    assumptions: Assumptions | None = None,
    merits: Mapping[str, float] | None = None,
    stored_as: Mapping[str, StoredAs] | None = None,
    at: date,
) -> list[FitOption]:
    """Return every option of `anatomies` on the machine, best first: what fits, then quality, then speed.

    What a card's memory does not hold may lie in that of its `host`, under llama.cpp. `coefficients` replace the
    shipped ones. `merits` by name keep the best option of each model and rank models: those fast enough to read
    along first, then by merit, less where only narrow weights fit. `stored_as` names those of the models that are
    files one has: they are served as they are stored, by an engine that reads them.

    Formats are those of the engine unless given. What does not fit says how much is missing.
    """
    machine = without_foreign_price(machine)
    conditions = FitConditions(
        machine=machine,
        machines_count=machines_count,
        host=host,
        context_tokens=context_tokens,
        concurrency=concurrency,
        kv_type=kv_type,
        coefficients=coefficients,
        assumptions=assumptions,
        at=at,
    )
    costs = TokenCosts(machine, machines_count, assumptions, at=at)
    options = [
        option
        for anatomy in anatomies
        for option in _options(
            anatomy, conditions, costs, engine=engine, formats=formats, stored_as=(stored_as or {}).get(anatomy.name)
        )
    ]
    options.sort(key=rank)
    if merits is None:
        return options
    best: dict[str, FitOption] = {}
    for option in options:
        best.setdefault(option.model, option)
    return sorted(best.values(), key=lambda option: (*rank(option)[:2], -worth_of(option, merits), option.model))


def worth_of(option: FitOption, merits: Mapping[str, float]) -> float:
    """Return a model's merit as far as the width of its weights leaves it: each bit below 4.4 halves it.

    A rule of thumb: four-bit files are hardly told from the release, two-bit files are.
    """
    return merits.get(option.model, 0.0) * min(1.0, math.exp2(option.bits - SENSIBLE_BITS))


def default_engine(machine: Machine, stored_as: StoredAs | None = None) -> str:
    """Return the engine one would choose for a kind of device, and for a file where it decides.

    vLLM in a data centre and for quantised checkpoints on a card, llama.cpp elsewhere and on chips too old for vLLM's
    kernels (NVIDIA before Ampere, AMD before CDNA).
    """
    is_old = _TOO_OLD_FOR_VLLM.search(machine.name) is not None
    if stored_as == "gguf" or is_old:
        return "llama.cpp"
    if stored_as == "checkpoint" and machine.kind.startswith("gpu-"):
        return "vllm"
    return "vllm" if machine.kind == "gpu-datacenter" else "llama.cpp"


def at_load(
    option: FitOption, *, context_tokens: int, concurrency: int, prompt_tokens: int | None = None
) -> FitOption | None:
    """Return the option at another load, its weights placed anew; None where that cannot be said."""
    conditions = replace(option.conditions, context_tokens=context_tokens, concurrency=concurrency)
    return _option(
        option.deployment.anatomy,
        Variant(option.deployment.weights, option.variant, option.bits),
        conditions,
        TokenCosts(conditions.machine, conditions.machines_count, conditions.assumptions, at=conditions.at),
        engine=option.engine,
        prompt_tokens=prompt_tokens,
        chunk_tokens=option.deployment.stated_chunk_tokens,
        attention_data_parallel=option.attention_data_parallel,
    )


def rank(option: FitOption) -> tuple[int, int, int, float, float, str]:
    """Return the sort key of an option: what fits, is fast enough to read along, loses least, and is fastest.

    Weights that are wider than any loss shows, and lie in a second memory for it, come after those that are not.
    """
    bits = min(option.bits, WIDE_ENOUGH_BITS)
    speed = option.decode_tokens_per_s.value or 0.0
    place = {True: 0, None: 1, False: 2}[option.fits]
    if option.fits is False:  # what does not fit is listed from the least that is missing
        return place, 0, 0, float(option.missing_bytes or 0), -speed, option.variant
    # Of what is too slow to read along, twice the speed goes before more bits.
    doublings = math.floor(math.log2(READING_TOKENS_PER_S / speed)) if speed > 0 else _MOST_DOUBLINGS
    is_slow = 0 if speed >= READING_TOKENS_PER_S else 1 + doublings
    is_needless = 1 if option.split is not None and option.bits > _NEEDLESSLY_WIDE_BITS else 0
    return place, is_slow, is_needless, -bits, -speed, option.variant


def _options(
    anatomy: Anatomy,
    conditions: FitConditions,
    costs: TokenCosts,
    *,
    engine: str | None,
    formats: Sequence[str],
    stored_as: StoredAs | None,
) -> list[FitOption]:
    stored = stored_as if stored_as == "gguf" or anatomy.recipe is not None else None
    tried: list[tuple[str, Variant]]
    if formats:
        tried = [
            (
                engine or default_engine(conditions.machine, stored or stored_as_of(weights)),
                variant_of(anatomy, weights, conditions.machine),
            )
            for weights in formats
        ]
    else:
        name = engine or default_engine(conditions.machine, stored)
        usual = variants_of(anatomy, engine=name, machine=conditions.machine, stored_as=stored_as)
        tried = [(name, variant) for variant in usual]
    context = min(conditions.context_tokens, anatomy.max_context_tokens or conditions.context_tokens)
    found = [
        _best_arranged(
            anatomy,
            variant,
            replace(
                conditions,
                context_tokens=context,
                kv_type=_KV_TYPES.get(name, {}).get(conditions.kv_type, conditions.kv_type),
            ),
            costs,
            engine=name,
        )
        for name, variant in tried
    ]
    return [option for option in found if option is not None]


def _best_arranged(
    anatomy: Anatomy, variant: Variant, conditions: FitConditions, costs: TokenCosts, *, engine: str
) -> FitOption | None:
    """Return the option as the engine runs it by default, or with another setting where that gains much.

    Prompts are read in wider chunks where experts come from the host's memory. Attention is data parallel where the
    devices would otherwise keep a cache more than once, and there are sequences for all of them.
    """
    usual = _option(anatomy, variant, conditions, costs, engine=engine)
    if usual is not None and _keeps_twice(usual.deployment) and conditions.concurrency >= conditions.machines_count:
        parallel = _option(anatomy, variant, conditions, costs, engine=engine, attention_data_parallel=True)
        return parallel if parallel is not None and _is_worth(parallel, usual) else usual
    if usual is None or usual.split is None or not anatomy.experts or conditions.machine.is_whole_computer:
        return usual
    wide = _option(anatomy, variant, conditions, costs, engine=engine, chunk_tokens=_WIDE_CHUNK_TOKENS)
    if wide is None or not wide.fits or usual.prefill_chunk_tokens >= _WIDE_CHUNK_TOKENS:
        return usual
    reads = (wide.prefill_tokens_per_s.value or 0.0) > _WORTH_FACTOR * (usual.prefill_tokens_per_s.value or 0.0)
    writes = (wide.decode_tokens_per_s.value or 0.0) >= _LOSS_FACTOR * (usual.decode_tokens_per_s.value or 0.0)
    return wide if reads and writes else usual


def _keeps_twice(deployment: Deployment) -> bool:
    return deployment.cache_copies > 1 and (deployment.is_latent or bool(deployment.anatomy.experts))


def _is_worth(parallel: FitOption, usual: FitOption) -> bool:
    """Return whether data-parallel attention holds what did not fit, or is much faster for each sequence."""
    if not parallel.fits or not usual.fits:
        return bool(parallel.fits)
    return (parallel.decode_tokens_per_s.value or 0.0) > _WORTH_FACTOR * (usual.decode_tokens_per_s.value or 0.0)


def _option(
    anatomy: Anatomy,
    variant: Variant,
    conditions: FitConditions,
    costs: TokenCosts,
    *,
    engine: str,
    prompt_tokens: int | None = None,
    chunk_tokens: int | None = None,
    attention_data_parallel: bool = False,
) -> FitOption | None:
    machine, count = conditions.machine, conditions.machines_count
    context, concurrency = conditions.context_tokens, conditions.concurrency
    plain = _deploy(anatomy, variant, conditions, engine=engine, attention_data_parallel=attention_data_parallel)
    if plain is None:
        return None
    if chunk_tokens is not None:
        plain = replace(plain, stated_chunk_tokens=chunk_tokens)
    memory = plain.compute_memory(concurrency=concurrency, context_tokens=context)
    usable = plain.usable_bytes
    missing = None if usable is None else max(memory.total - usable, 0)
    split = find_split(plain, memory, missing or 0, conditions.host)
    deployment, disk = plain, None
    if split is not None:
        missing = 0
        if machine.is_whole_computer:
            disk = split.disk
        else:
            deployment = replace(
                plain,
                offloaded_fraction=split.missed_fraction,
                offload_bytes_per_s=split.bytes_per_s,
                basis="assumed",
            )
    elsewhere = 0 if split is None else split.room_bytes
    prompt = min(PROMPT_TOKENS if prompt_tokens is None else prompt_tokens, context)

    def ask(metric: Literal["prefill_tok_s", "decode_tok_s_per_user", "ttft_ms"]) -> Prediction:
        if missing:
            return _unanswered(metric, "it does not fit in this memory", memory.total)
        tokens = prompt if metric == "ttft_ms" else min(PROMPT_TOKENS, context)
        in_memory = _predict(deployment, metric, conditions=conditions, prompt_tokens=tokens)
        if disk is None or usable is None:
            return in_memory
        return predict_streamed(
            in_memory,
            deployment,
            weights_memory_bytes=usable - (memory.total - memory.weights),
            disk=disk,
            metric=metric,
            sequences=concurrency,
            prompt_tokens=tokens,
        )

    prefill, decode, ttft = ask("prefill_tok_s"), ask("decode_tok_s_per_user"), ask("ttft_ms")
    output = costs.at(None if decode.value is None else decode.value * concurrency)
    reading = costs.at(prefill.value)
    return FitOption(
        model=anatomy.name,
        variant=variant.label,
        engine=engine,
        placement=_place(machine, count, split, attention_data_parallel=deployment.attention_data_parallel),
        machines_count=count,
        fits=None if missing is None else missing == 0,
        missing_bytes=missing,
        memory=memory,
        usable_bytes=usable,
        max_context_tokens=longest_context(plain, concurrency=concurrency, elsewhere=elsewhere),
        max_concurrency=plain.most_sequences(context, elsewhere_bytes=elsewhere),
        context_tokens=context,
        concurrency=concurrency,
        prompt_tokens=prompt,
        prefill_tokens_per_s=prefill,
        decode_tokens_per_s=decode,
        ttft_ms=ttft,
        kv_type=deployment.kv_type,
        layer_count=anatomy.layer_count,
        layers_on_host=0 if split is None else split.layers,
        is_split_by_expert=split is not None and bool(anatomy.experts),
        tensor_parallel=deployment.tensor_parallel,
        pipeline_parallel=deployment.pipeline_parallel,
        attention_data_parallel=deployment.attention_data_parallel,
        usd_per_mtok_marginal=output.marginal_usd,
        usd_per_mtok_loaded=output.loaded_usd,
        input_usd_per_mtok_marginal=reading.marginal_usd,
        input_usd_per_mtok_loaded=reading.loaded_usd,
        basis=decode.basis or deployment.basis,
        unknown=_unknown(machine),
        bits=variant.bits,
        deployment=deployment,
        split=split,
        conditions=conditions,
    )


def _deploy(
    anatomy: Anatomy, variant: Variant, conditions: FitConditions, *, engine: str, attention_data_parallel: bool
) -> Deployment | None:
    """Return the model on all devices of the machine; None where nothing can be said."""
    deployment = deploy(
        anatomy,
        machine=conditions.machine,
        machines_count=conditions.machines_count,
        engine=engine,
        weights=variant.weights,
        kv_type=conditions.kv_type,
        coefficients=conditions.coefficients,
        attention_data_parallel=attention_data_parallel,
    )
    return None if isinstance(deployment, str) else deployment


def _place(machine: Machine, count: int, split: Split | None, *, attention_data_parallel: bool) -> str:
    where = name_placement(machine, count) if split is None else split.placement
    return f"{where}, each with sequences of its own" if attention_data_parallel else where


def _unknown(machine: Machine) -> tuple[str, ...]:
    """Return what is not known of a machine and so of every option on it, in a reader's words."""
    asked_for = (
        ("driver-visible memory", machine.usable_memory is None),
        ("power draw, so energy cost", machine.tdp_watts is None),
        ("machine price", machine.price_usd is None),
    )
    return tuple(what for what, is_missing in asked_for if is_missing)


def _predict(
    deployment: Deployment,
    metric: str,
    *,
    conditions: FitConditions,
    prompt_tokens: int,
) -> Prediction:
    """Return one metric of a deployment as it is placed, with the band of its class."""
    is_decode = metric.startswith("decode")
    case = Case(
        id=metric,
        anatomy=deployment.anatomy,
        machine=deployment.machine,
        machines_count=deployment.machines_count,
        engine=deployment.engine,
        weights=deployment.weights,
        kv_type=deployment.kv_type,
        concurrency=conditions.concurrency,
        input_tokens=prompt_tokens,
        output_tokens=ANSWER_TOKENS,
        context_depth=max(conditions.context_tokens - prompt_tokens - ANSWER_TOKENS, 0) if is_decode else 0,
        metric=metric,
    )
    return predict_deployed(case, deployment, conditions.coefficients)


def _unanswered(metric: str, reason: str, memory_bytes: int) -> Prediction:
    return Prediction(
        id=metric,
        value=None,
        low80=None,
        high80=None,
        basis=None,
        class_="refused",
        memory_bytes=memory_bytes,
        fits=False,
        refused=reason,
    )
