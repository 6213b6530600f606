"""Accelerators, asked of whatever driver interface is there; a missing one is no error."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from ownward.core import MIB, Sourced
from ownward.probe._facts import GpuFacts

T = TypeVar("T")

_ASK_S = 5.0
_DRM_FOLDER = Path("/sys/class/drm")
_AMD = "0x1002"
_QUERY = "name,memory.total,memory.free,power.limit,driver_version"


def find_gpus(today: date) -> tuple[GpuFacts, ...]:
    """Return the accelerators that NVIDIA's and AMD's drivers and macOS tell of."""
    asked = ("nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits")
    return (
        *(_ask_nvml(today) or read_nvidia_smi(_run(*asked), today)),
        *read_amd_sysfs(today),
        *read_apple_displays(_run("system_profiler", "-json", "SPDisplaysDataType"), today),
    )


def _ask_nvml(today: date) -> tuple[GpuFacts, ...]:
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        return tuple(_ask_device(pynvml, index, driver, today) for index in range(pynvml.nvmlDeviceGetCount()))
    finally:
        pynvml.nvmlShutdown()


def _ask_device(pynvml: Any, index: int, driver: str, today: date) -> GpuFacts:
    device = pynvml.nvmlDeviceGetHandleByIndex(index)

    def told(value: T) -> Sourced[T]:
        return Sourced(value=value, basis="measured", source=f"NVML, device {index}", checked_on=today)

    def ask(question: Callable[[Any], T]) -> T | None:
        try:
            return question(device)
        except pynvml.NVMLError:  # this device does not answer it
            return None

    memory = ask(pynvml.nvmlDeviceGetMemoryInfo)
    limit_milliwatts = ask(pynvml.nvmlDeviceGetEnforcedPowerLimit)
    return GpuFacts(
        name=told(_text(pynvml.nvmlDeviceGetName(device))),
        vendor="nvidia",
        memory_bytes=None if memory is None else told(int(memory.total)),
        free_memory_bytes=None if memory is None else told(int(memory.free)),
        power_limit_watts=None if limit_milliwatts is None else told(limit_milliwatts / 1000),
        driver=told(driver),
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def read_nvidia_smi(text: str, today: date) -> tuple[GpuFacts, ...]:
    """Return the devices of `nvidia-smi --query-gpu=… --format=csv,noheader,nounits`, sizes in MiB."""
    found = []
    for index, line in enumerate(text.splitlines()):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != _QUERY.count(",") + 1:
            continue

        def told(value: T, index: int = index) -> Sourced[T]:
            return Sourced(value=value, basis="measured", source=f"nvidia-smi, device {index}", checked_on=today)

        name, total, free, watts, driver = cells
        total_mib, free_mib, limit = _number(total), _number(free), _number(watts)
        found.append(
            GpuFacts(
                name=told(name),
                vendor="nvidia",
                memory_bytes=None if total_mib is None else told(int(total_mib * MIB)),
                free_memory_bytes=None if free_mib is None else told(int(free_mib * MIB)),
                power_limit_watts=None if limit is None else told(limit),
                driver=told(driver),
            )
        )
    return tuple(found)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:  # "[N/A]"
        return None


def read_amd_sysfs(today: date, *, drm_folder: Path = _DRM_FOLDER) -> tuple[GpuFacts, ...]:
    """Return AMD's devices as the kernel shows them; an APU's own small memory is told as it stands."""
    found = []
    for device in sorted(drm_folder.glob("card[0-9]*/device")):
        if _read(device / "vendor") != _AMD:
            continue

        def told(value: T, source: Path = device) -> Sourced[T]:
            return Sourced(value=value, basis="measured", source=str(source), checked_on=today)

        total, used = _read(device / "mem_info_vram_total"), _read(device / "mem_info_vram_used")
        name = _read(device / "product_name") or f"AMD {_read(device / 'device') or 'GPU'}"
        found.append(
            GpuFacts(
                name=told(name),
                vendor="amd",
                memory_bytes=told(int(total)) if total else None,
                free_memory_bytes=told(int(total) - int(used)) if total and used else None,
            )
        )
    return tuple(found)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def read_apple_displays(text: str, today: date) -> tuple[GpuFacts, ...]:
    """Return the GPUs of `system_profiler -json SPDisplaysDataType`; Apple's share the machine's memory."""
    if not text:
        return ()
    try:
        listed = json.loads(text)["SPDisplaysDataType"]
    except (ValueError, KeyError, TypeError):
        return ()

    def told(value: T) -> Sourced[T]:
        return Sourced(value=value, basis="measured", source="system_profiler SPDisplaysDataType", checked_on=today)

    return tuple(
        GpuFacts(
            name=told(str(entry.get("sppci_model", "GPU"))),
            vendor="apple",
            cores=told(int(entry["sppci_cores"])) if str(entry.get("sppci_cores", "")).isdigit() else None,
            is_memory_shared=True,
        )
        for entry in listed
        if "apple" in str(entry.get("spdisplays_vendor", "")).lower()
    )


def _run(program: str, *arguments: str) -> str:
    """Return what a program prints; empty where it is not there, fails or takes too long."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=_ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
