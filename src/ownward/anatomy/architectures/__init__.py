"""Every architecture whose shape can be drawn from its config: one function each, by `model_type`."""

from __future__ import annotations

from collections.abc import Callable

from ownward.anatomy.architectures import llama_like, mixture
from ownward.anatomy.blueprint import Blueprint
from ownward.anatomy.fields import Fields

Draw = Callable[[Fields], Blueprint]

ARCHITECTURES: dict[str, Draw] = {
    "gpt_oss": mixture.gpt_oss,
    "llama": llama_like.llama,
    "ministral": llama_like.ministral,
    "mistral": llama_like.mistral,
    "mixtral": mixture.mixtral,
    "olmo2": llama_like.olmo2,
    "olmo3": llama_like.olmo3,
    "olmoe": mixture.olmoe,
    "phi3": llama_like.phi3,
    "qwen2": llama_like.qwen2,
    "qwen2_moe": mixture.qwen2_moe,
    "qwen3": llama_like.qwen3,
    "qwen3_moe": mixture.qwen3_moe,
    "smollm3": llama_like.smollm3,
}
