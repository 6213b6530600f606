"""Open a file that says what a model is, and hand it to the reader of its format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ownward.anatomy.anatomy import Anatomy
from ownward.anatomy.config import from_config
from ownward.core import BadInput

_LARGEST_CONFIG_BYTES = 8 * 1024**2


def read(path: str | Path) -> Anatomy:
    """Return the anatomy of a config.json, with the hf_quant_config.json beside it where there is one.

    Raises: BadInput, if the file cannot be read; UnsupportedModel, if its architecture has no formula here.
    """
    path = Path(path)
    config = load_json(path)
    companion = _companion(path)
    name = path.parent.name if path.stem == "config" else path.stem
    return from_config(config, name=name, where=str(path), quantization=companion)


def load_json(path: Path, *, largest_bytes: int = _LARGEST_CONFIG_BYTES) -> Mapping[str, Any]:
    """Return the JSON object in a file.

    Raises: BadInput, if it cannot be opened, is larger than `largest_bytes` or is no object.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(largest_bytes + 1)
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=str(path)) from error
    if len(text) > largest_bytes:
        raise BadInput(f"is larger than {largest_bytes} bytes, which no config is", where=str(path))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput("is no JSON", where=str(path)) from error
    if not isinstance(value, dict):
        raise BadInput("is no JSON object", where=str(path))
    return value


def _companion(path: Path) -> Mapping[str, Any] | None:
    """Return the quantisation that NVIDIA's checkpoints keep in a file of its own."""
    for name in (f"{path.stem}.hf_quant_config.json", "hf_quant_config.json"):
        beside = path.with_name(name)
        if beside != path and beside.is_file():
            return load_json(beside)
    return None
