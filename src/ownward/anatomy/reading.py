"""Open a file that says what a model is, and hand it to the reader of its format."""

from __future__ import annotations

import json
from pathlib import Path

from ownward.anatomy.anatomy import Anatomy
from ownward.anatomy.config import from_config
from ownward.core import BadInput

_LARGEST_CONFIG_BYTES = 8 * 1024**2


def read(path: str | Path) -> Anatomy:
    """Return the anatomy of a config.json.

    Raises: BadInput, if the file cannot be read; UnsupportedModel, if its architecture has no formula here.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(_LARGEST_CONFIG_BYTES + 1)
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    try:
        config = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise BadInput("is no JSON object", where=str(path)) from error
    return from_config(config, name=path.stem if path.stem != "config" else path.parent.name, where=str(path))
