"""Which weight formats of a model an engine would be given, and what a file that is there already is called."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ownward.anatomy import Anatomy
from ownward.catalog import Machine
from ownward.core import UnknownQuantization
from ownward.perf import FORMATS, WEIGHT_BITS, resident_bytes, weight_format

StoredAs = Literal["gguf", "checkpoint"]
"""A file that somebody has, whose weights are what they are: a GGUF is for llama.cpp, a checkpoint for others."""

AS_STORED = "native"
_AS_COMPUTED = "best"
# ggml's block types are in GGUFs alone, scaled floats and integers in checkpoints; wide weights and MXFP4 are in both.
_STORED_AS: dict[str, StoredAs] = {
    **dict.fromkeys(("q8", "k-quant", "q4_0", "iq4", "i-quant"), "gguf"),
    **dict.fromkeys(("fp8", "int8", "int4", "nvfp4"), "checkpoint"),
}
# What people make of a release for each engine, from the widest format to the narrowest.
_FORMATS = {
    "llama.cpp": ("bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q3_k_m", "q2_k"),
    "vllm": ("bf16", "fp8", "int4"),
}
_NARROW_BITS = 6.0
# A name is taken at its word where the file is no further from it.
_NAME_SLACK = 1.25
# Making a file narrower by less is not worth the conversion.
_LEAST_STEP_BITS = 0.5
_WIDE_BITS = 12.0


class Variant(NamedTuple):
    """A weight format as `perf` knows it, what people call it, and its bits a parameter."""

    weights: str
    label: str
    bits: float


def variants_of(
    anatomy: Anatomy, *, engine: str, machine: Machine, stored_as: StoredAs | None = None
) -> tuple[Variant, ...]:
    """Return the formats to try: a file as it is stored, a release in those that are made of it.

    A release that was trained in 8 or 4 bits is never widened: it is served as released, or narrower.
    """
    own = _own(anatomy)
    if stored_as is not None and own.label != "bf16":
        return (own,)
    usual = [named(weights) for weights in _FORMATS.get(engine, _FORMATS["llama.cpp"])]
    if engine == "vllm" and machine.rate("fp4") is not None:
        usual.insert(2, named("nvfp4"))
    if anatomy.recipe is None:
        return tuple(usual)
    if engine != "vllm" and own.bits >= _NARROW_BITS:  # llama.cpp converts what it serves
        return tuple(item for item in usual if item.bits < own.bits + 1)
    if own.label == "mxfp4":
        return (named("mxfp4") if engine != "vllm" else own,)
    return (own, *(item for item in usual if item.bits < own.bits - _LEAST_STEP_BITS))


def variant_of(anatomy: Anatomy, weights: str, machine: Machine) -> Variant:
    """Return the variant of a format that somebody names: `native` is as stored, `best` as the machine computes."""
    if weights == AS_STORED:
        return _own(anatomy)
    if weights == _AS_COMPUTED:
        weights = "nvfp4" if machine.rate("fp4") else "fp8" if machine.rate("fp8") else "bf16"
    return named(weights)


def stored_as_of(weights: str) -> StoredAs | None:
    """Return the kind of file in which alone a format is published; None for one that both kinds hold.

    >>> stored_as_of("q4_k_m"), stored_as_of("fp8"), stored_as_of("bf16")
    ('gguf', 'checkpoint', None)
    """
    known = FORMATS.get(weights)
    return None if known is None else _STORED_AS.get(known.kernels)


def named(weights: str) -> Variant:
    """Return the variant of a canonical format's name."""
    return Variant(weights, weights, WEIGHT_BITS[weights])


def _own(anatomy: Anatomy) -> Variant:
    if anatomy.is_narrowed_on_load:
        return named("bf16")
    bits = 8 * resident_bytes(anatomy, AS_STORED) / max(anatomy.checkpoint_params_exact, 1)
    return Variant(AS_STORED, _own_label(anatomy, bits), bits)


def _own_label(anatomy: Anatomy, bits: float) -> str:
    """Return what a file's own weights are called: its quantisation's name where that says the bits, else the bits."""
    names = [anatomy.quantization or ""]
    if anatomy.recipe is not None:
        names += [stored.name for _, stored in anatomy.recipe.rules]
    for name in filter(None, names):
        try:
            known = weight_format(name)
        except UnknownQuantization:
            continue
        stated = WEIGHT_BITS.get(known)
        if stated is not None and stated / _NAME_SLACK <= bits <= stated * _NAME_SLACK:
            return known
    if not any(names) and bits > _WIDE_BITS:
        return "bf16"
    return f"{bits:.1f}-bit"
