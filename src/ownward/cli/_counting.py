"""A config that has no formula here, counted by transformers in a child that can be ended."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ownward.core import BadInput, MissingExtra, UnsupportedModel

if TYPE_CHECKING:
    from ownward.anatomy import Anatomy

_LIMIT_S = 180
_LARGEST_CONFIG_BYTES = 4 * 1024**2
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}


def count_with_transformers(path: str) -> Anatomy:
    """Return the anatomy of a config.json, or the folder that holds one, as transformers' own model has it.

    The child is offline and runs no code but the installed packages'.
    Raises: MissingExtra, BadInput; UnsupportedModel, if transformers cannot build it or takes over three minutes.
    """
    from ownward.anatomy import from_parameters

    config = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    try:
        with config.open("rb") as file:
            text = file.read(_LARGEST_CONFIG_BYTES + 1)
        is_object = len(text) <= _LARGEST_CONFIG_BYTES and isinstance(json.loads(text), dict)
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput("is not a readable config.json", where=str(config)) from error
    if not is_object:
        raise BadInput("is not a JSON object of at most 4 MiB", where=str(config))
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(needed_for="--with-transformers", package=package, extra="transformers")
    try:
        child = subprocess.run(
            [sys.executable, "-c", "from ownward.anatomy.counted_by_transformers import main; main()"],
            input=text,
            capture_output=True,
            timeout=_LIMIT_S,
            env={**os.environ, **_OFFLINE},
            check=False,
        )
        counted = json.loads(child.stdout)
    except subprocess.TimeoutExpired:
        raise UnsupportedModel(f"transformers took more than {_LIMIT_S} s to build it", where=str(config)) from None
    except ValueError as error:
        raise UnsupportedModel("transformers ended without an answer", where=str(config)) from error
    name = config.resolve().parent.name if config.stem == "config" else config.stem
    return from_parameters(counted, name=name, where=str(config))
