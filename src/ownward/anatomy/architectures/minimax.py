"""MiniMax M2: a mixture of experts over grouped-query attention with norms over all queries and keys."""

from __future__ import annotations

from ownward.anatomy.architectures import mixture
from ownward.anatomy.architectures.dense import Traits
from ownward.anatomy.blueprint import Blueprint
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.feed_forward import gated_experts, gated_mlp, router
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
