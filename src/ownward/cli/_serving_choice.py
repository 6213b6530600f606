"""What `serve` and `fit` ask before an engine starts: what a model needs, what room there is, and what follows."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ownward.core import OwnwardError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ownward.anatomy import Anatomy
    from ownward.config import Settings
    from ownward.engines import ModelNeeds, Room, ServingChoice, Stated

# Bits a weight of the types of which llama.cpp (b11549) makes a repacked copy, and the share of a file in a format
# that such types are. The rest of a k-quant file is in wider types, which are used as they lie.
_REPACKED_BITS = {"x86_64": (4.25, 4.5), "AMD64": (4.25, 4.5), "arm64": (4.25, 4.5, 8.5), "aarch64": (4.25, 4.5, 8.5)}
_REPACKED_SHARES = {"q4_0": 0.95, "iq4_nl": 0.95, "q4_k_s": 0.9, "q4_k_m": 0.75, "q4_k_l": 0.75, "q4_k_xl": 0.75}
_BITS_TOLERANCE = 0.01
_CHUNK_TOKENS = 512  # llama.cpp's n_ubatch
# What virtual machines show as turning whatever is behind it.
_VIRTUAL_DISKS = ("vd", "xvd")


def room_for(path: Path | None) -> Room:
    """Return the memory that is free now, within the control group's limit, and the disk under `path`."""
    from ownward.engines import Room
    from ownward.probe import this_machine

    facts = this_machine(path=path)
    disk = facts.disk
    is_virtual = disk is not None and (disk.device or "").startswith(_VIRTUAL_DISKS)
    return Room(
        memory_bytes=min(facts.available_memory_bytes.value, facts.usable_memory_bytes),
        device=None if disk is None else disk.device,
        read_ahead_bytes=None if disk is None or disk.read_ahead_bytes is None else disk.read_ahead_bytes.value,
        is_rotational=None if disk is None or is_virtual or disk.is_rotational is None else disk.is_rotational.value,
    )


def needs_of(model: Anatomy, weights: str = "native") -> ModelNeeds:
    """Return what a model needs in a format; `native` is as its own file stores it."""
    from ownward.anatomy import ring_tokens
    from ownward.engines import ModelNeeds

    if weights == "native" and model.is_from_tensors:  # told by the file: `serve` need not load what predicts
        resident, repackable = model.weights_bytes(), _repackable_bytes(model)
        dense = model.step_bytes(1.0) - _active_expert_bytes(model)
    else:
        from ownward.perf import weight_bytes

        counted = weight_bytes(model, weights)
        resident, dense = counted.resident, counted.dense_read
        repackable = round(_REPACKED_SHARES.get(weights, 0.0) * resident)
    return ModelNeeds(
        weights_bytes=resident,
        dense_bytes=round(dense),
        repackable_bytes=repackable,
        cache_bytes_per_token=_cache_bytes_per_token(model),
        state_bytes=model.recurrent_state_bytes_per_seq,
        window_bytes_per_token=model.window_kv_bytes_per_slot_bf16,
        window_tokens=ring_tokens(model.window_tokens, _CHUNK_TOKENS),
        max_context_tokens=model.max_context_tokens,
        is_mixture=bool(model.experts),
    )


def _active_expert_bytes(model: Anatomy) -> float:
    """Return the bytes of the routed experts that one token reads."""
    from ownward.anatomy import Role

    if not model.experts:
        return 0.0
    return model.weights_bytes_by_role()[Role.ROUTED_EXPERTS] * model.experts_per_tok / model.experts


def _cache_bytes_per_token(model: Anatomy) -> float:
    if "cache" in model.unsupported:
        return 0.0
    return float(model.kv_bytes_per_token_bf16 + model.indexer_key_bytes_per_token_bf16)


def _repackable_bytes(model: Anatomy) -> int:
    """Return the bytes of the tensors of which llama.cpp makes a copy on this kind of processor."""
    bits = _REPACKED_BITS.get(platform.machine(), ())
    return sum(
        weight.file_bytes * count
        for weight, count in model.blueprint.counted_weights()
        if weight.op == "matmul"
        and weight.elements
        and any(abs(8 * weight.file_bytes / weight.elements - width) < _BITS_TOLERANCE for width in bits)
    )


def stated_in(settings: Settings) -> Stated:
    """Return what the settings say of the engine; what they leave out is chosen."""
    from ownward.engines import Stated

    engine = settings.engine
    return Stated(
        slots=engine.slots,
        context_tokens=engine.context_tokens,
        use_mmap=engine.use_mmap,
        no_extra_bufts=engine.no_extra_bufts,
    )


def choose_for_file(path: Path, stated: Stated, *, room: Room | None = None) -> ServingChoice:
    """Return how to serve a GGUF file on this machine now.

    A file that cannot be read, or whose anatomy is not known, is served as if it fitted: the engine says what is wrong.
    """
    from ownward import anatomy
    from ownward.engines import ModelNeeds, choose_serving

    try:
        needs = needs_of(anatomy.read(path))
    except (OwnwardError, OSError):
        size = path.stat().st_size if path.is_file() else 0
        needs = ModelNeeds(
            weights_bytes=size, dense_bytes=size, repackable_bytes=0, cache_bytes_per_token=0.0, state_bytes=0
        )
    return choose_serving(needs, room_for(path) if room is None else room, stated)


def choose_for_files(files: Mapping[str, tuple[Path, Stated]]) -> dict[str, ServingChoice]:
    """Return how to serve several files side by side: each has the memory that those before it leave."""
    taken = 0
    found: dict[str, ServingChoice] = {}
    for name, (path, stated) in files.items():
        room = room_for(path)
        if room.memory_bytes is not None:
            room = replace(room, memory_bytes=max(room.memory_bytes - taken, 0))
        found[name] = choose_for_file(path, stated, room=room)
        taken += path.stat().st_size if path.is_file() else 0
    return found
