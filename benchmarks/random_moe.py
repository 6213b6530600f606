"""A GGUF file of random weights in the shape of Qwen3.5-35B-A3B, with as many of its layers as asked for.

Gated DeltaNet layers, full attention every fourth, 256 routed experts of which 8 are taken, a gated shared expert. The
quantised values leave nibble 0 out: with all sixteen the mean of a weight is not zero, every token ends in one
direction, and the router freezes on the same experts. Tokenizer and template are the embedded model's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_BLOCK = 32  # weights of a block of Q4_0 and Q8_0
_POOL_BLOCKS = 1 << 20
_NIBBLE_SPREAD = float(np.sqrt((15**2 - 1) / 12))  # of whole numbers 1 to 15
_BYTE_SPREAD = 73.0  # of whole numbers -127 to 127, drawn evenly
_FULL_EVERY = 4
_FEW_TOKENS = 512
_SECTOR_BYTES = 4096  # the file's size is a multiple, so that a loop device shows all of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of Qwen3.5-35B-A3B; it has 40 layers."""

    layers: int = 8
    hidden: int = 2048
    experts: int = 256
    experts_per_token: int = 8
    expert_width: int = 512
    shared_width: int = 512
    heads: int = 16
    kv_heads: int = 2
    head_dim: int = 256
    key_heads: int = 16
    value_heads: int = 32
    state_dim: int = 128
    kernel: int = 4
    context_tokens: int = 32768

    @property
    def expert_slice_bytes(self) -> int:
        """Bytes of one of an expert's three matrices in Q4_0: what is read in one piece."""
        return self.hidden * self.expert_width // _BLOCK * 18


