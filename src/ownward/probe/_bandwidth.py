"""How fast memory and disk really are, now: several runs, reported as lowest, median and highest."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ownward.core import KIB, MIB, BadInput, Sourced, SystemClock

Kernel = Literal["copy", "read", "write"]

_RUNS = 7
_WORKING_BYTES = 256 * MIB  # several times the last-level cache of most machines
_DISK_FILE_BYTES = 128 * MIB
_DISK_S = 0.25
_PAGE_BYTES = 4096
_PRESENT, _ABSENT = 1, 7  # what memory is filled with, and a byte that a search does not find


@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthMeasurement:
    """Memory traffic of one kernel: `copy` counts bytes read and written, `read` and `write` one of the two."""

    kernel: Kernel
    threads: int
    working_bytes: int
    runs: int
    low_bytes_per_s: float
    median_bytes_per_s: float
    high_bytes_per_s: float

    def as_sourced(self) -> Sourced[float]:
        """Return the median as a fact; its note holds the range."""
        return Sourced(
            value=self.median_bytes_per_s,
            basis="measured",
            source=f"{self.kernel} kernel, {self.threads} threads, median of {self.runs} runs",
            checked_on=SystemClock().now().date(),
            note=f"{self.low_bytes_per_s / 1e9:.1f} to {self.high_bytes_per_s / 1e9:.1f} GB/s",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskReadMeasurement:
    """Random reads of one block size with so many at once; `is_direct` says that no cache was in between."""

    block_bytes: int
    depth: int
    bytes_per_s: float
    reads: int
    is_direct: bool


def measure_memory_bandwidth(
    *, threads: int, kernel: Kernel = "read", working_bytes: int = _WORKING_BYTES, runs: int = _RUNS
) -> BandwidthMeasurement:
    """Return the memory bandwidth that `threads` reach together; about a second.

    `copy` is the C library's memmove, `read` its memchr for an absent byte, `write` its memset.
    It is evidence beside a datasheet, not in place of it: other work on the
    machine is in it. Allocates `working_bytes` (for `copy` twice).
    """
    share = working_bytes // threads
    barrier = threading.Barrier(threads)
    move, search = load_kernels()

    def work(_index: int) -> list[tuple[float, float]]:
        spans = []
        with _filled(share) as source, _filled(share if kernel == "copy" else 1) as target:
            for _ in range(runs + 1):
                barrier.wait()
                began = time.perf_counter()
                if kernel == "copy":
                    move(target, source, share)
                elif kernel == "read":
                    search(source, _ABSENT, share)
                else:
                    ctypes.memset(source, _PRESENT, share)
                spans.append((began, time.perf_counter()))
        return spans

    with ThreadPoolExecutor(threads) as pool:
        by_thread = list(pool.map(work, range(threads)))
    # A run lasts from the first thread's begin to the last one's end; the first run warms up.
    runs_spans = list(zip(*by_thread, strict=True))[1:]
    seconds = [max(end for _, end in spans) - min(began for began, _ in spans) for spans in runs_spans]
    moved = share * threads * (2 if kernel == "copy" else 1)
    rates = [moved / duration for duration in seconds]
    return BandwidthMeasurement(
        kernel=kernel,
        threads=threads,
        working_bytes=working_bytes,
        runs=runs,
        low_bytes_per_s=min(rates),
        median_bytes_per_s=statistics.median(rates),
        high_bytes_per_s=max(rates),
    )


def load_kernels() -> tuple[Callable[[int, int, int], object], Callable[[int, int, int], object]]:
    """Return the C library's memmove and memchr, which run beside each other: ctypes lets go of the interpreter."""
    library = ctypes.CDLL(None) if os.name == "posix" else ctypes.CDLL("msvcrt")
    move, search = library.memmove, library.memchr
    move.argtypes, move.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t), ctypes.c_void_p
    search.argtypes, search.restype = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t), ctypes.c_void_p
    return move, search


@contextmanager
def _filled(size: int) -> Iterator[int]:
    """Give the address of memory whose pages are really there: the system gives them at the first touch."""
    with mmap.mmap(-1, size) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):  # otherwise misses of the page tables are measured too
            memory.madvise(mmap.MADV_HUGEPAGE)
        view = (ctypes.c_char * size).from_buffer(memory)
        address = ctypes.addressof(view)
        ctypes.memset(address, _PRESENT, size)
        yield address
        del view


def measure_disk_read(
    path: Path,
    *,
    cases: tuple[tuple[int, int], ...] = ((128 * KIB, 1), (128 * KIB, 8), (1024 * KIB, 8)),
    seconds: float = _DISK_S,
) -> tuple[DiskReadMeasurement, ...]:
    """Return random-read rates of the disk for (block size, reads at once); `seconds` for each.

    `path` is a file to read, which should be larger than any cache in the disk,
    or a folder, where a file of 128 MiB is written and removed.
    Raises: BadInput, if the path is neither or cannot be read.
    """
    try:
        if path.is_dir():
            with tempfile.NamedTemporaryFile(dir=path, prefix=".ownward-disk-") as file:
                block = os.urandom(MIB)
                for _ in range(_DISK_FILE_BYTES // MIB):
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
                return _measure_file(Path(file.name), cases, seconds)
        return _measure_file(path, cases, seconds)
    except OSError as error:
        raise BadInput(
            f"the disk cannot be measured: {error.strerror}",
            where=str(path),
            next_step="Give a large file, or a folder that can be written",
        ) from error


def _measure_file(path: Path, cases: tuple[tuple[int, int], ...], seconds: float) -> tuple[DiskReadMeasurement, ...]:
    descriptor, is_direct = _open(path)
    try:
        size = os.fstat(descriptor).st_size
        return tuple(
            _measure_case(descriptor, size, block, depth, seconds, is_direct=is_direct)
            for block, depth in cases
            if size >= block
        )
    finally:
        os.close(descriptor)


def _open(path: Path) -> tuple[int, bool]:
    """Open past the cache where the file system allows it; otherwise ask the kernel to forget the file."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECT), True
    except (OSError, AttributeError):
        descriptor = os.open(path, os.O_RDONLY)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return descriptor, False


def _measure_case(
    descriptor: int, size: int, block: int, depth: int, seconds: float, *, is_direct: bool
) -> DiskReadMeasurement:
    ends_at = time.perf_counter() + seconds

    def read(seed: int) -> int:
        draw = random.Random(seed)
        done = 0
        with mmap.mmap(-1, block) as buffer:  # aligned to a page, as reading past the cache wants
            while time.perf_counter() < ends_at:
                offset = draw.randrange((size - block) // _PAGE_BYTES + 1) * _PAGE_BYTES
                os.preadv(descriptor, [buffer], offset)
                done += 1
        return done

    began = time.perf_counter()
    with ThreadPoolExecutor(depth) as pool:
        reads = sum(pool.map(read, range(depth)))
    return DiskReadMeasurement(
        block_bytes=block,
        depth=depth,
        bytes_per_s=reads * block / (time.perf_counter() - began),
        reads=reads,
        is_direct=is_direct,
    )
