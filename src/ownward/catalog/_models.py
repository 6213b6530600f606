"""The releases of the catalogue and of the user, found by the names people type."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ownward.catalog._load import DATA, as_key, load_identified, read_tables
from ownward.catalog._model import Checkpoint, Model, Score, read_checkpoint, read_model, read_score
from ownward.catalog._names import NameIndex, fold, listed
from ownward.core import UnknownModel

# Endings that name a tuning of the same architecture, or a file format.
_TUNINGS = frozenset({"instruct", "it", "chat", "hf", "gguf", "base", "meta", "nvidia", "mtp", "qat"})
_QUANTISED_FILE = re.compile(r"[-_.](?:i?q\d\w*|bf16|fp16|f16|f32|mxfp4)?\.gguf$", re.IGNORECASE)


def models(extra: Sequence[Path] = ()) -> tuple[Model, ...]:
    """Return every release, sorted by id; `extra` are the user's files or folders, which replace by id.

    Raises: ConfigError, with file and line of every fault in the user's files.
    """
    return tuple(_by_id(as_key(extra)).values())


def model(name: str, extra: Sequence[Path] = ()) -> Model:
    """Return the release that `name` (an id, a name, a hub id, an alias, or enough words of one) means.

    A tuning's ending (`-Instruct`, `-it`), a file's (`-Q4_K_M.gguf`) and the hub's organisation may be there or not.
    Raises: UnknownModel, with the closest names, or with the choices where several fit.
    """
    known = _by_id(as_key(extra))
    index = _index(as_key(extra))
    bare = _QUANTISED_FILE.sub("", name.rpartition("/")[2])
    found = index.find(name) or index.find(bare)
    if len(found) == 1:
        return known[found[0]]
    if found:
        found = _likeliest(found, bare, known)
        error = UnknownModel(name, found)
        error.message = f"{name!r} can mean {len(found)} models"
        error.allowed = f"One of {listed(found)}"
        error.closest = found
        raise error
    raise UnknownModel(name, list(known))


def _likeliest(found: Sequence[str], name: str, known: Mapping[str, Model]) -> tuple[str, ...]:
    """Return ids with those that begin with `name` first, and of these the newest."""

    def stated(key: str) -> str:
        released = known[key].released
        return "" if released is None else str(released.value)

    newest = sorted(found, key=stated, reverse=True)
    return tuple(sorted(newest, key=lambda key: not fold(key).startswith(fold(name))))


def search_models(text: str = "", extra: Sequence[Path] = ()) -> tuple[Model, ...]:
    """Return the releases of which a name, the family or the maker contains every word of `text`."""
    known = _by_id(as_key(extra))
    return tuple(known[key] for key in _index(as_key(extra), is_wide=True).search(text))


def checkpoints(model_id: str | None = None, extra: Sequence[Path] = ()) -> tuple[Checkpoint, ...]:
    """Return the known checkpoint files of one release, or of all, as the files list them."""
    found = _checkpoints(as_key(extra))
    return found if model_id is None else tuple(item for item in found if item.model == model_id)


def checkpoint(name: str, extra: Sequence[Path] = ()) -> Checkpoint:
    """Return the checkpoint of this hub name, with or without its organisation.

    Raises: UnknownModel, with the closest names, or with the choices where several fit.
    """
    found = _checkpoints(as_key(extra))
    index = NameIndex({item.name: (item.name.rpartition("/")[2],) for item in found})
    meant = index.find(name)
    if len(meant) == 1:
        return next(item for item in found if item.name == meant[0])
    error = UnknownModel(name, meant or [item.name for item in found])
    error.message = f"{name!r} can mean {len(meant)} checkpoints" if meant else f"no checkpoint {name!r}"
    raise error


def load_config(name: str, extra: Sequence[Path] = ()) -> dict[str, Any]:
    """Return the config.json of a release or, where the name is one, of a quantised checkpoint, as parsed JSON.

    Raises: UnknownModel, with the closest names; BadInput, if the catalogue has no config of it.
    """
    exact = [item for item in _checkpoints(as_key(extra)) if item.config_path and _is_called(item, name)]
    return exact[0].load_config() if exact else model(name, extra).load_config()


def _is_called(item: Checkpoint, name: str) -> bool:
    return fold(name) in (fold(item.name), fold(item.name.rpartition("/")[2]))


def scores(model_id: str | None = None, extra: Sequence[Path] = ()) -> tuple[Score, ...]:
    """Return the published scores of one release, or of all, also of releases without a config here.

    Scores of different makers are measured differently and do not compare: show `SCORES_WARNING` with them.
    """
    found = _scores(as_key(extra))
    return found if model_id is None else tuple(item for item in found if item.model == model_id)


SCORES_WARNING = (
    "Scores are what each source published under its own conditions (prompts, sampling, harness, thinking budget); "
    "those of different makers cannot be compared. Measure on your own tasks with ownward trial."
)


@lru_cache(maxsize=8)
def _by_id(extra: tuple[Path, ...]) -> dict[str, Model]:
    found = load_identified([DATA / "models"], extra, "model", lambda table, folder: read_model(table, _root(folder)))
    return {key: found[key] for key in sorted(found)}


@lru_cache(maxsize=16)
def _index(extra: tuple[Path, ...], *, is_wide: bool = False) -> NameIndex:
    names: dict[str, tuple[str, ...]] = {}
    for key, item in _by_id(extra).items():
        spelled = [item.name, *item.aliases]
        if item.hub_id is not None:
            spelled += [item.hub_id.value, item.hub_id.value.rpartition("/")[2]]
        names[key] = (*spelled, " ".join((*spelled, item.family, item.maker))) if is_wide else tuple(spelled)
    return NameIndex(names, filler=_TUNINGS)


@lru_cache(maxsize=8)
def _checkpoints(extra: tuple[Path, ...]) -> tuple[Checkpoint, ...]:
    paths = [DATA / "checkpoints.toml", *extra]
    return tuple(read_tables(paths, "checkpoint", read_checkpoint))


@lru_cache(maxsize=8)
def _scores(extra: tuple[Path, ...]) -> tuple[Score, ...]:
    return tuple(read_tables([DATA / "scores.toml", *extra], "score", lambda table, _folder: read_score(table)))


def _root(folder: Path) -> Path:
    """Return what a config path is relative to: the data folder for our own files, the file's folder for the user's."""
    return DATA if folder == DATA / "models" else folder
