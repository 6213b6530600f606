"""Weights by name, fetched into the store with progress on standard error."""

from __future__ import annotations

from pathlib import Path

from ownward.cli._context import load_settings
from ownward.cli._output import progress
from ownward.core import UnknownName


def fetch_weights(name: str) -> Path:
    """Return the path of the named weights, fetched and verified if they are not there yet.

    Raises: UnknownName, FetchFailed.
    """
    from ownward.engines import EMBEDDED_MODEL, fetch, find

    if name != EMBEDDED_MODEL.id:
        raise UnknownName(name, [EMBEDDED_MODEL.id], what="weights in the store")
    cache_dir = load_settings().engine.cache_dir
    assert cache_dir is not None  # filled in by config.load
    found = find(EMBEDDED_MODEL, cache_dir=cache_dir)
    if found is not None:
        return found
    with progress(f"fetching {EMBEDDED_MODEL.id} ({EMBEDDED_MODEL.licence})", total=EMBEDDED_MODEL.bytes) as advance:
        return fetch(EMBEDDED_MODEL, cache_dir=cache_dir, progress=lambda done, _total: advance(done))
