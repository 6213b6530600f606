"""A deployment: a model in a weight format under an engine on devices, placed over their memories; its step times.

How one is made of names, and what is not said is taken to be, stands in `_deploy`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from ownward.anatomy import Anatomy, expected_distinct_experts, ring_tokens
from ownward.catalog import Machine
from ownward.core import Basis, NoCapacity
from ownward.perf._efficiency import Efficiency
from ownward.perf._formats import WeightBytes
from ownward.perf._network import Network
from ownward.perf._parallel import communication_s, hot_rank_factor, passing_s
from ownward.perf._scheduler import chunk_tokens, most_sequences
from ownward.perf._step_model import Points, StepModel
from ownward.perf._traits import (
    INTENSITY_FLOP_PER_BYTE,
    Traits,
    pcie_bytes_per_s,
)

# The sharpness of the corner between compute-bound and memory-bound: real kernels have none.
_SMOOTHNESS = 5.0
# A skew of routing as measured traffic shows it (Zipf exponent 0.3 to 0.6).
ROUTING_SKEW = 0.4
LLAMA_LIKE = frozenset({"llama.cpp", "ik_llama.cpp", "mlx", "hipfire"})
# What a server's engine keeps besides weights, cache and activations: graphs, the runtime itself.
_OVERHEAD_BYTES = 1800 << 20
# The same of llama.cpp: the process, measured here without a card (154 MB of its own with buffers of 117 MB), and what
# a card's driver keeps for it. Basis of the second: assumed, what nvidia-smi shows above llama.cpp's own buffers.
_PROCESS_BYTES = 40 << 20
_DRIVER_BYTES = 400 << 20
# Its buffer for a chunk holds the logits of every token, as 32 bits, and some states as wide as the model: 258 MiB for
# Llama 3 8B, 305 for Qwen3 8B, 398 for gpt-oss-20b in its own log. Source: llama.cpp, llama-context.cpp.
_LOGIT_BYTES = 4
_CHUNK_STATES = 4
_USABLE_FRACTION = {True: 0.97, False: 0.92}
_BLOCK_TOKENS = 16
# Sequences at which steps are told from their caches.
_MANY = 64
# Prefill of latent attention works on the unfolded heads, decode on the latent ones: 640 against 2,176 FLOP a pair and
# head. Source: DeepSeek-V3 technical report, section 2.1 (heads of 128 + 64 and 128, latents of 512 + 64).
_LATENT_PREFILL_SHARE = 640 / 2176
# FLOP a new token costs for each byte of recurrent state: chunks of 64, two products with the state and two within the
# chunk, 10 for each of its values of 4 bytes. Source: Yang et al. 2024, Gated Delta Networks, section 3.3.
_SCAN_FLOP_PER_BYTE = 2.5
# What a processor gets of its memory's bandwidth while a card waits, at a `miss` of 1. Source: STREAM.
_HOST_SHARE = 0.6
# What a processor's attention reaches of its matrix rate, one query at a time on a cache of 16 bits. Basis: assumed;
# one user's 27B on 12 GB with 4,000 to 131,000 tokens in the cache has it at a tenth.
_HOST_ATTENTION = 0.1
_COPIES: dict[tuple[int, int], tuple[object, float]] = {}
_MOST_COPIES = 4096


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
    """A model in a weight format under an engine on some devices, whose memory and speed can be asked.

    `tensor_parallel` devices share every layer, `pipeline_parallel` groups of them take turns. `offloaded_fraction` of
    the bytes that a step reads of the layers (or of the experts, where there are any) come from a memory of
    `offload_bytes_per_s`.
    """

    anatomy: Anatomy
    weights: str
    kv_type: str
    machine: Machine
    machines_count: int
    engine: str
    efficiency: Efficiency
    traits: Traits
    counted: WeightBytes
    bandwidth_bytes_per_s: float
    flop_per_s: float
    memory_bytes: int | None
    tensor_parallel: int
    pipeline_parallel: int
    offloaded_fraction: float
    offload_bytes_per_s: float
    expert_layers: int
    recurrent_layers: int
    kv_slope_bytes: float
    window_bytes: float
    basis: Basis
    expert_parallel: int = 1
    attention_data_parallel: bool = False
    stated_chunk_tokens: int | None = None
    stated_sequences: int | None = None
    nodes: int = 1
    network: Network | None = None
    _is_latent: bool = False
    _body_params: float = 0.0
    _head_params: float = 0.0
    _routed_active: float = 0.0

    @property
    def weight_bytes(self) -> int:
        """Resident weights, over all devices; attention cut by sequences has what is no expert on each of them."""
        copies = self.tensor_parallel - 1 if self.attention_data_parallel else 0
        return round(self.counted.resident + copies * (self.counted.resident - self.counted.routed))

    @property
    def is_llama_like(self) -> bool:
        """Whether the engine serves one person on one machine: layers in turn, small chunks, little kept aside."""
        return self.traits.engine in LLAMA_LIKE

    @property
    def head_bytes(self) -> float:
        """Bytes of the head, as wide as the dense weights are on the mean."""
        return self.counted.dense_read * self._head_params / max(self._body_params + self._head_params, 1.0)

    def cache_bytes(self, context_tokens: float) -> float:
        """Return the cache bytes that attention of a sequence of `context_tokens` reads, recurrent states aside."""
        window = min(context_tokens, self.anatomy.window_tokens) * self.window_bytes
        return context_tokens * self.kv_slope_bytes + window

    def kept_cache_bytes(self, context_tokens: float) -> float:
        """Return the bytes that the cache of one sequence takes, over all devices.

        Latent caches are kept whole by every device that shares a layer; llama.cpp has room for a chunk beside a
        window.
        """
        window = self.anatomy.window_tokens
        if self.traits.engine == "llama.cpp":
            window = ring_tokens(window, self.chunk_tokens)
        kept = context_tokens * self.kv_slope_bytes + min(context_tokens, window) * self.window_bytes
        return kept * self.cache_copies

    def compute_memory(self, *, concurrency: int, context_tokens: int, batch_tokens: int | None = None) -> Memory:
        """Return where the bytes go when `concurrency` sequences hold `context_tokens` each."""
        hidden = self.anatomy.hidden_size or 4096
        tokens = batch_tokens or self.chunk_tokens
        activations, overhead = tokens * hidden * 2 * 8, _OVERHEAD_BYTES
        if self.is_llama_like:
            activations = tokens * _LOGIT_BYTES * ((self.anatomy.vocab_size or 0) + _CHUNK_STATES * hidden)
            overhead = _PROCESS_BYTES + (_DRIVER_BYTES if self.machine.kind.startswith("gpu") else 0)
        return Memory(
            weights=self.weight_bytes,
            cache=round(concurrency * self.kept_cache_bytes(context_tokens)),
            state=concurrency * self.anatomy.recurrent_state_bytes_per_seq,
            activations=activations,
            overhead=overhead * self.machines_count,
        )

    @property
    def usable_bytes(self) -> int | None:
        """What the engine may use of the memory of all devices; None where that is unknown."""
        if self.memory_bytes is None:
            return None
        return int(self.memory_bytes * self.machines_count * _USABLE_FRACTION[self.is_llama_like])

    def most_sequences(self, context_tokens: int, *, elsewhere_bytes: int = 0) -> int | None:
        """Return how many sequences of `context_tokens` memory holds at a time; None where memory is unknown.

        `elsewhere_bytes` of the weights may move to another memory to make room.
        """
        usable = self.usable_bytes
        if usable is None:
            return None
        one = self.compute_memory(concurrency=1, context_tokens=context_tokens)
        each = one.cache + one.state
        room = usable + elsewhere_bytes - (one.total - each)
        return max(room // each, 0) if each > 0 else 1 << 20

    def compute_decode_step_s(self, *, sequences: float, context_tokens: float) -> float:
        """Return the seconds in which `sequences` sequences get one token each.

        Groups of a pipeline work on different sequences at the same time; a single sequence passes all of them in turn.
        """
        return self.compute_step_s(sequences=sequences, context_tokens=context_tokens)

    def compute_step_s(
        self, *, sequences: float, context_tokens: float, prompt_tokens: float = 0.0, tokens_each: float = 1.0
    ) -> float:
        """Return the seconds of a step that decodes `sequences` sequences and reads `prompt_tokens` new tokens beside.

        `tokens_each`: tokens that a step checks for each sequence, more than 1 where they are drafted. What prompts pay
        for attention among themselves is `attention_s`, once a prompt.
        """
        waves = min(self.pipeline_parallel, max(sequences, prompt_tokens / 512, 1.0)) if not self.is_llama_like else 1.0
        share = self.bandwidth_bytes_per_s * self.tensor_parallel
        caches = sequences / waves
        checked = caches * tokens_each
        tokens = checked + prompt_tokens / waves
        heads = checked + (1.0 if prompt_tokens else 0.0)
        efficiency = self.efficiency
        cache_s = state_s = 0.0
        if caches:
            cache = caches * self.cache_bytes(context_tokens) * self.cache_copies
            beside = 0.0 if self.counted.routed or not self.is_llama_like else self.offloaded_fraction
            pairs = checked * self._attention_flop(1, context_tokens)
            rate = self.flop_per_s * self.tensor_parallel * efficiency.attention_mfu
            cache_s = (1 - beside) * _smooth_max(cache / (share * efficiency.kv_mbu), pairs / rate)
            if beside:  # layers take their caches along
                host_s = cache * beside * efficiency.miss / (_HOST_SHARE * self.offload_bytes_per_s)
                cache_s += _smooth_max(host_s, pairs * beside / (_HOST_ATTENTION * self._host_flop_per_s))
            state_s = 2.0 * caches * self.anatomy.recurrent_state_bytes_per_seq / (share * efficiency.state_mbu)
        in_turn_s = self._weights_s(tokens, heads) + cache_s + state_s + caches * efficiency.sequence_s
        return in_turn_s * (1 + efficiency.bubble * (1 - 1 / waves)) + self._fixed_s(tokens)

    def _weights_s(self, tokens: float, heads: float) -> float:
        """Return the time in which `tokens` tokens pass all weights, `heads` of them the head too."""
        efficiency, devices = self.efficiency, self.tensor_parallel
        bandwidth = self.bandwidth_bytes_per_s * efficiency.weight_mbu
        flop_per_s = self.flop_per_s * efficiency.mfu
        half = efficiency.half_tokens
        replicated = self.attention_data_parallel
        kept = 1.0 if self.counted.routed else 1 - self.offloaded_fraction
        dense_read_s = self.counted.dense_read * kept / (bandwidth * (1 if replicated else devices))
        dense_flop = 2.0 * (tokens * self._body_params + heads * self._head_params)
        total_s = _smooth_max(dense_read_s, dense_flop * (tokens + half) / tokens / (flop_per_s * devices))
        missed, missed_flop = self.counted.dense_read * self.offloaded_fraction, dense_flop * self.offloaded_fraction
        if self.counted.routed:
            anatomy = self.anatomy
            touched = self.touched_fraction(tokens)
            routed = self.counted.routed * touched
            missed = routed * self.offloaded_fraction
            hot = hot_rank_factor(self.expert_parallel, tokens * anatomy.experts_per_tok)
            whole = self.counted.routed / (anatomy.experts * max(self.expert_layers, 1))
            piece = whole / max(devices / self.expert_parallel, 1)
            whole_share = piece / (piece + efficiency.expert_bytes)
            rate = bandwidth * efficiency.expert_mbu * devices * whole_share
            read_s = routed * (1 - self.offloaded_fraction) / rate * (1 + (hot - 1) * (1 - touched))
            rows = tokens * anatomy.experts_per_tok / (anatomy.experts * touched)
            flop_of_experts = 2.0 * tokens * self._routed_active
            flop = flop_of_experts * (rows + efficiency.half_rows) / rows
            missed_flop = flop_of_experts * self.offloaded_fraction
            total_s += _smooth_max(read_s, flop * hot / (flop_per_s * efficiency.expert_mfu * whole_share * devices))
        return total_s + self._missed_s(missed, missed_flop)

    def _missed_s(self, missed: float, flop: float) -> float:
        """Return what the weights in the other memory cost: its processor multiplies them, or the card fetches them.

        Which, is the faster: a processor for single tokens, the card for prompts. Either way the two meet at each layer
        of experts; the layers of a dense model that lie there follow each other, and are handed over once.
        """
        if not missed:
            return 0.0
        read_s = missed * self.efficiency.miss / (_HOST_SHARE * self.offload_bytes_per_s)
        there_s = _smooth_max(read_s, flop / self._host_flop_per_s)
        here_s = missed / min(pcie_bytes_per_s(self.traits.family), self.offload_bytes_per_s)
        meetings = max(self.expert_layers, 1) if self.machine.kind.startswith("gpu") else 0
        return min(there_s, here_s) + meetings * self.efficiency.handover_s

    @property
    def _host_flop_per_s(self) -> float:
        """What the processor behind a card computes, by what is usual for the memory it has."""
        return self.offload_bytes_per_s * INTENSITY_FLOP_PER_BYTE["cpu"] * self.efficiency.host_mfu

    def attention_s(self, tokens: float, context_before: float) -> float:
        """Return what `tokens` new tokens pay for attending to each other and to `context_before`."""
        latent = _LATENT_PREFILL_SHARE if self._is_latent else 1.0
        flop = latent * self._attention_flop(tokens, context_before)
        share = self.flop_per_s * self.tensor_parallel
        scan_flop = tokens * _SCAN_FLOP_PER_BYTE * self.anatomy.recurrent_state_bytes_per_seq
        return flop / (share * self.efficiency.attention_mfu) + scan_flop / (share * self.efficiency.scan_mfu)

    def prompt_flop(self, tokens: float, context_before: float = 0.0) -> float:
        """Return what reading `tokens` new tokens multiplies: all weights that they pass, one head, and attention."""
        passed = 2.0 * (tokens * (self._body_params + self._routed_active) + self._head_params)
        latent = _LATENT_PREFILL_SHARE if self._is_latent else 1.0
        return passed + latent * self._attention_flop(tokens, context_before)

    @property
    def chunk_tokens(self) -> int:
        """How many prompt tokens the engine takes in a step: as stated, or what it does by itself."""
        return self.stated_chunk_tokens or chunk_tokens(self.traits.engine, self.traits.family, self.memory_bytes)

    @property
    def admitted_sequences(self) -> int:
        """How many sequences the engine runs at a time where memory holds them: as stated, or its own default."""
        return self.stated_sequences or most_sequences(self.traits.engine, self.traits.family, self.memory_bytes)

    def compute_prefill_s(self, *, tokens: int, context_before: int = 0, prompts: int = 1) -> float:
        """Return the seconds to read `prompts` of `tokens` new tokens after `context_before`, in the engine's chunks.

        Prompts that come together share chunks. Groups that take turns work on different chunks at a time, once the
        first has passed. KTransformers fetches experts once for a whole prompt.
        """
        in_all = prompts * tokens
        fetches_once = self.offloaded_fraction and self.traits.engine == "ktransformers"
        chunk = in_all if fetches_once else min(in_all, self.chunk_tokens)
        chunks = in_all / chunk
        attended_s = prompts * self.attention_s(tokens, context_before)
        total_s = chunks * self._weights_s(chunk, max(prompts / chunks, 1.0)) + attended_s
        groups = self.pipeline_parallel
        if groups > 1:
            total_s *= (chunks + groups - 1) / (chunks * groups)
        return total_s + chunks * self._fixed_s(chunk)

    def compute_step_model(self, *, context_tokens: int) -> StepModel:
        """Return what steps take whose sequences hold `context_tokens` each, however many there are.

        Numbers between those worked out lie on lines. Capacity is what memory leaves for the caches and states of such
        sequences; a model that leaves none has one block.
        Raises: NoCapacity, where nobody has stated the memory.
        """
        if self.usable_bytes is None:
            raise NoCapacity(
                f"the memory of {self.machine.name!r} is not known, so neither is how many sequences it holds",
                next_step="State it: ownward machines add",
            )
        context = max(context_tokens, 1)
        bytes_each = self.cache_bytes(context)
        fixed_s = max(self.compute_decode_step_s(sequences=1, context_tokens=0), 1e-6)
        cached_s = self.compute_decode_step_s(sequences=_MANY, context_tokens=context)
        cached_s -= self.compute_decode_step_s(sequences=_MANY, context_tokens=0)
        latent = _LATENT_PREFILL_SHARE if self._is_latent else 1.0
        rate = self.flop_per_s * self.tensor_parallel * self.efficiency.attention_mfu
        pair_s = latent * self.anatomy.attn_flops_per_context_token / rate
        # what a prompt's token costs whatever is before it: a window and a recurrent state are as long for each
        token_s = self.attention_s(1, context / 2) - pair_s * (context + 1) / 2

        def curve(step_s: Callable[[int], float], counts: Iterable[int]) -> Points:
            grown, points = 0.0, []
            for count in counts:
                grown = max(grown, step_s(count) - fixed_s)
                points.append((count, grown))
            return tuple(points)

        def decodes_s(sequences: int) -> float:
            return self.compute_decode_step_s(sequences=sequences, context_tokens=0)

        def reads_s(tokens: int) -> float:
            return self.compute_prefill_s(tokens=tokens) - self.attention_s(tokens, 0)

        free = self.usable_bytes - self.compute_memory(concurrency=0, context_tokens=0).total
        kept_each = self.kept_cache_bytes(context) + self.anatomy.recurrent_state_bytes_per_seq
        capacity = int(free * context / (kept_each * _BLOCK_TOKENS)) if kept_each > 0 else 1 << 20
        chunk = self.chunk_tokens
        return StepModel(
            fixed_s=fixed_s,
            per_prefill_token_s=max(token_s, 0.0),
            per_prefill_token_context_s=pair_s,
            per_kv_byte_s=max(cached_s, 0.0) / (_MANY * bytes_each) if bytes_each > 0 else 0.0,
            kv_bytes_per_token=bytes_each / context,
            by_sequences_s=curve(decodes_s, _counts(max(self.admitted_sequences, _MANY))),
            by_tokens_s=curve(reads_s, (*_counts(chunk), 2 * chunk)),
            capacity_blocks=max(capacity, 1),
            block_tokens=_BLOCK_TOKENS,
        )

    @property
    def cache_copies(self) -> float:
        """How often the cache is kept: by all that share a layer where it is latent, and more than once for few heads.

        1 where attention is cut by sequences.
        """
        if self.tensor_parallel == 1 or self.attention_data_parallel:
            return 1.0
        return _cache_copies(self.anatomy, self.tensor_parallel)

    @property
    def is_latent(self) -> bool:
        """Whether the cache holds latents, which no two devices can share."""
        return self._is_latent

    def _attention_flop(self, tokens: float, before: float) -> float:
        anatomy = self.anatomy
        pairs = tokens * (before + tokens / 2)
        window = tokens * min(before + tokens / 2, anatomy.window_tokens)
        return anatomy.attn_flops_per_context_token * pairs + anatomy.attn_flops_per_window_token * window

    def touched_fraction(self, tokens: float) -> float:
        """Return the share of a layer's experts that a step of `tokens` tokens reads."""
        return _touched_share(self.anatomy.experts, self.anatomy.experts_per_tok, max(tokens, 1.0))

    def _fixed_s(self, tokens: float) -> float:
        """Return launch, host and communication time of a step of `tokens` tokens."""
        efficiency, anatomy = self.efficiency, self.anatomy
        launch = (
            anatomy.layer_count * efficiency.layer_s
            + self.expert_layers * efficiency.expert_layer_s
            + self.recurrent_layers * efficiency.recurrent_layer_s
            + efficiency.step_s
        )
        if self.tensor_parallel > 1:
            launch += communication_s(
                devices=self.tensor_parallel,
                family=self.traits.family,
                tokens=tokens,
                hidden=anatomy.hidden_size or 4096,
                layers=anatomy.layer_count,
                expert_layers=self.expert_layers,
                copies=anatomy.experts_per_tok if self.expert_parallel > 1 else 1,
                reduce_s=efficiency.reduce_s,
                attention_data_parallel=self.attention_data_parallel,
                nodes=-(-self.tensor_parallel * self.nodes // self.machines_count),
                network=self.network,
            )
        if self.pipeline_parallel > 1:
            launch += (self.pipeline_parallel - 1) * efficiency.reduce_s
            if self.network is not None:
                hidden = anatomy.hidden_size or 4096
                launch += passing_s(
                    stages=self.pipeline_parallel, nodes=self.nodes, tokens=tokens, hidden=hidden, network=self.network
                )
        return launch


def _counts(most: int) -> list[int]:
    """Return 1, 2, 3, 4, 6, 8, 12 and so on, up to `most`.

    >>> _counts(10)
    [1, 2, 3, 4, 6, 8, 10]
    """
    halves = {2**power * part // 2 for power in range(most.bit_length()) for part in (2, 3)}
    return sorted({count for count in halves if count < most} | {most})


def _cache_copies(anatomy: Anatomy, devices: int) -> float:
    key = id(anatomy.blueprint), devices
    held = _COPIES.get(key)
    if held is None or held[0] is not anatomy.blueprint:
        if len(_COPIES) >= _MOST_COPIES:
            _COPIES.clear()
        held = _COPIES[key] = anatomy.blueprint, anatomy.cache_copies(devices)
    return held[1]


@lru_cache(maxsize=8192)
def _touched_share(experts: int, per_token: int, tokens: float) -> float:
    distinct = expected_distinct_experts(experts=experts, per_token=per_token, tokens=tokens, skew=ROUTING_SKEW)
    return distinct / experts


def _smooth_max(left: float, right: float) -> float:
    largest = max(left, right)
    if largest <= 0:
        return 0.0
    return float(largest * ((left / largest) ** _SMOOTHNESS + (right / largest) ** _SMOOTHNESS) ** (1 / _SMOOTHNESS))
