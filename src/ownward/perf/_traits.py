"""What a deployment is, as far as its efficiency depends on it: engine, device, kernels, shape of the model."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from ownward.anatomy import Anatomy
from ownward.catalog import Machine
from ownward.perf._formats import FORMATS, NATIVE, keeps_narrow_experts, weight_bytes

# Programs that run on another's kernels are predicted as that engine.
_FAMILIES = {
    "llama.cpp": "llama.cpp",
    "llamacpp": "llama.cpp",
    "llama-server": "llama.cpp",
    "embedded": "llama.cpp",
    "ollama": "llama.cpp",
    "lmstudio": "llama.cpp",
    "ik_llama.cpp": "ik_llama.cpp",
    "vllm": "vllm",
    "luminal": "vllm",
    "sglang": "sglang",
    "tensorrt-llm": "tensorrt-llm",
    "trt-llm": "tensorrt-llm",
    "tensorrt": "tensorrt-llm",
    "ktransformers": "ktransformers",
    "mlx": "mlx",
    "hf": "transformers",
    "transformers": "transformers",
    "pytorch": "vllm",
    "hipfire": "hipfire",
}
# Which engine's measurements speak for one whose own are few.
PARENTS = {
    "ik_llama.cpp": "llama.cpp",
    "hipfire": "llama.cpp",
    "mlx": "llama.cpp",
    "ktransformers": "sglang",
    "sglang": "vllm",
    "tensorrt-llm": "vllm",
    "transformers": "vllm",
}
_DEVICES = (
    (r"\bgtx 10|\bp40\b|\bp100\b", "pascal"),
    (r"\bv100\b", "volta"),
    (r"\brtx 20|\bt4\b", "turing"),
    (r"\bl4\b|\bl40s?\b|\bl20\b|\brtx 40| ada\b", "ada"),
    (r"\brtx 50|\bblackwell\b", "blackwell"),
    (r"\brtx 30|\ba[2-6]000\b|\ba10\b|\ba40\b", "ampere"),
    (r"\ba100\b|\ba30\b", "a100"),
    (r"\bg?h(100|200|20|800)\b", "hopper"),
    (r"\bg?b[23]00\b|\brubin\b", "blackwell-datacenter"),
    (r"\bgb10\b", "gb10"),
    (r"\bapple\b", "apple"),
    (r"\bryzen ai max\b|\bstrix\b", "strix-halo"),
    (r"\brx [67]\d00\b|\bw7700\b", "rdna3"),
    (r"\brx 90|\br9700\b", "rdna4"),
    (r"\bmi\d+x?\b", "cdna"),
    (r"\barc\b", "arc"),
)
# FLOP a byte of bandwidth, for devices whose compute rate nobody states: the middle of their family. Basis: assumed.
# Apple: 10.6 TFLOP/s at 400 GB/s (M1 Max) to 18.4 at 546 (M4 Max). CPUs: AVX-512 desktops with two channels of DDR5.
INTENSITY_FLOP_PER_BYTE = {
    "apple": 34.0,
    "cpu": 14.0,
    "gb10": 458.0,
    "pascal": 19.0,
    "volta": 125.0,
    "turing": 96.0,
    "ampere": 80.0,
    "ada": 140.0,
    "blackwell": 120.0,
    "hopper": 295.0,
    "rdna3": 130.0,
    "rdna4": 260.0,
    "strix-halo": 116.0,
    "arc": 215.0,
}
_ANY_INTENSITY = 100.0
# What a card fetches from its host's memory: 16 lanes at about 0.8 of PCIe 3.0, 4.0 and 5.0. Basis: assumed.
_PCIE_BYTES_PER_S = {
    **dict.fromkeys(("pascal", "volta", "turing"), 12e9),
    **dict.fromkeys(("blackwell", "blackwell-datacenter", "hopper", "rdna4"), 50e9),
}
_ANY_PCIE_BYTES_PER_S = 25e9


VENDORS = {
    **dict.fromkeys(
        ("pascal", "volta", "turing", "ampere", "ada", "blackwell", "a100", "hopper", "blackwell-datacenter", "gb10"),
        "nvidia",
    ),
    **dict.fromkeys(("strix-halo", "rdna3", "rdna4", "cdna"), "amd"),
    "arc": "intel",
    "apple": "apple",
}
_NARROW_HEAD, _USUAL_HEAD, _WIDEST_HEAD = 64, 128, 512
_STACKED = frozenset({"volta", "a100", "hopper", "blackwell-datacenter", "cdna"})
# What compiles an engine's kernels for a device, where its name says so; a name that does not is none of them.
_BACKENDS = (("vulkan", r"vulkan|radv|amdvlk"), ("rocm", r"rocm|\bhip\b|hip-"))
# Vulkan has no arithmetic in BF16 but by an extension: llama.cpp reads such weights by other, slower kernels than F16.
_WIDE_APART = "vulkan"


class Traits(NamedTuple):
    """The levels at which efficiencies are kept.

    `backend` is empty where the engine's name does not state one; `host` is `board` for a card on a single-board
    computer; `heads` is the class of attention's width, empty for the usual 128.
    """

    engine: str
    family: str
    device: str
    kernels: str
    shape: str
    backend: str = ""
    host: str = ""
    heads: str = ""

    @property
    def vendor(self) -> str:
        """Whose programming stack the family has; empty for processors and unknown chips."""
        return VENDORS.get(self.family, "")

    @property
    def memory(self) -> str:
        """`hbm` for families on stacked memory, whose single kernels keep few enough bytes in flight to starve it."""
        return "hbm" if self.family in _STACKED else ""


def engine_family(engine: str) -> str:
    """Return the engine whose measurements speak for `engine`; an unknown one is its own family.

    >>> engine_family("llama.cpp b6918"), engine_family("vLLM 0.25.0"), engine_family("ExLlama")
    ('llama.cpp', 'vllm', 'exllama')
    """
    words = re.split(r"[\s/]+", engine.lower().strip())
    return next((_FAMILIES[word] for word in words if word in _FAMILIES), words[0] if words else "")


def is_engine_known(family: str) -> bool:
    """Return whether anything was measured of an engine family."""
    return family in _FAMILIES.values()


def device_family(machine: Machine) -> str:
    """Return the family of chips whose efficiencies are alike.

    Machines with no chip of a known family are one family a kind.
    """
    if machine.kind == "cpu-platform":
        return "cpu"
    return _named_family(f"{machine.name} {machine.id}") or machine.kind


def pcie_bytes_per_s(family: str) -> float:
    """Return how fast a card of a family fetches from its host's memory."""
    return _PCIE_BYTES_PER_S.get(family, _ANY_PCIE_BYTES_PER_S)


