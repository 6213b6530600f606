"""Where headers are read from: a few bytes here and there of a file, wherever the file lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ownward.core import BadInput


class Source(Protocol):
    """One file of a model: its bytes by offset, and the files beside it.

    `name` is the file's name without its folder, `where` names it in messages.
    """

    @property
    def name(self) -> str:
        """The file's name."""
        ...

    @property
    def where(self) -> str:
        """The file's path or address, as messages show it."""
        ...

    @property
    def size(self) -> int:
        """The bytes of the whole file."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, fewer only where the file ends.

        Raises: BadInput, or an error of the source's own.
        """
        ...

    def beside(self, names: Mapping[str, int]) -> list[Source | None]:
        """Return the files of these names in the same folder, None for those that are not there.

        Each name comes with how many of its first bytes will be read, about.
        """
        ...


class FileSource:
    """A file of this machine."""

    __slots__ = ("path", "size")

    def __init__(self, path: Path) -> None:
        """Look at its size; raises BadInput, if it is not there."""
        self.path = path
        try:
            self.size = path.stat().st_size
        except (OSError, ValueError) as error:
            raise unreadable(error, str(path)) from error

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def where(self) -> str:
        """The path."""
        return str(self.path)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, fewer only where the file ends; raises BadInput."""
        try:
            with self.path.open("rb") as stream:
                stream.seek(offset)
                return stream.read(length)
        except (OSError, ValueError) as error:
            raise unreadable(error, self.where) from error

    def beside(self, names: Mapping[str, int]) -> list[Source | None]:
        """Return the files of these names in the same folder."""
        paths = [self.path.with_name(name) for name in names]
        return [FileSource(path) if path.is_file() else None for path in paths]


def unreadable(error: Exception, where: str) -> BadInput:
    """Return the error of a file that the operating system does not give."""
    return BadInput(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=where)
