"""Read a Hugging Face config.json: find the architecture, its defaults and its quantisation, and draw it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ownward.anatomy.anatomy import Anatomy, describe
from ownward.anatomy.architectures import ARCHITECTURES
from ownward.anatomy.defaults import reference_defaults
from ownward.anatomy.fields import Fields
from ownward.core import BadInput, UnsupportedModel, closest


def from_config(config: Mapping[str, Any], *, name: str = "model", where: str | None = None) -> Anatomy:
    """Return the anatomy that a config implies, exact to the parameter.

    Raises: BadInput, if a field is missing or has a value that no model has;
    UnsupportedModel, for an architecture, attention or quantisation without a formula here.
    """
    where = where or f"{name}: config.json"
    if not isinstance(config, Mapping):
        raise BadInput("the config is not a JSON object", where=where)
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise BadInput(
            "model_type is missing, so the architecture is unknown",
            where=where,
            next_step="Give the model's original config.json, or its weights (GGUF, safetensors)",
        )
    draw = ARCHITECTURES.get(model_type)
    if draw is None:
        raise unknown_architecture(model_type, where=where)
    blueprint = draw(Fields(config, where=where, defaults=reference_defaults(model_type)))
    return describe(blueprint, name=name, architecture=model_type)


def unknown_architecture(model_type: str, *, where: str) -> UnsupportedModel:
    """Return the refusal of an architecture, with the nearest known ones and the ways out."""
    shown = model_type[:60]
    near = closest(shown, sorted(ARCHITECTURES))
    known = f"Closest known: {', '.join(map(repr, near))}" if near else f"{len(ARCHITECTURES)} others are known"
    return UnsupportedModel(
        f"no formula for the architecture {shown!r}",
        where=where,
        allowed=known,
        next_step="Its weights tell the same without a formula: give a GGUF file, a safetensors file or its index.json",
    )
