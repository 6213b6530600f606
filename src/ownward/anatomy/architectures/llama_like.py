"""Dense decoders told apart by traits alone: Llama, Mistral, Qwen, OLMo, Phi, SmolLM and their like."""

from __future__ import annotations

from ownward.anatomy.architectures import dense
from ownward.anatomy.architectures.dense import LLAMA, POST_NORMS, Traits
from ownward.anatomy.architectures.windows import always, every_nth_full, from_layer, never, windows
from ownward.anatomy.blueprint import Blueprint
from ownward.anatomy.fields import Fields


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

    def is_windowed(fields: Fields, index: int) -> bool:
        if not fields.flag("use_sliding_window", default=False):
            return False
        listed = fields.numbers("no_rope_layers")
        if listed is not None:
            return not listed[index]
        return (index + 1) % fields.count("no_rope_layer_interval", default=4) == 0

    return dense.draw(fields, LLAMA, windows(fields, is_windowed))
