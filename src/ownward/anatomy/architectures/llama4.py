"""Llama 4: chunked attention, full on every fourth layer, one routed and one shared expert."""

from __future__ import annotations

from ownward.anatomy.architectures.dense import PRE_NORMS, heads_of
from ownward.anatomy.architectures.windows import IsWindowed, windows
from ownward.anatomy.blueprint import Blueprint, Layer, norm
from ownward.anatomy.decoder import assemble
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.attention import grouped_query
from ownward.anatomy.parts.feed_forward import gated_experts, gated_mlp, router
from ownward.anatomy.roles import Role


def llama4_text(fields: Fields, prefix: str = "model.", head_name: str = "lm_head") -> Blueprint:
    """Llama 4's language model: the stated layers route, the others are dense and wider."""
    hidden, heads = fields.count("hidden_size"), heads_of(fields)
    count, per_token = fields.count("num_local_experts"), fields.count("num_experts_per_tok")
    width, bias = fields.count("intermediate_size"), fields.flag("attention_bias", default=False)
    layers = fields.layer_count()
    chunks = windows(fields, _chunk_rule(fields), window_names=("attention_chunk_size",))
    norms = tuple(weight for name in PRE_NORMS for weight in norm(name, hidden))
    feed_forward = {
        True: (
            *router(hidden, count, name="feed_forward.router"),
            *gated_experts(hidden, width, experts=count, per_token=per_token, prefix="feed_forward.experts.{}."),
            *gated_mlp(hidden, width, role=Role.SHARED_EXPERTS, prefix="feed_forward.shared_expert."),
        ),
        False: gated_mlp(hidden, fields.count("intermediate_size_mlp"), prefix="feed_forward."),
    }
    routed = _routed(fields, layers)
    made: dict[tuple[int | None, bool], Layer] = {}
    for chunk, is_routed in zip(chunks, routed, strict=True):
        if (chunk, is_routed) not in made:
            part = grouped_query(
                hidden,
                heads=heads.query,
                kv_heads=heads.kv,
                head_dim=heads.dim,
                window_tokens=chunk,
                has_qkv_bias=bias,
                has_out_bias=bias,
            )
            kind = "full_attention" if chunk is None else "chunked_attention"
            made[chunk, is_routed] = Layer(kind, (*part.weights, *feed_forward[is_routed], *norms), part.cache)
    return assemble(
        fields,
        [made[key] for key in zip(chunks, routed, strict=True)],
        prefix=prefix,
        head_name=head_name,
        is_tied=fields.flag("tie_word_embeddings", default=False),
        experts=(count, per_token),
    )


def _chunk_rule(fields: Fields) -> IsWindowed:
    """Return the rule: layers with rotary embedding attend in chunks, those without to everything."""
    listed = fields.numbers("no_rope_layers") or []
    period = fields.count("no_rope_layer_interval", default=4)

    def is_chunked(_fields: Fields, index: int) -> bool:
        return bool(listed[index]) if index < len(listed) else (index + 1) % period != 0

    return is_chunked


def _routed(fields: Fields, layers: int) -> list[bool]:
    listed = fields.numbers("moe_layers")
    if listed is not None:
        chosen = set(listed)
        return [index in chosen for index in range(layers)]
    step = fields.count("interleave_moe_layer_step", default=1)
    return [(index + 1) % step == 0 for index in range(layers)]
