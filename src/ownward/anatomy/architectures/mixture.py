"""Mixtures of experts over grouped-query attention: Mixtral, Qwen MoE, OLMoE, GPT-OSS and their like."""

from __future__ import annotations

from ownward.anatomy.architectures.dense import (
    Traits,
    attention,
    kind_of,
    layer_norms,
    perceptron,
)
from ownward.anatomy.architectures.windows import IsWindowed, always, every_nth_full, from_layer, never, windows
from ownward.anatomy.blueprint import Blueprint, Layer, Weights, vector
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
            made[key] = Layer(kind_of(window), (*part.weights, *feed_forward, *norms), part.memory)
        layers.append(made[key])
    return assemble(fields, layers, prefix=prefix, experts=experts)


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
    is_windowed = from_layer if fields.flag("use_sliding_window", default=False) else never
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
