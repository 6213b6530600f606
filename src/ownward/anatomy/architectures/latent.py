"""Latent attention over DeepSeek's mixture of experts: DeepSeek V2 to V3.2, Kimi K2, GLM-5 and GLM-4.7-Flash."""

from __future__ import annotations

from ownward.anatomy.blueprint import Blueprint, Layer, Weights, matrix, norm, table
from ownward.anatomy.decoder import assemble, drafts_of
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.attention import Part, latent, make_sparse
from ownward.anatomy.parts.feed_forward import gated_experts, gated_mlp, router
from ownward.anatomy.roles import Role
from ownward.core import BadInput, UnsupportedModel

_NORMS = ("input_layernorm", "post_attention_layernorm")


def deepseek_mixture(fields: Fields, *, has_correction_bias: bool, has_mlp_bias: bool = False) -> Weights:
    """Return DeepSeek's mixture: routed experts, and shared experts fused into one perceptron."""
    hidden, width = fields.count("hidden_size"), fields.count("moe_intermediate_size")
    count, per_token = routing_of(fields)
    shared = fields.count("n_shared_experts", default=0, least=0)
    bias = "mlp.gate.e_score_correction_bias" if has_correction_bias else None
    return (
        *router(hidden, count, correction_bias=bias),
        *gated_experts(hidden, width, experts=count, per_token=per_token),
        *(
            gated_mlp(
                hidden,
                shared * width,
                role=Role.SHARED_EXPERTS,
                has_bias=has_mlp_bias,
                prefix="mlp.shared_experts.",
            )
            if shared
            else ()
        ),
    )


def routing_of(fields: Fields) -> tuple[int, int]:
    """Return the number of routed experts and how many a token uses."""
    count = fields.count("n_routed_experts", "num_local_experts", "num_experts")
    return count, fields.count("num_experts_per_tok")


def routed_layers(fields: Fields, layers: int) -> list[bool]:
    """Return which layers route: as `mlp_layer_types` lists them, else all after the first dense ones."""
    kinds = fields.layer_types(layers, "mlp_layer_types")
    if kinds is not None:
        for kind in kinds:
            if kind not in {"dense", "sparse"}:
                raise BadInput(f"mlp_layer_types names {kind[:40]!r}", where=fields.where, allowed="dense, sparse")
        return [kind == "sparse" for kind in kinds]
    first = fields.count("first_k_dense_replace", default=0, least=0)
    step = fields.count("moe_layer_freq", default=1)
    return [index >= first and index % step == 0 for index in range(layers)]


def latent_attention(fields: Fields, value_dim: int | None = None) -> Part:
    """Return the latent attention that the config's ranks and head sizes describe."""
    return latent(
        fields.count("hidden_size"),
        heads=fields.count("num_attention_heads"),
        query_rank=fields.optional_count("q_lora_rank"),
        latent_rank=fields.count("kv_lora_rank"),
        nope_dim=fields.count("qk_nope_head_dim"),
        rope_dim=fields.count("qk_rope_head_dim"),
        value_dim=value_dim or fields.count("v_head_dim"),
        has_bias=fields.flag("attention_bias", default=False),
    )


def indexer(fields: Fields) -> Weights:
    """Return the lightning indexer of DeepSeek sparse attention."""
    hidden, heads, dim = fields.count("hidden_size"), fields.count("index_n_heads"), fields.count("index_head_dim")
    role, prefix = Role.SPARSE_INDEXER, "self_attn.indexer."
    return (
        *matrix(f"{prefix}wq_b", heads * dim, fields.count("q_lora_rank"), role),
        *matrix(f"{prefix}wk", dim, hidden, role),
        *norm(f"{prefix}k_norm", dim, role, has_bias=True),
        *matrix(f"{prefix}weights_proj", heads, hidden, role),
    )


