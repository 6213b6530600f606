"""Mixtures of experts over grouped-query attention: Mixtral, Qwen MoE, OLMoE, GPT-OSS and their like."""

from __future__ import annotations

from ownward.anatomy.architectures.dense import (
    POST_NORMS,
    PRE_NORMS,
    Traits,
    attention,
    has_bias,
    heads_of,
    kind_of,
    layer_norms,
    perceptron,
)
from ownward.anatomy.architectures.hybrids import granite_mixture, granite_shared
from ownward.anatomy.architectures.latent import deepseek_mixture, routed_layers, routing_of
from ownward.anatomy.architectures.windows import IsWindowed, always, every_nth_full, never, windows
from ownward.anatomy.blueprint import Blueprint, Layer, Weight, Weights, matrix, vector
from ownward.anatomy.decoder import assemble
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.feed_forward import gated_experts, gated_mlp, router, shared_gate
from ownward.anatomy.roles import Role


def draw(
    fields: Fields,
    traits: Traits,
    mixture: Weights,
    *,
    is_routed: list[bool],
    layer_windows: list[int | None],
    experts: tuple[int, int],
    prefix: str = "model.",
) -> Blueprint:
    """Return a decoder whose layer is a mixture where `is_routed` says so and dense elsewhere."""
    norms = layer_norms(fields, traits)
    made: dict[tuple[int | None, bool], Layer] = {}
    layers = []
    for window, routed in zip(layer_windows, is_routed, strict=True):
        key = window, routed
        if key not in made:
            part = attention(fields, traits, window)
            feed_forward = mixture if routed else perceptron(fields, traits)
            made[key] = Layer(kind_of(window), (*part.weights, *feed_forward, *norms), part.cache)
        layers.append(made[key])
    return assemble(
        fields,
        layers,
        prefix=prefix,
        has_norm_bias=has_bias(fields, traits.has_norm_bias),
        has_head_bias=has_bias(fields, traits.head_bias),
        experts=experts,
    )


def mixtral(fields: Fields) -> Blueprint:
    """Mixtral: every layer routed, no shared expert."""
    hidden = fields.count("hidden_size")
    count, per_token = fields.count("num_local_experts", "num_experts"), fields.count("num_experts_per_tok")
    mixture = (
        *router(hidden, count, name="block_sparse_moe.gate"),
        *gated_experts(
            hidden,
            fields.count("intermediate_size"),
            experts=count,
            per_token=per_token,
            prefix="block_sparse_moe.experts.{}.",
        ),
    )
    layer_windows = windows(fields, always)
    return draw(
        fields,
        Traits(),
        mixture,
        is_routed=[True] * len(layer_windows),
        layer_windows=layer_windows,
        experts=(count, per_token),
    )


def qwen_routing(fields: Fields, layers: int) -> list[bool]:
    """Return which layers route, by Qwen's two fields: a step and a list of exceptions."""
    step = fields.count("decoder_sparse_step", default=1, least=0)
    dense = set(fields.numbers("mlp_only_layers") or ())
    has_experts = fields.count("num_experts", "num_local_experts", least=0) > 0
    return [has_experts and index not in dense and step > 0 and (index + 1) % step == 0 for index in range(layers)]


def qwen_mixture(fields: Fields) -> Weights:
    """Return Qwen's routed experts, with the gated shared expert where the config sizes one."""
    hidden = fields.count("hidden_size")
    count = fields.count("num_experts", "num_local_experts", least=0)
    per_token = fields.count("num_experts_per_tok")
    shared = fields.optional_count("shared_expert_intermediate_size", least=0)
    return (
        *router(hidden, count),
        *gated_experts(hidden, fields.count("moe_intermediate_size"), experts=count, per_token=per_token),
        *(
            (*gated_mlp(hidden, shared, role=Role.SHARED_EXPERTS, prefix="mlp.shared_expert."), *shared_gate(hidden))
            if shared
            else ()
        ),
    )


def qwen_moe(fields: Fields, *, traits: Traits, is_windowed: IsWindowed, prefix: str = "model.") -> Blueprint:
    """Qwen2-MoE and Qwen3-MoE: routed by a step with exceptions."""
    layer_windows = windows(fields, is_windowed)
    return draw(
        fields,
        traits,
        qwen_mixture(fields),
        is_routed=qwen_routing(fields, len(layer_windows)),
        layer_windows=layer_windows,
        experts=(fields.count("num_experts", "num_local_experts", least=0), fields.count("num_experts_per_tok")),
        prefix=prefix,
    )


QWEN3_MOE = Traits(qkv_bias="attention_bias", out_bias="attention_bias", qk_norm="per_head")


def qwen3_moe(fields: Fields, prefix: str = "model.") -> Blueprint:
    """Qwen3-MoE: no shared expert."""
    is_windowed = always if fields.flag("use_sliding_window", default=False) else never
    return qwen_moe(fields, traits=QWEN3_MOE, is_windowed=is_windowed, prefix=prefix)


