"""Limits that a control group (a container, a service) sets on this process, version 1 or 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_GROUP_FOLDER = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")
_NO_LIMIT = 1 << 60  # version 1 writes a number near 2^63 for "none"


def read_cpu_quota(*, group_folder: Path = _GROUP_FOLDER, self_file: Path = _SELF) -> float | None:
    """Return the cores that the tightest group around this process allows, None where none limits it."""
    quotas: list[float] = []
    for folder in _folders("cpu", group_folder, self_file):
        limits = _words(folder / "cpu.max")
        if len(limits) == 2 and limits[0] != "max":  # noqa: PLR2004 - quota and period
            quotas.append(int(limits[0]) / int(limits[1]))
        quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
        if quota and period and int(quota[0]) > 0:
            quotas.append(int(quota[0]) / int(period[0]))
    return min(quotas, default=None)


def read_memory_limit(*, group_folder: Path = _GROUP_FOLDER, self_file: Path = _SELF) -> int | None:
    """Return the bytes that the tightest group around this process allows, None where none limits it."""
    limits: list[int] = []
    for folder in _folders("memory", group_folder, self_file):
        for name in ("memory.max", "memory.limit_in_bytes"):
            words = _words(folder / name)
            if words and words[0] != "max" and int(words[0]) < _NO_LIMIT:
                limits.append(int(words[0]))
    return min(limits, default=None)


def _folders(controller: str, group_folder: Path, self_file: Path) -> Iterator[Path]:
    """Yield the folders of this process's group and of each group around it, for both versions."""
    try:
        lines = self_file.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            root = group_folder
        elif controller in controllers.split(","):
            root = group_folder / controller
        else:
            continue
        folder = root / path.lstrip("/")
        while True:
            yield folder
            if folder == root or root not in folder.parents:
                break
            folder = folder.parent


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
