"""Ledgers whose calls are noted in a journal first, and what lies there."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from ledger_rows import usual_intent, usual_request
from ownward import ledger
from ownward.ledger import Intent, Ledger, Request
from ownward.ledger._journal import find_journals, read_journal

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def request(name: str, high: int = 9) -> tuple[Request, Intent]:
    """Return a call that may charge at most `high` picodollars."""
    return usual_request(name, at=NOW), usual_intent(name, at=NOW, high=high)


def count(path: Path, table: str) -> int:
    """Return how many rows a table has."""
    with sqlite3.connect(path) as reader:
        ((found,),) = reader.execute(f"SELECT COUNT(*) FROM {table}").fetchall()
    reader.close()
    return int(found)


def noted(path: Path) -> int:
    """How many notes lie beside a ledger that are not in its tables."""
    with sqlite3.connect(path) as reader:
        marks = dict(reader.execute("SELECT run_id, number FROM journal_marks").fetchall())
    reader.close()
    return sum(len(read_journal(at, after=marks.get(run_id, 0))) for at, run_id in find_journals(path).items())


async def begin(book: Ledger, name: str, high: int = 9) -> None:
    """Begin a call whose id no other can have."""
    await book.begin(*request(name, high), is_fresh=True)


async def warm(book: Ledger) -> None:
    """The first commit opens the database, on the thread; one on the event loop has it open the journal."""
    await book.begin(*request("first"))
    await book.flush()
    await book.begin(*request("second"))
    await book.flush()


def states(book: Ledger) -> dict[str, str]:
    """What became of each call but those that warmed it up."""
    return {r["request_id"]: r["state"] for r in book.export_rows() if r["request_id"] not in {"first", "second"}}


def leave_behind(path: Path, *, change: object = None) -> Path:
    """Leave a journal with one note beside a ledger that was closed, as a killed process does."""

    async def main() -> tuple[Path, bytes]:
        with ledger.open(path) as book:
            await warm(book)
            await begin(book, "a")
            (journal,) = find_journals(path)
            return journal, journal.read_bytes()

    journal, data = asyncio.run(main())
    with sqlite3.connect(path) as other:
        for table in ("intents", "requests"):
            other.execute(f"DELETE FROM {table} WHERE request_id = 'a'")
        other.execute("DELETE FROM journal_marks")
    other.close()
    journal.write_bytes(data if change is None else change(data))  # type: ignore[operator]
    return journal
