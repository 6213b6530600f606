"""Mamba and short convolutions beside attention: Jamba, Bamba, Falcon-H1, Granite 4, LFM2."""

from __future__ import annotations

from collections.abc import Callable

from ownward.anatomy.architectures.dense import heads_of
from ownward.anatomy.architectures.windows import check_kinds
from ownward.anatomy.blueprint import Blueprint, Layer, LayerCache, Weight, Weights, matrix, norm, vector
from ownward.anatomy.decoder import assemble
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.attention import Part, grouped_query
from ownward.anatomy.parts.feed_forward import gated_experts, gated_mlp, router
from ownward.anatomy.parts.recurrent import convolution, mamba2, recurrent_cache
from ownward.anatomy.roles import Role
from ownward.core import BadInput

_MIXERS = {
    "linear_attention": "mamba2",
    "mamba": "mamba2",
    "full_attention": "full_attention",
    "attention": "full_attention",
}


def bamba(fields: Fields) -> Blueprint:
    """Bamba: Mamba-2 with full attention at stated layers."""
    hidden, layers = fields.count("hidden_size"), fields.layer_count()
    attended = set(fields.numbers("attn_layer_indices") or ())
    common = (
        *gated_mlp(
            hidden,
            fields.count("intermediate_size"),
            has_bias=fields.flag("mlp_bias", default=False),
            prefix="feed_forward.",
        ),
        *norm("input_layernorm", hidden),
        *norm("pre_ff_layernorm", hidden),
    )
    layer = _mixers(fields, common)
    kinds = ["full_attention" if index in attended else "mamba2" for index in range(layers)]
    return assemble(fields, [layer[kind] for kind in kinds], norm_name="final_layernorm")


def granite_hybrid(fields: Fields) -> Blueprint:
    """Granite 4: Mamba-2 or attention, experts where the config has some, and a shared perceptron."""
    hidden, layers = fields.count("hidden_size"), fields.layer_count()
    kinds = fields.layer_types(layers) or ["mamba"] * layers
    check_kinds(fields, kinds, frozenset(_MIXERS))
    experts = fields.count("num_local_experts", "num_experts", least=0)
    common = (
        *granite_mixture(fields, experts),
        *granite_shared(fields),
        *norm("input_layernorm", hidden),
        *norm("post_attention_layernorm", hidden),
    )
    layer = _mixers(fields, common)
    routing = (experts, fields.count("num_experts_per_tok")) if experts else None
    return assemble(fields, [layer[_MIXERS[kind]] for kind in kinds], experts=routing)


def granite_mixture(fields: Fields, experts: int) -> Weights:
    """Return Granite's routed experts; none for a model without."""
    if not experts:
        return ()
    hidden, width = fields.count("hidden_size"), fields.count("intermediate_size")
    name = "block_sparse_moe"
    return (
        *router(hidden, experts, name=f"{name}.router"),
        *gated_experts(
            hidden,
            width,
            experts=experts,
            per_token=fields.count("num_experts_per_tok"),
            prefix=f"{name}.experts.{{}}.",
        ),
    )


def granite_shared(fields: Fields) -> Weights:
    """Return Granite's shared perceptron, gate and up as one; none where its size is 0."""
    hidden, width = fields.count("hidden_size"), fields.count("shared_intermediate_size", default=0, least=0)
    if not width:
        return ()
    role = Role.SHARED_EXPERTS
    return (
        *matrix("shared_mlp.input_linear", 2 * width, hidden, role),
        *matrix("shared_mlp.output_linear", hidden, width, role),
    )


def falcon_h1(fields: Fields) -> Blueprint:
    """Falcon-H1: attention and Mamba-2 side by side in every layer."""
    hidden = fields.count("hidden_size")
    attention = _attention(fields)
    inner = fields.optional_count("mamba_d_ssm") or fields.count("mamba_expand") * hidden
    mamba = _mamba2(
        fields, inner=inner, has_norm=fields.flag("mamba_rms_norm", default=False), out_bias="projectors_bias"
    )
    cache = attention.cache._replace(
        state_values=mamba.cache.state_values,
        conv_values=mamba.cache.conv_values,
        state_flop=mamba.cache.state_flop,
    )
    layer = Layer(
        "mamba2_beside_full_attention",
        (
            *mamba.weights,
            *attention.weights,
            *gated_mlp(
                hidden,
                fields.count("intermediate_size"),
                has_bias=fields.flag("mlp_bias", default=False),
                prefix="feed_forward.",
            ),
            *norm("input_layernorm", hidden),
            *norm("pre_ff_layernorm", hidden),
        ),
        cache,
    )
    return assemble(fields, [layer] * fields.layer_count(), norm_name="final_layernorm")


