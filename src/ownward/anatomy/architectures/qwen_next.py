"""Gated DeltaNet with full attention in between: Qwen3-Next and Qwen3.5, dense and mixture."""

from __future__ import annotations

from ownward.anatomy.architectures.dense import PRE_NORMS, heads_of
from ownward.anatomy.architectures.mixture import qwen_mixture, qwen_routing
from ownward.anatomy.architectures.windows import check_kinds
from ownward.anatomy.blueprint import Blueprint, Layer, Weights, matrix, norm, prefixed
from ownward.anatomy.decoder import assemble
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.attention import Part, grouped_query
from ownward.anatomy.parts.feed_forward import gated_mlp
from ownward.anatomy.parts.recurrent import gated_delta_net
from ownward.anatomy.roles import Role

KINDS = {"linear_attention": "gated_delta_net", "full_attention": "full_attention"}


def mixer_kinds(fields: Fields) -> list[str]:
    """Return each layer's mixer: as `layer_types` lists it, else full attention in every n-th layer."""
    layers = fields.layer_count()
    kinds = fields.layer_types(layers)
    if kinds is None:
        period = fields.count("full_attention_interval", default=4)
        return ["linear_attention" if (index + 1) % period else "full_attention" for index in range(layers)]
    check_kinds(fields, kinds, frozenset(KINDS))
    return kinds


def delta_net(fields: Fields, *, is_fused: bool) -> Part:
    """Return the gated DeltaNet that the config's linear heads describe."""
    return gated_delta_net(
        fields.count("hidden_size"),
        key_heads=fields.count("linear_num_key_heads"),
        value_heads=fields.count("linear_num_value_heads"),
        key_dim=fields.count("linear_key_head_dim"),
        value_dim=fields.count("linear_value_head_dim"),
        kernel=fields.count("linear_conv_kernel_dim"),
        is_fused=is_fused,
    )


def gated_attention(fields: Fields) -> Part:
    """Return full attention whose query projection also makes an output gate, with norms on each head."""
    heads, bias = heads_of(fields), fields.flag("attention_bias", default=False)
    return grouped_query(
        fields.count("hidden_size"),
        heads=heads.query,
        kv_heads=heads.kv,
        head_dim=heads.dim,
        has_qkv_bias=bias,
        has_out_bias=bias,
        qk_norm="per_head",
        query_copies=2,
    )


def draw(fields: Fields, *, is_fused: bool, has_experts: bool, drafts: int, prefix: str) -> Blueprint:
    """Return a decoder of DeltaNet and gated attention layers, dense or with experts, and its draft layers."""
    hidden = fields.count("hidden_size")
    kinds = mixer_kinds(fields)
    mixers = {"linear_attention": delta_net(fields, is_fused=is_fused), "full_attention": gated_attention(fields)}
    norms = tuple(weight for name in PRE_NORMS for weight in norm(name, hidden))
    routed = qwen_routing(fields, len(kinds)) if has_experts else [False] * len(kinds)
    feed_forward = {
        is_routed: qwen_mixture(fields) if is_routed else gated_mlp(hidden, fields.count("intermediate_size"))
        for is_routed in {*routed, has_experts}
    }
    layer = {
        (kind, is_routed): Layer(KINDS[kind], (*part.weights, *weights, *norms), part.cache)
        for kind, part in mixers.items()
        for is_routed, weights in feed_forward.items()
    }
    experts = (fields.count("num_experts"), fields.count("num_experts_per_tok")) if has_experts else None
    return assemble(
        fields,
        [layer[key] for key in zip(kinds, routed, strict=True)],
        prefix=prefix,
        drafts=draft_layers(layer["full_attention", has_experts].weights, hidden, drafts),
        experts=experts,
    )


def draft_layers(layer: Weights, hidden: int, count: int) -> Weights:
    """Return Qwen's drafts: full-attention layers behind one map from 2 x hidden to hidden and three norms.

    They share embedding and head with the model. Source: the element counts of
    Qwen3-Next-80B-A3B, Qwen3.5-397B-A17B and Qwen3.6-27B, met to the last one.
    """
    if count <= 0:
        return ()
    joint = (
        *matrix("mtp.fc", hidden, 2 * hidden, Role.OTHER),
        *norm("mtp.pre_fc_norm_embedding", hidden),
        *norm("mtp.pre_fc_norm_hidden", hidden),
        *norm("mtp.norm", hidden),
    )
    return (*joint, *(w for index in range(count) for w in prefixed(f"mtp.layers.{index}.", layer)))


def qwen3_next(fields: Fields) -> Blueprint:
    """Qwen3-Next: its checkpoints hold one draft layer that the config does not name."""
    drafts = fields.draft_count("mtp_num_hidden_layers", "num_nextn_predict_layers", default=1)
    return draw(fields, is_fused=True, has_experts=True, drafts=drafts, prefix="model.")


def qwen3_5(fields: Fields, prefix: str = "model.") -> Blueprint:
    """Qwen3.5 and 3.6, dense."""
    return draw(fields, is_fused=False, has_experts=False, drafts=_drafts(fields), prefix=prefix)


def qwen3_5_moe(fields: Fields, prefix: str = "model.") -> Blueprint:
    """Qwen3.5 and 3.6 with experts."""
    return draw(fields, is_fused=False, has_experts=True, drafts=_drafts(fields), prefix=prefix)


def _drafts(fields: Fields) -> int:
    return fields.draft_count("mtp_num_hidden_layers")
