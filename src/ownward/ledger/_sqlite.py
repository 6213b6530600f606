"""SQLite in WAL mode: one file, one writer at a time over all processes, readers that wait for notes alone."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from ownward.core import LedgerError, LedgerLocked
from ownward.ledger._checkpoints import CheckpointRules, Checkpoints
from ownward.ledger._connection import Connection, Row
from ownward.ledger._journal import (
    IS_POSSIBLE,
    Journal,
    ask_to_stop,
    find_journals,
    lock_journal,
    path_of,
    read_journal,
)
from ownward.ledger._patience import Patience
from ownward.ledger._posting import post_files, posted_up_to, remove_posted
from ownward.ledger._sqlite_connections import (
    Identity,
    SqliteConnection,
    WritingConnection,
    identity_of,
    require_in_place,
)
from ownward.ledger._sqlite_file import has_log, has_tables, is_yet_to_be_made, make_private, migrate, missing_in
from ownward.ledger._sqlite_locks import find_holder, run_patiently
from ownward.ledger._store import STAGED_BESIDE, STAGED_COLUMNS, Durability, older_schema_error

_log = logging.getLogger("ownward.ledger")
_T = TypeVar("_T")

_STREAM_ROWS = 500
_STAGE_ROWS = 10_000
_LOOK_AGAIN_S = 0.01
_POSTING_PATIENCE_S = 1.0
_STOPPING_PATIENCE_S = 5.0
_ROW_FAULTS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    OverflowError,
    UnicodeError,
    TypeError,
    ValueError,
)
_CHECKPOINT_RULES = CheckpointRules()
_CHECK_THE_DISK = "Check the disk and the permissions of the file and its folder"
_NEXT_STEPS = {
    "SQLITE_FULL": "Free some space; the gateway sends nothing that it cannot record",
    "SQLITE_READONLY": "Make the file and its folder writable, or name another ledger",
    "SQLITE_NOTADB": "Name another file, or move this one away",
    "SQLITE_CORRUPT": "Keep a copy, then recover it with: sqlite3 FILE .recover",
    "SQLITE_CANTOPEN": "Check that the path is a file, and that its folder exists and is writable",
}


class JournalInUse(Exception):
    """Another process notes calls, which it may not where accounts are kept; it was asked to stop."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Name its journal, and those of others."""
        super().__init__(f"the process that writes {paths[0].name} still notes calls there, and was asked to stop")
        self.paths = paths


