"""How a GGUF file is best served with the memory there is: mapped or read, repacked or not, how many slots. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ownward.core import KIB, MIB, format_bytes

WANTED_SLOTS = 4
WANTED_CONTEXT_TOKENS = 4096
_LEAST_CONTEXT_TOKENS = 512
# What llama.cpp and its worker keep beside weights, cache and kept prompts: 60 MiB of interpreter, up to 240 of
# buffers.
_BUFFERS_BYTES = 320 * MIB
# Memory that cannot be given back may take this share of what is available: beyond it the kernel kills.
_SAFE_FRACTION = 0.9
# Where a model is larger than memory, cache may take this share of it from the weights.
_CACHE_FRACTION = 0.25
# Below this share of the weights a repacked copy is not worth a slower start.
_WORTH_FRACTION = 0.1
_PROMPT_CACHE_BYTES = 256 * MIB
# Of prompts whose slot was taken by another, where memory is short.
_SHORT_PROMPT_CACHE_BYTES = 32 * MIB
_READ_AHEAD_LIMIT_BYTES = 256 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNeeds:
    """What a file's weights take, and a sequence beside them.

    `dense_bytes` are read by every token; `repackable_bytes` are of types of which llama.cpp makes a second, faster
    copy. `cache_bytes_per_token` is of one sequence, at 16 bits; layers with a window keep `window_bytes_per_token`
    beside it, of at most `window_tokens`.
    """

    weights_bytes: int
    dense_bytes: int
    repackable_bytes: int
    cache_bytes_per_token: float
    state_bytes: int
    window_bytes_per_token: int = 0
    window_tokens: int = 0
    max_context_tokens: int | None = None
    is_mixture: bool = False

    def sequence_bytes(self, context_tokens: int) -> float:
        """Return what a slot of `context_tokens` takes beside the weights."""
        window = min(context_tokens, self.window_tokens) * self.window_bytes_per_token
        return context_tokens * self.cache_bytes_per_token + window + self.state_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a machine has for it now; None where that is not known."""

    memory_bytes: int | None
    device: str | None = None
    read_ahead_bytes: int | None = None
    is_rotational: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What somebody asked for; None leaves it to be chosen."""

    slots: int | None = None
    context_tokens: int | None = None
    use_mmap: bool | None = None
    no_extra_bufts: bool | None = None
    warmup: bool | None = None
    prompt_cache_bytes: int | None = None

    @property
    def most_prompt_cache_bytes(self) -> int:
        """What is asked for, or what is kept where memory is not short."""
        return _PROMPT_CACHE_BYTES if self.prompt_cache_bytes is None else self.prompt_cache_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingChoice:
    """Options of the engine, why each of them, and what their user should know or change."""

    slots: int
    context_tokens: int
    use_mmap: bool
    no_extra_bufts: bool
    warmup: bool
    prompt_cache_bytes: int
    is_larger_than_memory: bool
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The fields of `EngineOptions` that it settles."""
        return {
            "slots": self.slots,
            "context_tokens": self.context_tokens,
            "use_mmap": self.use_mmap,
            "no_extra_bufts": self.no_extra_bufts,
            "warmup": self.warmup,
            "prompt_cache_bytes": self.prompt_cache_bytes,
        }


class _Way(NamedTuple):
    use_mmap: bool
    no_extra_bufts: bool
    why: str


def choose_serving(needs: ModelNeeds, room: Room, stated: Stated | None = None) -> ServingChoice:
    """Return how to serve a file with `needs` in `room`, with the reasons; what is `stated` is kept.

    In order: where the weights fit twice, they are mapped and llama.cpp makes its repacked copy; where they fit once,
    they are read and repacked in place; where they do not fit, they are mapped and read from the disk as tokens need
    them, with one slot, no copy and no warm-up (which would read all of them).
    """
    stated = stated or Stated()
    memory = room.memory_bytes
    context = stated.context_tokens or min(WANTED_CONTEXT_TOKENS, needs.max_context_tokens or WANTED_CONTEXT_TOKENS)
    slots = stated.slots or WANTED_SLOTS
    reasons: list[str] = []
    if memory is not None and stated.slots is None:
        slots = _most_slots(needs, memory, stated, context)
    is_larger = memory is not None and needs.weights_bytes + _rest(needs, stated, slots, context) > memory
    if is_larger and memory is not None:
        if stated.prompt_cache_bytes is None:
            stated = replace(stated, prompt_cache_bytes=_SHORT_PROMPT_CACHE_BYTES)
        if stated.slots is None:
            slots = 1
        if stated.context_tokens is None:
            context = _shorter_context(needs, memory, stated, slots, context)
        reasons.append(_describe_memory(needs, memory))
    if stated.slots is None and slots < WANTED_SLOTS:
        reasons.append(
            f"{slots} slot{'s' if slots > 1 else ''}: more would take memory from the weights"
            + (", and requests decoded together touch more experts" if is_larger and needs.is_mixture else "")
        )
    rest = _rest(needs, stated, slots, context)
    way = _larger_way(needs) if is_larger else _fitting_way(needs, rest, memory)
    if stated.use_mmap is None and stated.no_extra_bufts is None and way.why:
        reasons.append(way.why)
    use_mmap = way.use_mmap if stated.use_mmap is None else stated.use_mmap
    no_extra_bufts = way.no_extra_bufts if stated.no_extra_bufts is None else stated.no_extra_bufts
    if is_larger and stated.warmup is None:
        reasons.append("no warm-up: it would read all of the file")
    return ServingChoice(
        slots=slots,
        context_tokens=context,
        use_mmap=use_mmap,
        no_extra_bufts=no_extra_bufts,
        warmup=not is_larger if stated.warmup is None else stated.warmup,
        prompt_cache_bytes=stated.most_prompt_cache_bytes,
        is_larger_than_memory=is_larger,
        reasons=tuple(reasons),
        warnings=tuple(_warnings(needs, room, rest, use_mmap, no_extra_bufts, is_larger=is_larger)),
    )