def qwen2_moe(fields: Fields) -> Blueprint:
    """Qwen2-MoE: a gated shared expert beside the routed ones; windows, where on, on odd layers up to a limit."""

    def is_windowed(fields: Fields, index: int) -> bool:
        return (
            fields.flag("use_sliding_window", default=False)
            and (index + 1) % 2 == 1
            and index < fields.count("max_window_layers", least=0)
        )

    traits = Traits(qkv_bias="qkv_bias")
    return qwen_moe(fields, traits=traits, is_windowed=is_windowed)


def olmoe(fields: Fields) -> Blueprint:
    """OLMoE: every layer routed, norms over the whole width of queries and keys."""
    hidden = fields.count("hidden_size")
    count, per_token = fields.count("num_experts", "num_local_experts"), fields.count("num_experts_per_tok")
    mixture = (
        *router(hidden, count),
        *gated_experts(hidden, fields.count("intermediate_size"), experts=count, per_token=per_token),
    )
    layers = fields.layer_count()
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_bias", qk_norm="whole")
    return draw(
        fields, traits, mixture, is_routed=[True] * layers, layer_windows=[None] * layers, experts=(count, per_token)
    )


def gpt_oss(fields: Fields) -> Blueprint:
    """GPT-OSS: biased projections and experts, attention sinks, a window on every second layer."""
    hidden = fields.count("hidden_size")
    count = fields.count("num_local_experts", "num_experts")
    per_token = fields.count("num_experts_per_tok", "experts_per_token")
    mixture = (
        *router(hidden, count, name="mlp.router", has_bias=True),
        *gated_experts(hidden, fields.count("intermediate_size"), experts=count, per_token=per_token, has_bias=True),
    )
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_bias")
    layer_windows = windows(fields, every_nth_full(2))
    sinks = (vector("self_attn.sinks", fields.count("num_attention_heads"), Role.ATTENTION),)
    return draw(
        fields,
        traits,
        (*mixture, *sinks),
        is_routed=[True] * len(layer_windows),
        layer_windows=layer_windows,
        experts=(count, per_token),
    )


def granite_moe(fields: Fields) -> Blueprint:
    """Granite 3 MoE, with a shared perceptron where the config sizes one."""
    count = fields.count("num_local_experts", "num_experts")
    weights = (*granite_mixture(fields, count), *granite_shared(fields))
    layers = fields.layer_count()
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_bias")
    return draw(
        fields,
        traits,
        weights,
        is_routed=[True] * layers,
        layer_windows=[None] * layers,
        experts=(count, fields.count("num_experts_per_tok")),
    )


def phimoe(fields: Fields) -> Blueprint:
    """Phi-3.5-MoE: norms with a shift, a bias on the head where switched on."""
    hidden = fields.count("hidden_size")
    count, per_token = fields.count("num_local_experts", "num_experts"), fields.count("num_experts_per_tok")
    weights = (
        *router(hidden, count, name="block_sparse_moe.gate"),
        *gated_experts(
            hidden,
            fields.count("intermediate_size"),
            experts=count,
            per_token=per_token,
            prefix="block_sparse_moe.experts.{}.",
        ),
    )
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_bias", has_norm_bias=True, head_bias="lm_head_bias")
    layer_windows = windows(fields, always)
    return draw(
        fields,
        traits,
        weights,
        is_routed=[True] * len(layer_windows),
        layer_windows=layer_windows,
        experts=(count, per_token),
    )


