"""A deployment's step time by roofline: a smooth maximum of compute and memory, plus launch and host time."""

from __future__ import annotations

from dataclasses import dataclass

from ownward.anatomy import Anatomy
from ownward.catalog import Machine
from ownward.core import Basis, NoCapacity, weakest_basis
from ownward.perf._efficiency import Efficiency, find_efficiency
from ownward.perf._step_model import StepModel
from ownward.perf._weights import COMPUTE_DTYPE, resident_bytes, step_read_bytes

# The sharpness of the corner between compute-bound and memory-bound: real kernels have none.
_SMOOTHNESS = 5.0
# A skew of routing as measured traffic shows it (Zipf exponent 0.3 to 0.6).
_ROUTING_SKEW = 0.4
# What an engine keeps besides weights and cache: buffers, graphs, the runtime itself.
_OVERHEAD_BYTES = {"llama.cpp": 600 << 20, "vllm": 2500 << 20}
_USABLE_FRACTION = {"llama.cpp": 0.97, "vllm": 0.90}
_KV_BYTES = {"bf16": 2.0, "f16": 2.0, "fp16": 2.0, "fp8": 1.0, "q8_0": 8.5 / 8, "q4_0": 4.5 / 8}
_BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Where a deployment's bytes go, at the concurrency and context asked for."""

    weights: int
    cache: int
    state: int
    activations: int
    overhead: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.state + self.activations + self.overhead


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A model in a weight format under an engine on some machines, whose memory and speed can be asked."""

    anatomy: Anatomy
    weights: str
    kv_type: str
    machine: Machine
    machines_count: int
    engine: str
    efficiency: Efficiency
    bandwidth_bytes_per_s: float
    flop_per_s: float | None
    memory_bytes: int | None
    basis: Basis

    @property
    def weight_bytes(self) -> int:
        """Resident weights, over all machines."""
        return resident_bytes(self.anatomy, self.weights)

    def cache_bytes(self, context_tokens: float) -> float:
        """Return the cache bytes of one sequence of `context_tokens`, its recurrent state aside."""
        scale = _KV_BYTES[self.kv_type] / 2
        window = min(context_tokens, self.anatomy.window_tokens) * self.anatomy.window_kv_bytes_per_slot_bf16
        growing = self.anatomy.kv_bytes_per_token_bf16 + self.anatomy.indexer_key_bytes_per_token_bf16
        return scale * (context_tokens * growing + window)

    def compute_memory(self, *, concurrency: int, context_tokens: int, batch_tokens: int = 2048) -> Memory:
        """Return where the bytes go when `concurrency` sequences hold `context_tokens` each."""
        hidden = self.anatomy.hidden_size or 4096
        return Memory(
            weights=self.weight_bytes,
            cache=round(concurrency * self.cache_bytes(context_tokens)),
            state=concurrency * self.anatomy.recurrent_state_bytes_per_seq,
            activations=batch_tokens * hidden * 2 * 8,
            overhead=_OVERHEAD_BYTES[self.efficiency.engine] * self.machines_count,
        )

    @property
    def usable_bytes(self) -> int | None:
        """What the engine may use of the memory of all machines; None where that is unknown."""
        if self.memory_bytes is None:
            return None
        return int(self.memory_bytes * self.machines_count * _USABLE_FRACTION[self.efficiency.engine])

    def compute_decode_step_s(self, *, sequences: int, context_tokens: float) -> float:
        """Return the seconds in which `sequences` sequences get one token each."""
        read = step_read_bytes(self.anatomy, self.weights, tokens=sequences, skew=_ROUTING_SKEW)
        state = 2.0 * sequences * self.anatomy.recurrent_state_bytes_per_seq
        cache = sequences * self.cache_bytes(context_tokens)
        flop = sequences * self._token_flop(context_tokens)
        efficiency = self.efficiency
        memory_s = (read / efficiency.decode_mbu + (cache + state) / efficiency.kv_mbu) / self.bandwidth_bytes_per_s
        compute_s = 0.0 if self.flop_per_s is None else flop / (self.flop_per_s * self._mfu)
        return _smooth_max(memory_s, compute_s) + self._fixed_s + sequences * efficiency.sequence_s

    def compute_prefill_s(self, *, tokens: int, context_before: int = 0) -> float:
        """Return the seconds in which `tokens` new tokens after `context_before` are read, in one go.

        Raises: NoCapacity, if the machine's compute rate is not known.
        """
        read = step_read_bytes(self.anatomy, self.weights, tokens=tokens, skew=_ROUTING_SKEW)
        flop = tokens * self._token_flop(context_before + tokens / 2)
        memory_s = read / (self.bandwidth_bytes_per_s * self.efficiency.decode_mbu)
        compute_s = flop / self._effective_flop_per_s
        return _smooth_max(memory_s, compute_s) + self._fixed_s

    def compute_step_model(self, *, sequences: int, context_tokens: int) -> StepModel:
        """Return the affine step model that touches this roofline near `sequences` at `context_tokens`.

        Capacity is what memory leaves for cache; a model that leaves none has one block.
        Raises: NoCapacity, if the machine's compute rate is not known.
        """
        efficiency = self.efficiency
        read = step_read_bytes(self.anatomy, self.weights, tokens=max(sequences, 1), skew=_ROUTING_SKEW)
        weights_s = read / (self.bandwidth_bytes_per_s * efficiency.decode_mbu)
        per_token_s = 2.0 * self.anatomy.active_excl_input_embedding / self._effective_flop_per_s
        attention_s = self.anatomy.attn_flops_per_context_token / self._effective_flop_per_s
        kv_bytes = self.cache_bytes(max(context_tokens, 1)) / max(context_tokens, 1)
        state_s = 2.0 * self.anatomy.recurrent_state_bytes_per_seq / self.bandwidth_bytes_per_s / efficiency.kv_mbu
        free = (self.usable_bytes or 0) - self.compute_memory(concurrency=0, context_tokens=0).total
        capacity = int(free / (kv_bytes * _BLOCK_TOKENS)) if kv_bytes > 0 else 1 << 20
        return StepModel(
            fixed_s=weights_s + self._fixed_s,
            per_prefill_token_s=per_token_s,
            per_prefill_token_context_s=attention_s,
            per_decode_sequence_s=efficiency.sequence_s + state_s,
            per_kv_byte_s=1.0 / (self.bandwidth_bytes_per_s * efficiency.kv_mbu),
            kv_bytes_per_token=kv_bytes,
            capacity_blocks=max(capacity, 1),
            block_tokens=_BLOCK_TOKENS,
        )

    @property
    def _fixed_s(self) -> float:
        return self.anatomy.layer_count * self.efficiency.layer_s + self.efficiency.step_s

    @property
    def _effective_flop_per_s(self) -> float:
        if self.flop_per_s is None:
            raise NoCapacity(
                f"the compute rate of {self.machine.name!r} is not known, so that prefill cannot be predicted",
                next_step="State its dense BF16 rate in a machine file of your own",
            )
        return self.flop_per_s * self._mfu

    @property
    def _mfu(self) -> float:
        return self.efficiency.moe_prefill_mfu if self.anatomy.experts else self.efficiency.prefill_mfu

    def _token_flop(self, context_tokens: float) -> float:
        window = min(context_tokens, self.anatomy.window_tokens)
        return (
            2.0 * self.anatomy.active_excl_input_embedding
            + self.anatomy.attn_flops_per_context_token * context_tokens
            + self.anatomy.attn_flops_per_window_token * window
        )


def deploy(
    anatomy: Anatomy, *, machine: Machine, machines_count: int, engine: str, weights: str, kv_type: str = "bf16"
) -> Deployment | str:
    """Return the deployment, or the reason why nothing can be said about it.

    Several machines are taken as tensor-parallel devices whose bandwidth and compute add up.
    """
    efficiency = find_efficiency(engine, machine.kind)
    if efficiency is None:
        return f"no measured efficiency for {engine!r} on a device of kind {machine.kind!r}"
    if kv_type not in _KV_BYTES:
        return f"no bytes are known for a cache in {kv_type!r}; known: {', '.join(_KV_BYTES)}"
    if machine.bandwidth_bytes_per_s is None:
        return f"the memory bandwidth of {machine.name!r} is not known"
    dtype = COMPUTE_DTYPE.get(weights, "bf16")
    rate = machine.rate(dtype) or machine.rate("bf16") or machine.rate("fp16")  # type: ignore[arg-type]
    usable = machine.usable_memory
    bases: list[Basis] = [machine.bandwidth_bytes_per_s.basis, efficiency.basis]
    if rate is not None:
        bases.append(rate.basis)
    return Deployment(
        anatomy=anatomy,
        weights=weights,
        kv_type=kv_type,
        machine=machine,
        machines_count=machines_count,
        engine=engine,
        efficiency=efficiency,
        bandwidth_bytes_per_s=machine.bandwidth_bytes_per_s.value * machines_count,
        flop_per_s=None if rate is None else rate.value * machines_count,
        memory_bytes=None if usable is None else usable.value,
        basis=weakest_basis(bases) or "assumed",
    )


def _smooth_max(left: float, right: float) -> float:
    largest = max(left, right)
    if largest <= 0:
        return 0.0
    return float(largest * ((left / largest) ** _SMOOTHNESS + (right / largest) ** _SMOOTHNESS) ** (1 / _SMOOTHNESS))
