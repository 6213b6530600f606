"""Every architecture whose shape can be drawn from its config: one function each, by `model_type`."""

from __future__ import annotations

from collections.abc import Callable

from ownward.anatomy.architectures import (
    deepseek_v4,
    gemma4,
    glm,
    kimi_linear,
    latent,
    llama4,
    llama_like,
    mimo,
    minimax,
    mixture,
    multimodal,
    muse,
    nemotron_h,
    qwen4,
    qwen_next,
)
from ownward.anatomy.blueprint import Blueprint
from ownward.anatomy.fields import Fields

Draw = Callable[[Fields], Blueprint]

ARCHITECTURES: dict[str, Draw] = {
    "deepseek_v2": latent.deepseek_v2,
    "deepseek_v3": latent.deepseek_v3,
    "deepseek_v32": latent.deepseek_v32,
    "deepseek_v4": deepseek_v4.deepseek_v4,
    "gemma4": multimodal.gemma4_model,
    "gemma4_text": gemma4.gemma4_text,
    "glm4_moe": glm.glm4_moe,
    "glm4_moe_lite": latent.glm4_moe_lite,
    "glm_moe_dsa": latent.glm_moe_dsa,
    "gpt_oss": mixture.gpt_oss,
    "kimi_k2": latent.kimi_k2,
    "kimi_k25": multimodal.kimi_k25,
    "kimi_k3": multimodal.kimi_k3,
    "kimi_linear": kimi_linear.kimi_linear,
    "llama": llama_like.llama,
    "llama4": multimodal.llama4_model,
    "llama4_text": llama4.llama4_text,
    "mimo_v2_flash": mimo.mimo_v2_flash,
    "minimax_m2": minimax.minimax_m2,
    "ministral": llama_like.ministral,
    "mistral": llama_like.mistral,
    "mistral3": multimodal.mistral3,
    "mixtral": mixture.mixtral,
    "muse_glimmer": multimodal.muse_glimmer,
    "muse_glimmer_text": muse.muse_glimmer_text,
    "nemotron_h": nemotron_h.nemotron_h,
    "olmo2": llama_like.olmo2,
    "olmo3": llama_like.olmo3,
    "olmoe": mixture.olmoe,
    "phi3": llama_like.phi3,
    "qwen2": llama_like.qwen2,
    "qwen2_moe": mixture.qwen2_moe,
    "qwen3": llama_like.qwen3,
    "qwen3_5": multimodal.qwen3_5,
    "qwen3_5_moe": multimodal.qwen3_5_moe,
    "qwen3_5_moe_text": qwen_next.qwen3_5_moe,
    "qwen3_5_text": qwen_next.qwen3_5,
    "qwen3_moe": mixture.qwen3_moe,
    "qwen3_next": qwen_next.qwen3_next,
    "qwen3_vl": multimodal.qwen3_vl,
    "qwen3_vl_moe": multimodal.qwen3_vl_moe,
    "qwen4_exp": multimodal.qwen4_exp,
    "qwen4_exp_text": qwen4.qwen4_exp,
    "smollm3": llama_like.smollm3,
}
