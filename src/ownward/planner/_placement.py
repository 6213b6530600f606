"""Where weights lie: over the devices, the memory behind them and the disk; and the longest context that leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ownward.catalog import Machine
from ownward.perf import Deployment, DiskReads, Memory, usual_host_bytes_per_s

# What others leave free of a host's memory.
HOST_SHARE = 0.85
_EXPERT_MATRICES = 3  # each is read in one piece
_DENSE_SLICE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What stands behind a device: free memory, how fast it is read (None: as is usual), and the disk's read rate."""

    memory_bytes: int = 0
    bytes_per_s: float | None = None
    disk_bytes_per_s: float | None = None
    disk_reads: DiskReads | None = None  # as page faults were measured; else worked out of the rate

    @property
    def has_disk(self) -> bool:
        """Whether weights may lie on a disk."""
        return self.disk_reads is not None or self.disk_bytes_per_s is not None


class Split(NamedTuple):
    """Weights over two or three memories: the share of what a step reads of them that the device does not hold."""

    missed_fraction: float
    bytes_per_s: float
    layers: int
    room_bytes: int
    in_memory_bytes: int
    on_disk_bytes: int
    placement: str
    disk: DiskReads | None = None


def find_split(deployment: Deployment, memory: Memory, missing: int, host: Host | None) -> Split | None:
    """Return how weights lie over the device, its host's memory and its disk; None where they need not or cannot.

    Experts move first, and alone where there are any; whole layers of a dense model do, and to a host's memory they
    take their caches along. The head stays on the device.
    """
    if not missing or host is None or not deployment.is_llama_like:
        return None
    anatomy, machine = deployment.anatomy, deployment.machine
    movable = movable_bytes(deployment)
    is_card = not machine.is_whole_computer
    in_memory = min(float(missing), HOST_SHARE * host.memory_bytes) if is_card else 0.0
    on_disk = missing - in_memory
    disk = find_disk_reads(deployment, host) if on_disk > 0 else None
    if missing > movable or (on_disk > 0 and disk is None):
        return None
    memory_rate = host.bytes_per_s or usual_host_bytes_per_s(machine)
    seconds = in_memory / memory_rate
    if disk is not None:
        seconds += on_disk / disk.bytes_per_s
    along = 0 if anatomy.experts or not is_card else memory.cache
    missed = missing / (movable + along)
    count = anatomy.moe_layers if anatomy.experts else anatomy.layer_count
    in_layers = movable if anatomy.experts else deployment.counted.dense_read - deployment.head_bytes + along
    what = "experts" if anatomy.experts else "layers"
    where = [*(["VRAM"] if is_card else []), *(["RAM"] if in_memory or not is_card else [])]
    where += ["SSD"] if on_disk > 0 else []
    return Split(
        missed_fraction=missed,
        bytes_per_s=missing / seconds,
        layers=min(math.ceil(missing / in_layers * count), count),
        room_bytes=int(min(movable, HOST_SHARE * host.memory_bytes + (movable if host.has_disk else 0.0))),
        in_memory_bytes=round(in_memory),
        on_disk_bytes=round(on_disk),
        placement=f"{what} over {' and '.join(where)}, {1 - missed:.0%} on the device",
        disk=disk,
    )


def find_disk_reads(deployment: Deployment, host: Host) -> DiskReads | None:
    """Return how weights come from the host's disk: as measured, or as llama.cpp's page faults use a stated rate."""
    if host.disk_reads is not None or host.disk_bytes_per_s is None:
        return host.disk_reads
    anatomy = deployment.anatomy
    if not anatomy.experts:
        return DiskReads.by_page_faults(host.disk_bytes_per_s, slice_bytes=_DENSE_SLICE_BYTES)
    pieces = max(anatomy.moe_layers, 1) * anatomy.experts * _EXPERT_MATRICES
    return DiskReads.by_page_faults(host.disk_bytes_per_s, slice_bytes=max(deployment.counted.routed / pieces, 1.0))


def movable_bytes(deployment: Deployment) -> float:
    """Return the bytes of weights that may lie behind the device: experts where there are any, else all layers."""
    counted = deployment.counted
    return counted.routed if deployment.anatomy.experts else float(counted.resident)


def name_placement(machine: Machine, count: int) -> str:
    """Return where weights lie that need no second memory."""
    where = "RAM" if machine.kind == "cpu-platform" else "unified memory" if machine.kind == "soc-unified" else "VRAM"
    return f"all in {where}" + (f" of {count} devices" if count > 1 else "")


def longest_context(deployment: Deployment, *, concurrency: int, elsewhere: int = 0) -> int | None:
    """Return the most tokens each of `concurrency` sequences can hold, at most what the model was made for.

    `elsewhere` are bytes of the weights that another memory can take. None where the device's memory is not known.
    """
    usable = deployment.usable_bytes
    if usable is None:
        return None
    low, high = 0, deployment.anatomy.max_context_tokens or 1 << 20
    while low < high:
        middle = (low + high + 1) // 2
        if deployment.compute_memory(concurrency=concurrency, context_tokens=middle).total <= usable + elsewhere:
            low = middle
        else:
            high = middle - 1
    return low
