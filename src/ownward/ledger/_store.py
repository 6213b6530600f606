"""The seam between the ledger and its database: what SQLite and PostgreSQL must both offer.

SQL is written once, with `?` for parameters, in words that both understand;
the few differences stand behind this protocol and that of a connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from ownward.core import LedgerError, SchemaTooNew
from ownward.ledger._connection import Connection, Row
from ownward.ledger._schema import MIGRATIONS

if TYPE_CHECKING:
    from ownward.ledger._journal import Journal
    from ownward.ledger._patience import Patience

Durability: TypeAlias = Literal["process", "power"]


class Store(Protocol):
    """One database, seen by one `Ledger`."""

    @property
    def name(self) -> str:
        """Where it is, for messages; without any secret."""
        ...

    @property
    def patience(self) -> Patience:
        """How long anybody waits for it."""
        ...

    @property
    def kind(self) -> Literal["sqlite", "postgresql"]:
        """Which database it is."""
        ...

    @property
    def attempts(self) -> str:
        """The view `attempts` as it is read soonest here: by its name, or by what it selects."""
        ...

    @property
    def is_on_this_machine(self) -> bool:
        """Whether what is written stays on this machine, as far as its address says."""
        ...

    def prepare(self, *, applied_at_us: int, is_read_only: bool) -> None:
        """Check that it is a ledger, or make it one, and bring it to the newest schema."""
        ...

    def connect(self) -> Connection:
        """Open a connection that writes."""
        ...

    def connect_writer(self) -> Connection:
        """Open the connection of the one writer, which commits all the time."""
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """Borrow a connection that only reads."""
        ...

    def stream(self, sql: str, params: Sequence[Any] = ()) -> Iterator[Row]:
        """Yield the rows of a query from one snapshot, in constant memory."""
        ...

    def time_us(self) -> int | None:
        """Return what the clock of the database's server says; None where that is this machine's own."""
        ...

    def journal_of(self, run_id: str) -> Journal | None:
        """Return where a run may note calls before they are put into the tables; None where it cannot."""
        ...

    def post_journals(self, connection: Connection) -> list[LedgerError]:
        """Within a transaction, put into the tables what any process has noted; return which rows they refused.

        Raises: LedgerError, if a journal cannot be read.
        """
        ...

    def post_for_reading(self) -> None:
        """Have everything that is noted in the tables, where a reader finds it.

        Raises: LedgerError, if something waits and nothing can be written here, or a journal cannot be read.
        """
        ...

    def lock_rows(self, connection: Connection, table: str) -> None:
        """Within a transaction, wait for those who add rows to a table now, and keep others from it until it ends."""
        ...

    def lock_budgets(self, connection: Connection, *, for_new: bool = False) -> None:
        """Within a transaction, keep others from changing budget accounts; `for_new`, from finding that there are none.

        Raises: what is worth repeating: two that wait for each other were told apart, or another process still notes
        calls in a journal, which nobody may where accounts are kept.
        """
        ...

    def stage_imported(self, connection: Connection, rows: Iterable[Row]) -> int:
        """Copy rows into the connection's own table `staged` without locking the ledger; return their number."""
        ...

    def is_row_fault(self, error: BaseException) -> bool:
        """Return whether one row is to blame, and not the database."""
        ...

    def is_database_error(self, error: BaseException) -> bool:
        """Return whether the database or its driver said it."""
        ...

    def is_worth_repeating(self, error: BaseException) -> bool:
        """Return whether the same transaction can succeed now: two writers had met in a deadlock, or one had to end."""
        ...

    def translate(self, error: BaseException, doing: str) -> LedgerError:
        """Return what the database said as our error."""
        ...

    def close(self) -> None:
        """Close what is pooled."""
        ...


STAGED_COLUMNS = (
    "source_row_id",
    "started_at_us",
    "arrival_s",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "workload",
    "session",
    "model",
    "charge_picousd",
    "completed",
)
# Staged after them, each for a table of its own, which has a row where there are any.
STAGED_BESIDE = {"cache_write_tokens": "imported_cache_writes", "cache_write_1h_tokens": "imported_cache_writes_1h"}


def check_applied(applied: Sequence[str], *, where: str) -> None:
    """Refuse a ledger that has migrations which this version does not know.

    Raises: SchemaTooNew.
    """
    known = {migration.name for migration in MIGRATIONS}
    unknown = [name for name in applied if name not in known]
    if unknown:
        raise SchemaTooNew(
            f"the ledger has the migration {unknown[-1]!r}, which this version does not know",
            where=where,
            allowed=f"This version knows migrations up to {MIGRATIONS[-1].name!r}",
            next_step="Use the version of ownward that wrote it, or a later one; nothing was changed",
        )


def missing_migrations(applied: Sequence[str]) -> list[str]:
    """Return the names of known migrations that are not applied, in order."""
    return [migration.name for migration in MIGRATIONS if migration.name not in set(applied)]


def older_schema_error(missing: Sequence[str], *, where: str) -> LedgerError:
    """Return the error for an old ledger that was opened only to be read."""
    return LedgerError(
        f"the ledger is of an earlier version of ownward: it lacks the migration {missing[0]!r}",
        where=where,
        allowed="Commands that only read do not change it",
        next_step="Bring it up to date, once no earlier version serves with it: ownward ledger reconcile, with the same"
        " --ledger",
    )
