"""PostgreSQL for teams: the same tables in a schema of their own, reached through psycopg.

A commit is as durable as the server is set; `power` insists on a flushed one.
"""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, LiteralString, TypeVar, cast

from ownward.core import LedgerError, LedgerLocked, MissingExtra, new_id
from ownward.ledger._connection import Connection, Row
from ownward.ledger._patience import Patience
from ownward.ledger._postgres_address import name_of, read_address, stays_here
from ownward.ledger._postgres_watch import connect_watched
from ownward.ledger._schema import ATTEMPTS_IN_POSTGRES, MIGRATIONS, MIGRATIONS_TABLE, POSTGRES_TYPES
from ownward.ledger._store import (
    STAGED_BESIDE,
    STAGED_COLUMNS,
    Durability,
    check_applied,
    missing_migrations,
    older_schema_error,
)

if TYPE_CHECKING:
    import psycopg

_T = TypeVar("_T")

_SCHEMA: Final = "ownward"
_MIGRATION_LOCK: Final = 0x6F776E64
_STREAM_ROWS: Final = 500
_UNLESS_STATED: Final = {
    "application_name": "ownward",
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""What holds where the address says nothing else, in seconds, the last in milliseconds: a host that is gone without a
word is not waited for as long as TCP would, a quarter of an hour."""
_FOR_WRITING: Final = {"target_session_attrs": "read-write"}
"""A standby takes connections too, and would refuse each call until they end: of several hosts, and of a name that has
just moved to another."""
_ALWAYS: Final = {"client_encoding": "UTF8"}
"""A database that was made with the encoding SQL_ASCII would answer with bytes in place of texts."""
_NEXT_STEPS: Final = {
    "read-only": "Name the server that can be written, or all of them: postgresql://a.internal,b.internal/ownward",
    "No space left": "Free some space on the server's disk; the gateway sends nothing that it cannot record",
    "too many ": "Let more in (max_connections, the user's CONNECTION LIMIT): each process of a gateway holds two",
    "connection slots": "Let more in (max_connections): each process of a gateway holds two",
    "statement timeout": "Give the user more time: ALTER ROLE … SET statement_timeout = 0",
    "conflict with recovery": "Ask again, or ask the primary; its changes end a standby's queries after"
    " max_standby_streaming_delay",
}
"""By what the server said."""
_CHECK: Final = "Check that the server runs, that the address is right and that the user may write there"
_ENCODINGS: Final = frozenset({"UTF8", "SQL_ASCII"})
_ASKED_OF_POOLER: Final = 4
_TRIES: Final = 5
_STAGED_TYPES: Final = (
    "TEXT, BIGINT, DOUBLE PRECISION, BIGINT, BIGINT, BIGINT, TEXT, TEXT, TEXT, BIGINT, BIGINT, BIGINT, BIGINT"
)


class PostgresConnection:
    """One psycopg connection without the module's own transactions."""

    def __init__(self, raw: psycopg.Connection[Row]) -> None:
        """Wrap an open connection in autocommit mode."""
        self.raw = raw

    def execute(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Run one statement; return how many rows it changed, or -1."""
        return self.raw.execute(_in_postgres(sql), params or None).rowcount

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each row, in one round trip."""
        with self.raw.cursor() as cursor:
            cursor.executemany(_in_postgres(sql), rows)

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        """Return all rows of a query."""
        return self.raw.execute(_in_postgres(sql), params or None).fetchall()

    def require_in_place(self) -> None:
        """Do nothing: a server's tables go nowhere."""

    @property
    def is_lost(self) -> bool:
        """Whether the server closed it, or restarted."""
        return self.raw.closed

    def begin(self) -> None:
        """Start a transaction."""
        self.raw.execute("BEGIN")

    def begin_at_once(self) -> bool:
        """Start nothing: a server is always waited for."""
        return False

    def commit(self) -> None:
        """End the transaction."""
        self.raw.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, where there is one; a connection that cannot is lost."""
        import psycopg

        idle = psycopg.pq.TransactionStatus.IDLE
        with contextlib.suppress(psycopg.Error):
            if self.raw.info.transaction_status != idle:
                self.raw.execute("ROLLBACK")
        if self.raw.info.transaction_status != idle or self.raw.pgconn.pipeline_status:
            self.close()  # it ended within a batch, and psycopg holds it to be open until its end has arrived

    def has_news(self) -> bool:
        """Return whether anything came unasked, such as the server's end; asks the kernel alone."""
        if self.raw.closed:
            return True
        if not hasattr(select, "poll"):  # Windows, whose select knows sockets of any number
            return bool(select.select([self.raw.fileno()], [], [], 0)[0])
        poll = select.poll()
        poll.register(self.raw.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close the connection."""
        import psycopg

        with contextlib.suppress(psycopg.Error):
            self.raw.close()


class _ReadingConnection(PostgresConnection):
    """One that only reads, and is made anew where the server ends it between transactions, as an operator may."""

    def __init__(self, make: Callable[[], psycopg.Connection[Row]]) -> None:
        """Open it."""
        self._make = make
        super().__init__(_repeated(make))

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        """Return all rows of a query."""
        import psycopg

        if self.raw.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            return super().rows(sql, params)
        return _repeated(partial(self._rows, sql, params))

    def _rows(self, sql: str, params: Sequence[Any]) -> list[Row]:
        import psycopg

        try:
            return super().rows(sql, params)
        except psycopg.errors.AdminShutdown:
            self.close()
            self.raw = _repeated(self._make)
            raise


class PostgresStore:
    """A ledger in the schema `ownward` of one PostgreSQL database."""

    kind: Literal["postgresql"] = "postgresql"
    attempts = ATTEMPTS_IN_POSTGRES

    def __init__(self, dsn: str, *, durability: Durability, busy_timeout_s: float) -> None:
        """Keep the address; nothing is opened yet.

        Raises: MissingExtra, without psycopg; LedgerError, if the address cannot be read.
        """
        try:
            import psycopg  # noqa: F401 - only whether it is there
        except ImportError as error:
            raise MissingExtra(needed_for="A ledger in PostgreSQL", package="psycopg", extra="postgres") from error
        self._stated = read_address(dsn)
        self._unless_stated: Mapping[str, Any] = _UNLESS_STATED
        self._durability = durability
        self._busy_timeout_s = busy_timeout_s
        self._idle_readers: list[PostgresConnection] = []
        self._lock = threading.Lock()
        self._is_closed = False
        self.patience = Patience()

    @property
    def name(self) -> str:
        """The address without user and password, and without the options, which can carry them too."""
        return name_of(self._stated)

    @property
    def is_on_this_machine(self) -> bool:
        """Whether every server that the address can lead to is this machine."""
        from psycopg.pq import Conninfo

        usual = {option.keyword.decode(): option.val.decode() for option in Conninfo.get_defaults() if option.val}
        return stays_here(self._stated, usual)

    def prepare(self, *, applied_at_us: int, is_read_only: bool) -> None:
        """Check the schema, then bring it to the newest in one transaction."""
        import psycopg

        if not is_read_only:
            self._unless_stated = {**_UNLESS_STATED, **_FOR_WRITING}
        try:
            _repeated(partial(self._prepare, applied_at_us, is_read_only=is_read_only))
        except psycopg.Error as error:
            raise self.translate(error, "open") from error

    def _prepare(self, applied_at_us: int, *, is_read_only: bool) -> None:
        self._refuse_shared_sessions()
        connection = self._open()
        try:
            applied = _applied(connection)
            if applied is not None:
                check_applied(applied, where=self.name)
            missing = missing_migrations(applied or ())
            if is_read_only and applied is None:
                raise LedgerError(
                    "there is no ledger in this database",
                    where=self.name,
                    allowed="Reading never creates one",
                    next_step="Check the address; ownward serve and ownward import create a ledger",
                )
            if is_read_only and missing:
                raise older_schema_error(missing, where=self.name)
            if not is_read_only:
                self._refuse_narrow_encoding(connection)
            if missing:
                self._migrate(connection, applied_at_us)
        finally:
            connection.rollback()
            connection.close()

    def connect(self) -> PostgresConnection:
        """Open a connection that writes."""
        connection = self._open()
        if self._durability == "power":
            connection.execute("SET synchronous_commit = on")
        return connection

    def connect_writer(self) -> PostgresConnection:
        """Open a connection that writes, and that the server ends where it falls silent within a transaction.

        The transaction of a host that lost its power or its network would hold its locks, for which all others wait,
        until the server's keep-alives notice: two hours by their defaults.
        """
        connection = self.connect()
        connection.execute(f"SET idle_in_transaction_session_timeout = {round(self._busy_timeout_s * 1000 / 3)}")
        return connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[PostgresConnection]:
        """Borrow a connection that only reads."""
        connection = self._idle_reader()
        if connection is None:
            connection = _ReadingConnection(self._open_reader)
        try:
            yield connection
        finally:
            connection.rollback()
            with self._lock:
                keep = not self._is_closed and not connection.raw.closed
                if keep:
                    self._idle_readers.append(connection)
            if not keep:
                connection.close()

    def _open_reader(self) -> psycopg.Connection[Row]:
        connection = self._open()
        connection.execute("SET default_transaction_read_only = on")
        connection.execute("SET cursor_tuple_fraction = 1")  # a stream is read to its end
        return connection.raw

    def _idle_reader(self) -> PostgresConnection | None:
        """Return a pooled connection that the server has not closed meanwhile, as it does when it restarts."""
        while True:
            with self._lock:
                if not self._idle_readers:
                    return None
                connection = self._idle_readers.pop()
            if not connection.has_news():
                return connection
            connection.close()

    def stream(self, sql: str, params: Sequence[Any] = ()) -> Iterator[Row]:
        """Yield the rows of a query from one snapshot, through a cursor on the server."""
        with self.reading() as reader:
            reader.begin()
            with reader.raw.cursor(name=new_id("ownward_").lower()) as cursor:
                cursor.itersize = _STREAM_ROWS
                cursor.execute(_in_postgres(sql), params or None)
                yield from cursor
            reader.commit()

    def time_us(self) -> int:
        """Return what the server's clock says."""
        with self.reading() as reader:
            ((now_us,),) = reader.rows("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)")
        return int(now_us)

    def journal_of(self, run_id: str) -> None:
        """Return None: all the rows of a batch cost one trip to the server."""

    def post_journals(self, connection: Connection) -> list[LedgerError]:  # noqa: ARG002 - the other store's work
        """Do nothing: here are none."""
        return []

    def post_for_reading(self) -> None:
        """Do nothing: as above."""

    def lock_rows(self, connection: Connection, table: str) -> None:
        """Wait for those who add rows to a table now and keep others from it until the transaction ends."""
        connection.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")

    def lock_budgets(self, connection: Connection, *, for_new: bool = False) -> None:
        """Wait for those who change accounts now; `for_new` also for all who have looked whether there are any."""
        mode = "ACCESS EXCLUSIVE" if for_new else "EXCLUSIVE"
        connection.execute(f"LOCK TABLE budget_accounts IN {mode} MODE")

    def stage_imported(self, connection: Connection, rows: Iterable[Row]) -> int:
        """Copy rows into a temporary table."""
        assert isinstance(connection, PostgresConnection)
        columns = ", ".join(
            f"{name} {kind}"
            for name, kind in zip((*STAGED_COLUMNS, *STAGED_BESIDE), _STAGED_TYPES.split(", "), strict=True)
        )
        connection.execute(f"CREATE TEMP TABLE staged ({columns})")
        staged = 0
        with connection.raw.cursor() as cursor, cursor.copy("COPY staged FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
                staged += 1
        return staged

    def is_row_fault(self, error: BaseException) -> bool:
        """Return whether one row is to blame, and not the server."""
        import psycopg

        if isinstance(error, psycopg.ProgrammingError):
            return error.sqlstate is None  # psycopg's own; a table or a right that is missing is missing for all rows
        return isinstance(error, (psycopg.IntegrityError, psycopg.DataError, OverflowError, TypeError, ValueError))

    def is_database_error(self, error: BaseException) -> bool:
        """Return whether PostgreSQL or psycopg said it."""
        import psycopg

        return isinstance(error, psycopg.Error)

    def is_worth_repeating(self, error: BaseException) -> bool:
        """Return whether two writers met in a deadlock, of which the server ended one, or it ended a connection."""
        from psycopg import errors

        return isinstance(error, (errors.DeadlockDetected, errors.SerializationFailure, errors.AdminShutdown))

    def translate(self, error: BaseException, doing: str) -> LedgerError:
        """Return what PostgreSQL said as our error, without the address's secrets."""
        import psycopg

        said = " ".join(str(error).split()) or type(error).__name__
        message = f"cannot {doing} the ledger: {said} ({type(error).__name__})"
        if isinstance(error, (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)):
            return LedgerLocked(
                message,
                where=self.name,
                allowed=f"A writer waits up to {self._busy_timeout_s:g} s for the others",
                next_step="Look for long transactions in pg_stat_activity; nothing was changed",
            )
        return LedgerError(
            message,
            where=self.name,
            next_step=next((step for mark, step in _NEXT_STEPS.items() if mark in said), _CHECK),
        )

    def close(self) -> None:
        """Close the pooled readers; those in use close when they are done."""
        with self._lock:
            self._is_closed = True
            idle, self._idle_readers = self._idle_readers, []
        for connection in idle:
            connection.close()

    def _refuse_shared_sessions(self) -> None:
        """Refuse a pooler that gives its clients another session for each transaction, which forgets what was set.

        Tables would be looked for elsewhere, and others' transactions become read-only. It shows by a process of the
        server that is not the one that was told, and that another client has too, or that is not the same each time.
        """
        with self._connect() as one:
            seen = {_process_of(one)}
            if seen == {one.info.backend_pid}:
                return
            with self._connect() as other:
                others = set()
                for _ in range(_ASKED_OF_POOLER):  # it may take the next that is free, or each in its turn
                    others.add(_process_of(other))
                    seen.add(_process_of(one))
        if len(seen) > 1 or len(others) > 1 or seen == others:
            raise LedgerError(
                "a connection pooler stands before the ledger's database, and shares sessions among its clients",
                where=self.name,
                allowed="The server itself, or a pooler that gives each client a session (pool_mode = session)",
                next_step="Name the server's own host and port, or another pool; a gateway holds a few connections",
            )

    def _refuse_narrow_encoding(self, connection: PostgresConnection) -> None:
        """Refuse to write texts of anybody's language where some cannot be kept: their rows would be lost."""
        encoding = connection.raw.info.parameter_status("server_encoding")
        if encoding not in _ENCODINGS:
            raise LedgerError(
                f"the database has the encoding {encoding}, which does not have every character",
                where=self.name,
                allowed="A database in UTF8",
                next_step="Make another one: createdb --encoding UTF8 --template template0 NAME",
            )

    def _connect(self) -> psycopg.Connection[Any]:
        return connect_watched({**self._unless_stated, **self._stated, **_ALWAYS}, self.patience)

    def _open(self) -> PostgresConnection:
        raw = self._connect()
        connection = PostgresConnection(raw)
        connection.execute(f"SET search_path = {_SCHEMA}")
        connection.execute(f"SET lock_timeout = {round(self._busy_timeout_s * 1000)}")
        # What must be exact is locked; where the server is set stricter, transactions that could wait would fail.
        connection.execute("SET default_transaction_isolation = 'read committed'")
        return connection

    def _migrate(self, connection: PostgresConnection, applied_at_us: int) -> None:
        connection.begin()
        connection.execute(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        applied = _applied(connection)
        if applied is None:
            # Looked for first: who may write in a schema that was made for it may not say even IF NOT EXISTS.
            if not connection.rows("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = ?", (_SCHEMA,)):
                connection.execute(f"CREATE SCHEMA {_SCHEMA}")
            connection.execute(MIGRATIONS_TABLE.format_map(POSTGRES_TYPES))
            applied = []
        check_applied(applied, where=self.name)
        missing = set(missing_migrations(applied))
        for migration in MIGRATIONS:
            if migration.name in missing:
                for statement in migration.statements_for(POSTGRES_TYPES):
                    connection.execute(statement)
                connection.execute("INSERT INTO migrations VALUES (?, ?)", (migration.name, applied_at_us))
        connection.commit()


def _in_postgres(sql: str) -> LiteralString:
    """Return our SQL with psycopg's parameter marks; our statements carry neither mark in a text."""
    return cast("LiteralString", sql.replace("?", "%s"))  # type: ignore[redundant-cast]


def _repeated(do: Callable[[], _T]) -> _T:
    """Return what `do` does, which is done anew where the server ends its connection."""
    import psycopg

    for _ in range(_TRIES - 1):
        with contextlib.suppress(psycopg.errors.AdminShutdown):
            return do()
    return do()


def _process_of(client: psycopg.Connection[Any]) -> int:
    """Return the process of the server that answers a client now."""
    ((process,),) = client.execute("SELECT pg_backend_pid()").fetchall()
    return int(process)


def _applied(connection: PostgresConnection) -> list[str] | None:
    """Return the migrations by name, or None where there is no ledger."""
    # From the catalogue itself: to_regclass may answer from a cache that another's migration has not reached yet.
    there = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = ? AND tablename = 'migrations'"
    if not connection.rows(there, (_SCHEMA,)):
        return None
    return [name for (name,) in connection.rows("SELECT name FROM migrations ORDER BY name")]
