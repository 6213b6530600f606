"""Models with eyes and ears: a language model, its towers, and the names that both have in one checkpoint."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ownward.anatomy.architectures import (
    gemma4,
    glm,
    kimi_linear,
    latent,
    llama4,
    llama_like,
    mixture,
    muse,
    qwen4,
    qwen_next,
)
from ownward.anatomy.blueprint import Blueprint, Weights
from ownward.anatomy.defaults import reference_defaults
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts import clip_like, towers
from ownward.core import BadInput, UnsupportedModel


def text_of(fields: Fields, model_type: str) -> Fields:
    """Return the fields of the language model, nested as `text_config`."""
    section = fields.section("text_config", defaults=reference_defaults(model_type))
    if section is None:
        raise BadInput(
            "text_config is missing",
            where=fields.where,
            next_step="Give the model's original config.json; a text-only rewrite has its own model_type",
        )
    return section


def tower_of(fields: Fields, name: str, model_type: str, *, is_default: bool = False) -> Fields | None:
    """Return the fields of a tower, or None for a model without; `is_default` where the reference adds it unasked."""
    section = fields.section(name, defaults=reference_defaults(model_type))
    if section is None and is_default:
        return Fields({}, where=f"{fields.where}: {name}", defaults=reference_defaults(model_type))
    return section


def with_towers(
    blueprint: Blueprint, *, vision: Weights = (), audio: Weights = (), sees_video: bool = False
) -> Blueprint:
    """Return the blueprint with towers added and the modalities that they bring."""
    modalities = ["text"]
    if vision:
        modalities += ["image", "video"] if sees_video else ["image"]
    if audio:
        modalities.append("audio")
    return replace(blueprint, outside=(*blueprint.outside, *vision, *audio), modalities=tuple(modalities))


def qwen_vl(draw: Callable[..., Blueprint], text_type: str, vision_type: str) -> Callable[[Fields], Blueprint]:
    """Return the reader of a Qwen model with a tower of Qwen3-VL's kind."""

    def read(fields: Fields) -> Blueprint:
        blueprint = draw(text_of(fields, text_type), prefix="model.language_model.")
        vision = tower_of(fields, "vision_config", vision_type, is_default=True)
        return with_towers(blueprint, vision=towers.qwen_vision(vision) if vision else (), sees_video=True)

    return read


qwen3_vl = qwen_vl(llama_like.qwen3, "qwen3_vl_text", "qwen3_vl_vision")
qwen3_vl_moe = qwen_vl(mixture.qwen3_moe, "qwen3_vl_moe_text", "qwen3_vl_moe_vision")
qwen3_5 = qwen_vl(qwen_next.qwen3_5, "qwen3_5_text", "qwen3_5_vision")
qwen3_5_moe = qwen_vl(qwen_next.qwen3_5_moe, "qwen3_5_moe_text", "qwen3_5_moe_vision")
qwen4_exp = qwen_vl(qwen4.qwen4_exp, "qwen4_exp_text", "qwen4_exp_vision")


def llama4_model(fields: Fields) -> Blueprint:
    """Llama 4 with its tower."""
    text = text_of(fields, "llama4_text")
    blueprint = llama4.llama4_text(text, prefix="language_model.model.", head_name="language_model.lm_head")
    vision = tower_of(fields, "vision_config", "llama4_vision_model", is_default=True)
    hidden = text.count("hidden_size")
    return with_towers(blueprint, vision=towers.llama4_vision(vision, text_hidden=hidden) if vision else ())


def gemma4_model(fields: Fields) -> Blueprint:
    """Gemma 4 with the towers that its config describes."""
    text = text_of(fields, "gemma4_text")
    vision = tower_of(fields, "vision_config", "gemma4_vision")
    audio = tower_of(fields, "audio_config", "gemma4_audio")
    hidden = text.count("hidden_size")
    return with_towers(
        gemma4.gemma4_text(text, prefix="model.language_model."),
        vision=towers.gemma4_vision(vision, text_hidden=hidden) if vision else (),
        audio=towers.gemma4_audio(audio, text_hidden=hidden) if audio else (),
        sees_video=True,
    )


def kimi_k25(fields: Fields) -> Blueprint:
    """Kimi K2.5 and K2.6: K2 with MoonViT."""
    text = text_of(fields, "deepseek_v3")
    blueprint = latent.kimi_k2(text, prefix="language_model.model.", head_name="language_model.lm_head")
    return _with_moon(fields, blueprint, text)


def kimi_k3(fields: Fields) -> Blueprint:
    """Kimi K3: delta and latent attention with MoonViT."""
    text = text_of(fields, "kimi_linear")
    blueprint = kimi_linear.kimi_linear(text, prefix="language_model.model.", head_name="language_model.lm_head")
    return _with_moon(fields, blueprint, text)


def _with_moon(fields: Fields, blueprint: Blueprint, text: Fields) -> Blueprint:
    vision = tower_of(fields, "vision_config", "kimi_k25_vision", is_default=True)
    tower = towers.moon_vision(vision, text_hidden=text.count("hidden_size")) if vision else ()
    return with_towers(blueprint, vision=tower, sees_video=True)


