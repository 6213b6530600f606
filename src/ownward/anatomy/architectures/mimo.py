"""MiMo-V2: windows on most layers with their own heads, values narrower than keys, sinks, a mixture of experts."""

from __future__ import annotations

from ownward.anatomy.architectures.dense import PRE_NORMS
from ownward.anatomy.architectures.latent import deepseek_mixture, routing_of
from ownward.anatomy.architectures.windows import windows
from ownward.anatomy.blueprint import Blueprint, Layer, norm
from ownward.anatomy.decoder import assemble
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.attention import Part, grouped_query
from ownward.anatomy.parts.feed_forward import gated_mlp


def mimo_v2_flash(fields: Fields) -> Blueprint:
    """MiMo-V2-Flash. Its draft layers are not counted: the config does not describe them."""
    hidden = fields.count("hidden_size")
    layers = fields.layer_count()
    layer_windows, routed = _windows(fields, layers), _routed(fields, layers)
    norms = tuple(weight for name in PRE_NORMS for weight in norm(name, hidden))
    made: dict[tuple[int | None, bool], Layer] = {}
    for window, is_routed in zip(layer_windows, routed, strict=True):
        if (window, is_routed) not in made:
            part = _attention(fields, window)
            feed_forward = (
                deepseek_mixture(fields, has_correction_bias=True)
                if is_routed
                else gated_mlp(hidden, fields.count("intermediate_size"))
            )
            kind = "full_attention" if window is None else "sliding_attention"
            made[window, is_routed] = Layer(kind, (*part.weights, *feed_forward, *norms), part.cache)
    return assemble(fields, [made[key] for key in zip(layer_windows, routed, strict=True)], experts=routing_of(fields))


def _windows(fields: Fields, layers: int) -> list[int | None]:
    """Return each layer's window: `hybrid_layer_pattern` has 1 for a window."""
    pattern = fields.numbers("hybrid_layer_pattern")
    if pattern is not None and not fields.states("layer_types"):
        fields.check_length("hybrid_layer_pattern", pattern, layers)
        window = fields.count("sliding_window", "sliding_window_size")
        return [window if is_windowed else None for is_windowed in pattern]
    return windows(fields, lambda _, index: index != 0 and (index + 1) % 6 != 0)


def _routed(fields: Fields, layers: int) -> list[bool]:
    """Return which layers route: `moe_layer_freq` has 1 for a mixture; else all but the first."""
    kinds = fields.layer_types(layers, "mlp_layer_types")
    if kinds is not None:
        fields.expect_each("mlp_layer_types", kinds, "dense", "sparse")
        return [kind == "sparse" for kind in kinds]
    if type(fields.get("moe_layer_freq")) is list:
        listed = fields.numbers("moe_layer_freq") or []
        fields.check_length("moe_layer_freq", listed, layers)
        return [bool(is_routed) for is_routed in listed]
    return [index > 0 for index in range(layers)]


def _attention(fields: Fields, window: int | None) -> Part:
    """Return a layer's attention: windowed layers have twice the key-value heads unless `swa_` fields say."""
    heads, kv_heads = fields.count("num_attention_heads"), fields.count("num_key_value_heads")
    dim, value_dim = fields.count("head_dim"), fields.count("v_head_dim")
    has_sinks = fields.flag("add_full_attention_sink_bias", default=False)
    if window is not None:
        heads = fields.count("swa_num_attention_heads", default=heads)
        kv_heads = fields.count("swa_num_key_value_heads", default=2 * kv_heads)
        dim, value_dim = fields.count("swa_head_dim", default=dim), fields.count("swa_v_head_dim", default=value_dim)
        has_sinks = fields.flag("add_swa_attention_sink_bias", default=True)
    return grouped_query(
        fields.count("hidden_size"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=dim,
        value_dim=value_dim,
        window_tokens=window,
        has_qkv_bias=fields.flag("attention_bias", default=False),
        has_sinks=has_sinks,
    )
