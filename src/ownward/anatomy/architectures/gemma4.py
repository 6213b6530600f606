"""Gemma 4: windows with wider global heads, shared caches, per-layer embeddings, a mixture beside the perceptron."""

from __future__ import annotations

from typing import NamedTuple

from ownward.anatomy.architectures.dense import SANDWICH_NORMS
from ownward.anatomy.architectures.windows import every_nth_full, windows
from ownward.anatomy.blueprint import (
    Blueprint,
    Layer,
    Weights,
    buffer,
    in_role,
    in_state,
    matrix,
    norm,
    table,
    vector,
)
from ownward.anatomy.decoder import assemble
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.attention import Part, grouped_query_cache
from ownward.anatomy.parts.feed_forward import gated_experts, gated_mlp
from ownward.anatomy.roles import Role
from ownward.core import BadInput


class _Kind(NamedTuple):
    window: int | None
    shares_cache: bool


def gemma4_text(fields: Fields, prefix: str = "model.", extra: Weights = ()) -> Blueprint:
    """Gemma 4's language model: E2B, E4B, 26B-A4B and 31B."""
    layers = fields.layer_count()
    layer_windows = windows(fields, every_nth_full(6))
    layer_windows[-1] = None
    shared = fields.count("num_kv_shared_layers", default=0, least=0)
    if shared and shared >= layers:
        raise BadInput(f"num_kv_shared_layers is {shared} of {layers} layers", where=fields.where)
    kinds = [_Kind(window, index >= layers - shared) for index, window in enumerate(layer_windows)]
    layer = {kind: _layer(fields, kind) for kind in dict.fromkeys(kinds)}
    has_experts = fields.flag("enable_moe_block", default=False)
    return assemble(
        fields,
        [layer[kind] for kind in kinds],
        prefix=prefix,
        extra=(*_per_layer_embeddings(fields, layers, prefix), *extra),
        experts=(fields.count("num_experts"), fields.count("top_k_experts")) if has_experts else None,
        is_checkpoint_settled=True,
    )


def _layer(fields: Fields, kind: _Kind) -> Layer:
    hidden, per_layer = fields.count("hidden_size"), _per_layer_width(fields)
    part = _attention(fields, kind)
    width = fields.count("intermediate_size")
    if kind.shares_cache and fields.flag("use_double_wide_mlp", default=False):
        width *= 2
    weights = [
        *part.weights,
        *gated_mlp(hidden, width),
        *(weight for name in SANDWICH_NORMS for weight in norm(name, hidden)),
        buffer("layer_scalar", (1,), Role.OTHER, stored_bits=16),
    ]
    if per_layer:
        injected = (
            *matrix("per_layer_input_gate", per_layer, hidden, Role.PER_LAYER_PROJ),
            *matrix("per_layer_projection", hidden, per_layer, Role.PER_LAYER_PROJ),
            *norm("post_per_layer_input_norm", hidden, Role.PER_LAYER_PROJ),
        )
        weights.extend(injected)
    if fields.flag("enable_moe_block", default=False):
        weights.extend(_mixture(fields))
    return Layer("full_attention" if kind.window is None else "sliding_attention", tuple(weights), part.cache)


def _attention(fields: Fields, kind: _Kind) -> Part:
    """Return a layer's attention; one that shares a cache still ships the keys and values it does not use."""
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    kv_heads, dim = fields.count("num_key_value_heads"), fields.count("head_dim")
    bias = fields.flag("attention_bias", default=False)
    keys_are_values = fields.flag("attention_k_eq_v", default=False) and kind.window is None
    if kind.window is None:
        dim = fields.count("global_head_dim", default=512)
        if fields.flag("attention_k_eq_v", default=False):
            kv_heads = fields.count("num_global_key_value_heads", default=kv_heads)
    role, prefix = Role.ATTENTION, "self_attn."
    sources: Weights = (
        *matrix(f"{prefix}k_proj", kv_heads * dim, hidden, role, has_bias=bias),
        *(() if keys_are_values else matrix(f"{prefix}v_proj", kv_heads * dim, hidden, role, has_bias=bias)),
        *norm(f"{prefix}k_norm", dim, role),
    )
    weights = (
        *matrix(f"{prefix}q_proj", heads * dim, hidden, role, has_bias=bias),
        *norm(f"{prefix}q_norm", dim, role),
        *(in_state("dead", sources) if kind.shares_cache else sources),
        *matrix(f"{prefix}o_proj", hidden, heads * dim, role, has_bias=bias),
    )
    cache = grouped_query_cache(
        heads=heads,
        kv_heads=kv_heads,
        key_dim=dim,
        window_tokens=kind.window,
        keeps_cache=not kind.shares_cache,
    )
    return Part(weights, cache)


def _mixture(fields: Fields) -> Weights:
    """Return the experts that stand beside the perceptron of the same layer, with norms of their own."""
    hidden, width = fields.count("hidden_size"), fields.count("moe_intermediate_size", "expert_intermediate_size")
    count, per_token = fields.count("num_experts"), fields.count("top_k_experts")
    return (
        *matrix("router.proj", count, hidden, Role.ROUTER),
        vector("router.scale", hidden, Role.ROUTER),
        vector("router.per_expert_scale", count, Role.ROUTER),
        *gated_experts(hidden, width, experts=count, per_token=per_token, prefix="experts.{}."),
        *norm("post_feedforward_layernorm_1", hidden),
        *norm("post_feedforward_layernorm_2", hidden),
        *norm("pre_feedforward_layernorm_2", hidden),
    )


def _per_layer_width(fields: Fields) -> int:
    return fields.count("hidden_size_per_layer_input", default=0, least=0)


def _per_layer_embeddings(fields: Fields, layers: int, prefix: str) -> Weights:
    """Return the table that gives each layer an embedding of its own, looked up and never multiplied."""
    width, hidden = _per_layer_width(fields), fields.count("hidden_size")
    if not width:
        return ()
    rows = fields.count("vocab_size_per_layer_input", default=fields.count("vocab_size"))
    role = Role.PER_LAYER_PROJ
    return (
        table(f"{prefix}embed_tokens_per_layer.weight", rows, layers * width, Role.PER_LAYER_EMBEDDINGS),
        *matrix(f"{prefix}per_layer_model_projection", layers * width, hidden, role),
        *in_role(role, norm(f"{prefix}per_layer_projection_norm", width)),
    )
