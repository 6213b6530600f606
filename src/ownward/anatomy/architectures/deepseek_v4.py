"""DeepSeek V4: compressed attention behind a window, hyper-connections, hashed routing in the first layers."""

from __future__ import annotations

from ownward.anatomy.architectures.latent import routing_of
from ownward.anatomy.architectures.windows import check_kinds
from ownward.anatomy.blueprint import (
    Blueprint,
    Layer,
    LayerCache,
    Weight,
    Weights,
    buffer,
    matrix,
    norm,
    prefixed,
    vector,
)
from ownward.anatomy.decoder import assemble
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.attention import Part
from ownward.anatomy.parts.feed_forward import gated_experts, gated_mlp
from ownward.anatomy.roles import Role
from ownward.core import BadInput, UnsupportedAttention

_SPARSE, _HEAVY, _WINDOW = "compressed_sparse_attention", "heavily_compressed_attention", "sliding_attention"
_BY_RATIO = {0: _WINDOW, 4: _SPARSE, 128: _HEAVY}


def deepseek_v4(fields: Fields) -> Blueprint:
    """DeepSeek V4: every layer has a window; most also see the compressed context, all of it or a selection."""
    layers = fields.layer_count()
    kinds, hashed = _kinds(fields, layers), _hashed(fields, layers)
    made: dict[tuple[str, bool], Layer] = {}
    for key in zip(kinds, hashed, strict=True):
        if key not in made:
            made[key] = _layer(fields, kind=key[0], is_hashed=key[1])
    drafts = fields.draft_count("num_nextn_predict_layers")
    return assemble(
        fields,
        [made[key] for key in zip(kinds, hashed, strict=True)],
        extra=_head_mixer(fields, "model.hc_head."),
        drafts=tuple(w for index in range(drafts) for w in _draft(fields, f"mtp.{index}.")),
        experts=routing_of(fields),
        is_checkpoint_settled=True,
    )


def _kinds(fields: Fields, layers: int) -> list[str]:
    """Return each layer's attention; `compress_ratios` may list draft layers after the model's own."""
    listed = fields.texts("layer_types")
    if listed is not None:
        check_kinds(fields, listed, frozenset(_BY_RATIO.values()))
    else:
        ratios = fields.numbers("compress_ratios")
        if ratios is None:
            tail = [_SPARSE if index % 2 else _HEAVY for index in range(max(layers - 2, 0))]
            return ([_HEAVY] * min(layers, 2) + tail)[:layers]
        if unknown := set(ratios) - set(_BY_RATIO):
            raise UnsupportedAttention(
                f"compress_ratios names {min(unknown)}", where=fields.where, allowed="Known ratios: 0, 4 and 128"
            )
        listed = [_BY_RATIO[ratio] for ratio in ratios]
    if len(listed) < layers:
        raise BadInput(f"{len(listed)} kinds of attention for {layers} layers", where=fields.where)
    return listed[:layers]


def _hashed(fields: Fields, layers: int) -> list[bool]:
    """Return which layers route by a table from token to experts instead of by score."""
    kinds = fields.texts("mlp_layer_types")
    if kinds is not None:
        check_kinds(fields, kinds, frozenset({"hash_moe", "moe"}))
        if len(kinds) < layers:
            raise BadInput(f"mlp_layer_types has {len(kinds)} entries for {layers} layers", where=fields.where)
        return [kind == "hash_moe" for kind in kinds[:layers]]
    count = fields.count("num_hash_layers", default=3, least=0)
    return [index < count for index in range(layers)]


def _layer(fields: Fields, *, kind: str, is_hashed: bool) -> Layer:
    hidden = fields.count("hidden_size")
    part = _attention(fields, kind)
    return Layer(
        kind,
        (
            *part.weights,
            *_mixture(fields, is_hashed=is_hashed),
            *norm("input_layernorm", hidden),
            *norm("post_attention_layernorm", hidden),
            *_hyper_connection(fields, "attn_hc."),
            *_hyper_connection(fields, "ffn_hc."),
        ),
        part.cache,
    )


