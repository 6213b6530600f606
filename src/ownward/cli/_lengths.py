"""The lengths of ServeGen's clients, in a file beside that of their arrivals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ownward.cli._output import open_input
from ownward.core import BadInput

_MOST_BYTES = 512 << 20


def read_lengths(trace_file: str, stated: str | None) -> Mapping[str, Any] | None:
    """Return the lengths in the file stated, or in `NAME_lengths.json.gz` beside `NAME_arrivals.…`.

    None where none is stated and none lies there. Raises: BadInput.
    """
    path = stated
    if path is None:
        stem, mark, _ = Path(trace_file).name.rpartition("_arrivals.")
        near = [Path(trace_file).with_name(f"{stem}_lengths.json{ending}") for ending in ("", ".gz")] if mark else []
        path = next((str(item) for item in near if item.is_file()), None)
    if path is None:
        return None
    with open_input(path) as stream:
        text = stream.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise BadInput("is too large for lengths", where=path, allowed=f"Up to {_MOST_BYTES >> 20} MiB")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not JSON: {error}", where=path) from error
    if not isinstance(told, dict):
        raise BadInput(f"a {type(told).__name__}, not an object of clients", where=path)
    return told
