"""From names to a deployment: what is not said of formats, degrees and rates is the engine's habit or the machine's."""

from __future__ import annotations

from collections.abc import Callable

from ownward.anatomy import Anatomy
from ownward.catalog import Machine
from ownward.core import Basis, weakest_basis
from ownward.perf._deployment import LLAMA_LIKE, Deployment
from ownward.perf._efficiency import Coefficients, find_efficiency
from ownward.perf._formats import BEST, NATIVE, weight_bytes
from ownward.perf._network import Network, read_network
from ownward.perf._parallel import parallel_degrees
from ownward.perf._scheduler import stated_limits
from ownward.perf._traits import (
    Traits,
    assumed_flop_per_s,
    backend_of,
    engine_family,
    is_engine_known,
    traits_of,
)

_KV_BYTES = {"bf16": 2.0, "f16": 2.0, "fp8": 1.0, "q8_0": 8.5 / 8, "q5_1": 6.0 / 8, "q4_0": 4.5 / 8}
# The compute format of a weight format; weights of other formats are widened to 16 bits first.
_COMPUTE_DTYPE = {"fp8": "fp8", "int8": "int8", "nvfp4": "fp4"}
# The memory behind a card where nobody has stated it: two channels of DDR5, or the eight of a server.
_HOST_BYTES_PER_S = {"gpu-consumer": 70e9, "gpu-workstation": 150e9, "gpu-datacenter": 250e9}
_ANY_HOST_BYTES_PER_S = 70e9
_HALVED_FAMILIES = frozenset({"turing", "ampere", "ada", "blackwell"})
# Source: vLLM 0.11, config/model.py (verify_with_parallel_config); SGLang 0.5, srt/models/llama.py.
_REFUSE_UNEVEN = frozenset({"vllm", "sglang"})
_RECURRENT = frozenset({"gated_delta_net", "kimi_delta_attention", "mamba2", "linear_attention", "short_convolution"})


def _kv_format(name: str) -> str | None:
    """Return the canonical cache type of a name; None for one that is not known. No name and `auto` are 16 bits."""
    bare = name.lower().strip()
    if bare in {"", "auto", "fp16", "float16", "bfloat16", "default"}:
        return "bf16"
    if bare.startswith("fp8"):
        return "fp8"
    return {"q8": "q8_0", "q4": "q4_0", "turbo3": "q4_0"}.get(bare, bare if bare in _KV_BYTES else None)


def deploy(
    anatomy: Anatomy,
    *,
    machine: Machine,
    machines_count: int,
    engine: str,
    weights: str,
    kv_type: str = "bf16",
    tensor_parallel: int | None = None,
    pipeline_parallel: int | None = None,
    expert_parallel: int | None = None,
    attention_data_parallel: bool = False,
    prompt_chunk_tokens: int | None = None,
    offloaded_fraction: float | None = None,
    host_bytes_per_s: float | None = None,
    nodes: int = 1,
    network: Network | None = None,
    slow_host: bool = False,
    coefficients: Coefficients | None = None,
) -> Deployment | str:
    """Return the deployment, or the reason why nothing can be said about it.

    Degrees not given are the engine's habit: llama.cpp gives devices layers in turn, others share every layer among
    as many as the model's heads allow, with experts apart where their tiles cannot be cut. Degrees given that vLLM and
    SGLang refuse are refused. `expert_parallel` True is of any degree; 1 is none.
    `offloaded_fraction` of the layers or experts are read from the host's memory at `host_bytes_per_s`. All
    `nodes` together have `machines_count` devices; a `network` that is not said is InfiniBand at 400 Gbit/s.
    """
    family = engine_family(engine)
    if not is_engine_known(family):
        return f"nothing has been measured for the engine {engine!r}"
    weights = as_run(weights, machine)
    cache = "fp8" if _keeps_narrow_cache(kv_type, family, weights) else _kv_format(kv_type)
    if cache is None:
        return f"no bytes are known for a cache in {kv_type!r}; known: {', '.join(_KV_BYTES)}"
    if machine.bandwidth_bytes_per_s is None:
        return f"the memory bandwidth of {machine.name!r} is not known"
    if machine.kind == "storage":
        return f"{machine.name!r} computes nothing"
    if "cache" in anatomy.unsupported:
        return f"the tensors of {anatomy.name} do not show its cache; put its config.json beside them"
    if weights == "mxfp4" and family not in LLAMA_LIKE and anatomy.recipe is not None:
        weights = NATIVE
    if weights == NATIVE and anatomy.is_narrowed_on_load:
        weights = "bf16"
    traits = traits_of(anatomy, machine=machine, engine=family, weights=weights, backend=backend_of(engine),
                       host="board" if slow_host else "")  # fmt: skip
    efficiency = coefficients.resolve(traits) if coefficients is not None else find_efficiency(traits)
    flop_per_s, flop_basis = _flop_rate(machine, traits, weights)
    usable = machine.usable_memory
    bases: list[Basis] = [machine.bandwidth_bytes_per_s.basis, efficiency.basis, flop_basis]
    can_share = bool if attention_data_parallel else anatomy.can_share_layers  # with it, each device has all heads
    if tensor_parallel and family in _REFUSE_UNEVEN and not can_share(tensor_parallel):
        most, _ = parallel_degrees(tensor_parallel, can_share)
        return (
            f"{family} does not start: the heads of {anatomy.name} cannot be divided among {tensor_parallel} devices;"
            f" tensor_parallel = {most} is possible"
        )
    tensor, pipeline = (
        (1, machines_count)
        if family in LLAMA_LIKE
        else _degrees(machines_count, tensor_parallel, pipeline_parallel, can_share)
    )
    stated_tokens, stated_sequences = stated_limits(engine)
    shares_experts = expert_parallel is True or (expert_parallel or 1) > 1
    if expert_parallel is None and weights == NATIVE and family in _REFUSE_UNEVEN:
        shares_experts = not anatomy.can_cut_experts(tensor)
    scale = _KV_BYTES[cache] / 2
    counted = weight_bytes(anatomy, weights)
    head = anatomy.embeddings if anatomy.tied_embeddings else anatomy.lm_head
    routed_active = anatomy.routed_experts * anatomy.experts_per_tok / anatomy.experts if anatomy.experts else 0.0
    if offloaded_fraction is not None:
        bases.append("assumed" if host_bytes_per_s is None else "datasheet")
    return Deployment(
        anatomy=anatomy,
        weights=weights,
        kv_type=cache,
        machine=machine,
        machines_count=machines_count,
        engine=engine,
        efficiency=efficiency,
        traits=traits,
        counted=counted,
        bandwidth_bytes_per_s=machine.bandwidth_bytes_per_s.value,
        flop_per_s=flop_per_s,
        memory_bytes=None if usable is None else usable.value,
        tensor_parallel=tensor,
        pipeline_parallel=pipeline,
        offloaded_fraction=offloaded_fraction or 0.0,
        offload_bytes_per_s=host_bytes_per_s or usual_host_bytes_per_s(machine),
        expert_layers=anatomy.moe_layers,
        recurrent_layers=sum(layer.count for layer in anatomy.layers if layer.kind in _RECURRENT),
        kv_slope_bytes=scale * (anatomy.kv_bytes_per_token_bf16 + anatomy.indexer_key_bytes_per_token_bf16),
        window_bytes=scale * anatomy.window_kv_bytes_per_slot_bf16,
        basis=weakest_basis(bases) or "assumed",
        expert_parallel=tensor if shares_experts and anatomy.experts else 1,
        attention_data_parallel=attention_data_parallel and tensor > 1,
        stated_chunk_tokens=prompt_chunk_tokens or stated_tokens,
        stated_sequences=stated_sequences,
        nodes=nodes,
        network=(network or read_network(None)) if nodes > 1 else None,
        _is_latent=any("latent" in layer.kind for layer in anatomy.layers),
        _body_params=float(max(anatomy.active_excl_input_embedding - head - routed_active, 1)),
        _head_params=float(head),
        _routed_active=float(routed_active),
    )


