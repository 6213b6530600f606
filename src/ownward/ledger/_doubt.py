"""A commit whose answer never came: whether it was made can only be read from the rows themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from ownward.ledger._connection import Connection
from ownward.ledger._entries import Entry
from ownward.ledger._statements import Table, Values
from ownward.ledger._store import Store

# By the table of a row: where it stands, the words that find it alone, and what of it they ask for.
_WITNESSES: Final[dict[Table, tuple[str, str, Callable[[Values], Values]]]] = {
    "requests": ("requests", "request_id = ?", lambda values: values[:1]),
    "refusals": ("requests", "request_id = ?", lambda values: values[:1]),
    "intents": ("intents", "request_id = ? AND attempt = ?", lambda values: values[:2]),
    "settlements": (
        "settlements",
        "request_id = ? AND attempt = ? AND state = ? AND settled_at_us = ?",
        lambda values: (*values[:3], values[-1]),
    ),
}


class Doubt:
    """The entries of one commit, of which all are in the ledger or none."""

    def __init__(self, entries: list[Entry]) -> None:
        """Keep those whose rows were to be written."""
        self.entries = [entry for entry in entries if entry.error is None and entry.rows]
        told = ((table, values) for entry in self.entries for table, values in entry.rows if table in _WITNESSES)
        self._witness = next(told, None)

    @property
    def can_be_settled(self) -> bool:
        """Whether one of their rows can be told from all others."""
        return self._witness is not None

    @property
    def has_begun(self) -> bool:
        """Whether the run's own row was written before them."""
        return any(entry.begins for entry in self.entries)

    def is_made(self, store: Store, connection: Connection) -> bool:
        """Return whether the commit was made.

        Runs in a transaction of its own, and waits until the one that was committing has ended, one way or the other.
        """
        assert self._witness is not None
        table, values = self._witness
        place, words, of = _WITNESSES[table]
        store.lock_rows(connection, place)
        sql = f"SELECT 1 FROM {place} WHERE {words} LIMIT 1"  # noqa: S608 - our own names
        return bool(connection.rows(sql, of(values)))

    def cancellations(self) -> Iterator[Entry]:
        """Yield what takes back the intents whose callers were told that nothing was written, and sent nothing."""
        for entry in self.entries:
            if entry.waiter is None:
                continue  # nobody was told; what it settles is settled
            for table, values in entry.rows:
                if table == "intents":
                    for take in entry.takes:
                        take.is_held = take.kind == "tokens"
                    yield Entry(
                        rows=(("cancellations", values[:2]),), releases=tuple((take, 0) for take in entry.takes)
                    )
