"""Measuring this machine: quick, in order, and never one number alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ownward.core import GIB, KIB, MIB, BadInput
from ownward.probe import (
    measure_busy_cores,
    measure_disk_read,
    measure_fault_read,
    measure_memory_bandwidth,
    this_machine,
    usable_cores,
)


@pytest.mark.parametrize("kernel", ["copy", "read", "write"])
def test_memory_bandwidth_is_a_range_of_plausible_rates(kernel):
    measured = measure_memory_bandwidth(threads=2, kernel=kernel, working_bytes=64 * MIB, runs=5)
    assert 0 < measured.low_bytes_per_s <= measured.median_bytes_per_s <= measured.high_bytes_per_s
    assert measured.median_bytes_per_s < 20_000 * 1e9
    assert measured.median_bytes_per_s > 0.1 * GIB
    fact = measured.as_sourced()
    assert fact.basis == "measured"
    assert "median of 5 runs" in fact.source


def test_disk_reads_leave_nothing_behind(tmp_path: Path):
    measured = measure_disk_read(tmp_path, cases=((64 * KIB, 1), (64 * KIB, 4)), seconds=0.05)
    assert [(case.block_bytes, case.depth) for case in measured] == [(64 * KIB, 1), (64 * KIB, 4)]
    assert all(case.bytes_per_s > 0 and case.reads > 0 for case in measured)
    assert list(tmp_path.iterdir()) == []


def test_a_file_can_be_read_in_place_and_blocks_larger_than_it_are_left_out(tmp_path: Path):
    path = tmp_path / "weights"
    path.write_bytes(b"x" * MIB)
    measured = measure_disk_read(path, cases=((256 * KIB, 1), (2 * MIB, 1)), seconds=0.02)
    assert [case.block_bytes for case in measured] == [256 * KIB]


def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="cannot be measured"):
        measure_disk_read(tmp_path / "none")


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system cannot be asked to forget a file")
@pytest.mark.parametrize("threads", [1, 2])
def test_page_faults_are_measured_and_leave_nothing_behind(tmp_path: Path, threads: int):
    measured = measure_fault_read(tmp_path, slice_bytes=256 * KIB, threads=threads, seconds=0.1)
    assert measured.slices >= 6
    assert 0 < measured.low_bytes_per_s <= measured.high_bytes_per_s
    assert measured.low_bytes_per_s <= measured.bytes_per_s <= measured.high_bytes_per_s * 1.5
    assert measured.over_read is None or measured.over_read > 0.9
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system cannot be asked to forget a file")
def test_page_faults_leave_a_file_as_it_was_and_refuse_one_too_small(tmp_path: Path):
    path = tmp_path / "weights"
    content = os.urandom(2 * MIB)
    path.write_bytes(content)
    measure_fault_read(path, slice_bytes=256 * KIB, seconds=0.05)
    assert path.read_bytes() == content
    with pytest.raises(BadInput, match="too small"):
        measure_fault_read(path, slice_bytes=MIB)
    with pytest.raises(BadInput, match="cannot be measured"):
        measure_fault_read(tmp_path / "none")


def test_busy_cores_are_seen_and_the_whole_description_is_quick(tmp_path: Path):
    assert measure_busy_cores(sample_s=0.05) >= 0
    assert usable_cores() >= 1
    began = time.monotonic()
    this_machine(path=tmp_path)
    assert time.monotonic() - began < 5
