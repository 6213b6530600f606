"""Weight formats by the many names people give them, and the bytes a model has in one: resident, and read by a step."""

from __future__ import annotations

import re
from typing import NamedTuple

from ownward.anatomy import SCHEMES, Anatomy, Role
from ownward.core import UnknownQuantization, closest


class Format(NamedTuple):
    """A weight format: how its bytes follow from one of anatomy's schemes, and how its kernels behave."""

    bits: float
    """Bits a parameter of a routed expert, scales included."""
    kernels: str
    """The class of kernels that read it, by which efficiencies are kept."""
    scheme: str
    """The scheme of anatomy whose bytes are counted."""
    factor: float = 1.0
    """What its files hold against the scheme's, where anatomy does not lay their types out tensor by tensor."""
    of_experts: float | None = None
    """The factor for mixtures of experts, whose experts stay narrow; None where it is the same."""


# Bits: ggml's block sizes, and the published sizes of whole files for the mixtures; MXFP4 4.25, NVFP4 4.5, int4 in
# groups of 32 with bf16 scales 4.5, seen to the byte. Factors: sizes of published files of Qwen3.5 and Qwen3.6.
FORMATS: dict[str, Format] = {
    "f32": Format(32.0, "wide", "f32"),
    "bf16": Format(16.0, "wide", "bf16"),
    "f16": Format(16.0, "wide", "f16"),
    "fp8": Format(8.0, "fp8", "fp8"),
    "int8": Format(8.0, "int8", "int8"),
    "q8_k_xl": Format(8.5, "q8", "q8_0", 1.22, 1.03),
    "q8_0": Format(8.5, "q8", "q8_0"),
    "q6_k_xl": Format(6.9, "k-quant", "q6_k", 1.06),
    "q6_k": Format(6.56, "k-quant", "q6_k"),
    "q5_k_xl": Format(5.75, "k-quant", "q5_k_m", 1.02),
    "q5_k_m": Format(5.70, "k-quant", "q5_k_m"),
    "q5_k_s": Format(5.57, "k-quant", "q5_k_s"),
    "q5_0": Format(5.57, "q4_0", "q5_0"),
    "q4_k_xl": Format(4.95, "k-quant", "q4_k_m", 1.03),
    "q4_k_l": Format(4.95, "k-quant", "q4_k_m", 1.03),
    "q4_k_m": Format(4.89, "k-quant", "q4_k_m"),
    "q4_k_s": Format(4.67, "k-quant", "q4_k_s"),
    "q4_1": Format(5.0, "q4_0", "q4_0", 1.1),
    "q4_0": Format(4.66, "q4_0", "q4_0"),
    "iq4_nl": Format(4.6, "iq4", "iq4_nl"),
    "iq4_xs": Format(4.46, "iq4", "iq4_xs"),
    "q3_k_xl": Format(4.1, "k-quant", "q3_k_m", 1.03),
    "q3_k_l": Format(4.27, "k-quant", "q3_k_m", 1.07),
    "q3_k_m": Format(4.00, "k-quant", "q3_k_m"),
    "q3_k_s": Format(3.64, "k-quant", "q3_k_s"),
    "iq3_m": Format(3.7, "i-quant", "q3_k_s", 1.02),
    "iq3_s": Format(3.5, "i-quant", "q3_k_s", 0.97),
    "iq3_xs": Format(3.4, "i-quant", "q3_k_s", 0.93),
    "iq3_xxs": Format(3.2, "i-quant", "q3_k_s", 0.88),
    "q2_k_xl": Format(3.3, "k-quant", "q2_k", 1.05),
    "q2_k": Format(3.16, "k-quant", "q2_k"),
    "q2_k_s": Format(2.96, "k-quant", "q2_k", 0.94),
    "iq2_m": Format(2.8, "i-quant", "q2_k", 0.89),
    "iq2_s": Format(2.6, "i-quant", "q2_k", 0.83),
    "iq2_xs": Format(2.4, "i-quant", "q2_k", 0.77),
    "iq2_xxs": Format(2.2, "i-quant", "q2_k", 0.70),
    "iq1_m": Format(1.9, "i-quant", "q2_k", 0.61),
    "iq1_s": Format(1.75, "i-quant", "q2_k", 0.56),
    "mxfp4": Format(4.25, "mxfp4", "mxfp4_moe"),
    "nvfp4": Format(4.5, "nvfp4", "nvfp4"),
    "int4": Format(4.25, "int4", "int4_g128"),
    "int4_g32": Format(4.5, "int4", "int4_g32"),
    "mlx_8bit": Format(8.5, "mlx", "mlx_8bit"),
    "mlx_6bit": Format(6.5, "mlx", "mlx_6bit"),
    "mlx_5bit": Format(5.5, "mlx", "mlx_5bit"),
    "mlx_4bit": Format(4.5, "mlx", "mlx_4bit"),
    "mlx_3bit": Format(3.5, "mlx", "mlx_3bit"),
    "mlx_2bit": Format(2.7, "mlx", "mlx_3bit", 0.77),
}
WEIGHT_BITS: dict[str, float] = {name: found.bits for name, found in FORMATS.items()}
NATIVE = "native"
"""As the release ships its weights."""
BEST = "best"
"""The narrowest floating format that the machine computes in."""