@lru_cache(maxsize=1024)
def _named_family(name: str) -> str | None:
    text = re.sub(r"[-_]+", " ", name.lower())
    return next((family for pattern, family in _DEVICES if re.search(pattern, text)), None)


def assumed_flop_per_s(machine: Machine) -> float | None:
    """Return a compute rate from the bandwidth and what is usual in the family; None without a bandwidth."""
    if machine.bandwidth_bytes_per_s is None:
        return None
    intensity = INTENSITY_FLOP_PER_BYTE.get(device_family(machine), _ANY_INTENSITY)
    return machine.bandwidth_bytes_per_s.value * intensity


def backend_of(engine: str) -> str:
    """Return what an engine's name says its kernels are compiled for; nothing for most.

    >>> backend_of("llama.cpp vulkan_radv"), backend_of("llama.cpp rocm-7.2.3"), backend_of("llama.cpp b9775")
    ('vulkan', 'rocm', '')
    """
    text = engine.lower()
    return next((name for name, pattern in _BACKENDS if re.search(pattern, text)), "")


def traits_of(
    anatomy: Anatomy, *, machine: Machine, engine: str, weights: str, backend: str = "", host: str = ""
) -> Traits:
    """Return the traits of a deployment; `engine` is a family."""
    stored = anatomy.quantization if weights == NATIVE and anatomy.is_from_tensors else None
    if stored in FORMATS:
        kernels = FORMATS[stored].kernels
    elif stored is not None and f"{stored}_m" in FORMATS:  # a file names the type of its tensors: q4_k
        kernels = FORMATS[f"{stored}_m"].kernels
    elif weights == NATIVE:
        bits = 8 * weight_bytes(anatomy, NATIVE).resident / max(anatomy.checkpoint_params_exact, 1)
        kernels = "wide" if bits > 12 else "fp8" if bits > 6 else "mxfp4"  # noqa: PLR2004 -- between 16, 8 and 4 bits
    else:
        kernels = FORMATS[weights].kernels
        if keeps_narrow_experts(anatomy, weights):
            kernels = "mxfp4"
    if kernels == "wide" and backend == _WIDE_APART and weights == "bf16":
        kernels = "bf16"
    mixture = bool(anatomy.experts)
    recurrent = anatomy.recurrent_state_bytes_per_seq > 0
    shape = ("hybrid-" if recurrent else "") + ("moe" if mixture else "dense")
    return Traits(engine=engine, family=device_family(machine), device=machine.id, kernels=kernels, shape=shape,
                  backend=backend, host=host, heads=_width_of(anatomy.head_width))  # fmt: skip


def _width_of(values: int) -> str:
    """Return the class of kernels for heads of so many values: the usual 80 to 128 have no name."""
    return (
        "narrow"
        if values <= _NARROW_HEAD
        else "latent"
        if values > _WIDEST_HEAD
        else "wide"
        if values > _USUAL_HEAD
        else ""
    )
