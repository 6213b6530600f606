"""How long it takes until something can be used, and how large the base install is.

    python -m benchmarks.startup                # all of it; the install takes a minute or two
    python -m benchmarks.startup --no-install   # only the times

Medians of several runs: `import ownward`, `ownward --help`, `ownward serve` from its start until it accepts
requests, with a plan whose upstream is a fake. The size is what `du` says of the site-packages of a fresh
environment after `pip install .`, without pip and setuptools. Writes results/startup-DATE.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.contenders import start_ownward
from benchmarks.light_upstream import started_upstream
from benchmarks.machine_facts import new_record, write_record

ROOT = Path(__file__).resolve().parents[1]
AIMS = {
    "import_s": "under 0.15",
    "help_s": "under 0.2",
    "serve_ready_s": "under 1",
    "base_install_bytes": "under 110 MB",
}
_NOT_OURS = ("pip", "setuptools", "_distutils_hack", "pkg_resources", "wheel")


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--no-install", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    record = new_record("startup")
    record["runs"], record["aims"] = options.runs, AIMS
    bare = measure([sys.executable, "-c", "pass"], options.runs)
    record["results"] = {
        "bare_python_s": bare,
        "import_s": measure([sys.executable, "-c", "import ownward"], options.runs),
        "help_s": measure([sys.executable, "-m", "ownward", "--help"], options.runs),
        "serve_ready_s": measure_serve(options.runs),
    }
    if not options.no_install:
        with tempfile.TemporaryDirectory() as folder:
            record["base_install"] = measure_install(Path(folder))
    record["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
    for name, figures in record["results"].items():
        print(f"{name:16} {figures}  aim: {AIMS.get(name, '')}")
    if "base_install" in record:
        print(f"base install     {record['base_install']['bytes'] / 1e6:.1f} MB  aim: {AIMS['base_install_bytes']}")
    print(f"written to {write_record(record, options.out)}")


def measure(command: list[str], runs: int) -> dict[str, float]:
    """Return wall and processor seconds of a command, from its start to its end."""

    def once() -> tuple[float, float]:
        before, start_s = os.times(), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall_s, after = time.perf_counter() - start_s, os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        return wall_s, used

    return _summary(once, runs)


def measure_serve(runs: int) -> dict[str, float]:
    """Return the seconds from starting `ownward serve` until it accepts requests."""

    def once() -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as folder:
            contender = start_ownward(upstream, Path(folder), None)
            used_s = contender.cpu_s()
            contender.stop()
            assert contender.start_s is not None
            return contender.start_s, used_s

    with started_upstream() as upstream:
        return _summary(once, runs)


def _summary(once: Callable[[], tuple[float, float]], runs: int) -> dict[str, float]:
    once()  # fills the disk's cache and the compiled files
    wall, used = zip(*(once() for _ in range(runs)), strict=True)
    return {
        "median": round(statistics.median(wall), 4),
        "lowest": round(min(wall), 4),
        "highest": round(max(wall), 4),
        "cpu_median": round(statistics.median(used), 4),
    }


def measure_install(folder: Path) -> dict[str, Any]:
    """Return the size of what `pip install .` brings into a fresh environment, and its largest parts."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    subprocess.run([folder / "venv/bin/pip", "install", "--quiet", ROOT], check=True)
    packages = next((folder / "venv/lib").glob("python*/site-packages"))
    sizes = {
        part.name: disk_bytes(part)
        for part in packages.iterdir()
        if not part.name.lower().startswith(tuple(f"{name}-" for name in _NOT_OURS)) and part.name not in _NOT_OURS
    }
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:10]
    return {"bytes": sum(sizes.values()), "largest": dict(largest)}


def disk_bytes(path: Path) -> int:
    """Return the bytes that a file or folder takes on the disk, as `du` counts."""
    if path.is_file() or path.is_symlink():
        return path.lstat().st_blocks * 512
    return path.lstat().st_blocks * 512 + sum(disk_bytes(part) for part in path.iterdir())


if __name__ == "__main__":
    main()