# What a name holds, the longest first: people write a tool, a tuner and a format in one.
_SPELLINGS = {
    **{name: name for name in FORMATS},
"fp16": "f16", "float16": "f16", "bfloat16": "bf16", "fp32": "f32", "float32": "f32", "w8a8": "int8", "w8a16": "int8",
    "8bit": "mlx_8bit", "6bit": "mlx_6bit", "5bit": "mlx_5bit", "4bit": "mlx_4bit", "3bit": "mlx_3bit",
    "2bit": "mlx_2bit", "mlx": "mlx_4bit", "gptq_int8": "int8", "int4_g32": "int4_g32", "w4a16_g32": "int4_g32",
    "awq": "int4", "gptq": "int4", "w4a16": "int4", "autoround": "int4", "bnb_4bit": "int4", "awq_4bit": "int4",
    "fp4": "nvfp4", "mq4": "q4_0", "usually_q4_k_m": "q4_k_m", "q4_k_p": "q4_k_m", "q4_k": "q4_k_m",
    "q5_k": "q5_k_m", "q3_k": "q3_k_m", "q3_k_small": "q3_k_s", "q2_k_small": "q2_k_s", "q4_k_small": "q4_k_s",
    "q5_k_small": "q5_k_s", "q8": "q8_0", "q6": "q6_k", "q5": "q5_k_m", "q4": "q4_k_m", "q3": "q3_k_m",
    "q2": "q2_k", "nvfp4_fp8": "nvfp4", "submitter_choice": BEST, "best_of": BEST, "see_cmd": NATIVE,
    "see_discussion": NATIVE, NATIVE: NATIVE, BEST: BEST,
}  # fmt: skip
_LONGEST_FIRST = sorted(_SPELLINGS, key=len, reverse=True)


def weight_format(name: str) -> str:
    """Return the canonical name of a weight format; no name at all is `native`.

    Raises: UnknownQuantization, with the closest known.

    >>> weight_format("UD-Q4_K_M"), weight_format("BF16"), weight_format("compressed-tensors-int4-g32-symmetric")
    ('q4_k_m', 'bf16', 'int4_g32')
    """
    bare = re.sub(r"[^a-z0-9.]+", "_", name.lower()).strip("_")
    if not bare:
        return NATIVE
    found = next((_SPELLINGS[spelled] for spelled in _LONGEST_FIRST if spelled in bare), None)
    if found is None:
        near = closest(name, FORMATS)
        raise UnknownQuantization(
            f"no bytes are known for weights in {name[:60]!r}",
            allowed=f"Closest: {', '.join(near)}" if near else f"Known: {', '.join(FORMATS)}",
        )
    return found


class WeightBytes(NamedTuple):
    """Bytes of a model's weights in a format."""

    resident: int
    """All that must lie somewhere."""
    dense_read: float
    """Read by every step: all that is not a routed expert, a look-up table or a tower."""
    routed: float
    """All routed experts of all layers."""


