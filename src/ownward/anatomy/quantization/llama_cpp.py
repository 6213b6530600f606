"""llama.cpp's quantisation types: which tensor of which layer gets how many bits.

Source: llama_tensor_get_type in llama.cpp, src/llama-quant.cpp, b11549.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ownward.anatomy.blueprint import Weight
from ownward.anatomy.quantization.formats import GGML, GGML_BLOCKS, Format
from ownward.anatomy.roles import MODALITY_ROLES, Role

Share = Literal["none", "all", "more_bits", "first_eighth", "first_sixteenth", "first_four", "first_two"]
"""In which layers a tensor gets a finer type than the base."""

# What a row that is no multiple of a block of 256 gets instead.
_FALLBACK = {"q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """A file type: the base type, the head's, and the finer types of some tensors in a share of the layers."""

    base: str
    head: str = "q6_k"
    value: tuple[tuple[Share, str], ...] = ()
    down: tuple[tuple[Share, str], ...] = ()
    out: str | None = None
    fused_qkv: str | None = None
    experts: str | None = None

    def shares_of(self, index: int, layers: int) -> tuple[bool, ...]:
        """Return what tells layers apart in this mix: whether each of its shares holds the layer `index`."""
        return tuple(_has(share, index, layers) for share, _ in (*self.value, *self.down))

    def format_of(self, name: str, weight: Weight, *, index: int, layers: int, is_head: bool) -> Format:
        """Return the format of a weight; norms, biases, convolutions and routers stay fp32, towers fp16."""
        if weight.role in MODALITY_ROLES:
            return GGML["f16" if len(weight.shape) > 1 else "f32"]
        if weight.op in {"vector", "conv"} or weight.role is Role.ROUTER or min(weight.shape, default=1) == 1:
            return GGML["f32"]
        if self.experts and weight.role is Role.ROUTED_EXPERTS:
            return _fitting(self.experts, weight)
        return _fitting(self._type_of(name, index=index, layers=layers, is_head=is_head), weight)

    def _type_of(self, name: str, *, index: int, layers: int, is_head: bool) -> str:
        if is_head:
            return self.head
        if "v_proj" in name and "qkv" not in name:
            return _first(self.value, index, layers) or self.base
        if "down_proj" in name and "routed_down" not in name:
            return _first(self.down, index, layers) or self.base
        if name.endswith(("o_proj.weight", "out_proj.weight")) and self.out:
            return self.out
        if "qkv" in name and self.fused_qkv:
            return self.fused_qkv
        return self.base


MIXES: dict[str, Mix] = {
    "f16": Mix(base="f16", head="f16"),
    "q8_0": Mix(base="q8_0", head="q8_0"),
    "q6_k": Mix(base="q6_k"),
    "q5_k_m": Mix(base="q5_k", value=(("more_bits", "q6_k"),), down=(("more_bits", "q6_k"),), fused_qkv="q6_k"),
    "q5_k_s": Mix(base="q5_k"),
    "q5_0": Mix(base="q5_0"),
    "q4_k_m": Mix(base="q4_k", value=(("more_bits", "q6_k"),), down=(("more_bits", "q6_k"),), fused_qkv="q5_k"),
    "q4_k_s": Mix(base="q4_k", value=(("first_four", "q5_k"),), down=(("first_eighth", "q5_k"),)),
    "q4_0": Mix(base="q4_0"),
    "iq4_xs": Mix(base="iq4_xs", value=(("all", "q5_k"),), down=(("first_eighth", "q5_k"),)),
    "iq4_nl": Mix(base="iq4_nl", value=(("all", "q5_k"),), down=(("first_eighth", "q5_k"),)),
    "q3_k_m": Mix(
        base="q3_k",
        value=(("first_two", "q5_k"), ("all", "q4_k")),
        down=(("first_sixteenth", "q5_k"), ("more_bits", "q4_k")),
        out="q4_k",
        fused_qkv="q4_k",
    ),
    "mxfp4_moe": Mix(base="q8_0", head="q8_0", experts="mxfp4"),
    "q3_k_s": Mix(base="q3_k"),
    "q2_k": Mix(base="q2_k", value=(("all", "q4_k"),), down=(("all", "q3_k"),), out="q3_k", fused_qkv="q3_k"),
}


def _first(shares: tuple[tuple[Share, str], ...], index: int, layers: int) -> str | None:
    return next((name for share, name in shares if _has(share, index, layers)), None)


def _has(share: Share, index: int, layers: int) -> bool:
    match share:
        case "none":
            return False
        case "all":
            return True
        case "more_bits":
            eighth = layers // 8
            return index < eighth or index >= 7 * layers // 8 or (index - eighth) % 3 == 2  # noqa: PLR2004
        case "first_eighth":
            return index < layers // 8
        case "first_sixteenth":
            return index < layers // 16
        case "first_four":
            return index < 4  # noqa: PLR2004
        case "first_two":
            return index < 2  # noqa: PLR2004


def _fitting(name: str, weight: Weight) -> Format:
    """Return the type, or the one that llama.cpp falls back to where a row is no whole number of blocks."""
    columns = weight.shape[-1]
    if columns % GGML_BLOCKS[name][0] == 0:
        return GGML[name]
    fallback = _FALLBACK.get(name, "iq4_nl")
    return GGML[fallback] if columns % GGML_BLOCKS[fallback][0] == 0 else GGML["f16"]
