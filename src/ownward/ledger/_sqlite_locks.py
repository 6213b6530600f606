"""Who holds the lock on a ledger's file that others wait for, told where the wait begins to be long."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from ownward.ledger._patience import Patience

_log = logging.getLogger("ownward.ledger")
_T = TypeVar("_T")

QUIET_S: Final = 1.0
"""Commits of others take milliseconds: whoever waits for longer says so."""
_BETWEEN_S: Final = 0.01
_LOCKS: Final = Path("/proc/locks")
_WRITE_LOCK: Final = 120
"""Where SQLite's lock for writing stands in a `-shm` file (https://sqlite.org/walformat.html, section 2.3)."""


def run_patiently(
    raw: sqlite3.Connection, run: Callable[[], _T], *, path: Path, name: str, busy_timeout_s: float, patience: Patience
) -> _T:
    """Return what `run` does, once no other process holds a lock against it; say for whom it waits.

    Raises: sqlite3.OperationalError, where the lock was held for all of `busy_timeout_s`, or until `patience` was over.
    """
    quiet_s = min(QUIET_S, busy_timeout_s, patience.left_s)
    _wait_at_most(raw, quiet_s)
    ends_at_s, has_said = time.monotonic() + busy_timeout_s, False
    try:
        while True:  # a wait of SQLite's own could not be cut short
            try:
                return run()
            except sqlite3.OperationalError as error:
                left_s = ends_at_s - time.monotonic() if busy_timeout_s > QUIET_S else 0.0
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or left_s <= 0 or patience.is_over:
                    raise
            if not has_said:
                held_by = find_holder(path)
                _log.warning("the ledger %s is locked by %s; waiting for it, up to %.0f s", name, held_by, left_s)
                has_said = True
            time.sleep(_BETWEEN_S)
    finally:
        _wait_at_most(raw, busy_timeout_s)


def find_holder(path: Path) -> str:
    """Return which other process holds a lock for writing on a ledger's file, as far as this machine tells."""
    for file, at in ((path.with_name(path.name + "-shm"), _WRITE_LOCK), (path, None)):
        for pid in _pids_that_lock(file, at):
            if pid != os.getpid():
                return f"process {pid} ({_program_of(pid)})" if pid > 0 else "a process of another container"
    return "another process"


def _pids_that_lock(file: Path, at: int | None) -> list[int]:
    """Return who holds a lock for writing on a file (at one place of it), where the system lists locks: Linux."""
    try:
        inode = file.stat().st_ino
        lines = _LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        words = line.split()
        if len(words) != 8 or words[3] != "WRITE":  # noqa: PLR2004 - one that waits itself has an arrow more
            continue
        *_, pid, place, first, last = words
        if place.rpartition(":")[2] != str(inode):
            continue
        if at is None or (int(first) <= at and (last == "EOF" or at <= int(last))):
            found.append(int(pid))
    return found


def _program_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"


def _wait_at_most(raw: sqlite3.Connection, seconds: float) -> None:
    raw.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
