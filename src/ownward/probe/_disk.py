"""The disk that holds a path: what is free, and how far the kernel reads ahead."""

from __future__ import annotations

import os
import shutil
from datetime import date
from pathlib import Path

from ownward.core import KIB
from ownward.probe._facts import DiskFacts, measured

_BLOCK_FOLDER = Path("/sys/dev/block")


def find_disk(path: Path, today: date, *, block_folder: Path = _BLOCK_FOLDER) -> DiskFacts | None:
    """Return what is known of the disk that holds `path`, or the nearest folder above it that exists."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        free_bytes = shutil.disk_usage(place).free
        number = place.stat().st_dev
    except OSError:
        return None

    device = _find_device(block_folder / f"{os.major(number)}:{os.minor(number)}")
    queue = None if device is None else device / "queue"
    ahead = None if queue is None else _number(queue / "read_ahead_kb")
    rotates = None if queue is None else _number(queue / "rotational")
    return DiskFacts(
        path=str(place),
        device=None if device is None else device.name,
        free_bytes=measured(free_bytes, f"statvfs {place}", today),
        read_ahead_bytes=None if ahead is None else measured(ahead * KIB, f"{queue}/read_ahead_kb", today),
        is_rotational=None if rotates is None else measured(rotates == 1, f"{queue}/rotational", today),
    )


def _find_device(link: Path) -> Path | None:
    """Return the folder of the whole disk: a partition has no queue of its own, its parent has."""
    try:
        folder = link.resolve(strict=True)
    except OSError:
        return None
    for candidate in (folder, folder.parent):
        if (candidate / "queue").is_dir():
            return candidate
    return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