def ernie4_5_moe(fields: Fields) -> Blueprint:
    """ERNIE 4.5 with experts from a first to a last layer, and fused shared experts."""
    hidden, width, layers = fields.count("hidden_size"), fields.count("moe_intermediate_size"), fields.layer_count()
    count, per_token = fields.count("moe_num_experts", "num_experts"), fields.count("moe_k", "num_experts_per_tok")
    shared = fields.count("moe_num_shared_experts", default=0, least=0)
    bias = fields.flag("use_bias", default=False)
    weights = (
        *router(hidden, count),
        Weight("mlp.moe_statics.e_score_correction_bias", (1, count), Role.ROUTER, "vector"),
        *gated_experts(hidden, width, experts=count, per_token=per_token),
        *(
            gated_mlp(hidden, width * shared, role=Role.SHARED_EXPERTS, has_bias=bias, prefix="mlp.shared_experts.")
            if shared
            else ()
        ),
    )
    first, step = fields.count("moe_layer_start_index", least=0), fields.count("moe_layer_interval")
    stated = fields.get("moe_layer_end_index")
    last = layers - 1 if stated is None or stated == -1 else fields.count("moe_layer_end_index", least=0)
    traits = Traits(qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", head_bias="use_bias")
    return draw(
        fields,
        traits,
        weights,
        is_routed=[(index + 1) % step == 0 and first <= index <= last for index in range(layers)],
        layer_windows=[None] * layers,
        experts=(count, per_token),
    )


def dots1(fields: Fields) -> Blueprint:
    """dots.llm1: DeepSeek's mixture over attention with norms on each head."""

    def is_windowed(fields: Fields, index: int) -> bool:
        return index >= fields.count("max_window_layers", least=0)

    layer_windows = windows(fields, is_windowed)
    return draw(
        fields,
        Traits(qkv_bias="attention_bias", out_bias="attention_bias", qk_norm="per_head"),
        deepseek_mixture(fields, has_correction_bias=True),
        is_routed=routed_layers(fields, len(layer_windows)),
        layer_windows=layer_windows,
        experts=routing_of(fields),
    )


def solar_open(fields: Fields) -> Blueprint:
    """Solar Open: DeepSeek's mixture in every layer."""
    layers = fields.layer_count()
    return draw(
        fields,
        Traits(qkv_bias="attention_bias"),
        deepseek_mixture(fields, has_correction_bias=True),
        is_routed=[True] * layers,
        layer_windows=[None] * layers,
        experts=routing_of(fields),
    )


def counted_mixture(
    fields: Fields, *, shared_name: str, bias_name: str | None, router_name: str = "mlp.gate"
) -> Weights:
    """Return routed experts with shared ones fused, where `num_shared_experts` counts them (EXAONE, AFM, Hunyuan)."""
    hidden, width = fields.count("hidden_size"), fields.count("moe_intermediate_size")
    count, per_token = fields.count("num_experts", "num_local_experts"), fields.count("num_experts_per_tok")
    shared = fields.count("num_shared_experts", default=0, least=0)
    return (
        *router(hidden, count, name=router_name, correction_bias=bias_name),
        *gated_experts(hidden, width, experts=count, per_token=per_token),
        *(gated_mlp(hidden, width * shared, role=Role.SHARED_EXPERTS, prefix=shared_name) if shared else ()),
    )


def _draw_counted(
    fields: Fields, traits: Traits, weights: Weights, routed: list[bool], seen: list[int | None]
) -> Blueprint:
    experts = (fields.count("num_experts", "num_local_experts"), fields.count("num_experts_per_tok"))
    return draw(fields, traits, weights, is_routed=routed, layer_windows=seen, experts=experts)


def exaone_moe(fields: Fields) -> Blueprint:
    """K-EXAONE: norms on each head, a window on three of four layers, experts after the first dense layers."""
    weights = counted_mixture(fields, shared_name="mlp.shared_experts.", bias_name="mlp.gate.e_score_correction_bias")
    pattern = fields.get("sliding_window_pattern")
    is_windowed = every_nth_full(4) if isinstance(pattern, str) else every_nth_full(4, "sliding_window_pattern")
    if isinstance(pattern, str):
        fields.expect("sliding_window_pattern", "LLLG")
    seen = windows(fields, is_windowed)
    return _draw_counted(fields, Traits(qk_norm="per_head"), weights, routed_layers(fields, len(seen)), seen)


def hy_v3(fields: Fields) -> Blueprint:
    """Hunyuan 3: norms on each head, experts in all layers but the first."""
    weights = counted_mixture(fields, shared_name="mlp.shared_experts.", bias_name="mlp.e_score_correction_bias")
    layers = fields.layer_count()
    kinds = fields.layer_types(layers, "mlp_layer_types") or ["dense", *["sparse"] * (layers - 1)]
    fields.expect_each("mlp_layer_types", kinds, "dense", "sparse")
    fields.expect("mlp_bias", False)  # noqa: FBT003 - the value that is settled
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_bias", qk_norm="per_head")
    return _draw_counted(fields, traits, weights, [kind == "sparse" for kind in kinds], [None] * layers)


def afmoe(fields: Fields) -> Blueprint:
    """Arcee Trinity: gated attention with norms on each head, four norms a layer, a window on three of four layers."""
    hidden, heads = fields.count("hidden_size"), heads_of(fields)
    weights = counted_mixture(fields, shared_name="mlp.shared_experts.", bias_name=None, router_name="mlp.router.gate")
    bias = vector("mlp.expert_bias", fields.count("num_experts", "num_local_experts"), Role.ROUTER)
    gate = matrix("self_attn.gate_proj", heads.query * heads.dim, hidden, Role.ATTENTION)
    traits = Traits(
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        qk_norm="per_head",
        norms=(*PRE_NORMS, "pre_mlp_layernorm", "post_mlp_layernorm"),
        attention_extra=gate,
    )
    seen = windows(fields, every_nth_full(4, "global_attn_every_n_layers"))
    first = fields.count("num_dense_layers", least=0)
    return _draw_counted(fields, traits, (*weights, bias), [index >= first for index in range(len(seen))], seen)


def flex_olmo(fields: Fields) -> Blueprint:
    """FlexOlmo: OLMo 2's norms with experts in every layer."""
    hidden = fields.count("hidden_size")
    count, per_token = fields.count("num_experts", "num_local_experts"), fields.count("num_experts_per_tok")
    weights = (
        *router(hidden, count),
        *gated_experts(hidden, fields.count("intermediate_size"), experts=count, per_token=per_token),
    )
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_bias", qk_norm="whole", norms=POST_NORMS)
    layers = fields.layer_count()
    return _draw_counted(fields, traits, weights, [True] * layers, [None] * layers)
