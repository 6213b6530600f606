"""GLM-4.5 and GLM-4.6: DeepSeek's mixture over grouped-query attention."""

from __future__ import annotations

from ownward.anatomy.architectures.dense import PRE_NORMS, heads_of
from ownward.anatomy.architectures.latent import deepseek_mixture, draft_layers, routed_layers, routing_of
from ownward.anatomy.blueprint import Blueprint, Layer, norm
from ownward.anatomy.decoder import assemble
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.attention import grouped_query
from ownward.anatomy.parts.feed_forward import gated_mlp


def glm4_moe(fields: Fields, prefix: str = "model.") -> Blueprint:
    """GLM-4.5, 4.5-Air, 4.6, 4.7: biased queries, keys and values, norms on each head where switched on."""
    hidden, heads = fields.count("hidden_size"), heads_of(fields)
    part = grouped_query(
        hidden,
        heads=heads.query,
        kv_heads=heads.kv,
        head_dim=heads.dim,
        has_qkv_bias=fields.flag("attention_bias", default=False),
        qk_norm="per_head" if fields.flag("use_qk_norm", default=False) else "none",
    )
    norms = tuple(weight for name in PRE_NORMS for weight in norm(name, hidden))
    feed_forward = {
        True: deepseek_mixture(fields, has_correction_bias=True),
        False: gated_mlp(hidden, fields.count("intermediate_size")),
    }
    layer = {
        routed: Layer("full_attention", (*part.weights, *weights, *norms), part.cache)
        for routed, weights in feed_forward.items()
    }
    drafts = fields.draft_count("num_nextn_predict_layers", "num_mtp_layers")
    return assemble(
        fields,
        [layer[routed] for routed in routed_layers(fields, fields.layer_count())],
        prefix=prefix,
        drafts=draft_layers(fields, layer[True], drafts, prefix=prefix),
        experts=routing_of(fields),
    )
