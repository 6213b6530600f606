"""What people name on a command line: a model by path or name, a machine by name, count, object or file.

Files of the user's own catalogue folder go before what is shipped, whatever the command.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ownward.cli._output import read_small_text
from ownward.core import BadInput, OwnwardError, SystemClock, UnknownModel

if TYPE_CHECKING:
    from ownward.anatomy import Anatomy
    from ownward.catalog import Checkpoint, Machine, Model
    from ownward.pricing import PriceBook

_COUNTED_FILE = re.compile(r'\s*(\d+)\s*[x×*]\s*"?(.+?\.toml)"?\s*')
_WEIGHTS_LAST = re.compile(r"[-_.: ](i?q\d\w*|\w*fp\d+|b?f16|int\d\w*|\d-?bit)$", re.IGNORECASE)
_FILES_KEY = "ownward.catalog.files"


def find_anatomy(name: str, *, may_fetch: bool = False) -> Anatomy:
    """Return the anatomy of a file (config.json, GGUF, safetensors, index), a folder with one, or a catalogue name.

    A name is a release's, or that of a quantised checkpoint whose config the catalogue has; where
    `may_fetch`, because a person typed it, also a checkpoint elsewhere, whose headers are read.
    Raises: BadInput, UnknownModel, UnsupportedModel, FetchFailed.
    """
    from ownward import anatomy
    from ownward.cli._remote import is_remote_name, read_remote

    if is_remote_name(name):
        if not may_fetch:
            raise BadInput(
                f"{name[:200]!r} is not on this machine, and this command downloads nothing",
                next_step=f"See it with: ownward models show {name[:200]}",
            )
        return read_remote(name)
    if is_path(name):
        return anatomy.read(Path(name))
    published = find_checkpoint(name)
    if published is not None and published.config_path is not None:
        return replace(anatomy.read(published.config_path), name=published.name)
    release = find_model(name)
    if release.config_path is None:
        release.load_config()  # raises, saying what to give instead
    assert release.config_path is not None
    return replace(anatomy.read(release.config_path), name=release.name)


def is_path(name: str) -> bool:
    """Return whether a model is named by a path: something is there, or the ending is that of a model's file."""
    path = Path(name)
    return path.suffix in {".json", ".gguf", ".safetensors"} or _is_there(path)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than any that the system has
        return False


def find_model(name: str) -> Model:
    """Return the catalogue's release that `name` means.

    Raises: UnknownModel, also saying that no such file exists, or of which release a checkpoint is.
    """
    from ownward import catalog

    try:
        return catalog.model(name, catalog_files())
    except UnknownModel as error:
        published = find_checkpoint(name)
        if published is not None and published.model is not None:
            error.message = f"the catalogue has no config of {published.name!r}, a {published.quantisation} checkpoint"
            error.allowed = f"Its release is {published.model!r}"
            error.next_step = (
                f"Give a path to the checkpoint, or see its release: ownward models show {published.model}"
            )
        else:
            _say_what_else(error, name)
        raise


def _say_what_else(error: UnknownModel, name: str) -> None:
    """Tell, of a name that no release has, the release whose weights it names, or the API that it is."""
    from ownward import catalog
    from ownward.perf import weight_format

    if (weights := _WEIGHTS_LAST.search(name)) is not None:
        with suppress(OwnwardError):
            release = catalog.model(name[: weights.start()], catalog_files()).id
            error.next_step = (
                f"Weights are named separately: ownward fit {release} --weights {weight_format(weights[1])}"
            )
            error.allowed, error.closest = f"Closest: {release!r}", (release,)
            return
    with suppress(OwnwardError):
        price = load_price_book().find(name, at=SystemClock().now())
        error.allowed, error.next_step = None, f"It is known only as an API: ownward prices show {price.model}"
        return
    if not error.closest:
        error.next_step = f"{name!r} is not a file either. See them all with: ownward models"


def find_release(name: str) -> Model | None:
    """Return the release that a name means, or that a checkpoint of this name is of; None for neither."""
    try:
        return find_model(name)
    except UnknownModel:
        published = find_checkpoint(name)
        return None if published is None or published.model is None else find_model(published.model)


def find_checkpoint(name: str) -> Checkpoint | None:
    """Return the published checkpoint of exactly this hub name, with or without its organisation; None for none."""
    from ownward import catalog

    wanted = name.casefold()
    named = [
        item
        for item in catalog.checkpoints(extra=catalog_files())
        if wanted in (item.name.casefold(), item.name.rpartition("/")[2].casefold())
    ]
    return next((item for item in named if item.config_path is not None), named[0] if named else None)


def find_machines(text: str) -> tuple[int, Machine]:
    """Return count and machine of `2x"RTX 3090"`, a catalogue name, or a path to a machine file, counted or not.

    Raises: UnknownMachine, BadInput.
    """
    from ownward import catalog

    path, count = Path(text), 1
    counted = _COUNTED_FILE.fullmatch(text)
    if counted is not None and int(counted[1]) > 0 and not _is_there(path):
        path, count = Path(counted[2]), int(counted[1])
    if path.suffix == ".toml" and _is_there(path) and path.is_file():
        return count, catalog.machine_from_toml(read_small_text(path, what="A machine file"), file=str(path))
    if path.suffix == ".toml":
        raise BadInput(
            "there is no such machine file",
            where=text,
            next_step="Write one, as docs/how-to/add-your-own-machine-model-price.md says, or name a machine",
        )
    group = catalog.parse_machines(text, catalog_files())
    return group.count, group.machine


def load_price_book() -> PriceBook:
    """Return every price known, those of the user's own files first.

    Raises: ConfigError, with file and line of every fault in the user's files.
    """
    from ownward.pricing import PriceBook, load_prices

    return PriceBook.load(load_prices(catalog_files()))


def catalog_folder() -> Path:
    """Return the folder of the user's own catalogue files; it need not be there."""
    from ownward.cli._context import load_settings

    folder = load_settings().catalog.folder
    assert folder is not None  # filled in by config.load
    return folder


def catalog_files() -> tuple[Path, ...]:
    """Return the user's own catalogue files, sorted; none where no folder is stated and the platform's is not there.

    They are found once for each command.
    Raises: BadInput, for a folder that is stated and not there.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return _files()
    if _FILES_KEY not in context.meta:
        context.meta[_FILES_KEY] = _files()
    found: tuple[Path, ...] = context.meta[_FILES_KEY]
    return found


def _files() -> tuple[Path, ...]:
    from ownward.cli._context import load_settings

    settings = load_settings()
    folder = settings.catalog.folder
    assert folder is not None  # filled in by config.load
    if folder.is_dir():
        return tuple(sorted(folder.glob("*.toml")))
    origin = settings.origins.get("catalog.folder", "default")
    if origin != "default":
        raise BadInput(
            f"the catalogue folder {str(folder)!r} does not exist",
            where=f"catalog.folder ({origin})",
            next_step="Create it, or let this create it: ownward machines add",
        )
    return ()