def muse_glimmer(fields: Fields) -> Blueprint:
    """Muse Glimmer with its tower."""
    text = text_of(fields, "muse_glimmer_text")
    vision = tower_of(fields, "vision_config", "muse_glimmer_vision", is_default=True)
    tower: Weights = ()
    if vision:
        tower = towers.muse_vision(
            vision,
            merged=fields.count("out_hidden_size"),
            width=fields.count("projector_hidden_size"),
            text_hidden=text.count("hidden_size"),
        )
    blueprint = muse.muse_glimmer_text(text, prefix="model.language_model.")
    return with_towers(blueprint, vision=tower, sees_video=True)


_TEXT_MODELS: Mapping[str, Callable[..., Blueprint]] = {
    "llama": llama_like.llama,
    "ministral3": llama_like.mistral,
    "mistral": llama_like.mistral,
    "qwen2": llama_like.qwen2,
    "qwen3": llama_like.qwen3,
}


def mistral3(fields: Fields) -> Blueprint:
    """Mistral Small 3.1 and later: Pixtral's tower, a patch merger and a projector of two maps."""
    blueprint, text = nested_text(fields, default_type="mistral")
    vision = fields.section("vision_config", defaults=reference_defaults("pixtral"))
    if vision is None:
        # The reference adds the tower of Mistral Small 3.1, whose patches are not Pixtral's default.
        vision = Fields({"patch_size": 14}, where=fields.where, defaults=reference_defaults("pixtral"))
    vision.expect("model_type", "pixtral")
    tower = towers.pixtral_vision(vision)
    projector = towers.mistral3_projector(
        hidden=vision.count("hidden_size"),
        text_hidden=text.count("hidden_size"),
        merge=fields.count("spatial_merge_size"),
        features=_feature_count(fields),
        has_bias=fields.flag("multimodal_projector_bias", default=False),
    )
    return with_towers(blueprint, vision=(*tower, *projector))


def nested_text(fields: Fields, *, default_type: str) -> tuple[Blueprint, Fields]:
    """Return a nested language model of one of the plain kinds, with its fields."""
    raw: Any = fields.get("text_config")
    model_type = raw.get("model_type", default_type) if isinstance(raw, Mapping) else default_type
    draw = _TEXT_MODELS.get(model_type) if isinstance(model_type, str) else None
    if draw is None:
        raise UnsupportedModel(f"no formula for a nested {str(model_type)[:40]!r} model", where=fields.where)
    text = text_of(fields, model_type)
    return draw(text, prefix="model.language_model."), text


def _feature_count(fields: Fields) -> int:
    """Return how many of the tower's layers feed the projector."""
    layers = fields.get("vision_feature_layer")
    return len(layers) if isinstance(layers, list) and layers else 1


def gemma3_model(fields: Fields) -> Blueprint:
    """Gemma 3 with SigLIP; a config without a tower describes the text model alone."""
    text = text_of(fields, "gemma3_text")
    blueprint = llama_like.gemma3_text(text, prefix="model.language_model.")
    vision = tower_of(fields, "vision_config", "siglip_vision_model", is_default=True)
    if vision is None:
        return blueprint
    projector = clip_like.gemma3_projector(hidden=vision.count("hidden_size"), text_hidden=text.count("hidden_size"))
    return with_towers(blueprint, vision=(*clip_like.siglip_vision(vision), *projector))


def qwen2_vl_model(
    text_type: str, vision_type: str, tower: Callable[[Fields], Weights]
) -> Callable[[Fields], Blueprint]:
    """Return the reader of Qwen2-VL or Qwen2.5-VL, whose configs on the hub are flat."""

    def read(fields: Fields) -> Blueprint:
        nested = fields.section("text_config", defaults=reference_defaults(text_type))
        text = nested or fields.with_defaults(reference_defaults(text_type))
        vision = tower_of(fields, "vision_config", vision_type, is_default=True)
        blueprint = llama_like.qwen2(text, prefix="model.language_model.")
        return with_towers(blueprint, vision=tower(vision) if vision else (), sees_video=True)

    return read


qwen2_vl = qwen2_vl_model("qwen2_vl_text", "qwen2_vl_vision", clip_like.qwen2_vision)
qwen2_5_vl = qwen2_vl_model("qwen2_5_vl_text", "qwen2_5_vl_vision", clip_like.qwen2_5_vision)


def glm_v(draw: Callable[..., Blueprint], text_type: str, vision_type: str) -> Callable[[Fields], Blueprint]:
    """Return the reader of a GLM model with a tower."""

    def read(fields: Fields) -> Blueprint:
        blueprint = draw(text_of(fields, text_type), prefix="model.language_model.")
        vision = tower_of(fields, "vision_config", vision_type, is_default=True)
        return with_towers(blueprint, vision=clip_like.glm_vision(vision) if vision else (), sees_video=True)

    return read


glm4v = glm_v(functools.partial(llama_like.glm4, qkv_bias=True), "glm4v_text", "glm4v_vision")
glm4v_moe = glm_v(glm.glm4_moe, "glm4v_moe_text", "glm4v_moe_vision")