def sparse_attention(fields: Fields, *, has_indexer: bool) -> Part:
    """Return latent attention at the tokens that an indexer chose, its own or an earlier layer's."""
    part = latent_attention(fields)
    cache = make_sparse(
        part.cache,
        index_heads=fields.count("index_n_heads"),
        index_dim=fields.count("index_head_dim"),
        selected_tokens=fields.count("index_topk"),
        has_indexer=has_indexer,
    )
    return Part((*part.weights, *indexer(fields)) if has_indexer else part.weights, cache)


def deepseek_v3(fields: Fields, prefix: str = "model.", head_name: str = "lm_head") -> Blueprint:
    """DeepSeek V3 and R1, Kimi K2, Moonlight; the draft layer ships copies of embedding and head."""
    attention = latent_attention(fields)
    layers = fields.layer_count()
    return _draw(
        fields, [("latent_attention", attention)] * layers, prefix=prefix, head_name=head_name, copies_tables=True
    )


def kimi_k2(fields: Fields, prefix: str = "model.", head_name: str = "lm_head") -> Blueprint:
    """Kimi K2: DeepSeek V3 without draft layers, unless the config states some."""
    parts = [("latent_attention", latent_attention(fields))] * fields.layer_count()
    drafts = fields.count("num_nextn_predict_layers", least=0) if fields.states("num_nextn_predict_layers") else 0
    return _draw(fields, parts, prefix=prefix, head_name=head_name, drafts=drafts)


def deepseek_v32(fields: Fields) -> Blueprint:
    """DeepSeek V3.2: V3 with an indexer in every layer."""
    part = sparse_attention(fields, has_indexer=True)
    return _draw(fields, [("sparse_latent_attention", part)] * fields.layer_count(), copies_tables=True)


def deepseek_v2(fields: Fields) -> Blueprint:
    """DeepSeek V2 and V2-Lite: no load-balancing bias and no draft layer."""
    parts = [("latent_attention", latent_attention(fields))] * fields.layer_count()
    return _draw(
        fields,
        parts,
        has_correction_bias=False,
        drafts=0,
        has_mlp_bias=fields.flag("mlp_bias", default=False),
    )


def mistral4(fields: Fields) -> Blueprint:
    """Mistral Small 4: DeepSeek V3's layers without a load-balancing bias or drafts."""
    parts = [("latent_attention", latent_attention(fields))] * fields.layer_count()
    return _draw(fields, parts, has_correction_bias=False, drafts=0)


def minicpm3(fields: Fields) -> Blueprint:
    """MiniCPM 3: latent attention with dense perceptrons."""
    hidden = fields.count("hidden_size")
    value_dim = fields.optional_count("v_head_dim") or hidden // fields.count("num_attention_heads")
    part = latent_attention(fields, value_dim=value_dim)
    norms = tuple(weight for name in _NORMS for weight in norm(name, hidden))
    mlp = gated_mlp(hidden, fields.count("intermediate_size"), has_bias=fields.flag("mlp_bias", default=False))
    layer = Layer("latent_attention", (*part.weights, *mlp, *norms), part.cache)
    return assemble(fields, [layer] * fields.layer_count())


def glm_moe_dsa(fields: Fields) -> Blueprint:
    """GLM-5: sparse latent attention in which layers may share an earlier layer's choice."""
    layers = fields.layer_count()
    parts = {own: ("sparse_latent_attention", sparse_attention(fields, has_indexer=own)) for own in (True, False)}
    return _draw(fields, [parts[own] for own in _own_indexers(fields, layers)])


def glm4_moe_lite(fields: Fields) -> Blueprint:
    """GLM-4.7-Flash: latent attention, the first layer dense."""
    routed = None if fields.has("mlp_layer_types") else [index > 0 for index in range(fields.layer_count())]
    if fields.states("first_k_dense_replace"):
        routed = None
    return _draw(fields, [("latent_attention", latent_attention(fields))] * fields.layer_count(), routed=routed)


