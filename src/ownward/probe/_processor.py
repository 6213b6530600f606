"""The processor's name and what it can, out of texts that the operating system gives."""

from __future__ import annotations

from collections.abc import Iterable

_TOLD_FEATURES = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "bmi2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
_MODEL_KEYS = ("model name", "Model", "cpu model", "Hardware")


def read_cpuinfo(text: str) -> tuple[str | None, tuple[str, ...]]:
    """Return the model's name and the features that matter to inference, out of `/proc/cpuinfo`."""
    model = None
    features: tuple[str, ...] = ()
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not colon or not value:
            continue
        if model is None and key in _MODEL_KEYS:
            model = value
        if not features and key in {"flags", "Features"}:
            features = _pick(value.split())
    return model, features


def read_sysctl(text: str) -> dict[str, str]:
    """Return the values of `sysctl NAME…` by name."""
    pairs = (line.partition(": ") for line in text.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _pick(flags: Iterable[str]) -> tuple[str, ...]:
    present = set(flags)
    return tuple(name for name in _TOLD_FEATURES if name in present)
