"""How fast a mapped file comes from its disk by page faults, which is how a model larger than memory is read."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ownward.core import KIB, MIB, BadInput
from ownward.probe._bandwidth import load_kernels

_FILE_BYTES = 128 * MIB
_SECONDS = 0.75
_LEAST_SLICES = 6
_MOST_SLICES = 4000
_IO = Path("/proc/self/io")
SLICE_BYTES = 576 * KIB
"""One matrix of one expert of Qwen3.5-35B-A3B in four bits: what is read in one piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultReadMeasurement:
    """Slices of a mapped file, none in memory before, read by `threads` that share each slice.

    `bytes_per_s` counts the bytes asked for. `over_read` is how many bytes the kernel read from the disk for each of
    them: what it reads ahead and nobody asked for is more than 1, and None where the system does not count it.
    """

    slice_bytes: int
    threads: int
    slices: int
    bytes_per_s: float
    low_bytes_per_s: float
    high_bytes_per_s: float
    over_read: float | None


def measure_fault_read(
    path: Path, *, slice_bytes: int = SLICE_BYTES, threads: int = 1, seconds: float = _SECONDS, seed: int = 0
) -> FaultReadMeasurement:
    """Return how fast random slices of a file come by page faults, each after the kernel was made to forget the file.

    `path` is a file or block device (what memory holds of it is dropped), or a folder, where 128 MiB are written and
    removed. Low and high are of single slices, the 10th and 90th percentile.
    Raises: BadInput, if the path is neither, too small or cannot be read, or the system cannot forget pages.
    """
    if not hasattr(os, "posix_fadvise"):
        raise BadInput("page faults cannot be measured: this system cannot be asked to forget a file")
    try:
        if path.is_dir():
            with tempfile.NamedTemporaryFile(dir=path, prefix=".ownward-fault-") as file:
                block = os.urandom(MIB)
                for _ in range(_FILE_BYTES // MIB):
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
                return _measure(Path(file.name), slice_bytes, threads, seconds, seed)
        return _measure(path, slice_bytes, threads, seconds, seed)
    except OSError as error:
        raise BadInput(
            f"page faults cannot be measured: {error.strerror}",
            where=str(path),
            next_step="Give a large file, or a folder that can be written",
        ) from error


def _measure(path: Path, slice_bytes: int, threads: int, seconds: float, seed: int) -> FaultReadMeasurement:
    draw = random.Random(seed)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if size < 4 * slice_bytes:
            raise BadInput("the file is too small to measure page faults", where=str(path), allowed="4 slices or more")
        with mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY) as mapped:  # never written to: pages stay shared
            view = (ctypes.c_char * size).from_buffer(mapped)
            spans: list[float] = []
            read_before = _read_bytes()
            try:
                began = time.perf_counter()
                while len(spans) < _LEAST_SLICES or (
                    time.perf_counter() - began < seconds and len(spans) < _MOST_SLICES
                ):
                    mapped.madvise(mmap.MADV_DONTNEED)
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                    start = draw.randrange((size - slice_bytes) // mmap.PAGESIZE) * mmap.PAGESIZE
                    spans.append(_touch(ctypes.addressof(view) + start, slice_bytes, threads))
                read_after = _read_bytes()
            finally:
                del view
    finally:
        os.close(descriptor)
    rates = sorted(slice_bytes / span for span in spans)
    over = None if read_before is None or read_after is None else (read_after - read_before) / slice_bytes / len(spans)
    return FaultReadMeasurement(
        slice_bytes=slice_bytes,
        threads=threads,
        slices=len(spans),
        bytes_per_s=slice_bytes * len(spans) / sum(spans),
        low_bytes_per_s=statistics.quantiles(rates, n=10)[0],
        high_bytes_per_s=statistics.quantiles(rates, n=10)[-1],
        over_read=over or None,
    )


def _touch(address: int, size: int, threads: int) -> float:
    """Return the seconds in which `threads` read a slice together, each an equal part of it."""
    move, _ = load_kernels()
    share = size // threads
    buffers = [ctypes.create_string_buffer(share) for _ in range(threads)]

    def work(index: int) -> None:
        move(ctypes.addressof(buffers[index]), address + index * share, share)

    if threads == 1:
        began = time.perf_counter()
        work(0)
        return time.perf_counter() - began
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        list(pool.map(work, range(threads)))
        return time.perf_counter() - began


def _read_bytes() -> int | None:
    """Return the bytes this process has had read from disks, None where the system does not count them."""
    try:
        lines = _IO.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("read_bytes:")), None)
