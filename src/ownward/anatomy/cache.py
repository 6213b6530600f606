"""What a sequence keeps in memory and what attending to it costs, layer by layer."""

from __future__ import annotations

import math
from typing import Literal

from ownward.anatomy.blueprint import Memory

CacheType = Literal["bf16", "f16", "fp8", "q8_0", "q4_0"]

CACHE_BITS: dict[str, float] = {"bf16": 16, "f16": 16, "fp8": 8, "q8_0": 8.5, "q4_0": 4.5}
"""Bits a value; q8_0 and q4_0 are ggml's blocks of 32 values with one 16-bit scale."""


def layer_cache_bytes(memory: Memory, context_tokens: int, kv_type: CacheType) -> int:
    """Return the bytes that one layer keeps of a sequence of `context_tokens`."""
    values = context_tokens // memory.stride * memory.token_values
    values += context_tokens // memory.index_stride * memory.index_values
    values += min(context_tokens, memory.window_tokens) * memory.window_values
    state = 4 * memory.state_values + 2 * memory.conv_values
    return math.ceil(values * CACHE_BITS[kv_type] / 8) + state


def attention_flop(memory: Memory, context_tokens: float) -> float:
    """Return the FLOP of one layer's attention for one new token after `context_tokens`."""
    held = min(context_tokens, memory.window_tokens or memory.selected_tokens)
    chosen = min(context_tokens / memory.stride, memory.chosen_entries)
    return (
        memory.context_flop * context_tokens
        + memory.window_flop * held
        + memory.chosen_flop * chosen
        + memory.state_flop
    )


def causal_flop(memory: Memory, tokens: int, cached_tokens: int) -> float:
    """Return the FLOP of one layer's attention for `tokens` new tokens, each after all before it."""
    pairs = tokens * cached_tokens + tokens * (tokens - 1) / 2
    window = memory.window_tokens or memory.selected_tokens
    held = _capped_pairs(tokens, cached_tokens, window)
    chosen = _capped_pairs(tokens, cached_tokens, memory.chosen_entries * memory.stride) / memory.stride
    return (
        memory.context_flop * pairs
        + memory.window_flop * held
        + memory.chosen_flop * chosen
        + memory.state_flop * tokens
    )


def _capped_pairs(tokens: int, cached_tokens: int, window: int) -> float:
    """Return the sum of min(position, window) over the new tokens' positions."""
    growing = min(max(window - cached_tokens, 0), tokens)
    return growing * cached_tokens + growing * (growing - 1) / 2 + (tokens - growing) * window
