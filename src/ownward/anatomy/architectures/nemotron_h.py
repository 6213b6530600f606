"""Nemotron-H: layers that are one thing each, Mamba-2, attention, perceptron or mixture of experts."""

from __future__ import annotations

from ownward.anatomy.architectures.dense import heads_of
from ownward.anatomy.blueprint import NO_CACHE, Blueprint, Layer, Weight, Weights, matrix, norm, prefixed
from ownward.anatomy.decoder import assemble
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.attention import grouped_query
from ownward.anatomy.parts.feed_forward import plain_mlp, routed, router
from ownward.anatomy.parts.recurrent import mamba2
from ownward.anatomy.roles import Role
from ownward.core import BadInput, UnsupportedAttention

_LONGEST_PATTERN = 4096
_SIGNS = {"M": "mamba2", "*": "full_attention", "-": "mlp", "E": "moe"}
_NAMES = {
    "linear_attention": "mamba2",
    "mamba": "mamba2",
    "full_attention": "full_attention",
    "attention": "full_attention",
    "mlp": "mlp",
    "moe": "moe",
}


def nemotron_h(fields: Fields) -> Blueprint:
    """Nemotron-H, Nemotron Nano 2 and Nemotron 3, with experts in a latent space where the config sizes one."""
    kinds = _kinds(fields)
    layer = {kind: _layer(fields, kind) for kind in dict.fromkeys(kinds)}
    experts = (fields.count("n_routed_experts"), fields.count("num_experts_per_tok")) if "moe" in layer else None
    return assemble(
        fields,
        [layer[kind] for kind in kinds],
        embedding_name="embeddings",
        norm_name="norm_f",
        is_tied=False,
        drafts=_drafts(fields, most=len(kinds)),
        experts=experts,
    )


def _kinds(fields: Fields) -> list[str]:
    """Return each layer's kind, from names or from a pattern of signs."""
    default = ["linear_attention", "moe", "full_attention", "mlp"]
    return _listed(fields, ("layers_block_type", "layer_types"), "hybrid_override_pattern", default)


def _listed(fields: Fields, names: tuple[str, ...], pattern_name: str, default: list[str]) -> list[str]:
    listed, pattern = fields.texts(*names), fields.text(pattern_name)
    if pattern is not None and len(pattern) > _LONGEST_PATTERN:
        raise BadInput(f"{pattern_name} has {len(pattern)} signs", where=fields.where)
    if listed is None and pattern is not None:
        return _read(fields, _SIGNS, list(pattern))
    return _read(fields, _NAMES, default if listed is None else listed)


def _drafts(fields: Fields, *, most: int) -> Weights:
    """Return the draft steps of Nemotron 3: layers of the model's kinds behind a map from 2 x hidden to hidden.

    They share embedding and head with the model. Source: SGLang, models/nemotron_h_mtp.py.
    """
    steps = fields.count("num_nextn_predict_layers", default=0, least=0)
    if steps > most:
        raise BadInput(f"num_nextn_predict_layers is {steps}, more than the layers of the model", where=fields.where)
    if steps == 0:
        return ()
    kinds = _listed(fields, ("mtp_layers_block_type",), "mtp_hybrid_override_pattern", ["attention", "moe"])
    hidden, layer = fields.count("hidden_size"), {kind: _layer(fields, kind).weights for kind in dict.fromkeys(kinds)}
    drafts: list[Weight] = []
    for index, kind in enumerate(kinds * steps):
        weights = layer[kind]
        if index % len(kinds) == 0:
            joint = matrix("eh_proj", hidden, 2 * hidden, Role.OTHER)
            weights = (*norm("enorm", hidden), *norm("hnorm", hidden), *joint, *weights)
        if (index + 1) % len(kinds) == 0:
            weights = (*weights, *norm("final_layernorm", hidden))
        drafts += prefixed(f"mtp.layers.{index}.", weights)
    return tuple(drafts)


def _read(fields: Fields, names: dict[str, str], listed: list[str]) -> list[str]:
    for name in listed:
        if name not in names:
            raise UnsupportedAttention(
                f"{name[:40]!r} is not a kind of layer known here",
                where=fields.where,
                allowed=f"Known: {sorted(names)}",
            )
    return [names[name] for name in listed]


def _layer(fields: Fields, kind: str) -> Layer:
    hidden = fields.count("hidden_size")
    before = norm("norm", hidden)
    match kind:
        case "mamba2":
            part = mamba2(
                hidden,
                heads=fields.count("mamba_num_heads"),
                head_dim=fields.count("mamba_head_dim"),
                groups=fields.count("n_groups", "mamba_n_groups"),
                state_size=fields.count("ssm_state_size"),
                kernel=fields.count("conv_kernel", "mamba_d_conv"),
                has_conv_bias=fields.flag("use_conv_bias", "mamba_conv_bias", default=True),
                has_bias=fields.flag("use_bias", default=False),
            )
            return Layer(kind, (*before, *part.weights), part.cache)
        case "full_attention":
            heads = heads_of(fields)
            part = grouped_query(hidden, heads=heads.query, kv_heads=heads.kv, head_dim=heads.dim, prefix="mixer.")
            return Layer(kind, (*before, *part.weights), part.cache)
        case "mlp":
            bias = fields.flag("mlp_bias", default=False)
            width = fields.count("intermediate_size")
            return Layer(kind, (*before, *plain_mlp(hidden, width, has_bias=bias, prefix="mixer.")), NO_CACHE)
        case _:
            return Layer("moe", (*before, *_mixture(fields)), NO_CACHE)


def _mixture(fields: Fields) -> Weights:
    hidden, width = fields.count("hidden_size"), fields.count("moe_intermediate_size")
    count, per_token = fields.count("n_routed_experts"), fields.count("num_experts_per_tok")
    bias = fields.flag("mlp_bias", default=False)
    latent = fields.optional_count("moe_latent_size")
    shared = fields.count("moe_shared_expert_intermediate_size")
    expert = plain_mlp(latent or hidden, width, prefix="")
    projections = (
        (
            *matrix("mixer.fc1_latent_proj", latent, hidden, Role.LATENT_PROJ, has_bias=bias),
            *matrix("mixer.fc2_latent_proj", hidden, latent, Role.LATENT_PROJ, has_bias=bias),
        )
        if latent
        else ()
    )
    return (
        *router(hidden, count, name="mixer.gate", correction_bias="mixer.gate.e_score_correction_bias"),
        *routed(expert, experts=count, per_token=per_token, prefix="mixer.experts.{}."),
        *plain_mlp(hidden, shared, role=Role.SHARED_EXPERTS, has_bias=bias, prefix="mixer.shared_experts."),
        *projections,
    )
