"""Does a model run on a machine: every weight format tried, memory laid out, speed and cost predicted, best first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from ownward.anatomy import Anatomy
from ownward.catalog import Machine
from ownward.core import Basis
from ownward.economics import Assumptions, Capacity, OwnedOption, Volume, assume, compute_owned_cost
from ownward.perf import (
    HOST_BYTES_PER_S,
    WEIGHT_BITS,
    Case,
    Coefficients,
    Deployment,
    Memory,
    Prediction,
    deploy,
    predict,
)

# What each engine serves, from the widest format to the narrowest.
_FORMATS = {
    "llama.cpp": ("bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q3_k_m", "q2_k"),
    "vllm": ("bf16", "fp8", "int4"),
}
_NARROW_BITS = 6.0
_HOST_SHARE = 0.85
_DISK_SHARE = 0.6
# Above this width nobody has shown a loss; below it each step down costs some.
_WIDE_ENOUGH_BITS = 6.5
# Below this a person waits for words: such an option ranks after faster, narrower ones.
_READING_TOKENS_PER_S = 8.0
_UTILISATION_FRACTION = 0.30
_PROMPT_TOKENS = 2048
_SECONDS_PER_MONTH = 730 * 3600
_ANY_HOST_BYTES_PER_S = 70e9
_MTOK = Decimal(1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What stands behind a device: free memory, how fast it is read (None: as is usual), and the disk's read rate."""

    memory_bytes: int = 0
    bytes_per_s: float | None = None
    disk_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOption:
    """One way to run a model here. Speeds are for `concurrency` sequences at `context_tokens`, costs in USD.

    `usd_per_mtok_marginal` is energy alone; `usd_per_mtok_loaded` adds the machine's price, capital and upkeep
    (nobody's hours) at 30% utilisation. Both are for output tokens; None where power, price or speed is not known.
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
    context_tokens: int
    concurrency: int
    prefill_tokens_per_s: Prediction
    decode_tokens_per_s: Prediction
    ttft_ms: Prediction
    kv_type: str
    layer_count: int
    layers_on_host: int
    is_split_by_expert: bool
    usd_per_mtok_marginal: Decimal | None
    usd_per_mtok_loaded: Decimal | None
    basis: Basis | None
    unknown: tuple[str, ...]


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
    merits: Mapping[str, float] | None = None,
    at: date,
) -> list[FitOption]:
    """Return every option of `anatomies` on the machine, best first: what fits, then quality, then speed.

    What a card's memory does not hold may lie in that of its `host`, under llama.cpp. `coefficients` replace the
    shipped ones. `merits` by name keep the best option of each model and rank models: those fast enough to read
    along first, then by merit.

    Formats are those of the engine unless given. A model that fits nowhere gives its narrowest option with
    what is missing.
    """
    name = engine or default_engine(machine)
    options = [
        option
        for anatomy in anatomies
        for weights in formats or _formats(anatomy, name)
        for option in [
            _option(
                anatomy,
                machine=machine,
                machines_count=machines_count,
                engine=name,
                weights=weights,
                context_tokens=min(context_tokens, anatomy.max_context_tokens or context_tokens),
                concurrency=concurrency,
                kv_type=kv_type,
                host=host,
                coefficients=coefficients,
                at=at,
            )
        ]
        if option is not None
    ]
    options.sort(key=_rank)
    if merits is None:
        return options
    best: dict[str, FitOption] = {}
    for option in options:
        best.setdefault(option.model, option)
    return sorted(best.values(), key=lambda option: (*_rank(option)[:2], -merits.get(option.model, 0.0), option.model))


def _formats(anatomy: Anatomy, engine: str) -> tuple[str, ...]:
    """Return what an engine serves of a model; a release that ships 4-bit weights is served as released."""
    own_bits = 8 * anatomy.weights_bytes() / max(anatomy.checkpoint_params, 1)
    if anatomy.recipe is not None and own_bits < _NARROW_BITS:
        return ("mxfp4",)
    return _FORMATS.get(engine, _FORMATS["llama.cpp"])


def default_engine(machine: Machine) -> str:
    """Return the engine one would choose for a kind of device: vLLM in a data centre, llama.cpp elsewhere."""
    return "vllm" if machine.kind == "gpu-datacenter" else "llama.cpp"


def _option(
    anatomy: Anatomy,
    *,
    machine: Machine,
    machines_count: int,
    engine: str,
    weights: str,
    context_tokens: int,
    concurrency: int,
    kv_type: str,
    host: Host | None,
    coefficients: Coefficients | None,
    at: date,
) -> FitOption | None:
    deployment = deploy(
        anatomy,
        machine=machine,
        machines_count=machines_count,
        engine=engine,
        weights=weights,
        kv_type=kv_type,
        coefficients=coefficients,
    )
    if isinstance(deployment, str):
        return None
    memory = deployment.compute_memory(concurrency=concurrency, context_tokens=context_tokens)
    usable = deployment.usable_bytes
    missing = None if usable is None else max(memory.total - usable, 0)
    split = _split(deployment, missing or 0, host)
    if split is not None:
        missing = 0

    def ask(metric: str) -> Prediction:
        prompt = min(_PROMPT_TOKENS, context_tokens)
        return predict(
            Case(
                id=metric,
                anatomy=anatomy,
                machine=machine,
                machines_count=machines_count,
                engine=engine,
                weights=weights,
                kv_type=kv_type,
                concurrency=concurrency,
                input_tokens=prompt,
                output_tokens=128,
                context_depth=max(context_tokens - prompt - 128, 0) if metric == "decode_tok_s_per_user" else 0,
                cpu_offload=False if split is None else f"gpu_experts={100 * (1 - split.missed_fraction):.4f}%",
                host_bytes_per_s=None if split is None else split.bytes_per_s,
                metric=metric,
            ),
            coefficients,
        )

    prefill, decode, ttft = ask("prefill_tok_s"), ask("decode_tok_s_per_user"), ask("ttft_ms")
    marginal, loaded = _cost(machine, machines_count, prefill, decode, concurrency=concurrency, at=at)
    unknown = [
        what
        for what, value in (
            ("driver-visible memory", usable),
            ("prefill speed", prefill.value),
            ("decode speed", decode.value),
            ("energy cost", marginal),
            ("machine price", loaded),
        )
        if value is None
    ]
    return FitOption(
        model=anatomy.name,
        variant=weights,
        engine=engine,
        placement=_placement(machine, machines_count) if split is None else split.placement,
        machines_count=machines_count,
        fits=None if missing is None else missing == 0,
        missing_bytes=missing,
        memory=memory,
        usable_bytes=usable,
        max_context_tokens=_longest_context(
            deployment, concurrency=concurrency, elsewhere=0 if split is None else split.room_bytes
        ),
        context_tokens=context_tokens,
        concurrency=concurrency,
        prefill_tokens_per_s=prefill,
        decode_tokens_per_s=decode,
        ttft_ms=ttft,
        kv_type=kv_type,
        layer_count=anatomy.layer_count,
        layers_on_host=0 if split is None else split.layers,
        is_split_by_expert=split is not None and bool(anatomy.experts),
        usd_per_mtok_marginal=marginal,
        usd_per_mtok_loaded=loaded,
        basis=deployment.basis,
        unknown=tuple(unknown),
    )


class _Split(NamedTuple):
    """Weights over two or three memories: the share of what a step reads of them that the device does not hold."""

    missed_fraction: float
    bytes_per_s: float
    layers: int
    room_bytes: int
    placement: str


def _split(deployment: Deployment, missing: int, host: Host | None) -> _Split | None:
    """Return how weights lie over the device, its host's memory and its disk; None where they need not or cannot.

    Experts move first, and alone where there are any; whole layers of a dense model do.
    """
    if not missing or host is None or not deployment.is_llama_like:
        return None
    anatomy, machine = deployment.anatomy, deployment.machine
    movable = deployment.counted.routed if anatomy.experts else float(deployment.counted.resident)
    own_memory = machine.kind not in {"cpu-platform", "soc-unified"}
    in_memory = min(float(missing), _HOST_SHARE * host.memory_bytes) if own_memory else 0.0
    on_disk = missing - in_memory
    if missing > movable or (on_disk > 0 and host.disk_bytes_per_s is None):
        return None
    memory_rate = host.bytes_per_s or HOST_BYTES_PER_S.get(machine.kind, _ANY_HOST_BYTES_PER_S)
    seconds = in_memory / memory_rate
    if on_disk > 0 and host.disk_bytes_per_s is not None:
        seconds += on_disk / (_DISK_SHARE * host.disk_bytes_per_s)
    missed = missing / movable
    layers = anatomy.moe_layers if anatomy.experts else anatomy.layer_count
    what = "experts" if anatomy.experts else "layers"
    where = [*(["VRAM"] if own_memory else []), *(["RAM"] if in_memory or not own_memory else [])]
    where += ["SSD"] if on_disk > 0 else []
    return _Split(
        missed_fraction=missed,
        bytes_per_s=missing / seconds,
        layers=math.ceil(missed * layers),
        room_bytes=int(min(movable, _HOST_SHARE * host.memory_bytes + (movable if host.disk_bytes_per_s else 0.0))),
        placement=f"{what} over {' and '.join(where)}, {1 - missed:.0%} on the device",
    )


def _placement(machine: Machine, count: int) -> str:
    where = "RAM" if machine.kind == "cpu-platform" else "unified memory" if machine.kind == "soc-unified" else "VRAM"
    return f"all in {where}" + (f" of {count} devices" if count > 1 else "")


def _longest_context(deployment: Deployment, *, concurrency: int, elsewhere: int = 0) -> int | None:
    """Return the most tokens each of `concurrency` sequences can hold, at most what the model was made for.

    `elsewhere` are bytes of the weights that another memory can take.
    """
    usable = deployment.usable_bytes
    if usable is None:
        return None
    limit = deployment.anatomy.max_context_tokens or 1 << 20
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if deployment.compute_memory(concurrency=concurrency, context_tokens=middle).total <= usable + elsewhere:
            low = middle
        else:
            high = middle - 1
    return low


def _cost(
    machine: Machine, count: int, prefill: Prediction, decode: Prediction, *, concurrency: int, at: date
) -> tuple[Decimal | None, Decimal | None]:
    """Return energy and full cost in USD per million output tokens, at 30% utilisation."""
    if decode.value is None or machine.tdp_watts is None:
        return None, None
    rate = decode.value * concurrency
    speed = assume(rate, "ownward.perf", checked_on=at, basis=decode.basis or "fitted")
    prompt = assume(prefill.value or rate, "ownward.perf", checked_on=at, basis=prefill.basis or "fitted")
    watts = assume(machine.tdp_watts.value * count, machine.tdp_watts.source, checked_on=at, basis="datasheet")
    price = machine.price_usd
    capex = assume(float(price.value) * count if price else 0.0, price.source if price else "unknown", checked_on=at)
    option = OwnedOption(
        name=machine.id,
        capex_usd=capex,
        idle_watts=assume(watts.value.value * 0.15, "15% of TDP", checked_on=at),
        busy_watts=watts,
        capacity=Capacity(prefill_tokens_per_s=prompt, decode_tokens_per_s=speed),
        machines=1,
    )
    output_tokens = rate * _SECONDS_PER_MONTH * _UTILISATION_FRACTION
    volume = Volume(
        requests=1.0,
        input_tokens=0.0,
        cached_input_tokens=0.0,
        output_tokens=output_tokens,
        peak_input_tokens_per_s=0.0,
        peak_output_tokens_per_s=0.0,
    )
    nobody = assume(0.0, "a machine of one's own, looked after by its user", checked_on=at)
    cost = compute_owned_cost(option, volume, Assumptions(redundancy=0, people_hours_per_month=nobody))
    per_mtok = Decimal(str(output_tokens)) / _MTOK
    marginal = None if cost.marginal_usd is None else (cost.marginal_usd / per_mtok).quantize(Decimal("1e-6"))
    loaded = None if cost.loaded_usd is None or price is None else cost.loaded_usd / per_mtok
    return marginal, None if loaded is None else loaded.quantize(Decimal("1e-6"))


def _rank(option: FitOption) -> tuple[int, int, float, float, str]:
    bits = min(WEIGHT_BITS[option.variant], _WIDE_ENOUGH_BITS)
    speed = option.decode_tokens_per_s.value or 0.0
    place = {True: 0, None: 1, False: 2}[option.fits]
    if place:  # what does not fit is listed from the least that is missing
        return place, 0, float(option.missing_bytes or 0), -speed, option.variant
    return place, 0 if speed >= _READING_TOKENS_PER_S else 1, -bits, -speed, option.variant
