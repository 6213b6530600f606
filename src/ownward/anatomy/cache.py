"""The bytes that a sequence keeps in the caches of a model, and the FLOP of attending to them, layer by layer."""

from __future__ import annotations

import math
from typing import Literal

from ownward.anatomy.blueprint import LayerCache

CacheType = Literal["bf16", "f16", "fp8", "q8_0", "q4_0"]

CACHE_BITS: dict[str, float] = {"bf16": 16, "f16": 16, "fp8": 8, "q8_0": 8.5, "q4_0": 4.5}
"""Bits a value; q8_0 and q4_0 are ggml's blocks of 32 values with one 16-bit scale."""

_RING_STEP = 256


def layer_cache_bytes(cache: LayerCache, context_tokens: int, kv_type: CacheType) -> int:
    """Return the bytes that one layer keeps of a sequence of `context_tokens`."""
    values = context_tokens // cache.stride * cache.token_values
    values += context_tokens // cache.index_stride * cache.index_values
    values += min(context_tokens, cache.window_tokens) * cache.window_values
    state = 4 * cache.state_values + 2 * cache.conv_values
    return math.ceil(values * CACHE_BITS[kv_type] / 8) + state


def ring_tokens(window_tokens: int, chunk_tokens: int) -> int:
    """Return for how many tokens llama.cpp has room in a layer with a window: it and the chunk that is being read.

    Source: llama.cpp b11549, llama-kv-cache-iswa.cpp.

    >>> ring_tokens(512, 512), ring_tokens(128, 512)
    (1024, 768)
    """
    return -(-(window_tokens + chunk_tokens) // _RING_STEP) * _RING_STEP


def attention_flop(cache: LayerCache, context_tokens: float) -> float:
    """Return the FLOP of one layer's attention for one new token after `context_tokens`."""
    held = min(context_tokens, cache.window_tokens or cache.selected_tokens)
    chosen = min(context_tokens / cache.stride, cache.chosen_entries)
    return (
        cache.context_flop * context_tokens + cache.window_flop * held + cache.chosen_flop * chosen + cache.state_flop
    )


def causal_flop(cache: LayerCache, tokens: int, cached_tokens: int) -> float:
    """Return the FLOP of one layer's attention for `tokens` new tokens, each after all before it."""
    pairs = tokens * cached_tokens + tokens * (tokens - 1) / 2
    window = cache.window_tokens or cache.selected_tokens
    held = _capped_pairs(tokens, cached_tokens, window)
    chosen = _capped_pairs(tokens, cached_tokens, cache.chosen_entries * cache.stride) / cache.stride
    return (
        cache.context_flop * pairs + cache.window_flop * held + cache.chosen_flop * chosen + cache.state_flop * tokens
    )


def _capped_pairs(tokens: int, cached_tokens: int, window: int) -> float:
    """Return the sum of min(position, window) over the new tokens' positions."""
    growing = min(max(window - cached_tokens, 0), tokens)
    return growing * cached_tokens + growing * (growing - 1) / 2 + (tokens - growing) * window
