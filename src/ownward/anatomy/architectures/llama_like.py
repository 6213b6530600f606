"""Dense decoders told apart by traits alone: Llama, Mistral, Qwen, OLMo, Phi, SmolLM and their like."""

from __future__ import annotations

from ownward.anatomy.architectures import dense
from ownward.anatomy.architectures.dense import LLAMA, POST_NORMS, PRE_NORMS, SANDWICH_NORMS, Bias, Traits
from ownward.anatomy.architectures.windows import always, every_nth_full, from_layer, never, windows
from ownward.anatomy.blueprint import Blueprint
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.attention import QkNorm
from ownward.core import BadInput


def llama(fields: Fields, prefix: str = "model.") -> Blueprint:
    """Llama 1 to 3, and everything that ships under its name."""
    return dense.draw(fields, LLAMA, windows(fields, never), prefix=prefix)


def mistral(fields: Fields, prefix: str = "model.") -> Blueprint:
    """Mistral: one window for all layers, where one is stated."""
    return dense.draw(fields, Traits(), windows(fields, always), prefix=prefix)


def ministral(fields: Fields, prefix: str = "model.") -> Blueprint:
    """Ministral: windows as `layer_types` lists them."""
    return dense.draw(fields, Traits(), windows(fields, always), prefix=prefix)


def qwen2(fields: Fields, prefix: str = "model.") -> Blueprint:
    """Qwen 2 and 2.5: biased queries, keys and values."""
    return dense.draw(fields, Traits(qkv_bias=True), windows(fields, from_layer), prefix=prefix)


def qwen3(fields: Fields, prefix: str = "model.") -> Blueprint:
    """Qwen 3: norms on each head's queries and keys."""
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_bias", qk_norm="per_head")
    return dense.draw(fields, traits, windows(fields, from_layer), prefix=prefix)


def olmo2(fields: Fields) -> Blueprint:
    """OLMo 2: norms after attention and perceptron, and over all queries and keys."""
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_bias", qk_norm="whole", norms=POST_NORMS)
    return dense.draw(fields, traits, windows(fields, never))


def olmo3(fields: Fields) -> Blueprint:
    """OLMo 3: OLMo 2 with a window on three of four layers."""
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_bias", qk_norm="whole", norms=POST_NORMS)
    return dense.draw(fields, traits, windows(fields, every_nth_full(4)))


def phi3(fields: Fields) -> Blueprint:
    """Phi-3 and Phi-4: one matrix for q, k and v, one for gate and up."""
    traits = Traits(mlp="fused", has_fused_qkv=True)
    return dense.draw(fields, traits, windows(fields, always))


def smollm3(fields: Fields) -> Blueprint:
    """SmolLM3: Llama with no rotary embedding on every fourth layer; those have the window, where it is on."""
    is_on = fields.flag("use_sliding_window", default=False)
    listed = fields.numbers("no_rope_layers")
    period = fields.count("no_rope_layer_interval", default=4)

    def is_windowed(_fields: Fields, index: int) -> bool:
        return is_on and (not listed[index] if listed is not None else (index + 1) % period == 0)

    return dense.draw(fields, LLAMA, windows(fields, is_windowed))


def arcee(fields: Fields) -> Blueprint:
    """Arcee AFM: Llama with an ungated perceptron."""
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias", mlp="plain")
    return dense.draw(fields, traits, windows(fields, never))


def cohere(fields: Fields) -> Blueprint:
    """Command R: one norm a layer, attention and perceptron side by side."""
    has_norms = fields.flag("use_qk_norm", default=False)
    traits = Traits(
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        norms=("input_layernorm",),
        qk_norm="whole" if has_norms else "none",
    )
    return dense.draw(fields, traits, windows(fields, never))


def cohere2(fields: Fields) -> Blueprint:
    """Command R7B and A: Command R with a window on three of four layers."""
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_bias", norms=("input_layernorm",))
    return dense.draw(fields, traits, windows(fields, every_nth_full(4, "sliding_window_pattern")))


