"""Softmax attention: grouped queries, latent (MLA), windows, chunks and sparse indexers."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ownward.anatomy.blueprint import LayerCache, Weights, matrix, norm, vector
from ownward.anatomy.roles import Role
from ownward.core import BadInput

QkNorm = Literal["none", "per_head", "whole"]
"""RMSNorm on queries and keys: none, one scale shared by all heads, or one over all heads' width."""


class Part(NamedTuple):
    """Weights of a part of a layer, and what that part caches."""

    weights: Weights
    cache: LayerCache


def grouped_query_cache(
    *,
    heads: int,
    kv_heads: int,
    key_dim: int,
    value_dim: int | None = None,
    window_tokens: int | None = None,
    keeps_cache: bool = True,
) -> LayerCache:
    """Return what a layer of MHA, GQA or MQA keeps, with all of the context or with a window of it.

    FLOP: 2 for each multiply-add of scores and of mixing values, one new token against one cached.
    `keeps_cache` is False for a layer that reads the cache of an earlier one.
    Source: Ainslie et al. 2023, GQA, section 2.2.
    Raises: BadInput, where the key-value heads do not share out the heads.
    """
    if heads % kv_heads:
        raise BadInput(
            f"its sizes contradict each other: {heads} attention heads cannot share {kv_heads} key-value heads evenly"
        )
    value_dim = key_dim if value_dim is None else value_dim
    values = kv_heads * (key_dim + value_dim) if keeps_cache else 0
    flop = 2 * heads * (key_dim + value_dim)
    if window_tokens is None:
        return LayerCache(token_values=values, context_flop=flop, kv_heads=kv_heads, heads=heads, head_width=key_dim)
    return LayerCache(
        kv_heads=kv_heads,
        heads=heads,
        head_width=key_dim,
        window_values=values,
        window_tokens=window_tokens,
        window_flop=flop,
        reports_window_flop=key_dim == value_dim,
    )


def grouped_query(
    hidden: int,
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    value_dim: int | None = None,
    window_tokens: int | None = None,
    has_qkv_bias: bool = False,
    has_out_bias: bool = False,
    qk_norm: QkNorm = "none",
    query_copies: int = 1,
    has_sinks: bool = False,
    out_name: str = "o_proj",
    prefix: str = "self_attn.",
) -> Part:
    """Return grouped-query attention with separate q, k, v and output projections.

    `query_copies` is 2 where the query projection also makes an output gate.
    """
    value_dim = head_dim if value_dim is None else value_dim
    role = Role.ATTENTION
    weights = (
        *matrix(f"{prefix}q_proj", heads * head_dim * query_copies, hidden, role, has_bias=has_qkv_bias),
        *matrix(f"{prefix}k_proj", kv_heads * head_dim, hidden, role, has_bias=has_qkv_bias),
        *matrix(f"{prefix}v_proj", kv_heads * value_dim, hidden, role, has_bias=has_qkv_bias),
        *matrix(f"{prefix}{out_name}", hidden, heads * value_dim, role, has_bias=has_out_bias),
        *query_key_norms(qk_norm, heads, kv_heads, head_dim, prefix=prefix),
    )
    if has_sinks:
        weights = (*weights, vector(f"{prefix}sinks", heads, role))
    cache = grouped_query_cache(
        heads=heads, kv_heads=kv_heads, key_dim=head_dim, value_dim=value_dim, window_tokens=window_tokens
    )
    return Part(weights, cache)


def query_key_norms(kind: QkNorm, heads: int, kv_heads: int, head_dim: int, *, prefix: str = "self_attn.") -> Weights:
    """Return the normalisations of queries and keys, counted as attention."""
    if kind == "none":
        return ()
    q_size, k_size = (head_dim, head_dim) if kind == "per_head" else (heads * head_dim, kv_heads * head_dim)
    return (
        *norm(f"{prefix}q_norm", q_size, Role.ATTENTION),
        *norm(f"{prefix}k_norm", k_size, Role.ATTENTION),
    )


def latent(
    hidden: int,
    *,
    heads: int,
    query_rank: int | None,
    latent_rank: int,
    nope_dim: int,
    rope_dim: int,
    value_dim: int,
    has_bias: bool = False,
) -> Part:
    """Return multi-head latent attention: the cache is one latent and one rotary key, whatever the heads.

    FLOP in absorbed form: scores against latent and rotary key, values from the latent.
    Source: DeepSeek-V2 (2024), section 2.1; `q_lora_rank` null means a plain query projection.
    """
    role = Role.ATTENTION
    query_dim = nope_dim + rope_dim
    if query_rank is None:
        queries = matrix("self_attn.q_proj", heads * query_dim, hidden, role)
    else:
        queries = (
            *matrix("self_attn.q_a_proj", query_rank, hidden, role, has_bias=has_bias),
            *norm("self_attn.q_a_layernorm", query_rank, role),
            *matrix("self_attn.q_b_proj", heads * query_dim, query_rank, role),
        )
    weights = (
        *queries,
        *matrix("self_attn.kv_a_proj_with_mqa", latent_rank + rope_dim, hidden, role, has_bias=has_bias),
        *norm("self_attn.kv_a_layernorm", latent_rank, role),
        *matrix("self_attn.kv_b_proj", heads * (nope_dim + value_dim), latent_rank, role),
        *matrix("self_attn.o_proj", hidden, heads * value_dim, role, has_bias=has_bias),
    )
    return Part(weights, latent_cache(heads=heads, latent_rank=latent_rank, rope_dim=rope_dim))


def latent_cache(*, heads: int, latent_rank: int, rope_dim: int) -> LayerCache:
    """Return what a latent-attention layer keeps: `latent_rank + rope_dim` values a token."""
    width = latent_rank + rope_dim
    flop = 2 * heads * (width + latent_rank)
    return LayerCache(token_values=width, context_flop=flop, kv_heads=1, heads=heads, head_width=width)


def make_sparse(
    cache: LayerCache, *, index_heads: int, index_dim: int, selected_tokens: int, has_indexer: bool
) -> LayerCache:
    """Return `cache` attended only at `selected_tokens` that an indexer chose by scanning all of the context.

    A layer without an indexer of its own attends at the choice of an earlier one and scans nothing.
    Source: DeepSeek-V3.2 (2025), section 2.1.
    """
    return cache._replace(
        index_values=index_dim if has_indexer else 0,
        context_flop=2 * index_heads * index_dim if has_indexer else 0,
        window_flop=cache.context_flop,
        selected_tokens=selected_tokens,
    )