def write_random_moe(path: Path, shape: Shape, *, tokenizer_of: Path | None, seed: int = 0) -> int:
    """Write the file and return its size in bytes; `tokenizer_of` is a GGUF file whose tokenizer it gets.

    Without one it has room for a few tokens and no tokenizer, enough for a look at its header.
    """
    import gguf

    draw = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "qwen35moe")
    tokens = _FEW_TOKENS if tokenizer_of is None else _copy_tokenizer(writer, gguf.GGUFReader(tokenizer_of))
    _add_shape(writer, shape)
    plan = _plan(shape, tokens)
    for name, kind, dims in plan:
        if kind == "f32":
            writer.add_tensor_info(name, dims, np.dtype(np.float32), int(np.prod(dims)) * 4)
            continue
        block_bytes, tag = (
            (18, gguf.GGMLQuantizationType.Q4_0) if kind == "q4" else (34, gguf.GGMLQuantizationType.Q8_0)
        )
        stored = (*dims[:-1], dims[-1] // _BLOCK * block_bytes)
        writer.add_tensor_info(name, stored, np.dtype(np.uint8), int(np.prod(stored)), raw_dtype=tag)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    pools = {"q4": _pool_q4(draw), "q8": _pool_q8(draw)}
    for name, kind, dims in plan:
        writer.write_tensor_data(_values(name, dims, draw) if kind == "f32" else _blocks(pools[kind], dims, draw))
    writer.close()
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.truncate(-(-size // _SECTOR_BYTES) * _SECTOR_BYTES)
    return path.stat().st_size


def _copy_tokenizer(writer: Any, reader: Any) -> int:
    """Copy the keys of the tokenizer, and return how many tokens it has."""
    for name, field in reader.fields.items():
        if name.startswith("tokenizer."):
            value = field.contents()
            types = list(field.types)
            writer.add_key_value(name, value, types[0], sub_type=types[1] if len(types) > 1 else None)
    return len(reader.fields["tokenizer.ggml.tokens"].contents())


def _add_shape(writer: Any, shape: Shape) -> None:
    inner = shape.value_heads * shape.state_dim
    writer.add_name(f"random weights, {shape.layers} layers of Qwen3.5-35B-A3B")
    writer.add_context_length(shape.context_tokens)
    writer.add_block_count(shape.layers)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.expert_width)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e7)
    writer.add_rope_dimension_count(shape.head_dim // 4)
    writer.add_rope_dimension_sections([11, 11, 10, 0])
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.experts_per_token)
    writer.add_expert_feed_forward_length(shape.expert_width)
    writer.add_expert_shared_feed_forward_length(shape.shared_width)
    writer.add_ssm_conv_kernel(shape.kernel)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(shape.state_dim)
    writer.add_ssm_time_step_rank(shape.value_heads)
    writer.add_ssm_group_count(shape.key_heads)
    writer.add_uint32("qwen35moe.full_attention_interval", _FULL_EVERY)


def _plan(shape: Shape, tokens: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return (name, kind, dimensions with the contiguous one last) of every tensor, in the order of the file."""
    hidden, width = shape.hidden, shape.expert_width
    found: list[tuple[str, str, tuple[int, ...]]] = [
        ("token_embd.weight", "q8", (tokens, hidden)),
        ("output_norm.weight", "f32", (hidden,)),
        ("output.weight", "q8", (tokens, hidden)),
    ]
    for layer in range(shape.layers):
        parts = _attention(shape) if (layer + 1) % _FULL_EVERY == 0 else _delta_net(shape)
        parts += [
            ("attn_norm.weight", "f32", (hidden,)),
            ("post_attention_norm.weight", "f32", (hidden,)),
            ("ffn_gate_inp.weight", "f32", (shape.experts, hidden)),
            ("ffn_gate_exps.weight", "q4", (shape.experts, width, hidden)),
            ("ffn_up_exps.weight", "q4", (shape.experts, width, hidden)),
            ("ffn_down_exps.weight", "q4", (shape.experts, hidden, width)),
            ("ffn_gate_inp_shexp.weight", "f32", (hidden,)),
            ("ffn_gate_shexp.weight", "q4", (shape.shared_width, hidden)),
            ("ffn_up_shexp.weight", "q4", (shape.shared_width, hidden)),
            ("ffn_down_shexp.weight", "q4", (hidden, shape.shared_width)),
        ]
        found += [(f"blk.{layer}.{name}", kind, dims) for name, kind, dims in parts]
    return found


def _attention(shape: Shape) -> list[tuple[str, str, tuple[int, ...]]]:
    hidden, dim = shape.hidden, shape.head_dim
    return [
        ("attn_q.weight", "q4", (2 * shape.heads * dim, hidden)),  # a gate beside each query
        ("attn_k.weight", "q4", (shape.kv_heads * dim, hidden)),
        ("attn_v.weight", "q4", (shape.kv_heads * dim, hidden)),
        ("attn_output.weight", "q4", (hidden, shape.heads * dim)),
        ("attn_q_norm.weight", "f32", (dim,)),
        ("attn_k_norm.weight", "f32", (dim,)),
    ]


def _delta_net(shape: Shape) -> list[tuple[str, str, tuple[int, ...]]]:
    hidden = shape.hidden
    values = shape.value_heads * shape.state_dim
    channels = 2 * shape.key_heads * shape.state_dim + values
    return [
        ("attn_qkv.weight", "q4", (channels, hidden)),
        ("attn_gate.weight", "q4", (values, hidden)),
        ("ssm_conv1d.weight", "f32", (channels, shape.kernel)),
        ("ssm_dt.bias", "f32", (shape.value_heads,)),
        ("ssm_a", "f32", (shape.value_heads,)),
        ("ssm_beta.weight", "f32", (shape.value_heads, hidden)),
        ("ssm_alpha.weight", "f32", (shape.value_heads, hidden)),
        ("ssm_norm.weight", "f32", (shape.state_dim,)),
        ("ssm_out.weight", "q4", (hidden, values)),
    ]


def _pool_q4(draw: np.random.Generator) -> np.ndarray:
    """Return blocks of Q4_0 whose scales are still to be set."""
    nibbles = draw.integers(1, 16, size=(_POOL_BLOCKS, 16, 2), dtype=np.uint8)
    pool = np.zeros((_POOL_BLOCKS, 18), dtype=np.uint8)
    pool[:, 2:] = nibbles[..., 0] | (nibbles[..., 1] << 4)
    return pool


def _pool_q8(draw: np.random.Generator) -> np.ndarray:
    pool = np.zeros((_POOL_BLOCKS, 34), dtype=np.uint8)
    pool[:, 2:] = draw.integers(-127, 128, size=(_POOL_BLOCKS, 32), dtype=np.int8).view(np.uint8)
    return pool


def _blocks(pool: np.ndarray, dims: tuple[int, ...], draw: np.random.Generator) -> np.ndarray:
    """Return a tensor cut out of the pool at random places, scaled to keep the variance of what it multiplies."""
    spread = _NIBBLE_SPREAD if pool.shape[1] == 18 else _BYTE_SPREAD
    scale = np.float16(1.0 / (spread * np.sqrt(dims[-1])))
    needed = int(np.prod(dims)) // _BLOCK
    piece = min(needed, dims[-2] * dims[-1] // _BLOCK, _POOL_BLOCKS // 4)
    out = np.empty((needed, pool.shape[1]), dtype=np.uint8)
    for start in range(0, needed, piece):
        length = min(piece, needed - start)
        offset = int(draw.integers(0, _POOL_BLOCKS - length))
        out[start : start + length] = pool[offset : offset + length]
    out[:, :2] = np.frombuffer(scale.tobytes(), dtype=np.uint8)
    return out.reshape(*dims[:-1], -1)


def _values(name: str, dims: tuple[int, ...], draw: np.random.Generator) -> np.ndarray:
    """Return a tensor kept in 32 bits: norms are ones, decays are negative, the rest keeps the variance."""
    if name.endswith("norm.weight"):
        return np.ones(dims, dtype=np.float32)
    if name.endswith("ssm_a"):
        return -draw.uniform(1.0, 16.0, dims).astype(np.float32)
    return (draw.standard_normal(dims) / np.sqrt(dims[-1])).astype(np.float32)
