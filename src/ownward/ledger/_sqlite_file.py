"""The file of a ledger in SQLite: what it is, looked at before it is touched, and its way to the newest schema."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from ownward.core import LedgerError
from ownward.ledger._schema import MIGRATIONS, MIGRATIONS_TABLE, SQLITE_TYPES
from ownward.ledger._sqlite_connections import SqliteConnection
from ownward.ledger._store import check_applied, missing_migrations

_APPLICATION_ID = 0x6F776E64  # "ownd", in the file's header
_PAGE_BYTES = 2048  # a commit writes whole pages: SQLite's usual 4096 are twice the bytes for a tenth fewer pages
_HEADER = b"SQLite format 3\x00"
_WAL_RETRY_S = 0.01


def is_yet_to_be_made(path: Path, *, is_read_only: bool, name: str) -> bool:
    """Return whether nothing is in the file yet; `name` is what it is called in errors.

    Raises: LedgerError, if it cannot become or be a ledger.
    """
    try:
        is_folder, is_no_file = path.is_dir(), path.exists() and not path.is_file()
    except PermissionError as error:
        raise _unopened(error, name) from error
    if is_folder:
        raise LedgerError(
            "the ledger is a folder",
            where=name,
            allowed="A ledger is one file, or a postgresql:// address",
            next_step=f"Name a file in it, such as {path / 'ledger.db'}",
        )
    if is_no_file:
        raise LedgerError(
            "the ledger is a device, pipe or socket",
            where=name,
            allowed="A ledger is one file, or a postgresql:// address",
        )
    try:
        with path.open("rb") as file:
            head = file.read(len(_HEADER))
    except FileNotFoundError as error:
        if is_read_only:
            raise LedgerError(
                "there is no such ledger",
                where=name,
                allowed="Reading never creates one",
                next_step="Check the path; ownward serve and ownward import create a ledger",
            ) from error
        if not path.parent.is_dir():
            raise LedgerError(
                "the folder of the ledger does not exist",
                where=name,
                next_step=f"Make it with: mkdir -p {path.parent}",
            ) from error
        _require_writable(path.parent, name)
        return True
    except OSError as error:
        raise _unopened(error, name) from error
    if head and head != _HEADER:
        raise LedgerError(
            f"the file is not a SQLite database: it starts with {head!r}",
            where=name,
            allowed="A ledger is a SQLite file that ownward made, or a path where none is yet",
            next_step="Name another file; this one was not changed",
        )
    if not is_read_only:
        _require_writable(path, name)
        _require_writable(path.parent, name)
    return not head


def make_private(path: Path) -> None:
    """Make a file that its user alone can read, as it will say who asked what; one that is there stays as it is.

    What SQLite and the journal put beside it has the permissions that it has then.
    """
    with contextlib.suppress(OSError):  # SQLite says then what is in its way
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _unopened(error: OSError, name: str) -> LedgerError:
    return LedgerError(
        f"the ledger cannot be opened: {error.strerror}", where=name, next_step="Check the path and its permissions"
    )


def _require_writable(place: Path, name: str) -> None:
    if not os.access(place, os.W_OK):
        raise LedgerError(
            f"{place} is not writable",
            where=name,
            allowed="A ledger needs its file and its folder writable, for the write-ahead log beside it",
            next_step="Change the permissions, or name another place; nothing was changed",
        )


def has_tables(connection: SqliteConnection) -> bool:
    """Return whether anything was made in the file."""
    return bool(_tables(connection))


def has_log(connection: SqliteConnection) -> bool:
    """Return whether it is written through a log, beside which others read: a copy by VACUUM INTO comes without."""
    return connection.rows("PRAGMA journal_mode") == [("wal",)]


def missing_in(connection: SqliteConnection, *, name: str) -> list[str]:
    """Return the names of the migrations that a ledger lacks.

    Raises: LedgerError, if the file is another program's; SchemaTooNew.
    """
    if "migrations" not in _tables(connection) or connection.rows("PRAGMA application_id") != [(_APPLICATION_ID,)]:
        raise LedgerError(
            "the file is a SQLite database of another program",
            where=name,
            allowed="A ledger is a file that ownward made, or a path where none is yet",
            next_step="Name another file; this one was not changed",
        )
    applied = [migration for (migration,) in connection.rows("SELECT name FROM migrations ORDER BY name")]
    check_applied(applied, where=name)
    return missing_migrations(applied)


def migrate(connection: SqliteConnection, *, applied_at_us: int, busy_timeout_s: float, name: str) -> None:
    """Bring an empty file or a ledger to its log and the newest schema, the latter in one transaction.

    Raises: LedgerError, as `missing_in` does, or if the file system does not carry what a ledger needs.
    """
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # of a new file; another keeps its own
    _switch_to_wal(connection, busy_timeout_s=busy_timeout_s, name=name)
    connection.begin()
    if not has_tables(connection):
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(MIGRATIONS_TABLE.format_map(SQLITE_TYPES))
    missing = set(missing_in(connection, name=name))
    for migration in MIGRATIONS:
        if migration.name in missing:
            for statement in migration.statements_for(SQLITE_TYPES):
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (migration.name, applied_at_us))
    connection.commit()


def _switch_to_wal(connection: SqliteConnection, *, busy_timeout_s: float, name: str) -> None:
    # Changing the mode does not wait for a lock by itself, so that two processes that create one file collide.
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            mode = connection.rows("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_WAL_RETRY_S)
            continue
        if mode != [("wal",)]:
            raise LedgerError(
                f"the file system does not carry SQLite's write-ahead log (mode {mode[0][0]!r})",
                where=name,
                allowed="A local file system; network file systems lack the shared memory that it needs",
                next_step="Put the ledger on a local disk, or use a postgresql:// address",
            )
        return


def _tables(connection: SqliteConnection) -> set[str]:
    return {name for (name,) in connection.rows("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
