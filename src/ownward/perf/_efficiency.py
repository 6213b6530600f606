"""How much of a device's peak an engine reaches: fitted coefficients by level, and the bands their residuals give.

Each efficiency is a product over levels, from all engines and devices down to one engine on one device with one kind of
kernels; a level that was never measured is 1, so that what is unknown falls back to what its family does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from importlib.resources import files
from typing import Any

from ownward.core import Basis
from ownward.perf._parallel import has_fast_link
from ownward.perf._traits import PARENTS, Traits

# Where the fit starts, and what an engine and a device of which nothing is known get. Shares of a peak, or seconds.
PRIORS: dict[str, float] = {
    "weight_mbu": 0.75,
    "expert_mbu": 0.8,  # against weight_mbu
    "expert_bytes": 1e6,  # bytes of an expert on a device at which half of that is reached
    "kv_mbu": 0.7,
    "state_mbu": 0.4,
    "mfu": 0.4,
    "expert_mfu": 0.5,  # against mfu, for the model as a whole
    "attention_mfu": 0.3,
    "scan_mfu": 0.1,  # of what new tokens pay for passing a recurrent layer's state on
    "half_tokens": 48.0,  # tokens in a step at which half of mfu is reached
    "half_rows": 12.0,  # the same for the tokens that one expert gets
    "layer_s": 2.5e-5,
    "expert_layer_s": 2.5e-5,
    "recurrent_layer_s": 4e-5,
    "step_s": 3e-4,
    "sequence_s": 2e-5,
    "bubble": 0.5,  # share of a step lost where devices take turns, for many of them
    "reduce_s": 8e-6,  # one all-reduce of two devices
    "first_s": 1.5e-2,  # what a first token costs besides its prefill
    "queue": 0.5,  # share of the other prompts that a first token waits for when all arrive at once
    "load": 1.0,  # time under load against the sum of its steps
    "speculation": 1.0,
    "host_mfu": 0.4,  # of what the processor behind a card computes
    "handover_s": 4e-5,  # a layer's tokens to the processor behind a card, and its sums back
    "miss": 1.0,  # time to read a weight from the next tier of memory against its stated bandwidth
}
# What is known of a kind of device before any fit, as factors on the priors. A processor multiplies vectors one by one:
# a prompt of 2 tokens is as efficient as one of 200; codebooks (i-quants) do not fit its vector units (llama.cpp docs).
# A core streams a piece of some tens of kilobytes as fast as any: small experts cost it little.
_ON_PROCESSORS = {"half_tokens": 0.03, "half_rows": 0.1, "expert_bytes": 0.05}
_CODEBOOKS = 0.4
# All-reduces over PCIe against NVLink's: 25 to 60 us, 80 to 200 without peer access, against 8 to 15 (NCCL tests).
_SLOW_REDUCTION = 5.0
_FULL = ("e", "f", "d", "e/f", "e/d", "e/q", "e/f/q", "e/s", "f/s", "e/b", "e/b/q", "e/v", "e/m")
_SOME = ("e", "e/f")
LEVELS: dict[str, tuple[str, ...]] = {
    "weight_mbu": _FULL,
    "expert_mbu": ("e", "e/f", "e/q"),
    "expert_bytes": ("e", "e/f"),
    "kv_mbu": ("e", "e/f", "e/s", "e/b"),
    "state_mbu": ("e",),
    "mfu": _FULL,
    "expert_mfu": ("e", "f", "e/f", "e/q", "e/b"),
    "attention_mfu": ("e", "f", "e/f", "e/s", "e/b", "e/v", "e/w"),
    "scan_mfu": ("e", "e/f", "e/v"),
    "half_tokens": ("e", "e/f", "e/q"),
    "half_rows": ("e", "e/f", "e/q"),
    "layer_s": ("e", "f", "e/f", "e/q", "e/b", "e/v", "e/h", "e/v/h"),
    "expert_layer_s": ("e", "e/f", "e/v", "e/h", "e/v/h"),
    "recurrent_layer_s": _SOME,
    "step_s": _SOME,
    "sequence_s": _SOME,
    "bubble": _SOME,
    "reduce_s": ("e", "f", "e/f"),
    "first_s": _SOME,
    "queue": _SOME,
    "load": ("e", "e/f", "e/s"),
    "speculation": ("e", "e/s"),
    "host_mfu": ("e",),
    "handover_s": ("e",),
    "miss": ("e",),
}
# What no engine passes: peaks, with room for rates that accumulate in 16 bits where the datasheet's do in 32.
_CAPS = {"weight_mbu": 0.95, "kv_mbu": 0.95, "state_mbu": 0.95, "expert_mbu": 1.0, "mfu": 1.2, "attention_mfu": 1.0,
         "expert_mfu": 1.2}  # fmt: skip
# Engines that accumulate in 32 bits: no kernel of theirs is known to pass these shares of a datasheet's dense rate.
_SERVERS = frozenset({"vllm", "sglang", "tensorrt-llm", "transformers", "ktransformers"})
_SERVER_CAPS = {"mfu": 0.85, "expert_mfu": 1.0, "attention_mfu": 0.85}
# Below this, weights would come from the host's memory at more than 0.9 of its stated bandwidth (0.6 is a `miss` of 1).
_LEAST_MISS = 0.65
_CAP_SHARPNESS = 6.0
_FALLBACK_RESIDUALS = (-0.5, 0.5)
_KIN = {"e2e_ms": "tpot_ms", "e2e_total_tok_s": "decode_tok_s_total", "ttft_ms": "tpot_ms"}
_ALONE = frozenset({"one", "offload"})
DATA = "data/coefficients.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """The coefficients of one engine on one device with one kind of kernels, and how wrong they were where unseen.

    `decode_band` and `prefill_band` are what log(measured / predicted) lies between in 80 of 100 cases.
    """

    engine: str
    weight_mbu: float
    expert_mbu: float
    expert_bytes: float
    kv_mbu: float
    state_mbu: float
    mfu: float
    expert_mfu: float
    attention_mfu: float
    scan_mfu: float
    half_tokens: float
    half_rows: float
    layer_s: float
    expert_layer_s: float
    recurrent_layer_s: float
    step_s: float
    sequence_s: float
    bubble: float
    reduce_s: float
    first_s: float
    queue: float
    load: float
    speculation: float
    host_mfu: float
    handover_s: float
    miss: float
    decode_band: tuple[float, float]
    prefill_band: tuple[float, float]
    source: str
    checked_on: date
    basis: Basis = "fitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """Fitted effects by level, as log factors on `PRIORS`, and residual quantiles by class.

    `bands` maps a class to (rows, 10th, 90th percentile of log(measured / predicted)) over pairs left out of the fit,
    `far_bands` over machines left out: they are for those that are not among `devices`, the measured ones.
    """

    effects: Mapping[str, float]
    bands: Mapping[str, tuple[int, float, float]]
    source: str
    checked_on: date
    far_bands: Mapping[str, tuple[int, float, float]] = field(default_factory=dict)
    devices: frozenset[str] = frozenset()

    def resolve(self, traits: Traits) -> Efficiency:
        """Return the efficiency of traits: the product of every level that was measured."""
        values: dict[str, Any] = {
            name: coefficient(name, sum(self.effects.get(key, 0.0) for key in level_keys(name, traits)), traits)
            for name in PRIORS
        }
        kind = f"{traits.engine}/one/{traits.family}"
        return Efficiency(
            engine=traits.engine,
            **values,
            decode_band=self.band(f"decode_tok_s_per_user/{kind}", traits.device),
            prefill_band=self.band(f"prefill_tok_s/{kind}", traits.device),
            source=self.source,
            checked_on=self.checked_on,
        )

    def band(self, class_: str, device: str) -> tuple[float, float]:
        """Return the residuals between which 80% lie on a device, of the narrowest class that has rows.

        A metric of which little was measured has the band of its kin: a latency is mostly its tokens' time, and a first
        token that waits for nobody its prompt's.
        """
        bands = self.bands if device in self.devices or not self.far_bands else self.far_bands
        words = class_.split("/")
        if words[0] == "ttft_ms" and _ALONE.intersection(words[2:3]) and "/".join(words[:3]) not in bands:
            slow, fast = self.band(class_.replace("ttft_ms", "prefill_tok_s", 1), device)
            return -fast, -slow
        while words:
            found = bands.get("/".join(words))
            if found is not None:
                return found[1], found[2]
            words.pop()
        kin = _KIN.get(class_.partition("/")[0])
        if kin is None:
            return _FALLBACK_RESIDUALS
        return self.band(class_.replace(class_.split("/", maxsplit=1)[0], kin, 1), device)


def coefficient(name: str, log_factor: float, traits: Traits) -> float:
    """Return a coefficient from the sum of its log factors: nothing reaches more than its peak, whatever was fitted."""
    value = PRIORS[name] * math.exp(log_factor)
    if traits.family == "cpu":
        value *= _ON_PROCESSORS.get(name, 1.0)
        if name == "mfu" and traits.engine == "llama.cpp" and traits.kernels == "i-quant":
            value *= _CODEBOOKS
    if name == "reduce_s" and not has_fast_link(traits.family):
        value *= _SLOW_REDUCTION
    cap = _SERVER_CAPS.get(name) if traits.engine in _SERVERS else None
    cap = cap or _CAPS.get(name)
    if name == "miss":  # nor does the host's memory give more than it has
        return float((value**_CAP_SHARPNESS + _LEAST_MISS**_CAP_SHARPNESS) ** (1 / _CAP_SHARPNESS))
    return value if cap is None else value / (1 + (value / cap) ** _CAP_SHARPNESS) ** (1 / _CAP_SHARPNESS)


def level_keys(name: str, traits: Traits) -> list[str]:
    """Return the keys of the effects that make up a coefficient, the widest first; an engine brings its parents'."""
    engines = [traits.engine]
    while engines[-1] in PARENTS:
        engines.append(PARENTS[engines[-1]])
    parts = {"f": traits.family, "d": traits.device, "q": traits.kernels, "s": traits.shape, "b": traits.backend,
             "h": traits.host, "v": traits.vendor, "m": traits.memory, "w": traits.heads,
             "e": traits.engine}  # fmt: skip
    keys = [name]
    for level in LEVELS[name]:
        if any(not parts[letter] for letter in level.split("/")):
            continue
        for engine in reversed(engines) if level.startswith("e") else engines[:1]:
            parts["e"] = engine
            keys.append(f"{name}|{level}|" + "|".join(parts[letter] for letter in level.split("/")))
    return keys


@lru_cache(maxsize=1)
def load_coefficients() -> Coefficients:
    """Return the coefficients that the package ships."""
    text = files("ownward.perf").joinpath(DATA).read_text(encoding="utf-8")
    table = json.loads(text)
    return Coefficients(
        effects=table["effects"],
        bands={name: (int(n), low, high) for name, (n, low, high) in table["bands"].items()},
        far_bands={name: (int(n), low, high) for name, (n, low, high) in table["far_bands"].items()},
        devices=frozenset(table["devices"]),
        source=table["source"],
        checked_on=date.fromisoformat(table["checked_on"]),
    )


@lru_cache(maxsize=4096)
def find_efficiency(traits: Traits) -> Efficiency:
    """Return the shipped efficiency of traits."""
    return load_coefficients().resolve(traits)
