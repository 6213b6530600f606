"""MiniMax: lightning attention with experts (Text-01, M1), grouped-query attention with norms over all (M2)."""

from __future__ import annotations

from ownward.anatomy.architectures import mixture
from ownward.anatomy.architectures.dense import Traits, heads_of
from ownward.anatomy.blueprint import Blueprint, Layer, norm
from ownward.anatomy.decoder import assemble
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.attention import grouped_query
from ownward.anatomy.parts.feed_forward import gated_experts, gated_mlp, router
from ownward.anatomy.parts.recurrent import lightning
from ownward.anatomy.roles import Role


def minimax_m2(fields: Fields) -> Blueprint:
    """MiniMax M2 to M2.7; the draft modules that its configs declare are in none of its checkpoints."""
    hidden, width = fields.count("hidden_size"), fields.count("intermediate_size")
    count, per_token = fields.count("num_local_experts", "num_experts"), fields.count("num_experts_per_tok")
    has_bias = fields.flag("use_routing_bias", default=True)
    shared = fields.count("shared_intermediate_size", default=0, least=0)
    name = "block_sparse_moe"
    weights = (
        *router(
            hidden, count, name=f"{name}.gate", correction_bias=f"{name}.e_score_correction_bias" if has_bias else None
        ),
        *gated_experts(hidden, width, experts=count, per_token=per_token, prefix=f"{name}.experts.{{}}."),
        *(gated_mlp(hidden, shared, role=Role.SHARED_EXPERTS, prefix="shared_mlp.") if shared else ()),
    )
    fields.expect("qk_norm_type", "per_layer")
    traits = Traits(qk_norm="whole" if fields.flag("use_qk_norm", default=True) else "none")
    layers = fields.layer_count()
    attention_kinds = fields.numbers("attn_type_list")
    if attention_kinds is not None:
        fields.check_length("attn_type_list", attention_kinds, layers)
        fields.expect_each("attn_type_list", attention_kinds, 1)
    return mixture.draw(
        fields, traits, weights, is_routed=[True] * layers, layer_windows=[None] * layers, experts=(count, per_token)
    )


def minimax(fields: Fields) -> Blueprint:
    """MiniMax-Text-01 and M1: lightning attention with full attention in between, experts in every layer."""
    hidden, layers, heads = fields.count("hidden_size"), fields.layer_count(), heads_of(fields)
    kinds = _minimax_kinds(fields, layers)
    count, per_token = fields.count("num_local_experts", "num_experts"), fields.count("num_experts_per_tok")
    common = (
        *router(hidden, count, name="block_sparse_moe.gate"),
        *gated_experts(
            hidden,
            fields.count("intermediate_size"),
            experts=count,
            per_token=per_token,
            prefix="block_sparse_moe.experts.{}.",
        ),
        *norm("input_layernorm", hidden),
        *norm("post_attention_layernorm", hidden),
    )
    fields.expect("shared_intermediate_size", 0)
    parts = {
        "full_attention": grouped_query(hidden, heads=heads.query, kv_heads=heads.kv, head_dim=heads.dim),
        "lightning_attention": lightning(hidden, heads=heads.query, head_dim=heads.dim),
    }
    layer = {kind: Layer(kind, (*part.weights, *common), part.cache) for kind, part in parts.items()}
    return assemble(fields, [layer[kind] for kind in kinds], experts=(count, per_token))


def _minimax_kinds(fields: Fields, layers: int) -> list[str]:
    """Return each layer's mixer; checkpoints list 1 for full attention in `attn_type_list`."""
    signs = fields.numbers("attn_type_list")
    listed = fields.layer_types(layers)
    if listed is None and signs is not None:
        fields.check_length("attn_type_list", signs, layers)
        fields.expect_each("attn_type_list", signs, 0, 1)
        return ["full_attention" if sign else "lightning_attention" for sign in signs]
    if listed is None:
        return ["full_attention" if (index + 1) % 2 else "lightning_attention" for index in range(layers)]
    fields.expect_each("layer_types", listed, "full_attention", "linear_attention")
    return ["full_attention" if kind == "full_attention" else "lightning_attention" for kind in listed]