def jamba(fields: Fields) -> Blueprint:
    """Jamba: Mamba-1 with attention and mixtures at regular distances."""
    hidden, width, layers = fields.count("hidden_size"), fields.count("intermediate_size"), fields.layer_count()
    count, per_token = fields.count("num_experts"), fields.count("num_experts_per_tok")
    norms = (*norm("input_layernorm", hidden), *norm("pre_ff_layernorm", hidden))
    feed_forward = {
        True: (
            *router(hidden, count, name="feed_forward.router"),
            *gated_experts(hidden, width, experts=count, per_token=per_token, prefix="feed_forward.experts.{}."),
        ),
        False: gated_mlp(hidden, width, prefix="feed_forward."),
    }
    mixers = {"full_attention": _attention(fields), "mamba": _mamba1(fields)}
    layer = {
        (kind, routed): Layer(kind, (*part.weights, *weights, *norms), part.cache)
        for kind, part in mixers.items()
        for routed, weights in feed_forward.items()
    }
    attention_period, attention_offset = fields.count("attn_layer_period"), fields.count("attn_layer_offset", least=0)
    expert_period, expert_offset = fields.count("expert_layer_period"), fields.count("expert_layer_offset", least=0)
    drawn = [
        layer[
            "full_attention" if index % attention_period == attention_offset else "mamba",
            count > 1 and index % expert_period == expert_offset,
        ]
        for index in range(layers)
    ]
    return assemble(fields, drawn, norm_name="final_layernorm", experts=(count, per_token) if count > 1 else None)


def lfm2(fields: Fields) -> Blueprint:
    """LFM2: short convolutions with attention at stated layers."""
    hidden = fields.count("hidden_size")
    weights = _lfm2_mlp(hidden, _lfm2_width(fields))
    layers = _lfm2_layers(fields, lambda _: weights)
    return assemble(fields, layers, norm_name="embedding_norm", is_tied=_lfm2_is_tied(fields))


def lfm2_moe(fields: Fields) -> Blueprint:
    """LFM2 with experts after the first dense layers."""
    hidden = fields.count("hidden_size")
    count, per_token = fields.count("num_experts"), fields.count("num_experts_per_tok")
    width = fields.count("moe_intermediate_size")
    bias = fields.flag("use_expert_bias", default=True)
    mixture = (
        *router(hidden, count, name="feed_forward.gate", correction_bias="feed_forward.expert_bias" if bias else None),
        *gated_experts(hidden, width, experts=count, per_token=per_token, prefix="feed_forward.experts.{}."),
    )
    dense = _lfm2_mlp(hidden, fields.count("intermediate_size"))
    first = fields.count("num_dense_layers", least=0)
    layers = _lfm2_layers(fields, lambda index: dense if index < first else mixture)
    return assemble(
        fields,
        layers,
        norm_name="embedding_norm",
        is_tied=_lfm2_is_tied(fields),
        experts=(count, per_token),
    )


def _lfm2_is_tied(fields: Fields) -> bool:
    if fields.states("tie_embedding"):
        return fields.flag("tie_embedding", default=True)
    return fields.flag("tie_word_embeddings", default=True)


