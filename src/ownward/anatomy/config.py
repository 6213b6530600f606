"""Read a Hugging Face config.json: find the architecture, its defaults and its quantisation, and draw it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ownward.anatomy.anatomy import Anatomy, compute_anatomy
from ownward.anatomy.architectures import ARCHITECTURES
from ownward.anatomy.blueprint import Blueprint, matrix
from ownward.anatomy.defaults import reference_defaults
from ownward.anatomy.fields import Fields
from ownward.anatomy.quantization import read_recipe
from ownward.anatomy.roles import Role
from ownward.core import BadInput, UnknownQuantization, UnsupportedModel, closest

_LABELLING = frozenset({"SequenceClassification", "TokenClassification"})
_TASKS = frozenset({"CausalLM", "ConditionalGeneration", *_LABELLING})
_OTHER_CLASSES = {"hunyuandensev1": "hunyuan_v1_dense"}
"""Classes that are not named for their type."""
_BY_MODULE = frozenset({"compressed-tensors", "modelopt"})
"""Quantisers whose configs name what they quantised, in the layout of the tool that wrote them."""
_FROM_WEIGHTS = "Its weights say the same without a formula: give a GGUF file, a safetensors file or its index.json"


def from_config(
    config: Mapping[str, Any],
    *,
    name: str = "model",
    where: str | None = None,
    quantization: Mapping[str, Any] | None = None,
) -> Anatomy:
    """Return the anatomy that a config implies, exact to the parameter.

    `quantization` is the object of a hf_quant_config.json that stands beside the config.
    Raises: BadInput, if a field is missing or has a value that no model has;
    UnsupportedModel, for an architecture, attention or quantisation without a formula here.
    """
    where = where or f"{name}: config.json"
    if not isinstance(config, Mapping):
        raise BadInput("the config is not a JSON object", where=where)
    architecture = architecture_of(config, where=where)
    recipe = read_recipe(config, where=where, companion=quantization)
    fields = Fields(config, where=where, defaults=reference_defaults(architecture))
    try:
        blueprint = ARCHITECTURES[architecture](fields)
    except (ZeroDivisionError, OverflowError, IndexError) as error:
        raise BadInput("its sizes contradict each other", where=where) from error
    except BadInput as error:
        raise error if error.where else BadInput(error.message, where=where) from error
    experts = blueprint.experts
    if experts is not None and experts.per_token > experts.count > 0:
        raise BadInput(
            f"its sizes contradict each other: a token uses {experts.per_token} of {experts.count} experts", where=where
        )
    if recipe is not None and recipe.name in _BY_MODULE and not recipe.reaches(blueprint):
        raise UnknownQuantization(
            f"{recipe.name} quantises modules that {architecture!r} does not have under these names",
            where=where,
            next_step="Give its weights instead: a safetensors file or its index.json says how many bytes they are",
        )
    blueprint = _with_task_head(blueprint, config, where=where)
    return compute_anatomy(
        blueprint,
        name=name,
        architecture=architecture,
        recipe=recipe,
        quantization="f32" if recipe is None and _is_in_float32(config) else None,
        is_checkpoint=True,
    )


def _is_in_float32(config: Mapping[str, Any]) -> bool:
    """Return whether a config says that its checkpoint is in 32 bits, under the field's new name or the old."""
    text = config.get("text_config")
    places = (config, text) if isinstance(text, Mapping) else (config,)
    stated = next((place[key] for place in places for key in ("dtype", "torch_dtype") if place.get(key)), None)
    return stated in {"float32", "torch.float32", "float"}


def _with_task_head(blueprint: Blueprint, config: Mapping[str, Any], *, where: str) -> Blueprint:
    """Return the blueprint with the head of the class that a config names: an embedder has none, a ranker scores.

    Source: transformers 5.23.0, modeling_layers.py (GenericForSequenceClassification, GenericForTokenClassification).
    """
    named = _class_of(config) or ""
    task, is_bare = _task(named), named.endswith("Model")
    if not is_bare and task not in _LABELLING:
        return blueprint
    kept = tuple(weight for weight in blueprint.outside if weight.role is not Role.LM_HEAD or weight.state == "mtp")
    if is_bare or blueprint.hidden_size is None:
        return replace(blueprint, outside=kept)
    labels = config.get("id2label") or ()
    stated = Fields(config, where=where).count("num_labels", default=2)
    count = len(labels) if labels and isinstance(labels, Mapping) else stated
    score = matrix("score", count, blueprint.hidden_size, Role.LM_HEAD, has_bias=task == "TokenClassification")
    return replace(blueprint, outside=(*kept, *score))


def architecture_of(config: Mapping[str, Any], *, where: str) -> str:
    """Return the known architecture that a config names: by `model_type`, else by its class.

    Forks rename the type and keep the class, whose shape is what counts. A class of its own under a
    known type (a drafting head, a reward model) is another model.
    Raises: BadInput, if it names none; UnsupportedModel, for one without a formula here.
    """
    model_type, named = config.get("model_type"), _class_of(config)
    by_class = _by_class().get(_plain(named)) if named is not None and _task(named) in {"", *_TASKS} else None
    if isinstance(model_type, str) and model_type in ARCHITECTURES:
        if named is not None and by_class is None:
            raise UnsupportedModel(
                f"no formula for the class {named[:60]!r} under the architecture {model_type!r}",
                where=where,
                allowed=f"Known: a {model_type!r} model without a head, or for {', '.join(sorted(_TASKS))}",
                next_step=_FROM_WEIGHTS,
            )
        return model_type
    if by_class is not None:
        return by_class
    if not isinstance(model_type, str) and named is None:
        raise BadInput(
            "model_type is missing, so the architecture is unknown",
            where=where,
            next_step="Give the model's original config.json, or its weights (GGUF, safetensors)",
        )
    raise unknown_architecture(model_type if isinstance(model_type, str) else str(named), where=where)


def unknown_architecture(model_type: str, *, where: str) -> UnsupportedModel:
    """Return the refusal of an architecture, with the nearest known ones and the ways out."""
    shown = model_type[:60]
    near = closest(shown, sorted(ARCHITECTURES))
    known = f"Closest known: {', '.join(map(repr, near))}" if near else f"{len(ARCHITECTURES)} others are known"
    return UnsupportedModel(
        f"no formula for the architecture {shown!r}",
        where=where,
        allowed=known,
        next_step=_FROM_WEIGHTS,
    )


def _class_of(config: Mapping[str, Any]) -> str | None:
    classes = config.get("architectures")
    return classes[0] if isinstance(classes, list) and classes and isinstance(classes[0], str) else None


def _by_class() -> dict[str, str]:
    return {**{_plain(architecture): architecture for architecture in ARCHITECTURES}, **_OTHER_CLASSES}


def _plain(name: str) -> str:
    """Return a class or type name bare of its task and of how it is written.

    >>> _plain("DeepseekV4ForCausalLM"), _plain("deepseek_v4"), _plain("Qwen3Model")
    ('deepseekv4', 'deepseekv4', 'qwen3')
    """
    return name.partition("For")[0].removesuffix("Model").lower().replace("_", "").replace("-", "")


def _task(named: str) -> str:
    """Return what a class is for: nothing where it names no task."""
    return named.partition("For")[2]