def _own_indexers(fields: Fields, layers: int) -> list[bool]:
    """Return which layers run an indexer of their own; the others reuse the choice of the one before."""
    listed = fields.layer_types(layers, "indexer_types")
    if listed is None:
        pattern = fields.get("index_topk_pattern")
        if isinstance(pattern, str):
            fields.check_length("index_topk_pattern", pattern, layers)
            listed = [{"F": "full", "S": "shared"}.get(sign, sign) for sign in pattern]
        elif pattern is not None:
            listed = fields.layer_types(layers, "index_topk_pattern")
    if listed is not None:
        if unknown := set(listed) - {"full", "shared"}:
            raise UnsupportedModel(f"indexer kinds {sorted(unknown)[:3]} have no formula here", where=fields.where)
        return [kind == "full" for kind in listed]
    step = max(fields.count("index_topk_freq", default=1, least=0), 1)
    offset = fields.count("index_skip_topk_offset", default=2, least=0)
    return [max(index - offset + 1, 0) % step == 0 for index in range(layers)]


def _draw(
    fields: Fields,
    parts: list[tuple[str, Part]],
    *,
    prefix: str = "model.",
    head_name: str = "lm_head",
    has_correction_bias: bool = True,
    has_mlp_bias: bool = False,
    copies_tables: bool = False,
    drafts: int | None = None,
    routed: list[bool] | None = None,
) -> Blueprint:
    hidden = fields.count("hidden_size")
    mixture = deepseek_mixture(fields, has_correction_bias=has_correction_bias, has_mlp_bias=has_mlp_bias)
    dense = gated_mlp(hidden, fields.count("intermediate_size"), has_bias=has_mlp_bias)
    norms = tuple(weight for name in _NORMS for weight in norm(name, hidden))
    made: dict[tuple[int, bool], Layer] = {}
    layers = []
    for (kind, part), is_routed in zip(parts, routed or routed_layers(fields, len(parts)), strict=True):
        key = id(part), is_routed
        if key not in made:
            made[key] = Layer(kind, (*part.weights, *(mixture if is_routed else dense), *norms), part.cache)
        layers.append(made[key])
    draft_count = fields.draft_count("num_nextn_predict_layers", "num_mtp_layers")
    if drafts is not None:
        draft_count = drafts
    kind, part = parts[0]
    draft = Layer(kind, (*part.weights, *mixture, *norms), part.cache)
    return assemble(
        fields,
        layers,
        prefix=prefix,
        head_name=head_name,
        drafts=draft_layers(fields, draft, draft_count, prefix=prefix),
        extra=draft_copies(fields, draft_count, prefix=prefix) if copies_tables else (),
        experts=routing_of(fields),
    )


def draft_layers(fields: Fields, layer: Layer, count: int, *, prefix: str) -> Weights:
    """Return `count` draft layers: each one layer, a map from 2 x hidden to hidden, and three norms.

    Source: DeepSeek-V3 README_WEIGHTS.md; the element counts of GLM-4.6 and DeepSeek V3 agree.
    """
    hidden, first = fields.count("hidden_size"), fields.layer_count()
    joint = (
        *matrix("eh_proj", hidden, 2 * hidden, Role.OTHER),
        *norm("enorm", hidden),
        *norm("hnorm", hidden),
        *norm("shared_head.norm", hidden),
    )
    return tuple(
        weight
        for index in range(first, first + count)
        for weight in drafts_of(layer, joint, prefix=f"{prefix}layers.{index}.")
    )


def draft_copies(fields: Fields, count: int, *, prefix: str) -> Weights:
    """Return the copies of embedding and head that each draft layer of DeepSeek's checkpoints holds."""
    hidden, vocab, first = fields.count("hidden_size"), fields.count("vocab_size"), fields.layer_count()
    return tuple(
        table(f"{prefix}layers.{index}.{name}.weight", vocab, hidden, role)._replace(state="copy")
        for index in range(first, first + count)
        for name, role in (("embed_tokens", Role.EMBEDDINGS), ("shared_head.head", Role.LM_HEAD))
    )
