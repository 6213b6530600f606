"""Weights by name, fetched into the store with progress on standard error."""

from __future__ import annotations

from pathlib import Path

from ownward.cli._context import load_settings
from ownward.cli._output import progress, say
from ownward.core import FetchFailed, UnknownName, format_bytes


def is_hub_name(name: str) -> bool:
    """Return whether weights are named by where they lie on a hub."""
    return name.startswith("hf:")


def fetch_weights(name: str) -> Path:
    """Return the path of the named weights, fetched and verified if they are not there yet.

    A file, or for a checkpoint of safetensors its folder.
    Raises: UnknownName, BadInput, FetchFailed; ConfigError, if a token is stated and not there.
    """
    from ownward.engines import EMBEDDED_MODEL, fetch, find

    if is_hub_name(name):
        return _fetch_from_hub(name)
    if name != EMBEDDED_MODEL.id:
        raise UnknownName(name, [EMBEDDED_MODEL.id, "hf:org/name/file.gguf"], what="weights in the store")
    cache_dir = load_settings().engine.cache_dir
    assert cache_dir is not None  # filled in by config.load
    found = find(EMBEDDED_MODEL, cache_dir=cache_dir)
    if found is not None:
        return found
    with progress(f"fetching {EMBEDDED_MODEL.id} ({EMBEDDED_MODEL.licence})", total=EMBEDDED_MODEL.bytes) as advance:
        return fetch(EMBEDDED_MODEL, cache_dir=cache_dir, progress=lambda done, _total: advance(done))


def _fetch_from_hub(name: str) -> Path:
    """Return weights of a hub: a commit that is here asks nobody, and so does a branch while the hub is away."""
    from ownward import config
    from ownward.engines import fetch_from_hub, find_from_hub, parse_hub, read_hub

    settings = load_settings()
    cache_dir, hub = settings.engine.cache_dir, settings.hub
    assert cache_dir is not None  # filled in by config.load
    address = parse_hub(name)
    here = find_from_hub(address.repo, revision=address.revision, file=address.file, cache_dir=cache_dir)
    if here is not None and address.is_pinned:
        return here
    token = None if hub.token_env is None else config.resolve_secret(hub.token_env)
    try:
        model = read_hub(address.repo, revision=address.revision, hub_url=hub.url, token=token)
    except FetchFailed as error:
        if here is None:
            raise
        say(f"{error.message}. Using what was fetched before: {here}")
        return here
    files = model.choose(address.file)
    size = sum(item.bytes for item in files)
    licence = model.licence or "no licence stated"
    label = f"fetching hf:{address.repo} at {model.commit[:12]}, {format_bytes(size)} ({licence})"
    with progress(label, total=size) as advance:
        folder = fetch_from_hub(
            model,
            files,
            hub_url=hub.url,
            cache_dir=cache_dir,
            token=token,
            progress=lambda done, _total: advance(done),
        )
    return folder if address.file is None else folder / files[0].name
