"""A file that is written through memory, where its file system overwrites what is there in its place.

A note is then a copy of some bytes: no call of the system, and the interpreter's lock stays with who writes. A process
that is killed leaves what it wrote, as with any other way of writing. But where new blocks would be needed and the disk
is full, or the file was cut short, the system kills the process (SIGBUS): so only file systems are trusted with it that
need none for bytes that were written before. Others (Btrfs and ZFS write anew, NFS and overlays hide what they are)
are written by calls.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from pathlib import Path
from typing import Final

_IN_PLACE: Final = frozenset({"ext2", "ext3", "ext4", "tmpfs", "xfs"})
_MOUNTS: Final = Path("/proc/self/mountinfo")
_DEVICE, _KIND = 2, 0  # which word of a line, and which behind its dash; see proc_pid_mountinfo(5)


def map_in_place(file: int, size: int) -> mmap.mmap | None:
    """Return the memory of an open file of `size` bytes, all of them written before; None where it may not be trusted.

    Closing it leaves the file open.
    """
    if find_file_system(file) not in _IN_PLACE:
        return None
    with contextlib.suppress(OSError, ValueError):
        return mmap.mmap(file, size)
    return None


def find_file_system(file: int) -> str | None:
    """Return the kind of file system that an open file lies on; None where that is not told, as on other than Linux."""
    try:
        device = os.fstat(file).st_dev
        lines = _MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    named = f"{os.major(device)}:{os.minor(device)}"
    kinds = {
        behind.split(" ")[_KIND]
        for before, _, behind in (line.partition(" - ") for line in lines)
        if before.split(" ")[_DEVICE : _DEVICE + 1] == [named]
    }
    return kinds.pop() if len(kinds) == 1 else None
