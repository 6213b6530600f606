"""How many cores this process may really use: physical ones, within its affinity and its control group's quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CPU_FOLDER = Path("/sys/devices/system/cpu")
_GROUP_FOLDER = Path("/sys/fs/cgroup")


def usable_cores(*, cpu_folder: Path = _CPU_FOLDER, group_folder: Path = _GROUP_FOLDER) -> int:
    """Return the physical cores this process may use: at least one.

    Hyper-threads of one core count once; a control group's quota is rounded down.
    """
    allowed = _allowed_cpus()
    cores = len({_siblings(cpu, cpu_folder) for cpu in allowed}) if allowed else _physical_cores()
    quota = read_cpu_quota(group_folder)
    return max(1, min(cores, math.floor(quota) if quota is not None else cores))


def measure_busy_cores(*, sample_s: float = 0.2) -> float:
    """Return how many logical cores of the whole machine were busy over a sample; 0.0 where that cannot be seen."""
    import psutil  # type: ignore[import-untyped]

    share: float = psutil.cpu_percent(interval=sample_s) / 100.0
    return share * (psutil.cpu_count() or 1)


def _allowed_cpus() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _siblings(cpu: int, folder: Path) -> str:
    try:
        return (folder / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _physical_cores() -> int:
    import psutil

    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def read_cpu_quota(group_folder: Path = _GROUP_FOLDER) -> float | None:
    """Return the cores a control group (v2 or v1) allows, None where it sets no limit."""
    try:
        limit, period = (group_folder / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota = int((group_folder / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((group_folder / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota / period_us if quota > 0 else None
