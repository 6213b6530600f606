"""This machine, described from what its operating system and drivers say; nothing is measured by force."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import date
from pathlib import Path

from ownward.core import Clock, Sourced, SystemClock, format_bytes
from ownward.probe._cores import allowed_cpus, count_physical_cores, usable_cores
from ownward.probe._disk import find_disk
from ownward.probe._facts import MachineFacts, measured
from ownward.probe._gpus import find_gpus
from ownward.probe._groups import read_cpu_quota, read_memory_limit
from ownward.probe._processor import read_cpuinfo, read_sysctl

_CPUINFO = Path("/proc/cpuinfo")
_SYSCTL_NAMES = ("machdep.cpu.brand_string", "hw.memsize", "hw.physicalcpu", "hw.logicalcpu")


def this_machine(*, path: Path | None = None, clock: Clock | None = None) -> MachineFacts:
    """Return what this machine is, with the disk that holds `path`; well under a second.

    Drivers that are not there are passed over. Each fact says which file or call it came from.
    """
    import psutil

    today = (clock or SystemClock()).now().date()

    memory = psutil.virtual_memory()
    model, features = _find_processor(today)
    quota, limit = read_cpu_quota(), read_memory_limit()
    cores = usable_cores()
    logical = psutil.cpu_count() or os.cpu_count() or 1
    gpus = find_gpus(today)
    title = model.value if model is not None else platform.machine() or "this machine"
    devices = [gpu.name.value for gpu in gpus]
    return MachineFacts(
        name=", ".join([f"{title}, {cores} cores, {format_bytes(memory.total)}", *devices]),
        system=f"{platform.system()} {platform.release()}",
        cpu_model=model,
        cpu_features=features,
        physical_cores=measured(count_physical_cores(), "operating system, by psutil", today),
        logical_cores=measured(logical, "operating system, by psutil", today),
        usable_cores=measured(
            cores,
            f"affinity ({len(allowed_cpus()) or logical} of {logical}) and control group, hyper-threads once",
            today,
        ),
        cpu_quota_cores=None if quota is None else measured(quota, "control group", today),
        memory_bytes=measured(int(memory.total), "operating system, by psutil", today),
        available_memory_bytes=measured(int(memory.available), "operating system, by psutil", today),
        memory_limit_bytes=None if limit is None else measured(limit, "control group", today),
        disk=None if path is None else find_disk(path, today),
        gpus=gpus,
    )


def _find_processor(today: date) -> tuple[Sourced[str] | None, Sourced[tuple[str, ...]] | None]:

    try:
        model, features = read_cpuinfo(_CPUINFO.read_text())
    except OSError:
        values = read_sysctl(_run_sysctl())
        model, features = values.get("machdep.cpu.brand_string"), ()
        return (None if model is None else measured(model, "sysctl machdep.cpu.brand_string", today)), None
    return (
        None if model is None else measured(model, str(_CPUINFO), today),
        measured(features, str(_CPUINFO), today) if features else None,
    )


def _run_sysctl() -> str:
    path = shutil.which("sysctl")
    if path is None:
        return ""
    try:
        done = subprocess.run([path, *_SYSCTL_NAMES], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