def ernie4_5(fields: Fields) -> Blueprint:
    """ERNIE 4.5, dense: one switch for all biases."""
    traits = Traits(qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias")
    return dense.draw(fields, traits, windows(fields, never))


def exaone4(fields: Fields) -> Blueprint:
    """EXAONE 4: norms after each part and on each head, a window on three of four layers where one is stated."""
    pattern = fields.get("sliding_window_pattern")
    if isinstance(pattern, str):
        fields.expect("sliding_window_pattern", "LLLG")
    is_windowed = every_nth_full(4) if isinstance(pattern, str) else every_nth_full(4, "sliding_window_pattern")
    traits = Traits(qk_norm="per_head", norms=POST_NORMS)
    return dense.draw(fields, traits, windows(fields, is_windowed))


def gemma(fields: Fields) -> Blueprint:
    """Gemma 1: head size apart from the hidden size."""
    return dense.draw(fields, Traits(qkv_bias="attention_bias", out_bias="attention_bias"), windows(fields, never))


def gemma2(fields: Fields) -> Blueprint:
    """Gemma 2: four norms a layer, a window on every second layer."""
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_bias", norms=SANDWICH_NORMS)
    return dense.draw(fields, traits, windows(fields, every_nth_full(2)))


def gemma3_text(fields: Fields, prefix: str = "model.") -> Blueprint:
    """Gemma 3: Gemma 2 with norms on each head and a window on five of six layers."""
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_bias", norms=SANDWICH_NORMS, qk_norm="per_head")
    return dense.draw(fields, traits, windows(fields, every_nth_full(6, "sliding_window_pattern")), prefix=prefix)


def glm(fields: Fields) -> Blueprint:
    """GLM-4-9B: biased queries, keys and values, gate and up as one."""
    return dense.draw(fields, Traits(qkv_bias="attention_bias", mlp="fused"), windows(fields, never))


def glm4(fields: Fields, prefix: str = "model.", qkv_bias: Bias = "attention_bias") -> Blueprint:
    """GLM-4-0414: GLM with norms after each part too; GLM-4.1V always has its biases."""
    norms = (*PRE_NORMS, "post_self_attn_layernorm", "post_mlp_layernorm")
    traits = Traits(qkv_bias=qkv_bias, mlp="fused", norms=norms)
    return dense.draw(fields, traits, windows(fields, never), prefix=prefix)


def helium(fields: Fields) -> Blueprint:
    """Helium: Llama without an output bias; its heads must fill the hidden size."""
    heads, hidden = dense.heads_of(fields), fields.count("hidden_size")
    if heads.query * heads.dim != hidden:
        raise BadInput(f"{heads.query} heads of {heads.dim} do not fill a hidden size of {hidden}", where=fields.where)
    return dense.draw(fields, Traits(qkv_bias="attention_bias", mlp_bias="mlp_bias"), windows(fields, never))


def hunyuan_v1_dense(fields: Fields) -> Blueprint:
    """Hunyuan, dense: norms on each head."""
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_bias", qk_norm="per_head")
    return dense.draw(fields, traits, windows(fields, never))


def nemotron(fields: Fields) -> Blueprint:
    """Nemotron 4 and Minitron: an ungated perceptron and norms with a shift."""
    traits = Traits(
        qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias", mlp="plain", has_norm_bias=True
    )
    return dense.draw(fields, traits, windows(fields, never))


def olmo(fields: Fields) -> Blueprint:
    """OLMo 1: norms without weights."""
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_bias", norms=(), has_final_norm=False)
    return dense.draw(fields, traits, windows(fields, never))


def seed_oss(fields: Fields) -> Blueprint:
    """Seed-OSS: switches of their own for input and output biases."""
    traits = Traits(qkv_bias="attention_bias", out_bias="attention_out_bias", mlp_bias="mlp_bias")
    return dense.draw(fields, traits, windows(fields, never))


def stablelm(fields: Fields) -> Blueprint:
    """StableLM 2: norms with a shift, one a layer where attention and perceptron run side by side."""
    norms = ("input_layernorm",) if fields.flag("use_parallel_residual", default=False) else PRE_NORMS
    qk_norm: QkNorm = "whole" if fields.flag("qk_layernorm", default=False) else "none"
    traits = Traits(qkv_bias="use_qkv_bias", norms=norms, has_norm_bias=True, qk_norm=qk_norm)
    return dense.draw(fields, traits, windows(fields, never))


def starcoder2(fields: Fields) -> Blueprint:
    """StarCoder2: one switch for all biases, an ungated perceptron, norms with a shift."""
    traits = Traits(
        qkv_bias="use_bias",
        out_bias="use_bias",
        mlp_bias="use_bias",
        mlp="plain",
        mlp_names=("c_fc", "c_proj"),
        has_norm_bias=True,
    )
    return dense.draw(fields, traits, windows(fields, always))


def phi(fields: Fields) -> Blueprint:
    """Phi 1 and 2: everything biased, one norm a layer."""
    fields.expect("qk_layernorm", False)  # noqa: FBT003 - the value that is settled
    traits = Traits(
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        mlp="plain",
        mlp_names=("fc1", "fc2"),
        norms=("input_layernorm",),
        has_norm_bias=True,
        out_name="dense",
        norm_name="final_layernorm",
        head_bias=True,
    )
    return dense.draw(fields, traits, windows(fields, never))
