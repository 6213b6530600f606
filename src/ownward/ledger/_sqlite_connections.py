"""Connections to SQLite: those that read or write now and then, and the one that commits all the time."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from ownward.core import LedgerError
from ownward.ledger._checkpoints import Checkpoints, empty_log
from ownward.ledger._connection import Row
from ownward.ledger._patience import Patience
from ownward.ledger._sqlite_locks import QUIET_S

Identity: TypeAlias = tuple[int, int]
"""A file's device and number there."""

_VALUES = re.compile(r"VALUES (\(\?(?:, \?)*\))")
_ROWS_AT_ONCE = 10
"""How many rows one statement inserts: each step gives the interpreter's lock away and has to get it back."""


@lru_cache(maxsize=64)
def _of_several(sql: str) -> str | None:
    """Return the statement that inserts several rows; None for one that inserts otherwise.

    >>> _of_several("INSERT INTO t VALUES (?)")
    'INSERT INTO t VALUES (?), (?), (?), (?), (?), (?), (?), (?), (?), (?)'
    """
    found = _VALUES.search(sql)
    if found is None:
        return None
    return sql[: found.start(1)] + ", ".join([found[1]] * _ROWS_AT_ONCE) + sql[found.end(1) :]


class SqliteConnection:
    """One `sqlite3` connection without the module's own transactions."""

    def __init__(self, raw: sqlite3.Connection, begin: Callable[[Callable[[], None]], None] | None = None) -> None:
        """Wrap an open connection whose isolation level is None; `begin` is told how to begin, and may say why not."""
        self.raw = raw
        self._begin = begin

    def execute(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Run one statement; return how many rows it changed, or -1."""
        return self.raw.execute(sql, params).rowcount

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each row, or for a few of them at a time."""
        at = 0
        if len(rows) >= _ROWS_AT_ONCE and (several := _of_several(sql)) is not None:
            while at <= len(rows) - _ROWS_AT_ONCE:
                self.raw.execute(several, [value for row in rows[at : at + _ROWS_AT_ONCE] for value in row])
                at += _ROWS_AT_ONCE
        if at < len(rows):
            self.raw.executemany(sql, rows[at:])

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        """Return all rows of a query."""
        return self.raw.execute(sql, params).fetchall()

    def require_in_place(self) -> None:
        """Do nothing: only the connection that writes all the time is asked."""

    @property
    def is_lost(self) -> bool:
        """False: a file has no other end."""
        return False

    def begin(self) -> None:
        """Take the write lock at once: a later upgrade from reading could fail without waiting."""
        if self._begin is None:
            self._begin_now()
        else:
            self._begin(self._begin_now)

    def _begin_now(self) -> None:
        self.raw.execute("BEGIN IMMEDIATE")

    def begin_at_once(self) -> bool:
        """Start nothing: only the writer's connection is ever in a hurry."""
        return False

    def commit(self) -> None:
        """End the transaction."""
        self.raw.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, where there is one."""
        with contextlib.suppress(sqlite3.Error):
            if self.raw.in_transaction:
                self.raw.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(sqlite3.Error):
            self.raw.close()


class WritingConnection(SqliteConnection):
    """The connection of the ledger's writer, whose commits leave the write-ahead log to a thread of its own."""

    def __init__(
        self,
        raw: sqlite3.Connection,
        checkpoints: Checkpoints,
        begin: Callable[[Callable[[], None]], None],
        *,
        path: Path,
        identity: Identity | None,
        busy_timeout_s: float,
        patience: Patience,
        flushes: bool,
    ) -> None:
        super().__init__(raw, begin)
        self._checkpoints = checkpoints
        self._changes = raw.total_changes
        self._busy_timeout_s = busy_timeout_s
        self._patience = patience
        self._flushes = flushes
        self._path = path
        self._identity = identity
        self._may_wait = False
        checkpoints.take_over(raw)

    def require_in_place(self) -> None:
        """Raise where another file, or none, is at the path now: what is written would be gone with this process."""
        require_in_place(self._path, self._identity)

    def begin(self) -> None:
        self._set_patience(may_wait=True)
        try:
            self._begin_now()
        except sqlite3.OperationalError:
            super().begin()
            self._may_wait = False  # what it was set to is over
            self._set_patience(may_wait=True)

    def begin_at_once(self) -> bool:
        if self._flushes or self._checkpoints.next_commit_waits:
            return False
        self._set_patience(may_wait=False)
        try:
            self._begin_now()
        except sqlite3.OperationalError:  # another process writes
            return False
        return True

    def _set_patience(self, *, may_wait: bool) -> None:
        if may_wait != self._may_wait:
            self._may_wait = may_wait
            seconds = min(QUIET_S, self._busy_timeout_s, self._patience.left_s) if may_wait else 0
            self.raw.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")

    def commit(self) -> None:
        super().commit()
        self._note_commit()

    def _note_commit(self) -> None:
        changes = self.raw.total_changes
        self._checkpoints.after_commit(self.raw, changes - self._changes, may_wait=self._may_wait)
        self._changes = changes

    def close(self) -> None:
        self._checkpoints.close()
        with contextlib.suppress(sqlite3.Error):
            self.raw.execute("PRAGMA busy_timeout = 0")
            empty_log(self.raw)
        super().close()


def identity_of(path: Path) -> Identity | None:
    """Return what tells a file from another of its name; None where there is none, or nothing tells (Windows)."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_ino else None


def require_in_place(path: Path, identity: Identity | None) -> None:
    """Raise LedgerError where what is at a path, or is not, is not the file that was opened there."""
    if identity is not None and identity_of(path) != identity:
        raise LedgerError(
            "the ledger's file was removed or replaced while it was open",
            where=str(path),
            allowed="A running gateway's ledger stays where it is",
            next_step="Stop the gateway, put the ledger back, and start it again",
        )
