"""An architecture without a formula here, counted by transformers' own model on the meta device: no weights, no memory.

`main` reads a config from standard input and writes its parameters: run it as a child, so that a config that
never ends can be ended. No code of the config's author is run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from ownward.anatomy.anatomy import Anatomy, compute_anatomy
from ownward.anatomy.roles import Role
from ownward.anatomy.tensors import StoredTensor
from ownward.anatomy.tensors.counting import draw_tensors
from ownward.core import BadInput, UnsupportedModel

_MOST_TENSORS = 400_000
_MOST_NAMED = 20
_NOT_INSTALLED = "not installed"


def from_parameters(counted: Mapping[str, Any], *, name: str, where: str) -> Anatomy:
    """Return the anatomy of what the child wrote: exact in number, by role as far as names tell.

    Cache, FLOP and routing are not told by parameters; kinds of parameters whose role
    no name tells are listed under `unsupported`.
    Raises: UnsupportedModel, if transformers could not build the model.
    """
    if (refused := counted.get("refused")) is not None:
        raise UnsupportedModel(
            f"transformers {counted.get('version')} cannot build this model either: {str(refused)[:300]}",
            where=where,
            next_step="Give its weights: a GGUF file, a safetensors file or its index.json",
        )
    try:
        tensors = [
            StoredTensor(str(tensor), tuple(int(side) for side in shape), "bf16", 0, 0)
            for tensor, shape in counted["parameters"][:_MOST_TENSORS]
        ]
        version, architecture = str(counted["version"]), str(counted["architecture"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput("its count cannot be read", where=where) from error
    blueprint = draw_tensors(tensors)
    unknown = sorted({w.name for w, _ in blueprint.counted_weights() if w.role is Role.OTHER and w.state == "live"})
    lost = ("cache", "active") if blueprint.experts else ("cache",)
    return compute_anatomy(
        blueprint,
        name=name,
        architecture=architecture,
        unsupported=(*lost, *(f"role of {item[:80]}" for item in unknown[:_MOST_NAMED])),
        counted_by=f"transformers {version}",
    )


def count_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of transformers' own model of a config, tied ones once, and its version."""
    try:
        import torch
        import transformers
        from transformers.models.auto import modeling_auto
    except ImportError:
        return {"refused": _NOT_INSTALLED, "version": None}
    version = transformers.__version__
    try:
        kind = config["model_type"]
        settings = transformers.CONFIG_MAPPING[kind].from_dict(dict(config))
        for mapping in (modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING):
            if type(settings) in mapping:
                with torch.device("meta"):
                    model = mapping[type(settings)]._from_config(settings)  # noqa: SLF001 - the way without weights
                model.tie_weights()
                found = [(name, list(parameter.shape)) for name, parameter in model.named_parameters()]
                return {"version": version, "architecture": kind, "parameters": found}
    except Exception as error:  # noqa: BLE001 - whatever a foreign config makes it raise is its refusal
        return {"refused": f"{type(error).__name__}: {str(error)[:200]}", "version": version}
    return {"refused": f"it has no model for text of the type {str(kind)[:60]!r}", "version": version}


def main() -> None:
    """Answer the config on standard input with its parameters on standard output."""
    answer, sys.stdout = sys.stdout, sys.stderr  # whatever the packages print is no part of the answer
    json.dump(count_parameters(json.load(sys.stdin)), answer)