def usual_host_bytes_per_s(machine: Machine) -> float:
    """Return how fast the memory of the computer behind a card is read, where nobody has stated it."""
    return _HOST_BYTES_PER_S.get(machine.kind, _ANY_HOST_BYTES_PER_S)


def _degrees(
    machines_count: int, tensor: int | None, pipeline: int | None, can_share: Callable[[int], bool]
) -> tuple[int, int]:
    """Return the tensor and pipeline parallel degrees: those stated, or as the model's heads allow."""
    if tensor:
        return min(tensor, machines_count), pipeline or 1
    sharing, turns = parallel_degrees(max(machines_count // (pipeline or 1), 1), can_share)
    return sharing, pipeline or turns


def _keeps_narrow_cache(kv_type: str, family: str, weights: str) -> bool:
    """Return whether a cache that nobody named is in 8 bits: as the checkpoints in FP8 and NVFP4 for TensorRT-LLM say.

    Source: hf_quant_config.json of nvidia's releases, kv_cache_quant_algo.
    """
    return not kv_type.strip() and family == "tensorrt-llm" and weights in {"fp8", "nvfp4"}


def as_run(weights: str, machine: Machine) -> str:
    """Return the format that `best` means on a machine; any other is itself."""
    if weights != BEST:
        return weights
    return "nvfp4" if machine.rate("fp4") else "fp8" if machine.rate("fp8") else "bf16"


def _flop_rate(machine: Machine, traits: Traits, weights: str) -> tuple[float, Basis]:
    """Return the dense rate of the path that the engine computes in.

    llama.cpp sums in 16 bits or multiplies in 8, which GeForce cards do at the full rate of their chip: twice the
    datasheet's rate for sums in 32 bits, which is what BF16 has. Source: NVIDIA's Ada whitepaper, appendix A (FP16 with
    FP16 accumulate).
    """
    dtype = "bf16" if traits.engine in LLAMA_LIKE else _COMPUTE_DTYPE.get(traits.kernels, "bf16")
    rate = machine.rate(dtype) or machine.rate("bf16") or machine.rate("fp16")  # type: ignore[arg-type]
    is_halved = traits.family in _HALVED_FAMILIES and machine.kind == "gpu-consumer"
    doubled = 2.0 if is_halved and traits.engine in LLAMA_LIKE and weights != "bf16" else 1.0
    if rate is not None:
        return rate.value * doubled, rate.basis
    return assumed_flop_per_s(machine) or 1e12, "assumed"