_KNOWN: dict[tuple[int, str], tuple[object, WeightBytes]] = {}
_MOST_KNOWN = 4096
_NARROW_BITS = 6.0
_GGUF_KERNELS = frozenset({"mxfp4", "k-quant", "q8", "q4_0", "wide", "i-quant", "iq4"})


def weight_bytes(anatomy: Anatomy, weights: str) -> WeightBytes:
    """Return the bytes of the model's weights, laid out tensor by tensor where anatomy knows the scheme.

    `weights` is canonical. A release that ships 4-bit experts keeps them in any GGUF: no file is larger than its own.
    """
    key = id(anatomy.blueprint), weights
    held = _KNOWN.get(key)
    if held is not None and held[0] is anatomy.blueprint:
        return held[1]
    found = _count(anatomy, weights)
    if len(_KNOWN) >= _MOST_KNOWN:
        _KNOWN.clear()
    _KNOWN[key] = anatomy.blueprint, found
    return found


def _count(anatomy: Anatomy, weights: str) -> WeightBytes:
    if weights == NATIVE and anatomy.is_narrowed_on_load:
        return weight_bytes(anatomy, "bf16")
    if weights == NATIVE and anatomy.is_from_tensors:
        return _count_file(anatomy)
    towers = sum(getattr(anatomy, role) for role in ("vision_tower", "vision_projector", "audio_tower"))
    lookups = anatomy.ngram_or_ple + anatomy.per_layer_embeddings
    own = 0.0
    if weights == NATIVE:
        own = float(anatomy.weights_bytes())
    elif anatomy.recipe is not None:
        own = float(weight_bytes(anatomy, NATIVE).resident)
    if weights == NATIVE:
        resident, bits = own, _own_expert_bits(anatomy, own)
    else:
        known = FORMATS[weights]
        assert known.scheme in SCHEMES
        factor = known.of_experts if anatomy.experts and known.of_experts else known.factor
        resident, bits = anatomy.weights_bytes(known.scheme) * factor, known.bits
        if anatomy.recipe is not None and own < resident and known.kernels in _GGUF_KERNELS:
            bits = _own_expert_bits(anatomy, own)
            narrow = bits < _NARROW_BITS
            resident = min(own, float(anatomy.weights_bytes("mxfp4_moe"))) if narrow else own
    routed = min(anatomy.routed_experts * bits / 8, resident)
    rest_params = max(anatomy.total_live_params - anatomy.routed_experts, 1)
    rest_bits = min(8 * (resident - routed) / rest_params, 32.0)
    untied = 0 if anatomy.tied_embeddings else anatomy.embeddings
    read_params = max(rest_params - untied - towers - lookups, 0)
    return WeightBytes(resident=round(resident), dense_read=read_params * rest_bits / 8, routed=routed)


def keeps_narrow_experts(anatomy: Anatomy, weights: str) -> bool:
    """Return whether a file named after `weights` still holds experts in the 4 bits that their release ships."""
    known = FORMATS.get(weights)
    if known is None or anatomy.recipe is None or not anatomy.experts or known.kernels not in _GGUF_KERNELS:
        return False
    own = float(weight_bytes(anatomy, NATIVE).resident)
    return own < anatomy.weights_bytes(known.scheme) and _own_expert_bits(anatomy, own) < _NARROW_BITS


def _count_file(anatomy: Anatomy) -> WeightBytes:
    """Return what the file's own tensors say, each in the type it is stored in."""
    sizes = anatomy.weights_bytes_by_role()
    routed = float(sizes[Role.ROUTED_EXPERTS])
    touched = routed * anatomy.experts_per_tok / anatomy.experts if anatomy.experts else 0.0
    return WeightBytes(resident=anatomy.weights_bytes(), dense_read=anatomy.step_bytes(1.0) - touched, routed=routed)


def _own_expert_bits(anatomy: Anatomy, own: float) -> float:
    """Return the bits of the experts as released: the mean, or MXFP4's where the mean shows that they are narrow."""
    mean = 8 * own / max(anatomy.checkpoint_params_exact, 1)
    return 4.25 if anatomy.experts and mean < _NARROW_BITS else mean


def resident_bytes(anatomy: Anatomy, weights: str) -> int:
    """Return the bytes that the weights occupy in memory."""
    return weight_bytes(anatomy, weights).resident
