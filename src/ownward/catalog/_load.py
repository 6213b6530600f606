"""The catalogue's own files and the user's, read once a process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from ownward.catalog._facts import FactFile, FactTable, toml_files
from ownward.core import ConfigError, Fault

DATA = Path(__file__).resolve().parent / "data"

# The tables that a user's file may hold; the catalogue's own files hold one kind each.
KINDS = ("machine", "model", "checkpoint", "score", "licence", "rental", "electricity", "carbon", "price")


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T")
I = TypeVar("I", bound=_Identified)  # noqa: E741 - a type variable, not a number


def read_tables(paths: Sequence[Path], kind: str, read: Callable[[FactTable, Path], T]) -> list[T]:
    """Return what `read` makes of every `[[kind]]` table under `paths`, in order, with all faults at once.

    Raises: ConfigError, with file and line of each fault; a path that cannot be read is one.
    """
    found: list[T] = []
    faults: list[Fault] = []
    for path in toml_files(paths):
        try:
            facts = FactFile(path.read_text("utf-8"), file=str(path), kinds=KINDS)
        except (OSError, UnicodeDecodeError) as error:
            faults.append(Fault(file=str(path), message=f"cannot be read: {error}"))
            continue
        except ConfigError as error:
            faults.extend(error.faults)
            continue
        found.extend(read(table, path.parent) for table in facts.tables(kind))
        faults.extend(facts.faults)
    if faults:
        raise ConfigError(faults, next_step="The format stands in docs/reference/catalog.md")
    return found


def load_identified(
    own: Sequence[Path], extra: Sequence[Path], kind: str, read: Callable[[FactTable, Path], I]
) -> dict[str, I]:
    """Return things by id, the catalogue's first, each replaced by the user's of the same id.

    Raises: ConfigError, also where two tables of the catalogue, or two of the user, share an id.
    """
    merged = _by_id(read_tables(own, kind, read), "the catalogue")
    merged.update(_by_id(read_tables(extra, kind, read), "the added files"))
    return merged


def as_key(extra: Sequence[Path]) -> tuple[Path, ...]:
    """Return paths as a key for a cache."""
    return tuple(Path(path) for path in extra)


def _by_id(things: Sequence[I], where: str) -> dict[str, I]:
    found: dict[str, I] = {}
    for thing in things:
        if thing.id in found:
            raise ConfigError([Fault(file=where, key=thing.id, message="is there twice", allowed="Each id once")])
        found[thing.id] = thing
    return found


__all__ = ["DATA", "as_key", "load_identified", "read_tables"]
