"""How much of a device's peak an engine reaches: data with a basis, never constants in code."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib.resources import files

from ownward.catalog import MachineKind
from ownward.core import Basis

# Programs that run on another's kernels are predicted as that engine.
_FAMILIES = {
    "llama.cpp": "llama.cpp",
    "llamacpp": "llama.cpp",
    "llama-server": "llama.cpp",
    "embedded": "llama.cpp",
    "ollama": "llama.cpp",
    "lmstudio": "llama.cpp",
    "vllm": "vllm",
    "sglang": "vllm",
    "tensorrt-llm": "vllm",
    "trt-llm": "vllm",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """One row of data/efficiencies.toml, where each field is explained."""

    engine: str
    devices: tuple[str, ...]
    decode_mbu: float
    kv_mbu: float
    prefill_mfu: float
    moe_prefill_mfu: float
    layer_s: float
    step_s: float
    sequence_s: float
    decode_error: float
    prefill_error: float
    source: str
    checked_on: date
    basis: Basis = "fitted"


def find_efficiency(engine: str, device: MachineKind) -> Efficiency | None:
    """Return the row for an engine (by family) on a kind of device, or None where there is none."""
    family = engine_family(engine)
    return next((row for row in _rows() if row.engine == family and device in row.devices), None)


def engine_family(engine: str) -> str:
    """Return the engine whose measurements speak for `engine`.

    >>> engine_family("llama.cpp b6918"), engine_family("vLLM 0.25.0"), engine_family("ExLlama")
    ('llama.cpp', 'vllm', 'exllama')
    """
    words = engine.lower().replace("/", " ").split()
    return next((_FAMILIES[word] for word in words if word in _FAMILIES), words[0] if words else "")


@lru_cache(maxsize=1)
def _rows() -> tuple[Efficiency, ...]:
    table = tomllib.loads(files("ownward.perf").joinpath("data/efficiencies.toml").read_text(encoding="utf-8"))
    checked_on = table["checked_on"]
    return tuple(
        Efficiency(**{**row, "devices": tuple(row["devices"])}, checked_on=checked_on) for row in table["efficiency"]
    )
