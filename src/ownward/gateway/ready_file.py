"""The file that says where a gateway accepts requests: there from the first one that it takes until it ends."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from ownward.core import ConfigError, Fault

_LOG = logging.getLogger("ownward.gateway")


class ReadyFile:
    """One gateway's; without a path nothing is written."""

    __slots__ = ("_path",)

    def __init__(self, path: Path | None) -> None:
        """Keep where it stands."""
        self._path = path

    def clear(self) -> None:
        """Remove what a killed gateway left, so that the file says nothing before this one is ready.

        Raises: ConfigError, if its folder is not there, or it is not a file that can be removed.
        """
        path = self._path
        if path is None:
            return
        if not path.parent.is_dir():
            raise _unusable(path, "whose folder is not there")
        try:
            _unlink(path)
        except OSError as error:
            raise _unusable(path, f"which cannot be removed: {error.strerror}") from None

    def write(self, *, base_url: str, tiers: Sequence[str]) -> None:
        """Write `ownward.ready/1` so that a reader sees all of it or nothing.

        Raises: ConfigError, if it cannot be written there.
        """
        path = self._path
        if path is None:
            return
        record = {"schema": "ownward.ready/1", "base_url": base_url, "pid": os.getpid(), "tiers": list(tiers)}
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_text(json.dumps(record) + "\n", encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise _unusable(path, f"which cannot be written: {error.strerror}") from None

    def remove(self) -> None:
        """Take back that requests are accepted; what cannot be removed is said in the log, and stops nothing else."""
        if self._path is None:
            return
        try:
            _unlink(self._path)
        except OSError as error:
            _LOG.error("the ready file %s is still there: %s", self._path, error.strerror)


def _unlink(path: Path) -> None:
    """Remove a file, where it is there; /dev/null, a pipe and a link stay, with an error."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise FileExistsError(errno.EEXIST, "it is not a regular file")
    path.unlink(missing_ok=True)


def _unusable(path: Path, why: str) -> ConfigError:
    return ConfigError(
        [
            Fault(
                file="gateway settings",
                key="ready_file",
                message=f"is {str(path)!r}, {why}",
                allowed="A file in a folder that exists and that this user may write to",
            )
        ]
    )
