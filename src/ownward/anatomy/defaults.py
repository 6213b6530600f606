"""The defaults that the reference configurations give to fields a config leaves out."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any


def reference_defaults(model_type: str) -> Mapping[str, Any]:
    """Return the defaults of a model type's reference configuration; nothing for one that is not recorded.

    Source: the configuration classes of transformers 5.23.0, read by benchmarks/anatomy_oracle.py.
    """
    return _all_defaults().get(model_type, {})


@functools.cache
def _all_defaults() -> dict[str, dict[str, Any]]:
    text = resources.files("ownward.anatomy").joinpath("data/defaults.json").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, Any]] = json.loads(text)
    return loaded
