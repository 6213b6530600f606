"""Bytes of a model under a weight format: what is resident, and what one step reads."""

from __future__ import annotations

from ownward.anatomy import Anatomy, expected_distinct_experts
from ownward.core import UnknownQuantization, closest

# Bits a parameter, averaged over a whole file of that format: block formats count their scales, and the
# llama.cpp mixtures the tensors they keep wider. Sources: ggml's block sizes; llama.cpp's quantize tool, bits per
# weight of Llama-3.1-8B files; MXFP4 4.25, NVFP4 4.5, int4 in groups of 32 with bf16 scales 4.5, seen to the byte.
WEIGHT_BITS: dict[str, float] = {
    "f32": 32.0,
    "bf16": 16.0,
    "f16": 16.0,
    "fp8": 8.0,
    "int8": 8.0,
    "q8_0": 8.5,
    "q6_k": 6.56,
    "q5_k_m": 5.70,
    "q5_k_s": 5.57,
    "q4_k_m": 4.89,
    "q4_k_s": 4.67,
    "q4_1": 5.0,
    "q4_0": 4.66,
    "iq4_xs": 4.46,
    "q3_k_m": 4.00,
    "q2_k": 3.16,
    "mxfp4": 4.25,
    "nvfp4": 4.5,
    "int4": 4.25,
    "int4_g32": 4.5,
}
_SYNONYMS = {
    "fp16": "f16",
    "float16": "f16",
    "bfloat16": "bf16",
    "fp32": "f32",
    "fp8-dynamic": "fp8",
    "w8a8": "int8",
    "awq": "int4",
    "awq-int4": "int4",
    "gptq": "int4",
    "gptq-int4": "int4",
    "w4a16": "int4",
    "fp4": "nvfp4",
    "q4": "q4_k_m",
    "4bit": "int4",
    "8bit": "int8",
}

# The format that a device computes a weight format in: weights of less than 8 bits are widened first.
COMPUTE_DTYPE = {"fp8": "fp8", "int8": "int8", "nvfp4": "fp4", "mxfp4": "bf16"}


def weight_format(name: str) -> str:
    """Return the canonical name of a weight format.

    Raises: UnknownQuantization, with the closest known.

    >>> weight_format("UD-Q4_K_M"), weight_format("BF16")
    ('q4_k_m', 'bf16')
    """
    bare = name.strip().lower().removeprefix("ud-").removeprefix("gguf-").replace(" ", "")
    known = _SYNONYMS.get(bare, bare)
    if known not in WEIGHT_BITS:
        near = closest(name, WEIGHT_BITS)
        raise UnknownQuantization(
            f"no bytes are known for weights in {name!r}",
            allowed=f"Closest: {', '.join(near)}" if near else f"Known: {', '.join(WEIGHT_BITS)}",
        )
    return known


def resident_bytes(anatomy: Anatomy, weights: str) -> int:
    """Return the bytes that the live weights occupy in memory."""
    return round(anatomy.total_live_params * WEIGHT_BITS[weights] / 8)


def step_read_bytes(anatomy: Anatomy, weights: str, *, tokens: float, skew: float = 0.0) -> float:
    """Return the weight bytes that a step of `tokens` tokens reads: all that is dense, and the experts it touches.

    The input embedding is a look-up and is not counted; the head is, tied or not.
    """
    routed_active = active_routed_params(anatomy)
    dense = anatomy.active_excl_input_embedding - routed_active
    touched = 0.0
    if anatomy.experts:
        distinct = expected_distinct_experts(
            experts=anatomy.experts, per_token=anatomy.experts_per_tok, tokens=tokens, skew=skew
        )
        touched = routed_active * distinct / anatomy.experts_per_tok
    return (dense + touched) * WEIGHT_BITS[weights] / 8


def active_routed_params(anatomy: Anatomy) -> float:
    """Return the routed-expert parameters that one token uses."""
    if not anatomy.experts:
        return 0.0
    return float(anatomy.routed_experts) * anatomy.experts_per_tok / anatomy.experts
