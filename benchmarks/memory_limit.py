"""Less memory than the machine has, for a process and its children: a control group, or a locked ballast."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_ROOT = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How memory was limited; `procs` is the file into which a process writes its id to come under it."""

    kind: str
    bytes: int | None
    procs: Path | None = None
    peak_file: Path | None = None

    @property
    def peak_bytes(self) -> int | None:
        """The most that the group has used, page cache included."""
        return None if self.peak_file is None else int(self.peak_file.read_text())


@contextlib.contextmanager
def limited(size: int | None) -> Iterator[Limit]:
    """Give a limit of `size` bytes, page cache included; None limits nothing.

    A control group where one may be made. Otherwise so much memory is locked that about `size` bytes stay available
    to the whole machine: right only where nothing else runs.
    """
    if size is None:
        yield Limit(kind="none", bytes=None)
        return
    for made in (_make_v1, _make_v2):
        folder = made(size)
        if folder is None:
            continue
        peak = next(
            (folder / name for name in ("memory.peak", "memory.max_usage_in_bytes") if (folder / name).exists()), None
        )
        try:
            yield Limit(
                kind=made.__name__.removeprefix("_make_"), bytes=size, procs=folder / "cgroup.procs", peak_file=peak
            )
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()
        return
    with _ballast(max(psutil.virtual_memory().available - size, 0)):
        yield Limit(kind="ballast", bytes=size)


def _make_v1(size: int) -> Path | None:
    own = next(
        (line.split(":", 2)[2] for line in _SELF.read_text().splitlines() if line.split(":")[1] == "memory"), None
    )
    return None if own is None else _make(_ROOT / "memory" / own.lstrip("/"), "memory.limit_in_bytes", size)


def _make_v2(size: int) -> Path | None:
    own = next((line[3:] for line in _SELF.read_text().splitlines() if line.startswith("0::")), None)
    if own is None or not (_ROOT / "cgroup.controllers").exists():
        return None
    parent = _ROOT / own.lstrip("/")
    with contextlib.suppress(OSError):  # the group may have it already
        (parent / "cgroup.subtree_control").write_text("+memory")
    return _make(parent, "memory.max", size)


def _make(parent: Path, file: str, size: int) -> Path | None:
    folder = parent / f"ownward-moe-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        return None
    try:
        (folder / file).write_text(str(size))
    except OSError:
        folder.rmdir()
        return None
    return folder


@contextlib.contextmanager
def _ballast(size: int) -> Iterator[None]:
    """Lock `size` bytes of memory.

    Raises: OSError, where that is not allowed.
    """
    if not size:
        yield
        return
    with mmap.mmap(-1, size) as memory:
        view = (ctypes.c_char * size).from_buffer(memory)
        library = ctypes.CDLL(None, use_errno=True)
        if library.mlock(ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(size)) != 0:
            del view
            raise OSError(ctypes.get_errno(), f"memory cannot be locked ({size} bytes): no control group, no ballast")
        try:
            yield
        finally:
            del view