def _attention(fields: Fields, kind: str) -> Part:
    """Return one shared key-value head of which a window is kept as it is and the rest compressed."""
    hidden, heads, dim = fields.count("hidden_size"), fields.count("num_attention_heads"), fields.count("head_dim")
    query_rank, groups = fields.count("q_lora_rank"), fields.count("o_groups")
    out_rank, role, prefix = fields.count("o_lora_rank"), Role.ATTENTION, "self_attn."
    if heads * dim % groups:
        raise BadInput(f"o_groups is {groups}, which does not divide {heads * dim}", where=fields.where)
    weights: Weights = (
        vector(f"{prefix}sinks", heads, role),
        *matrix(f"{prefix}q_a_proj", query_rank, hidden, role),
        *norm(f"{prefix}q_a_norm", query_rank, role),
        *matrix(f"{prefix}q_b_proj", heads * dim, query_rank, role),
        *matrix(f"{prefix}kv_proj", dim, hidden, role),
        *norm(f"{prefix}kv_norm", dim, role),
        *matrix(f"{prefix}o_a_proj", groups * out_rank, heads * dim // groups, role),
        *matrix(f"{prefix}o_b_proj", hidden, groups * out_rank, role),
    )
    window = LayerCache(
        window_values=dim,
        window_tokens=fields.count("sliding_window"),
        window_flop=4 * heads * dim,
        kv_heads=1,
        heads=heads,
        head_width=dim,
        reports_window_flop=False,
    )
    ratio = _ratio(fields, kind)
    if kind == _WINDOW:
        return Part(weights, window)
    if kind == _HEAVY:
        compressor = _compressor(hidden, dim, ratio, series=1, role=role, prefix=f"{prefix}compressor.")
        cache = window._replace(token_values=dim, stride=ratio, context_flop=4 * heads * dim / ratio)
        return Part((*weights, *compressor), cache)
    index_heads, index_dim = fields.count("index_n_heads"), fields.count("index_head_dim")
    inner, index_role = f"{prefix}compressor.indexer.", Role.SPARSE_INDEXER
    compressor = (
        *_compressor(hidden, dim, ratio, series=2, role=role, prefix=f"{prefix}compressor."),
        *_compressor(hidden, index_dim, ratio, series=2, role=index_role, prefix=inner),
        *matrix(f"{inner}q_b_proj", index_heads * index_dim, query_rank, index_role),
        *matrix(f"{inner}scorer.weights_proj", index_heads, hidden, index_role),
    )
    cache = window._replace(
        token_values=dim,
        stride=ratio,
        index_values=index_dim,
        index_stride=ratio,
        context_flop=2 * index_heads * index_dim / ratio,
        chosen_entries=fields.count("index_topk"),
        chosen_flop=4 * heads * dim,
    )
    return Part((*weights, *compressor), cache)


def _ratio(fields: Fields, kind: str) -> int:
    """Return how many tokens make one compressed entry."""
    default = {_WINDOW: 1, _SPARSE: 4, _HEAVY: 128}[kind]
    rates = fields.section("compress_rates")
    short = {_SPARSE: "compress_rate_csa", _HEAVY: "compress_rate_hca"}.get(kind)
    if short and fields.states(short):
        return fields.count(short)
    return rates.count(kind, default=default) if rates else default


def _compressor(hidden: int, dim: int, ratio: int, *, series: int, role: Role, prefix: str) -> Weights:
    """Return what folds `ratio` tokens into one entry; two series overlap in sparse layers, one in heavy ones."""
    return (
        Weight(f"{prefix}position_bias", (ratio, series * dim), role, "vector"),
        *matrix(f"{prefix}kv_proj", series * dim, hidden, role),
        *matrix(f"{prefix}gate_proj", series * dim, hidden, role),
        *norm(f"{prefix}kv_norm", dim, role),
    )


def _mixture(fields: Fields, *, is_hashed: bool) -> Weights:
    hidden, width = fields.count("hidden_size"), fields.count("moe_intermediate_size")
    count, per_token = routing_of(fields)
    shared = fields.count("n_shared_experts", default=0, least=0)
    table = (
        buffer("mlp.gate.tid2eid", (fields.count("vocab_size"), per_token), Role.ROUTER, stored_bits=64)
        if is_hashed
        else buffer("mlp.gate.e_score_correction_bias", (count,), Role.ROUTER)
    )
    return (
        *matrix("mlp.gate", count, hidden, Role.ROUTER),
        table,
        *gated_experts(hidden, width, experts=count, per_token=per_token),
        *(
            gated_mlp(
                hidden,
                width,
                role=Role.SHARED_EXPERTS,
                has_bias=fields.flag("mlp_bias", default=False),
                prefix="mlp.shared_experts.",
            )
            if shared
            else ()
        ),
    )


def _hyper_connection(fields: Fields, prefix: str) -> Weights:
    """Return the mixing of n residual streams before and after a sublayer: 2 n + n x n maps."""
    streams, role = fields.count("hc_mult"), Role.HYPER_CONNECTIONS
    maps = 2 * streams + streams**2
    return (
        Weight(f"{prefix}fn", (maps, streams * fields.count("hidden_size")), role),
        vector(f"{prefix}base", maps, role),
        vector(f"{prefix}scale", 3, role),
    )


def _head_mixer(fields: Fields, prefix: str) -> Weights:
    """Return the mixing of the residual streams into one before the head."""
    streams, role = fields.count("hc_mult"), Role.HYPER_CONNECTIONS
    return (
        Weight(f"{prefix}hc_fn", (streams, streams * fields.count("hidden_size")), role),
        vector(f"{prefix}hc_base", streams, role),
        vector(f"{prefix}hc_scale", 1, role),
    )


def _draft(fields: Fields, prefix: str) -> Weights:
    """Return a draft layer: a windowed layer, two maps of hidden size, three norms and a mixer of its own.

    Source: the element count of DeepSeek-V4-Flash's checkpoint, met to the last one.
    """
    hidden = fields.count("hidden_size")
    layer = _layer(fields, kind=_WINDOW, is_hashed=False)
    joint = (
        *matrix("e_proj", hidden, hidden, Role.OTHER),
        *matrix("h_proj", hidden, hidden, Role.OTHER),
        *(w for name in ("enorm", "hnorm", "norm") for w in norm(name, hidden)),
        *_head_mixer(fields, "hc_head."),
    )
    return prefixed(prefix, (*layer.weights, *joint))
