"""Dense decoders of one pattern: grouped-query attention and one perceptron a layer, told apart by their traits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ownward.anatomy.blueprint import Blueprint, Layer, Weights, matrix, norm
from ownward.anatomy.decoder import assemble
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.attention import Part, QkNorm, grouped_query, grouped_query_cache, query_key_norms
from ownward.anatomy.parts.feed_forward import gated_mlp, plain_mlp
from ownward.anatomy.roles import Role

PRE_NORMS = ("input_layernorm", "post_attention_layernorm")
POST_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")
SANDWICH_NORMS = (*PRE_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")

Bias = bool | str
"""Whether a projection has a bias: always, never, or as the named field of the config says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What tells one dense architecture from the next; defaults are Llama's."""

    qkv_bias: Bias = False
    out_bias: Bias = False
    mlp_bias: Bias = False
    mlp: Literal["gated", "plain", "fused"] = "gated"
    mlp_names: tuple[str, str] = ("up_proj", "down_proj")
    qk_norm: QkNorm = "none"
    norms: tuple[str, ...] = PRE_NORMS
    has_norm_bias: Bias = False
    has_final_norm: bool = True
    has_fused_qkv: bool = False
    out_name: str = "o_proj"
    norm_name: str = "norm"
    head_bias: Bias = False
    attention_extra: Weights = ()
    """Further weights of attention, such as an output gate."""


LLAMA = Traits(qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias")


def has_bias(fields: Fields, bias: Bias) -> bool:
    """Return whether a projection has a bias."""
    return fields.flag(bias, default=False) if isinstance(bias, str) else bias


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """The sizes of grouped-query attention."""

    query: int
    kv: int
    dim: int


def heads_of(fields: Fields) -> Heads:
    """Return the head counts and the head size, derived where the config leaves them out."""
    query = fields.count("num_attention_heads")
    kv = fields.count("num_key_value_heads", default=query)
    dim = fields.optional_count("head_dim") or fields.count("hidden_size") // query
    return Heads(query=query, kv=kv, dim=dim)


def attention(fields: Fields, traits: Traits, window: int | None) -> Part:
    """Return a layer's attention."""
    hidden, heads = fields.count("hidden_size"), heads_of(fields)
    if traits.has_fused_qkv:
        rows = (heads.query + 2 * heads.kv) * heads.dim
        weights = (
            *matrix("self_attn.qkv_proj", rows, hidden, Role.ATTENTION, has_bias=has_bias(fields, traits.qkv_bias)),
            *matrix(
                "self_attn.o_proj",
                hidden,
                heads.query * heads.dim,
                Role.ATTENTION,
                has_bias=has_bias(fields, traits.out_bias),
            ),
            *query_key_norms(traits.qk_norm, heads.query, heads.kv, heads.dim),
        )
        cache = grouped_query_cache(heads=heads.query, kv_heads=heads.kv, key_dim=heads.dim, window_tokens=window)
        return Part(weights, cache)
    part = grouped_query(
        hidden,
        heads=heads.query,
        kv_heads=heads.kv,
        head_dim=heads.dim,
        window_tokens=window,
        has_qkv_bias=has_bias(fields, traits.qkv_bias),
        has_out_bias=has_bias(fields, traits.out_bias),
        qk_norm=traits.qk_norm,
        out_name=traits.out_name,
    )
    return Part((*part.weights, *traits.attention_extra), part.cache)


def perceptron(fields: Fields, traits: Traits, width: int | None = None) -> Weights:
    """Return a layer's dense feed-forward part."""
    hidden, width = fields.count("hidden_size"), width or fields.count("intermediate_size")
    bias = has_bias(fields, traits.mlp_bias)
    match traits.mlp:
        case "gated":
            return gated_mlp(hidden, width, has_bias=bias)
        case "plain":
            return plain_mlp(hidden, width, has_bias=bias, up=traits.mlp_names[0], down=traits.mlp_names[1])
        case "fused":
            return plain_mlp(hidden, width, has_bias=bias)[1:] + matrix(
                "mlp.gate_up_proj", 2 * width, hidden, Role.DENSE_MLP, has_bias=bias
            )


def layer_norms(fields: Fields, traits: Traits) -> Weights:
    """Return a layer's normalisations over the hidden width."""
    hidden, bias = fields.count("hidden_size"), has_bias(fields, traits.has_norm_bias)
    return tuple(weight for name in traits.norms for weight in norm(name, hidden, has_bias=bias))


def kind_of(window: int | None) -> str:
    """Return the name of a layer with or without a window."""
    return "full_attention" if window is None else "sliding_attention"


def draw(fields: Fields, traits: Traits, windows: list[int | None], *, prefix: str = "model.") -> Blueprint:
    """Return the blueprint of a dense decoder with one window, or none, a layer."""
    rest = (*perceptron(fields, traits), *layer_norms(fields, traits))
    layer = {
        window: Layer(kind_of(window), (*part.weights, *rest), part.cache)
        for window in dict.fromkeys(windows)
        for part in [attention(fields, traits, window)]
    }
    return assemble(
        fields,
        (layer[window] for window in windows),
        prefix=prefix,
        norm_name=traits.norm_name,
        has_norm_bias=has_bias(fields, traits.has_norm_bias),
        has_final_norm=traits.has_final_norm,
        has_head_bias=has_bias(fields, traits.head_bias),
    )
