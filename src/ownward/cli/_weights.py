"""Weights by name, fetched into the store with progress on standard error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ownward.cli._context import load_settings
from ownward.cli._output import progress, say
from ownward.core import FetchFailed, UnknownName, format_bytes

_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(/[\w.-]+)*")


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
        raise _no_place(name, [EMBEDDED_MODEL.id, "hf:org/name", "hf:org/name/file.gguf"])
    cache_dir = load_settings().engine.cache_dir
    assert cache_dir is not None  # filled in by config.load
    found = find(EMBEDDED_MODEL, cache_dir=cache_dir)
    if found is not None:
        return found
    with progress(f"fetching {EMBEDDED_MODEL.id} ({EMBEDDED_MODEL.licence})", total=EMBEDDED_MODEL.bytes) as advance:
        return fetch(EMBEDDED_MODEL, cache_dir=cache_dir, progress=lambda done, _total: advance(done))


def _no_place(name: str, known: list[str]) -> UnknownName:
    """Return the error of a name that is not that of a place, with the places that it may stand for."""
    from ownward.cli._lookup import find_checkpoint, find_release

    error = UnknownName(name, known, what="weights in the store")
    published, release = find_checkpoint(name), find_release(name)
    hub = release.hub_id.value if release is not None and release.hub_id is not None else None
    hub = hub if published is None else published.name
    if hub is not None:
        error.message = f"{name!r} is a model of the catalogue, which has no GGUF file of it to fetch"
        error.allowed = None
        error.next_step = (
            f"Its safetensors, for engines other than llama.cpp: ownward models pull hf:{hub}. For llama.cpp, find a"
            " GGUF file of it on the hub, and pull hf:org/name/file.gguf"
        )
    elif _HUB_NAME.fullmatch(name):
        error.next_step = f"If it is one on the hub: ownward models pull hf:{name}"
    elif Path(name).exists():
        error.next_step = "It is on this machine, and nothing has to be fetched: ownward serve --model FILE"
    return error


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