def _lfm2_width(fields: Fields) -> int:
    """Return the perceptron's width, which the config states before its two adjustments."""
    width = fields.count("block_ff_dim") if fields.states("block_ff_dim") else fields.count("intermediate_size")
    if not fields.flag("block_auto_adjust_ff_dim", default=True):
        return width
    width = 2 * width // 3
    if not fields.has("block_ffn_dim_multiplier"):
        return width
    width = int(fields.number("block_ffn_dim_multiplier", default=1.0) * width)
    step = fields.count("block_multiple_of", default=256)
    return -(-width // step) * step


def _lfm2_mlp(hidden: int, width: int) -> Weights:
    role = Role.DENSE_MLP
    return (
        *matrix("feed_forward.w1", width, hidden, role),
        *matrix("feed_forward.w3", width, hidden, role),
        *matrix("feed_forward.w2", hidden, width, role),
    )


def _lfm2_layers(fields: Fields, feed_forward: Callable[[int], Weights]) -> list[Layer]:
    hidden, count = fields.count("hidden_size"), fields.layer_count()
    kinds = fields.layer_types(count)
    if kinds is None:
        listed = fields.numbers("full_attn_idxs")
        attended = set(range(count) if listed is None else listed)
        kinds = ["full_attention" if index in attended else "conv" for index in range(count)]
    check_kinds(fields, kinds, frozenset({"full_attention", "conv"}))
    heads = heads_of(fields)
    attention = grouped_query(
        hidden, heads=heads.query, kv_heads=heads.kv, head_dim=heads.dim, qk_norm="per_head", out_name="out_proj"
    )
    parts = {"full_attention": ("full_attention", attention), "conv": ("short_convolution", _short_convolution(fields))}
    norms = (*norm("operator_norm", hidden), *norm("ffn_norm", hidden))
    made: dict[tuple[str, int], Layer] = {}
    layers = []
    for index, kind in enumerate(kinds):
        weights = feed_forward(index)
        key = kind, id(weights)
        if key not in made:
            name, part = parts[kind]
            made[key] = Layer(name, (*part.weights, *weights, *norms), part.cache)
        layers.append(made[key])
    return layers


def _short_convolution(fields: Fields) -> Part:
    """Return a gated convolution over the last few tokens, whose inputs are all that it keeps."""
    hidden, kernel = fields.count("hidden_size"), fields.count("conv_L_cache")
    bias, role = fields.flag("conv_bias", default=False), Role.LINEAR_ATTENTION
    weights = (
        *convolution("conv.conv", hidden, kernel, has_bias=bias),
        *matrix("conv.in_proj", 3 * hidden, hidden, role, has_bias=bias),
        *matrix("conv.out_proj", hidden, hidden, role, has_bias=bias),
    )
    return Part(weights, LayerCache(conv_values=hidden * (kernel - 1)))


def _mixers(fields: Fields, common: Weights) -> dict[str, Layer]:
    inner = fields.count("mamba_expand") * fields.count("hidden_size")
    parts = {
        "mamba2": _mamba2(fields, inner=inner, has_norm=True, out_bias="mamba_proj_bias"),
        "full_attention": _attention(fields),
    }
    return {kind: Layer(kind, (*part.weights, *common), part.cache) for kind, part in parts.items()}


def _attention(fields: Fields) -> Part:
    heads, bias = heads_of(fields), fields.flag("attention_bias", default=False)
    return grouped_query(
        fields.count("hidden_size"),
        heads=heads.query,
        kv_heads=heads.kv,
        head_dim=heads.dim,
        has_qkv_bias=bias,
        has_out_bias=bias,
    )


def _mamba2(fields: Fields, *, inner: int, has_norm: bool, out_bias: str) -> Part:
    heads = fields.count("mamba_n_heads")
    stated = fields.get("mamba_d_head")
    head_dim = inner // heads if stated is None or stated == "auto" else fields.count("mamba_d_head")
    if heads * head_dim != inner:
        raise BadInput(f"{heads} Mamba heads of {head_dim} do not make {inner}", where=fields.where)
    part = mamba2(
        fields.count("hidden_size"),
        heads=heads,
        head_dim=head_dim,
        groups=fields.count("mamba_n_groups"),
        state_size=fields.count("mamba_d_state"),
        kernel=fields.count("mamba_d_conv"),
        has_conv_bias=fields.flag("mamba_conv_bias", default=True),
        has_bias=fields.flag("mamba_proj_bias", default=False),
        has_norm=has_norm,
        prefix="mamba.",
    )
    if fields.flag(out_bias, default=False) == fields.flag("mamba_proj_bias", default=False):
        return part
    rest = tuple(weight for weight in part.weights if weight.name != "mamba.out_proj.bias")
    if fields.flag(out_bias, default=False):
        rest = (*rest, vector("mamba.out_proj.bias", fields.count("hidden_size"), Role.LINEAR_ATTENTION))
    return Part(rest, part.cache)


def _mamba1(fields: Fields) -> Part:
    """Return Jamba's Mamba-1 mixer, with norms on the time step and on both state projections.

    Source: Gu and Dao 2023, Mamba, section 3.
    """
    hidden, role = fields.count("hidden_size"), Role.LINEAR_ATTENTION
    inner, state = fields.count("mamba_expand") * hidden, fields.count("mamba_d_state")
    stated = fields.get("mamba_dt_rank")
    rank = -(-hidden // 16) if stated is None or stated == "auto" else fields.count("mamba_dt_rank")
    kernel, bias = fields.count("mamba_d_conv"), fields.flag("mamba_proj_bias", default=False)
    weights = (
        Weight("mamba.A_log", (inner, state), role, "vector"),
        vector("mamba.D", inner, role),
        *convolution("mamba.conv1d", inner, kernel, has_bias=fields.flag("mamba_conv_bias", default=True)),
        *matrix("mamba.in_proj", 2 * inner, hidden, role, has_bias=bias),
        *matrix("mamba.x_proj", rank + 2 * state, inner, role),
        *matrix("mamba.dt_proj", inner, rank, role, has_bias=True),
        *matrix("mamba.out_proj", hidden, inner, role, has_bias=bias),
        *norm("mamba.dt_layernorm", rank, role),
        *norm("mamba.b_layernorm", state, role),
        *norm("mamba.c_layernorm", state, role),
    )
    return Part(weights, recurrent_cache(state_values=inner * state, conv_channels=inner, kernel=kernel))
