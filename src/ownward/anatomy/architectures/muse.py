"""Muse Glimmer: gated attention in windows, full on every fourth layer, four norms a layer."""

from __future__ import annotations

from ownward.anatomy.architectures.dense import SANDWICH_NORMS, heads_of, kind_of
from ownward.anatomy.architectures.windows import every_nth_full, windows
from ownward.anatomy.blueprint import Blueprint, Layer, Weights, matrix, norm
from ownward.anatomy.decoder import assemble
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.attention import grouped_query
from ownward.anatomy.parts.feed_forward import gated_mlp
from ownward.anatomy.roles import Role


def muse_glimmer_text(fields: Fields, prefix: str = "model.", extra: Weights = ()) -> Blueprint:
    """Muse Glimmer's language model."""
    hidden, heads = fields.count("hidden_size"), heads_of(fields)
    bias = fields.flag("attention_bias", default=False)
    layer_windows = windows(fields, every_nth_full(4))
    rest = (
        *matrix("self_attn.gate_proj", heads.query * heads.dim, hidden, Role.ATTENTION),
        *gated_mlp(hidden, fields.count("intermediate_size")),
        *(weight for name in SANDWICH_NORMS for weight in norm(name, hidden)),
    )
    layer = {}
    for window in dict.fromkeys(layer_windows):
        part = grouped_query(
            hidden,
            heads=heads.query,
            kv_heads=heads.kv,
            head_dim=heads.dim,
            window_tokens=window,
            has_qkv_bias=bias,
            has_out_bias=bias,
        )
        layer[window] = Layer(kind_of(window), (*part.weights, *rest), part.cache)
    return assemble(fields, [layer[window] for window in layer_windows], prefix=prefix, extra=extra)
