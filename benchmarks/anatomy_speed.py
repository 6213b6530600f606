"""Measure how long the anatomy room takes: from a config, from a large index, and for the whole contract.

    python -m benchmarks.anatomy_speed [FOLDER OF CONFIGS]

Limits: 2 ms for a config, 0.5 s for all of a catalogue, 50 ms for an index of 200 files.
The result is written to benchmarks/results/anatomy_speed-DATE.json.
"""

from __future__ import annotations

import json
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine_facts import RESULTS

from ownward import anatomy
from ownward.anatomy.architectures import ARCHITECTURES
from ownward.core import OwnwardError

RESULT = RESULTS / f"anatomy_speed-{datetime.now(UTC):%Y-%m-%d}.json"
LARGE: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}


def median_s(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of `work`."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def write_index(folder: Path, files: int, experts: int) -> Path:
    """Write an index of `files` safetensors headers, each with the tensors of a mixture's layer."""
    weight_map = {}
    for number in range(files):
        file = f"model-{number + 1:05d}-of-{files:05d}.safetensors"
        header: dict[str, Any] = {}
        end = 0
        for expert in range(experts):
            for part in ("gate", "up", "down"):
                name = f"model.layers.{number}.mlp.experts.{expert}.{part}_proj.weight"
                header[name] = {"dtype": "BF16", "shape": [4, 8], "data_offsets": [end, end + 64]}
                weight_map[name] = file
                end += 64
        raw = json.dumps(header).encode()
        (folder / file).write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(end))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def main() -> None:
    """Measure, print and write."""
    anatomy.from_config(LARGE)
    result: dict[str, Any] = {
        "config_s": median_s(lambda: anatomy.from_config(LARGE), 200),
        "config_and_own_bytes_s": median_s(lambda: anatomy.from_config(LARGE).weights_bytes(), 50),
        "contract_s": median_s(lambda: anatomy.as_contract(anatomy.from_config(LARGE)), 20),
        "architectures": len(ARCHITECTURES),
    }
    if len(sys.argv) > 1:
        configs = sorted(Path(sys.argv[1]).glob("*.json"))
        result["folder_configs"] = len(configs)
        result["folder_s"] = median_s(lambda: [read_quietly(path) for path in configs], 5)
        result["slowest_of_folder_s"] = max(median_s(lambda path=path: read_quietly(path), 5) for path in configs)
    with tempfile.TemporaryDirectory() as folder:
        index = write_index(Path(folder), files=200, experts=4)
        result["index_of_200_files_2400_tensors_s"] = median_s(lambda: anatomy.read(index), 9)
    result["python"] = sys.version.split()[0]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in result.items()}, indent=2) + "\n"
    )
    print(RESULT.read_text())


def read_quietly(path: Path) -> object:
    """Read a config, or None where it is refused."""
    try:
        return anatomy.read(path)
    except OwnwardError:
        return None


if __name__ == "__main__":
    main()
