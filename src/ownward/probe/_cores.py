"""How many cores this process may really use: physical ones, within its affinity and its control group's quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

from ownward.probe._groups import read_cpu_quota

_CPU_FOLDER = Path("/sys/devices/system/cpu")


def usable_cores() -> int:
    """Return the physical cores this process may use: at least one.

    Hyper-threads of one core count once; a control group's quota is rounded down.
    """
    allowed = allowed_cpus()
    cores = count_cores(allowed) if allowed else count_physical_cores()
    quota = read_cpu_quota()
    return max(1, cores if quota is None else min(cores, math.floor(quota)))


def measure_busy_cores(*, sample_s: float = 0.2) -> float:
    """Return how many logical cores of the whole machine were busy over a sample; 0.0 where that cannot be seen."""
    import psutil

    share: float = psutil.cpu_percent(interval=sample_s) / 100.0
    return share * (psutil.cpu_count() or 1)


def allowed_cpus() -> set[int]:
    """Return the logical cores this process is allowed on; empty where the system does not say."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def count_cores(cpus: set[int], *, cpu_folder: Path = _CPU_FOLDER) -> int:
    """Return how many physical cores carry the logical cores `cpus`."""
    return len({_siblings(cpu, cpu_folder) for cpu in cpus})


def count_physical_cores() -> int:
    """Return the machine's physical cores, as far as the system says."""
    import psutil

    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def _siblings(cpu: int, folder: Path) -> str:
    try:
        return (folder / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)