def _rest(needs: ModelNeeds, stated: Stated, slots: int, context: int) -> float:
    """Return the bytes beside the weights."""
    return slots * needs.sequence_bytes(context) + _BUFFERS_BYTES + stated.most_prompt_cache_bytes


def _most_slots(needs: ModelNeeds, memory: int, stated: Stated, context: int) -> int:
    """Return how many of the wanted slots fit beside the weights, at least one."""
    room = memory - needs.weights_bytes - _rest(needs, stated, 0, context)
    each = needs.sequence_bytes(context)
    return max(min(WANTED_SLOTS, int(room // each) if each > 0 else WANTED_SLOTS), 1)


def _shorter_context(needs: ModelNeeds, memory: int, stated: Stated, slots: int, context: int) -> int:
    while (
        context > _LEAST_CONTEXT_TOKENS
        and slots * context * needs.cache_bytes_per_token > _CACHE_FRACTION * memory
        and _rest(needs, stated, slots, context) > _CACHE_FRACTION * memory
    ):
        context //= 2
    return context


def _fitting_way(needs: ModelNeeds, rest: float, memory: int | None) -> _Way:
    """Return how weights are held that fit."""
    copy = needs.repackable_bytes
    if memory is None or not copy:
        return _Way(use_mmap=True, no_extra_bufts=False, why="")
    if needs.weights_bytes + copy + rest <= _SAFE_FRACTION * memory:
        return _Way(use_mmap=True, no_extra_bufts=False, why="")
    twice = f"the weights and llama.cpp's repacked copy ({format_bytes(copy)}) do not both fit"
    if needs.weights_bytes + rest <= _SAFE_FRACTION * memory and copy >= _WORTH_FRACTION * needs.weights_bytes:
        return _Way(use_mmap=False, no_extra_bufts=False, why=f"read, not mapped, and repacked in place: {twice}")
    return _Way(use_mmap=True, no_extra_bufts=True, why=f"mapped and not repacked: {twice}")


def _larger_way(needs: ModelNeeds) -> _Way:
    why = "mapped: reading a file larger than memory ends in an out-of-memory kill"
    if needs.repackable_bytes:
        why += "; not repacked: the copy would take memory from the weights"
    return _Way(use_mmap=True, no_extra_bufts=True, why=why)


def _describe_memory(needs: ModelNeeds, memory: int) -> str:
    what = "experts" if needs.is_mixture else "weights"
    return (
        f"larger than memory: {format_bytes(needs.weights_bytes)} of weights, {format_bytes(memory)} of memory; "
        f"{what} are read from the disk as tokens need them"
    )


def _warnings(
    needs: ModelNeeds, room: Room, rest: float, use_mmap: bool, no_extra_bufts: bool, *, is_larger: bool
) -> list[str]:
    memory = room.memory_bytes
    found = []
    if memory is not None and not use_mmap and needs.weights_bytes + rest > _SAFE_FRACTION * memory:
        found.append(
            f"use_mmap = false needs {format_bytes(round(needs.weights_bytes + rest))} of {format_bytes(memory)}: "
            "the kernel may kill it while it loads"
        )
    copy = 0 if no_extra_bufts else needs.repackable_bytes
    if memory is not None and use_mmap and copy and copy + rest > _SAFE_FRACTION * memory:
        found.append(
            f"no_extra_bufts = false needs {format_bytes(round(copy + rest))} for a copy that cannot be given back, of "
            f"{format_bytes(memory)}: the kernel may kill it while it loads"
        )
    if not is_larger or memory is None:
        return found
    if needs.is_mixture:
        left = max(memory - rest - needs.dense_bytes, 0.0)
        held = min(left / max(needs.weights_bytes - needs.dense_bytes, 1), 1.0)
        found.append(f"about {held:.0%} of the experts are in memory at a time; each token waits for the rest")
    else:
        found.append("no mixture of experts: every token reads from the disk what memory does not hold")
    ahead = room.read_ahead_bytes
    if ahead is not None and ahead > _READ_AHEAD_LIMIT_BYTES:
        found.append(
            f"{room.device or 'the disk'} reads {format_bytes(ahead)} ahead, most of which no token wants: several "
            f"times slower than with 128 KiB. As root: blockdev --setra 256 /dev/{room.device or 'DEVICE'}"
        )
    if room.is_rotational:
        found.append(f"{room.device or 'the disk'} is a spinning disk: each missing expert costs a movement of its arm")
    return found
