"""The journal: where few rows are written first, as one, and posted to their tables with others soon after.

A request has eleven places in the tables and their indexes. To change them all before each single call is most of what
its ledger costs, in time and in bytes of the write-ahead log (29 kB a request; 10 kB where sixteen are posted
together). An entry of the journal is as durable as any other commit; whoever reads the tables posts it first.
"""

# ruff: noqa: S608 - the statements are made of our own names and counts; values are always parameters

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from ownward.core import LedgerError
from ownward.ledger._entries import Entry
from ownward.ledger._statements import Table, Values, insert_rows
from ownward.ledger._store import Connection, Store

_MOST_IDS: Final = 2  # of more at once, the tables take each for less
_MOST_BYTES: Final = 16_384
_INT64_END: Final = 1 << 63
_INTENT_BOUNDS: Final = slice(7, 10)  # input_tokens_high, output_tokens_high, charge_high_picousd

# Where accounts are kept, an intent has to be held against them in its own transaction; and no request begins twice.
_ENTER: Final = "INSERT INTO journal (rows_json) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM budget_accounts)"
_ENTER_NEW: Final = {
    0: _ENTER,
    **{
        count: f"{_ENTER} AND NOT EXISTS (SELECT 1 FROM requests WHERE request_id IN ({', '.join('?' * count)}))"
        for count in range(1, _MOST_IDS + 1)
    },
}

_Rows: TypeAlias = list[tuple[Table, list[str | int | float | None]]]
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[_Rows]).decode


class Journal:
    """What one writer has entered and not yet posted, as far as it knows: others may have posted it meanwhile."""

    def __init__(self) -> None:
        """Begin with nothing entered."""
        self._ids: set[str] = set()
        self.entered = 0  # entries that were entered since the last posting

    def enter(self, connection: Connection, entries: list[Entry]) -> bool:
        """Commit `entries` as one row; False where nothing was written: they belong in the tables, or would wait."""
        ids: list[str] = []
        for entry in entries:
            if entry.call is not None or entry.checks or entry.takes or entry.releases or not entry.rows:
                return False
            table, values = entry.rows[-1]
            if table == "intents":
                if len(entry.rows) == 1 or not _is_storable(values):
                    return False
                ids.append(values[0])
            elif table == "refusals":
                ids.append(values[0])
            elif table != "settlements":
                return False
        if len(ids) > _MOST_IDS or len(set(ids)) < len(ids) or not self._ids.isdisjoint(ids):
            return False
        try:
            rows = _encode([entry.rows for entry in entries])
        except (UnicodeEncodeError, TypeError, OverflowError):  # the tables will say what is wrong with it
            return False
        if len(rows) > _MOST_BYTES or not connection.execute_at_once(_ENTER_NEW[len(ids)], (rows, *ids)):
            return False
        self._ids.update(ids)
        self.entered += len(entries)
        return True

    def note_posting(self) -> None:
        """Take note that everything entered is in the tables."""
        self._ids.clear()
        self.entered = 0


def post_journal(store: Store, connection: Connection) -> list[LedgerError]:
    """Put what is in the journal into the tables, within the caller's transaction; return which rows were refused.

    Raises: LedgerError, if an entry cannot be read.
    """
    found = connection.rows("SELECT journal_id, rows_json FROM journal ORDER BY journal_id")
    if not found:
        return []
    entered = [rows for journal_id, text in found for rows in _read(store, journal_id, text)]
    refused: list[LedgerError] = []
    connection.execute("SAVEPOINT posting")
    try:
        insert_rows(connection, [row for rows in entered for row in rows])
    except Exception as error:
        if not store.is_row_fault(error):
            raise
        connection.execute("ROLLBACK TO SAVEPOINT posting")
        refused = _insert_one_by_one(store, connection, entered)
    connection.execute("DELETE FROM journal")
    connection.execute("RELEASE SAVEPOINT posting")
    return refused


def _read(store: Store, journal_id: int, text: bytes) -> list[_Rows]:
    try:
        return _decode(text)
    except msgspec.DecodeError as error:
        raise LedgerError(
            f"entry {journal_id} of the journal cannot be read: {error}",
            where=store.name,
            allowed="JSON that ownward wrote, of a version up to this one",
            next_step="Use the version that wrote it. If the file is damaged, keep a copy, then take out the entry with"
            f" sqlite3 FILE 'DELETE FROM journal WHERE journal_id = {journal_id}'",
        ) from error


def _insert_one_by_one(store: Store, connection: Connection, entered: list[_Rows]) -> list[LedgerError]:
    """Write what can be written: one entry's fault is its own."""
    refused = []
    for rows in entered:
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


def _is_storable(intent: Values) -> bool:
    """Return whether no bound of an intent is beyond what the tables can hold."""
    return all(bound is None or bound < _INT64_END for bound in intent[_INTENT_BOUNDS])
