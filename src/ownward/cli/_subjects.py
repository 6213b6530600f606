"""What people name on a command line: a model by path or name, a machine by name, count, object or file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ownward.core import BadInput, UnknownModel

if TYPE_CHECKING:
    from ownward.anatomy import Anatomy
    from ownward.catalog import Machine, Model

_LARGEST_MACHINE_FILE_BYTES = 1 << 20


def find_anatomy(name: str) -> Anatomy:
    """Return the anatomy of a file (config.json, GGUF, safetensors, index), a folder with one, or a catalogue name.

    Raises: BadInput, UnknownModel, UnsupportedModel.
    """
    from ownward import anatomy

    path = Path(name)
    if path.is_dir():
        return anatomy.read(_file_in(path))
    if path.exists() or path.suffix in {".json", ".gguf", ".safetensors"}:
        return anatomy.read(path)
    release = find_model(name)
    return anatomy.from_config(release.load_config(), name=release.name, where=f"catalogue: {release.id}")


def find_model(name: str) -> Model:
    """Return the catalogue's release that `name` means.

    Raises: UnknownModel, also saying that no such file exists.
    """
    from ownward import catalog

    try:
        return catalog.model(name)
    except UnknownModel as error:
        if not error.closest:
            error.next_step = f"{name!r} is no file either. See them all with: ownward models"
        raise


def find_machines(text: str) -> tuple[int, Machine]:
    """Return count and machine of `2x"RTX 3090"`, a catalogue name, or a path to a machine file.

    Raises: UnknownMachine, BadInput.
    """
    from ownward import catalog

    path = Path(text)
    if path.suffix == ".toml" and path.is_file():
        if path.stat().st_size > _LARGEST_MACHINE_FILE_BYTES:
            raise BadInput(f"a machine file of {path.stat().st_size} bytes", where=text, allowed="at most 1 MiB")
        return 1, catalog.machine_from_toml(path.read_text(encoding="utf-8"), file=text)
    group = catalog.parse_machines(text)
    return group.count, group.machine


def machine_of_case(given: object, where: str) -> Machine:
    """Return the machine of a case: a name, or an object with the columns of a machine table.

    Raises: UnknownMachine, BadInput.
    """
    from ownward import catalog

    if isinstance(given, Mapping):
        return catalog.machine_from_mapping(given)
    if isinstance(given, str):
        return find_machines(given)[1]
    raise BadInput(f"machine is {given!r}", where=where, allowed="a name, or an object with a machine's columns")


def _file_in(folder: Path) -> Path:
    for name in ("model.safetensors.index.json", "config.json"):
        if (folder / name).is_file():
            return folder / name
    found = sorted([*folder.glob("*.gguf"), *folder.glob("*.safetensors")])
    if not found:
        raise BadInput(
            f"the folder {str(folder)!r} holds no model",
            allowed="config.json, model.safetensors.index.json, *.gguf or *.safetensors",
        )
    return found[0]


def value_of(fact: Any) -> Any:
    """Return the value of a sourced fact, None for None."""
    return None if fact is None else fact.value
