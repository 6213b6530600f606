"""How a file is served with the memory there is: the ways, their order, their reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ownward.core import GIB, KIB, MIB
from ownward.engines import ModelNeeds, Room, Stated, choose_serving

MIXTURE = ModelNeeds(
    weights_bytes=4 * GIB,
    dense_bytes=300 * MIB,
    repackable_bytes=int(3.8 * GIB),
    cache_bytes_per_token=4096,
    state_bytes=12 * MIB,
    max_context_tokens=32768,
    is_mixture=True,
)


def room(gigabytes: float, **more: object) -> Room:
    return Room(memory_bytes=int(gigabytes * GIB), device="nvme0n1", **more)  # type: ignore[arg-type]


def test_weights_that_fit_twice_are_mapped_and_repacked_without_a_word() -> None:
    found = choose_serving(MIXTURE, room(16))
    assert (found.use_mmap, found.no_extra_bufts, found.warmup, found.slots) == (True, False, True, 4)
    assert (found.reasons, found.warnings) == ((), ())


def test_the_caches_of_layers_with_a_window_take_slots_as_others_do() -> None:
    """A slot of Gemma 4 31B keeps 800 KiB of each of 1,536 tokens, and 80 of every one."""
    windows = replace(
        MIXTURE, repackable_bytes=0, cache_bytes_per_token=81_920, window_bytes_per_token=819_200, window_tokens=1536
    )
    assert windows.sequence_bytes(4096) == 4096 * 81_920 + 1536 * 819_200 + 12 * MIB
    assert windows.sequence_bytes(512) == 512 * (81_920 + 819_200) + 12 * MIB
    assert choose_serving(windows, room(8)).slots == 2
    assert choose_serving(replace(windows, window_tokens=0), room(8)).slots == 4


def test_weights_that_fit_once_are_read_and_repacked_in_place() -> None:
    found = choose_serving(MIXTURE, room(6))
    assert (found.use_mmap, found.no_extra_bufts) == (False, False)
    assert any("repacked in place" in reason for reason in found.reasons)


def test_weights_that_fit_barely_are_mapped_so_that_nothing_is_killed() -> None:
    found = choose_serving(MIXTURE, room(4.95))
    assert (found.use_mmap, found.no_extra_bufts, found.is_larger_than_memory) == (True, True, False)


def test_weights_without_types_to_repack_are_mapped_wherever_they_fit() -> None:
    plain = replace(MIXTURE, repackable_bytes=0)
    for gigabytes in (5, 6, 16):
        found = choose_serving(plain, room(gigabytes))
        assert (found.use_mmap, found.no_extra_bufts) == (True, False)


def test_a_mixture_larger_than_memory_gets_one_slot_no_copy_and_no_warm_up() -> None:
    found = choose_serving(MIXTURE, room(2))
    assert found.is_larger_than_memory
    assert (found.use_mmap, found.no_extra_bufts, found.warmup, found.slots) == (True, True, False, 1)
    assert found.prompt_cache_bytes < 256 * MIB
    assert any("larger than memory: 4.00 GiB of weights, 2.00 GiB of memory" in reason for reason in found.reasons)
    assert any("of the experts are in memory" in warning for warning in found.warnings)


@pytest.mark.parametrize(("ahead", "is_told"), [(128 * KIB, False), (256 * KIB, False), (8 * MIB, True), (None, False)])
def test_far_read_ahead_is_told_only_where_the_disk_is_read(ahead: int | None, is_told: bool) -> None:
    short = choose_serving(MIXTURE, room(2, read_ahead_bytes=ahead))
    assert any("blockdev --setra 256 /dev/nvme0n1" in warning for warning in short.warnings) == is_told
    assert choose_serving(MIXTURE, room(16, read_ahead_bytes=ahead)).warnings == ()


def test_a_disk_that_turns_is_told_where_it_is_read() -> None:
    assert any("spinning disk" in warning for warning in choose_serving(MIXTURE, room(2, is_rotational=True)).warnings)


def test_slots_shrink_before_weights_are_pushed_out() -> None:
    wide = replace(MIXTURE, cache_bytes_per_token=200 * KIB, repackable_bytes=0)
    found = choose_serving(wide, room(6.5))
    assert not found.is_larger_than_memory
    assert 1 <= found.slots < 4
    assert any("slot" in reason for reason in found.reasons)


def test_context_shrinks_where_cache_would_take_most_of_a_short_memory() -> None:
    wide = replace(MIXTURE, cache_bytes_per_token=400 * KIB)
    found = choose_serving(wide, room(2))
    assert found.context_tokens < 4096
    assert found.context_tokens >= 512


def test_what_is_stated_is_kept_and_its_danger_said() -> None:
    found = choose_serving(MIXTURE, room(2), Stated(slots=3, context_tokens=2048, use_mmap=False, warmup=True))
    assert (found.slots, found.context_tokens, found.use_mmap, found.warmup) == (3, 2048, False, True)
    assert any("use_mmap = false" in warning and "kill" in warning for warning in found.warnings)
    copied = choose_serving(MIXTURE, room(2), Stated(no_extra_bufts=False))
    assert any("no_extra_bufts = false" in warning for warning in copied.warnings)


def test_unknown_memory_changes_nothing() -> None:
    found = choose_serving(MIXTURE, Room(memory_bytes=None))
    assert (found.slots, found.use_mmap, found.no_extra_bufts, found.warmup) == (4, True, False, True)
    assert found.reasons == ()


def test_more_memory_never_serves_fewer_slots_or_from_the_disk() -> None:
    found = [choose_serving(MIXTURE, room(size / 4)) for size in range(2, 60)]
    assert [one.slots for one in found] == sorted(one.slots for one in found)
    assert [one.is_larger_than_memory for one in found] == sorted(
        (one.is_larger_than_memory for one in found), reverse=True
    )


def test_no_choice_takes_more_than_there_is() -> None:
    for size in range(18, 80):
        memory = int(size / 4 * GIB)
        found = choose_serving(MIXTURE, Room(memory_bytes=memory))
        own = 0 if found.use_mmap else MIXTURE.weights_bytes
        copy = 0 if found.no_extra_bufts or not found.use_mmap else MIXTURE.repackable_bytes
        cache = found.slots * (found.context_tokens * MIXTURE.cache_bytes_per_token + MIXTURE.state_bytes)
        assert own + copy + cache + found.prompt_cache_bytes <= memory
