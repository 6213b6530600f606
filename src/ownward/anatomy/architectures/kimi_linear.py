"""Kimi Linear and Kimi K3: delta attention with latent attention in between, experts in a latent space."""

from __future__ import annotations

from ownward.anatomy.architectures.latent import latent_attention
from ownward.anatomy.blueprint import Blueprint, Layer, Weights, buffer, matrix, norm, vector
from ownward.anatomy.decoder import assemble
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.attention import Part
from ownward.anatomy.parts.feed_forward import gated_experts, gated_mlp
from ownward.anatomy.parts.recurrent import kimi_delta
from ownward.anatomy.roles import Role
from ownward.core import BadInput

_NORMS = ("input_layernorm", "post_attention_layernorm")


def kimi_linear(fields: Fields, prefix: str = "model.", head_name: str = "lm_head") -> Blueprint:
    """Kimi Linear; with the fields of K3, K3's language model.

    K3 adds full-rank output gates, a latent space for experts and a learned mixing of
    residual streams. Source: the published modelling file, through model-configs/ground_truth.csv.
    """
    layers = fields.layer_count()
    full = _full_layers(fields, layers)
    routed = _routed(fields, layers)
    parts = {False: ("kimi_delta_attention", _delta(fields)), True: ("latent_attention", _latent(fields))}
    hidden = fields.count("hidden_size")
    feed_forward = {
        True: _mixture(fields),
        False: gated_mlp(hidden, fields.count("intermediate_size")),
    }
    common = (*(w for name in _NORMS for w in norm(name, hidden)), *_residual_mixing(fields))
    layer = {
        (is_full, is_routed): Layer(kind, (*part.weights, *weights, *common), part.cache)
        for is_full, (kind, part) in parts.items()
        for is_routed, weights in feed_forward.items()
    }
    return assemble(
        fields,
        [layer[key] for key in zip(full, routed, strict=True)],
        prefix=prefix,
        head_name=head_name,
        experts=(_expert_count(fields), _per_token(fields)),
        is_tied=False,
    )


def _linear(fields: Fields) -> Fields:
    """Return the fields of the linear attention, which checkpoints nest."""
    return fields.section("linear_attn_config") or Fields({}, where=fields.where)


def _full_layers(fields: Fields, layers: int) -> list[bool]:
    """Return which layers have latent attention; the lists count layers from 1."""
    kinds = fields.layer_types(layers)
    if kinds is not None:
        fields.expect_each("layer_types", kinds, "full_attention", "linear_attention")
        return [kind == "full_attention" for kind in kinds]
    nested = _linear(fields)
    full, delta = nested.numbers("full_attn_layers"), nested.numbers("kda_layers")
    if full is None or delta is None:
        return [index > 0 and index % 4 == 0 for index in range(layers)]
    if sorted((*full, *delta)) != list(range(1, layers + 1)):
        raise BadInput("full_attn_layers and kda_layers do not name each layer once", where=nested.where)
    chosen = set(full)
    return [number in chosen for number in range(1, layers + 1)]


def _routed(fields: Fields, layers: int) -> list[bool]:
    kinds = fields.layer_types(layers, "mlp_layer_types")
    if kinds is not None:
        fields.expect_each("mlp_layer_types", kinds, "dense", "sparse")
        return [kind == "sparse" for kind in kinds]
    first, step = fields.count("first_k_dense_replace", default=1, least=0), fields.count("moe_layer_freq", default=1)
    return [index >= first and index % step == 0 for index in range(layers)]


def _delta(fields: Fields) -> Part:
    nested = _linear(fields)
    return kimi_delta(
        fields.count("hidden_size"),
        heads=nested.count("num_heads", default=fields.count("linear_num_heads", default=32)),
        head_dim=nested.count("head_dim", default=fields.count("linear_head_dim", default=128)),
        kernel=nested.count("short_conv_kernel_size", default=fields.count("linear_conv_kernel_dim", default=4)),
        has_full_rank_gate=nested.flag("use_full_rank_gate", default=False),
    )


def _latent(fields: Fields) -> Part:
    part = latent_attention(fields)
    if not fields.flag("mla_use_output_gate", default=False):
        return part
    width = fields.count("num_attention_heads") * fields.count("v_head_dim")
    gate = matrix("self_attn.g_proj", width, fields.count("hidden_size"), Role.ATTENTION)
    return Part((*part.weights, *gate), part.cache)


def _expert_count(fields: Fields) -> int:
    return fields.count("num_local_experts", "num_experts", "n_routed_experts")


def _per_token(fields: Fields) -> int:
    return fields.count("num_experts_per_tok", "num_experts_per_token")


def _mixture(fields: Fields) -> Weights:
    """Return the experts; where they live in a latent space, the maps into and out of it are no experts."""
    hidden, width = fields.count("hidden_size"), fields.count("moe_intermediate_size")
    latent = fields.optional_count("routed_expert_hidden_size")
    shared = fields.count("n_shared_experts", "num_shared_experts", default=0, least=0)
    name = "block_sparse_moe"
    bias_name = f"{name}.gate.e_score_correction_bias"
    # K3's published count has the load-balancing bias among the parameters of the router.
    bias = (
        vector(bias_name, _expert_count(fields), Role.ROUTER)
        if latent
        else buffer(bias_name, (_expert_count(fields),), Role.ROUTER)
    )
    projections: Weights = ()
    if latent:
        projections = (
            *matrix(f"{name}.routed_down_proj", latent, hidden, Role.LATENT_PROJ),
            *matrix(f"{name}.routed_up_proj", hidden, latent, Role.LATENT_PROJ),
        )
        if fields.flag("latent_moe_use_norm", default=False):
            projections = (*projections, *norm(f"{name}.routed_norm", latent, Role.LATENT_PROJ))
    return (
        *matrix(f"{name}.gate", _expert_count(fields), hidden, Role.ROUTER),
        bias,
        *gated_experts(
            latent or hidden,
            width,
            experts=_expert_count(fields),
            per_token=_per_token(fields),
            prefix=f"{name}.experts.{{}}.",
        ),
        *(
            gated_mlp(hidden, shared * width, role=Role.SHARED_EXPERTS, prefix=f"{name}.shared_experts.")
            if shared
            else ()
        ),
        *projections,
    )


def _residual_mixing(fields: Fields) -> Weights:
    """Return K3's attention over earlier blocks' residuals: a query and a norm before each sublayer."""
    if not fields.has("attn_res_block_size"):
        return ()
    hidden = fields.count("hidden_size")
    return tuple(
        weight
        for name in ("attn_res", "mlp_res")
        for weight in (vector(f"{name}_proj.weight", hidden, Role.OTHER), *norm(f"{name}_norm", hidden))
    )
