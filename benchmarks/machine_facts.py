"""What a benchmark's figures hang on, and where its dated result goes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"


def machine_facts() -> dict[str, Any]:
    """Return processor, cores, memory, system, Python and the load of the last minute."""
    return {
        "cpu": cpu_name(),
        "cpu_cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average_before": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def cpu_name() -> str:
    """Return the processor's name as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())


def new_record(benchmark: str) -> dict[str, Any]:
    """Return the head of a result: its schema, its name, when and on which machine it was measured."""
    return {
        "schema": "ownward.benchmark/1",
        "benchmark": benchmark,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "commit": commit(),
        "machine": machine_facts(),
    }


def commit() -> str | None:
    """Return the commit that is checked out; None outside a repository."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        said = subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return said.stdout.strip() or None


def write_record(record: dict[str, Any], path: Path | None = None) -> Path:
    """Write a result to `path`, or to results/BENCHMARK-DATE.json, and return where it went."""
    path = path or RESULTS / f"{record['benchmark']}-{record['measured_at'][:10]}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path