class SqliteStore:
    """A ledger in one file, with its `-wal` and `-shm` beside it while it is open."""

    kind: Literal["sqlite"] = "sqlite"
    attempts = "attempts"

    def __init__(
        self,
        path: Path,
        *,
        durability: Durability,
        busy_timeout_s: float,
        checkpoint_rules: CheckpointRules = _CHECKPOINT_RULES,
    ) -> None:
        """Keep where it is; nothing is opened yet."""
        self._given = path.absolute()  # what the heartbeat looks for
        self._name = str(path)
        self._path = Path(os.path.realpath(path))  # as SQLite does: all names of a ledger share what lies beside it
        self._checkpoint_rules = checkpoint_rules
        self._durability = durability
        self._busy_timeout_s = busy_timeout_s
        self._idle_readers: list[SqliteConnection] = []
        self._lock = threading.Lock()
        self._is_closed = False
        self._journal: Journal | None = None
        self.patience = Patience()
        self._identity: Identity | None = None  # of the file that the writer opened first

    @property
    def name(self) -> str:
        """The file's path."""
        return self._name

    @property
    def is_on_this_machine(self) -> bool:
        """Whether it is a file here: always."""
        return True

    def prepare(self, *, applied_at_us: int, is_read_only: bool) -> None:
        """Check the file before it is touched, then bring it to the newest schema in one transaction."""
        name = self.name
        is_new = is_yet_to_be_made(self._path, is_read_only=is_read_only, name=name)
        try:
            if is_read_only:
                with self.reading() as reader:
                    missing = self._run_patiently(reader.raw, partial(missing_in, reader, name=name))
                if missing:
                    raise older_schema_error(missing, where=name)
                return
            if not is_new:
                with self.reading() as reader:
                    if (
                        self._run_patiently(reader.raw, partial(has_tables, reader))
                        and not missing_in(reader, name=name)
                        and has_log(reader)
                    ):
                        return
            for path in find_journals(self._path):
                read_journal(path)  # else neither this version could go on, nor the one that wrote it
            if is_new:
                make_private(self._path)
            connection = self._open("rwc")
            try:
                migrate(connection, applied_at_us=applied_at_us, busy_timeout_s=self._busy_timeout_s, name=name)
            finally:
                connection.rollback()
                connection.close()
        except sqlite3.Error as error:
            raise self.translate(error, "open") from error

    def connect(self) -> SqliteConnection:
        """Open a connection that writes."""
        connection = self._open("rw")
        synchronous = "FULL" if self._durability == "power" else "NORMAL"
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # bodies that are deleted do not stay in free pages
        return connection

    def connect_writer(self) -> SqliteConnection:
        """Open a connection that commits all the time: the write-ahead log is moved into the file beside it.

        Raises: LedgerError, if another file stands where one was written before, which lacks what that one holds.
        """
        self._identity = self._identity or identity_of(self._given)
        require_in_place(self._given, self._identity)
        connection = self.connect()
        log = self._path.with_name(self._path.name + "-wal")
        checkpoints = Checkpoints(log, lambda: self._open("rw", timeout_s=0.0).raw, rules=self._checkpoint_rules)
        return WritingConnection(
            connection.raw,
            checkpoints,
            partial(self._run_patiently, connection.raw),
            path=self._given,
            identity=self._identity,
            busy_timeout_s=self._busy_timeout_s,
            patience=self.patience,
            flushes=self._durability == "power",
        )

    @contextlib.contextmanager
    def reading(self) -> Iterator[SqliteConnection]:
        """Borrow a connection that only reads."""
        with self._lock:
            connection = self._idle_readers.pop() if self._idle_readers else None
        if connection is None:
            connection = self._open("ro")
        try:
            yield connection
        finally:
            with self._lock:
                if not self._is_closed:
                    self._idle_readers.append(connection)
                    connection = None
            if connection is not None:
                connection.close()

    def stream(self, sql: str, params: Sequence[Any] = ()) -> Iterator[Row]:
        """Yield the rows of a query from one snapshot, a few hundred in memory at a time."""
        with self.reading() as reader, contextlib.closing(reader.raw.execute(sql, params)) as cursor:
            while rows := cursor.fetchmany(_STREAM_ROWS):
                yield from rows

    def time_us(self) -> None:
        """Return None: a file has no clock."""

    def journal_of(self, run_id: str) -> Journal | None:
        """Return the journal of this process; None where a commit must outlive the loss of power."""
        if IS_POSSIBLE and self._durability == "process":
            self._journal = Journal(path_of(self._path, run_id), like=self._path)
        return self._journal

    def post_journals(self, connection: Connection) -> list[LedgerError]:
        """Put into the tables what lies in all journals beside the file, and return which rows they refused."""
        return post_files(self, connection, self._path)

    def post_for_reading(self) -> None:
        """Post what a writer has noted a moment ago, or left behind when it was killed."""
        if not find_journals(self._path):
            return
        with self.reading() as reader:
            waiting = self._find_unposted(reader)
            if not (os.access(self._path, os.W_OK) and os.access(self._path.parent, os.W_OK)):
                self._wait_for_posting(reader, waiting)
                return
            if not waiting:
                remove_posted(reader, self._path)
                return
        connection = self.connect()
        try:
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # the log is its writer's business
            connection.begin()
            for fault in self.post_journals(connection):
                _log.error("%s", fault)
            connection.commit()
            remove_posted(connection, self._path)
        finally:
            connection.rollback()
            connection.close()

    def _find_unposted(self, reader: Connection) -> dict[str, int]:
        """Return the number of the newest note of each run that has some which are not in the tables."""
        waiting = {}
        for path, run_id in find_journals(self._path).items():
            if noted := read_journal(path, after=posted_up_to(reader, run_id)):
                waiting[run_id] = noted[-1].number
        return waiting

    def _wait_for_posting(self, reader: Connection, waiting: dict[str, int]) -> None:
        """Return once other processes have posted what waits, as those that run do within a moment."""
        deadline_s = time.monotonic() + _POSTING_PATIENCE_S
        while any(posted_up_to(reader, run_id) < number for run_id, number in waiting.items()):
            if time.monotonic() > deadline_s:
                raise LedgerError(
                    "the newest calls stand in a journal alone, and the ledger is not writable here",
                    where=self.name,
                    allowed="What a killed process wrote last is put into the tables by who opens the ledger next",
                    next_step="Open it once where it can be written, or copy it (with its -wal and -calls files) and"
                    " read the copy",
                )
            time.sleep(_LOOK_AGAIN_S)

    def lock_rows(self, connection: Connection, table: str) -> None:
        """Do nothing: a SQLite transaction that writes is the only one."""

    def lock_budgets(self, connection: Connection, *, for_new: bool = False) -> None:
        """Have nobody note calls any more before the first account is made; else do nothing, as above."""
        if not for_new:
            return
        if self._journal is not None:
            self._journal.close()
        if in_use := [path for path in find_journals(self._path) if _is_in_use(path)]:
            for path in in_use:
                ask_to_stop(path)
            raise JournalInUse(in_use)
        for fault in self.post_journals(connection):
            _log.error("%s", fault)

    def stage_imported(self, connection: Connection, rows: Iterable[Row]) -> int:
        """Copy rows into a temporary table, which lives in a file of its own."""
        columns = (*STAGED_COLUMNS, *STAGED_BESIDE)
        connection.execute(f"CREATE TEMP TABLE staged ({', '.join(columns)})")
        marks = ", ".join("?" * len(columns))
        staged, source = 0, iter(rows)
        connection.execute("BEGIN")
        while batch := list(islice(source, _STAGE_ROWS)):
            connection.execute_many(f"INSERT INTO staged VALUES ({marks})", batch)  # noqa: S608 - our own columns
            staged += len(batch)
        connection.commit()
        return staged

    def is_row_fault(self, error: BaseException) -> bool:
        """Return whether one row is to blame, and not the file."""
        return isinstance(error, _ROW_FAULTS)

    def is_database_error(self, error: BaseException) -> bool:
        """Return whether SQLite said it."""
        return isinstance(error, sqlite3.Error)

    def is_worth_repeating(self, error: BaseException) -> bool:
        """Return whether a process that still noted calls has stopped since, as it was asked to.

        Nothing else is: a writer takes the one lock before anything else, so that no two can wait for each other.
        """
        if not isinstance(error, JournalInUse):
            return False
        deadline_s = time.monotonic() + _STOPPING_PATIENCE_S
        while time.monotonic() < deadline_s:
            if not any(_is_in_use(path) for path in error.paths):
                return True
            time.sleep(_LOOK_AGAIN_S)
        return False

    def translate(self, error: BaseException, doing: str) -> LedgerError:
        """Return what SQLite said as our error."""
        if isinstance(error, JournalInUse):
            return LedgerError(
                f"the first budget cannot be opened: {error}",
                where=str(error.paths[0]),
                allowed="Where budgets are kept, no process notes calls beside the ledger;"
                f" each that does is asked to stop, and waited for {_STOPPING_PATIENCE_S:g} s",
                next_step="Find the process that holds the file (fuser FILE) and let it go on (kill -CONT PID) or end"
                " it; nothing was changed",
            )
        name = getattr(error, "sqlite_errorname", "") or type(error).__name__
        message = f"cannot {doing} the ledger: {error} ({name})"
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return LedgerLocked(
                message,
                where=self.name,
                allowed=f"A writer waits up to {self._busy_timeout_s:g} s for the others",
                next_step=f"Have {find_holder(self._path)}, which holds it, let it go or end, or try again (fuser FILE"
                " names those that have it open); nothing was changed",
            )
        next_step = next((step for start, step in _NEXT_STEPS.items() if name.startswith(start)), _CHECK_THE_DISK)
        return LedgerError(message, where=self.name, next_step=next_step)

    def close(self) -> None:
        """Close the pooled readers; those in use close when they are done."""
        with self._lock:
            self._is_closed = True
            idle, self._idle_readers = self._idle_readers, []
        for connection in idle:
            connection.close()

    def _open(self, mode: Literal["ro", "rw", "rwc"], *, timeout_s: float | None = None) -> SqliteConnection:
        uri = f"file:{quote(os.fsencode(self._path))}?mode={mode}"
        if mode == "ro" and self._is_at_rest():
            uri += "&immutable=1"
        raw = sqlite3.connect(
            uri,
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=self._busy_timeout_s if timeout_s is None else timeout_s,
            cached_statements=256,
        )
        if mode == "ro" or timeout_s is not None:
            return SqliteConnection(raw)
        return SqliteConnection(raw, partial(self._run_patiently, raw))

    def _run_patiently(self, raw: sqlite3.Connection, run: Callable[[], _T]) -> _T:
        return run_patiently(
            raw,
            run,
            path=self._path,
            name=self.name,
            busy_timeout_s=self._busy_timeout_s,
            patience=self.patience,
        )

    def _is_at_rest(self) -> bool:
        """Return whether the file lies where nothing can be written and has no log beside it, such as a backup."""
        return not os.access(self._path.parent, os.W_OK) and not self._path.with_name(self._path.name + "-wal").exists()


def _is_in_use(path: Path) -> bool:
    """Return whether a process notes in a journal, or could without being found out."""
    file = lock_journal(path)
    if file is not None:
        os.close(file)
        return False
    try:
        return stat.S_ISREG(path.lstat().st_mode)  # all else cannot be read either, which is told
    except FileNotFoundError:
        return False
