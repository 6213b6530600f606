"""How what journals hold comes into the tables: once, whoever does it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ownward.core import LedgerError
from ownward.ledger._connection import Connection
from ownward.ledger._journal import Noted, Rows, find_journals, lock_journal, read_journal
from ownward.ledger._statements import insert, insert_rows
from ownward.ledger._store import Store

_MARK: Final = "SELECT number FROM journal_marks WHERE run_id = ?"
_SET_MARK: Final = (
    f"{insert('journal_marks', 'run_id, number')} ON CONFLICT (run_id) DO UPDATE SET number = excluded.number"
)


def posted_up_to(connection: Connection, run_id: str) -> int:
    """Return the number of the newest note of a run that is in the tables."""
    found = connection.rows(_MARK, (run_id,))
    return int(found[0][0]) if found else 0


def post(
    store: Store,
    connection: Connection,
    run_id: str,
    noted: Sequence[Noted],
    *,
    is_careful: bool = True,
    rest: Callable[[], object] | None = None,
) -> list[LedgerError]:
    """Put what a run noted into the tables, within the caller's transaction; return which rows were refused.

    What is there already is passed over. `rest` is called now and then. Where it is not `is_careful`, a row that is
    refused raises what the database says, and the caller begins again: a savepoint copies every page that is changed.
    """
    mark = posted_up_to(connection, run_id)
    new = [one for one in noted if one.number > mark]
    if not new:
        return []
    entries = [rows for one in new for rows in one.entries]
    refused: list[LedgerError] = []
    if is_careful:
        refused = _post_what_can_be(store, connection, entries, rest=rest)
    else:
        insert_rows(connection, [row for rows in entries for row in rows], rest=rest)
    connection.execute(_SET_MARK, (run_id, new[-1].number))
    return refused


def post_files(store: Store, connection: Connection, ledger: Path) -> list[LedgerError]:
    """Put into the tables what all journals beside a ledger hold, of processes that run and of those that were killed.

    Raises: LedgerError, if one of them cannot be read.
    """
    refused = []
    for path, run_id in find_journals(ledger).items():
        refused += post(store, connection, run_id, read_journal(path, after=posted_up_to(connection, run_id)))
    return refused


def remove_posted(connection: Connection, ledger: Path) -> None:
    """Remove the journals of processes that note no more, where all that they hold is in the tables."""
    for path, run_id in find_journals(ledger).items():
        file = lock_journal(path)
        if file is None:
            continue
        try:
            if not read_journal(path, after=posted_up_to(connection, run_id)):
                path.unlink(missing_ok=True)
        except (OSError, LedgerError):
            pass  # whoever reads calls is told
        finally:
            os.close(file)


def _post_what_can_be(
    store: Store, connection: Connection, entries: Sequence[Rows], *, rest: Callable[[], object] | None
) -> list[LedgerError]:
    """Put entries into the tables, within the caller's transaction; return which rows were refused."""
    connection.execute("SAVEPOINT posting")
    refused: list[LedgerError] = []
    try:
        insert_rows(connection, [row for rows in entries for row in rows], rest=rest)
    except Exception as error:
        if not store.is_row_fault(error):
            raise
        connection.execute("ROLLBACK TO SAVEPOINT posting")
        refused = _insert_one_by_one(store, connection, entries)
    connection.execute("RELEASE SAVEPOINT posting")
    return refused


def _insert_one_by_one(store: Store, connection: Connection, entries: Sequence[Rows]) -> list[LedgerError]:
    """Write what can be written: one entry's fault is its own."""
    refused = []
    for rows in entries:
        connection.execute("SAVEPOINT one")
        try:
            insert_rows(connection, rows)
        except Exception as error:
            if not store.is_row_fault(error):
                raise
            connection.execute("ROLLBACK TO SAVEPOINT one")
            refused.append(LedgerError(f"a row was refused: {error}", where=store.name))
        connection.execute("RELEASE SAVEPOINT one")
    return refused
