"""A model larger than memory, read from its disk as tokens need it: what is held and missed, and how long it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from ownward.core import KIB, weakest_basis
from ownward.perf._deployment import Deployment
from ownward.perf._predict import Prediction

_FAULT_S = 40e-6
_WINDOWS_BEYOND = 1.7
_WIDE_WINDOWS_BEYOND = 0.95
UNIFORM_LOCALITY = 1.0
"""Routing that takes every expert alike: a cache that holds a share of the experts has that share of hits."""
ROUTED_LOCALITY = 0.33
"""What published caches of trained mixtures come to: hits = (share held) ** locality, so that 36% held give 71%."""
# Share held and hits published for least-recently-used caches of experts: 0.09 and 0.69, 0.16 and 0.75 (llama.cpp pull
# request 25294); 0.075 and 0.52 (BigMoeOnEdge, Qwen3.6-35B-A3B); 0.19 and 0.71 (flash-moe, Qwen3.5-397B-A17B); 0.18 and
# 0.43, 0.36 and 0.62, 0.54 and 0.72 (Qwen3.8-Flash-Next, kekzl/imp#2061); 0.4 and 0.9 (Qwen3-30B-A3B, kekzl/imp#1359).
_LOCALITY_RANGE = (0.15, 0.55)
# A prompt passes all of a layer's experts in turn. What memory holds of them, measured with Linux' page cache: about as
# much as its share; strictly least-recently-used it would be nothing.
_SCAN_RANGE = (1.0, 1.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskReads:
    """How the weights that memory does not hold come from the disk.

    `bytes_per_s` counts bytes that are used, read as the engine reads them: by page faults, a slice of an expert at a
    time. `over_read` bytes come from the disk for each of them.
    """

    bytes_per_s: float
    over_read: float = 1.0

    @classmethod
    def by_page_faults(
        cls, disk_bytes_per_s: float, *, read_ahead_bytes: int = 128 * KIB, slice_bytes: float = 576 * KIB
    ) -> DiskReads:
        """Return what a disk of a stated rate gives to an engine that waits for one page fault at a time.

        Each fault brings a window of `read_ahead_bytes` and costs a latency besides; windows reach beyond both ends of
        a slice. Both constants were measured on one virtual disk of 1.1 GB/s with windows of 128 KiB to 8 MiB.
        """
        extra = _WINDOWS_BEYOND if read_ahead_bytes < 2 * slice_bytes else _WIDE_WINDOWS_BEYOND
        over_read = 1 + extra * read_ahead_bytes / slice_bytes
        window_s = _FAULT_S + read_ahead_bytes / disk_bytes_per_s
        return cls(bytes_per_s=read_ahead_bytes / window_s / over_read, over_read=over_read)


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """What a step of a model does whose weights do not all fit in memory.

    `held_fraction` of the routed experts (of all weights, in a dense model) lie in memory, `hit_fraction` of what a
    step reads of them. `memory_s` is the step as if all of it fitted, `disk_s` the wait for the rest: the engine
    computes nothing while it waits for a page, so that `step_s` is their sum.
    """

    held_fraction: float
    hit_fraction: float
    used_bytes: float
    missed_bytes: float
    read_bytes: float
    memory_s: float
    disk_s: float

    @property
    def step_s(self) -> float:
        """The whole step."""
        return self.memory_s + self.disk_s


def stream_decode(
    deployment: Deployment,
    *,
    weights_memory_bytes: float,
    disk: DiskReads,
    locality: float = ROUTED_LOCALITY,
    sequences: int = 1,
) -> Streamed:
    """Return one decode step of `sequences` tokens in a steady state, with so much memory for weights, caches empty.

    What every step reads stays in memory; what is left of it holds routed experts, those used last. A dense model
    passes all of its weights in turn, which a cache serves badly: it counts as if a share of each pass were held.
    """
    counted = deployment.counted
    memory_s = deployment.compute_decode_step_s(sequences=sequences, context_tokens=0)
    if deployment.anatomy.experts:
        held = _held(weights_memory_bytes, counted.dense_read, counted.routed)
        hits = held**locality
        used = counted.routed * deployment.touched_fraction(sequences)
    else:
        held = hits = _held(weights_memory_bytes, 0.0, counted.dense_read)
        used = counted.dense_read
    missed = used * (1 - hits) + _dense_missed(deployment, weights_memory_bytes)
    return _streamed(counted.dense_read + used, missed=missed, held=held, hits=hits, memory_s=memory_s, disk=disk)


def stream_prefill(deployment: Deployment, *, weights_memory_bytes: float, disk: DiskReads, tokens: int) -> Streamed:
    """Return the reading of `tokens` of prompt: each chunk passes the experts that its tokens touch, in turn."""
    counted = deployment.counted
    memory_s = deployment.compute_prefill_s(tokens=tokens)
    chunk = min(tokens, deployment.chunk_tokens)
    chunks = math.ceil(tokens / chunk)
    if deployment.anatomy.experts:
        held = _held(weights_memory_bytes, counted.dense_read, counted.routed)
        used = counted.routed * deployment.touched_fraction(chunk)
    else:
        held = _held(weights_memory_bytes, 0.0, counted.dense_read)
        used = counted.dense_read
    missed = chunks * (used * (1 - held) + _dense_missed(deployment, weights_memory_bytes))
    return _streamed(
        chunks * (counted.dense_read + used), missed=missed, held=held, hits=held, memory_s=memory_s, disk=disk
    )


def predict_streamed(
    prediction: Prediction,
    deployment: Deployment,
    *,
    weights_memory_bytes: float,
    disk: DiskReads,
    metric: Literal["prefill_tok_s", "decode_tok_s_per_user", "ttft_ms"],
    sequences: int,
    prompt_tokens: int,
) -> Prediction:
    """Return `prediction`, which was made as if all weights fitted, with the wait for the disk in it.

    The band joins its own with the range of published hits.
    """
    if prediction.value is None or prediction.low80 is None or prediction.high80 is None:
        return prediction

    def wait_s(*, locality: float, scan: float) -> float:
        if metric == "decode_tok_s_per_user":
            step = stream_decode(
                deployment, weights_memory_bytes=weights_memory_bytes, disk=disk, locality=locality, sequences=sequences
            )
            return step.disk_s
        prompt = stream_prefill(deployment, weights_memory_bytes=weights_memory_bytes, disk=disk, tokens=prompt_tokens)
        return scan * prompt.disk_s

    usual = wait_s(locality=ROUTED_LOCALITY, scan=1.0)
    long = wait_s(locality=_LOCALITY_RANGE[1], scan=_SCAN_RANGE[1])
    short = wait_s(locality=_LOCALITY_RANGE[0], scan=_SCAN_RANGE[0])
    basis = weakest_basis([prediction.basis or "assumed", "assumed"])
    if metric == "ttft_ms":
        value, low, high = prediction.value, prediction.low80, prediction.high80
        return replace(prediction, value=value + 1e3 * usual, low80=low + 1e3 * short, high80=high + 1e3 * long,
                       basis=basis)  # fmt: skip
    work = 1 if metric == "decode_tok_s_per_user" else prompt_tokens

    def slowed(rate: float, waiting_s: float) -> float:
        return work / (work / rate + waiting_s)

    return replace(
        prediction,
        value=slowed(prediction.value, usual),
        low80=slowed(prediction.low80, long),
        high80=slowed(prediction.high80, short),
        basis=basis,
    )


def _dense_missed(deployment: Deployment, memory_bytes: float) -> float:
    """Return what does not fit of that which every step of a mixture reads."""
    return max(deployment.counted.dense_read - memory_bytes, 0.0) if deployment.anatomy.experts else 0.0


def _held(memory_bytes: float, always: float, rest: float) -> float:
    return min(max((memory_bytes - always) / rest, 0.0), 1.0) if rest > 0 else 1.0


def _streamed(used: float, *, missed: float, held: float, hits: float, memory_s: float, disk: DiskReads) -> Streamed:
    return Streamed(
        held_fraction=held,
        hit_fraction=hits,
        used_bytes=used,
        missed_bytes=missed,
        read_bytes=missed * disk.over_read,
        memory_s=memory_s,
        disk_s=missed / disk.bytes_per_s,
    )
