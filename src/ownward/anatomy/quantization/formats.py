"""How many bytes a tensor takes in each format: values, and the scales and zero points that go with them."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A way of storing a matrix of shape (..., out, in).

    A value takes `value_bits`; each `group` values along a row add `group_bits` (scale, zero
    point); each tile of `tile` adds `tile_bits`; a row, a column and the tensor may add more.
    """

    name: str
    value_bits: float
    group: int = 0
    group_bits: float = 0
    tile: tuple[int, int] | None = None
    tile_bits: int = 0
    row_bits: int = 0
    column_bits: int = 0
    tensor_bits: int = 0

    def bytes_of(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of one tensor."""
        elements = prod(shape)
        columns = shape[-1] if shape else 1
        rows = elements // columns if columns else 0
        bits = elements * self.value_bits + self.tensor_bits + rows * self.row_bits + columns * self.column_bits
        if self.group:
            bits += rows * ceil(columns / self.group) * self.group_bits
        if self.tile:
            outer, inner = prod(shape[:-2]), shape[-2] if len(shape) > 1 else 1
            bits += outer * ceil(inner / self.tile[0]) * ceil(columns / self.tile[1]) * self.tile_bits
        return ceil(bits / 8)


def floating(bits: int) -> Format:
    """Return plain floating point or integers of `bits`."""
    return Format(name=f"f{bits}", value_bits=bits)


BF16 = Format(name="bf16", value_bits=16)
F32 = Format(name="f32", value_bits=32)

FP8_BLOCK = Format(name="fp8_block", value_bits=8, tile=(128, 128), tile_bits=32)
"""FP8 with one fp32 scale a tile of 128 x 128. Source: DeepSeek-V3 README_WEIGHTS.md."""

FP8_TENSOR = Format(name="fp8", value_bits=8, tensor_bits=64)
"""FP8 with a scale for weights and one for inputs. Source: modelopt's FP8 checkpoints."""

MXFP4 = Format(name="mxfp4", value_bits=4, group=32, group_bits=8)
"""FP4 with one 8-bit exponent a group of 32. Source: OCP Microscaling Formats 1.0, section 5."""

NVFP4 = Format(name="nvfp4", value_bits=4, group=16, group_bits=8, tensor_bits=64)
"""FP4 with one FP8 scale a group of 16 and fp32 scales a tensor. Source: modelopt's NVFP4 checkpoints."""


def integer(bits: int, *, group: int | None, is_symmetric: bool = True, has_order: bool = False) -> Format:
    """Return packed integers with 16-bit scales, a group or a row each, and zero points unless symmetric.

    `has_order` adds GPTQ's 32-bit group number for each input. A pack of compressed-tensors
    also keeps its shape: 64 bits a tensor (met by Kimi K2.6's file to the byte).
    """
    scale = 16 + (0 if is_symmetric else bits)
    name = f"int{bits}_g{group}" if group else f"int{bits}"
    if group:
        return Format(name=name, value_bits=bits, group=group, group_bits=scale, column_bits=32 if has_order else 0)
    return Format(name=name, value_bits=bits, row_bits=scale, column_bits=32 if has_order else 0)


def mlx_affine(bits: int, group: int) -> Format:
    """Return MLX's affine format: packed integers with a 16-bit scale and a 16-bit bias a group."""
    return Format(name=f"mlx_{bits}bit_g{group}", value_bits=bits, group=group, group_bits=32)


def ggml(name: str, block_values: int, block_bytes: int) -> Format:
    """Return a block format of ggml."""
    return Format(name=name, value_bits=block_bytes * 8 / block_values)


# Values and bytes of a block. Source: ggml/src/ggml-common.h, llama.cpp b11549.
GGML_BLOCKS: dict[str, tuple[int, int]] = {
    "f32": (1, 4),
    "f16": (1, 2),
    "q4_0": (32, 18),
    "q4_1": (32, 20),
    "q5_0": (32, 22),
    "q5_1": (32, 24),
    "q8_0": (32, 34),
    "q8_1": (32, 40),
    "q2_k": (256, 84),
    "q3_k": (256, 110),
    "q4_k": (256, 144),
    "q5_k": (256, 176),
    "q6_k": (256, 210),
    "q8_k": (256, 292),
    "iq2_xxs": (256, 66),
    "iq2_xs": (256, 74),
    "iq3_xxs": (256, 98),
    "iq1_s": (256, 50),
    "iq4_nl": (32, 18),
    "iq3_s": (256, 110),
    "iq2_s": (256, 82),
    "iq4_xs": (256, 136),
    "i8": (1, 1),
    "i16": (1, 2),
    "i32": (1, 4),
    "i64": (1, 8),
    "f64": (1, 8),
    "iq1_m": (256, 56),
    "bf16": (1, 2),
    "tq1_0": (256, 54),
    "tq2_0": (256, 66),
    "mxfp4": (32, 17),
    "nvfp4": (64, 36),
    "q1_0": (128, 18),
}

GGML: dict[str, Format] = {name: ggml(name, *block) for name, block in GGML_BLOCKS.items()}
