"""A whole ledger into an empty one, of either database, and the proof that every row arrived.

Bodies go along only where they may: not beyond this machine unless their label lets data travel anywhere.
"""

# ruff: noqa: S608 - the names in these statements are our own; values are always parameters

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ownward.core import LedgerError
from ownward.ledger._connection import Connection, Row
from ownward.ledger._runs import live_runs
from ownward.ledger._store import Store

_PAGE_ROWS: Final = 2000
_MODULUS: Final = 1 << 256

# Each table with its key, in the order in which rows find what they refer to.
TABLES: Final[dict[str, tuple[str, ...]]] = {
    "runs": ("run_id",),
    "plans": ("plan_sha256",),
    "prices": ("price_id",),
    "keys": ("key_id",),
    "workloads": ("workload",),
    "tasks": ("task_id",),
    "requests": ("request_id",),
    "intents": ("request_id", "attempt"),
    "settlements": ("settlement_id",),
    "outcomes": ("outcome_id",),
    "certificates": ("certificate_id",),
    "import_sources": ("source_id",),
    "imported": ("source_id", "source_row_id"),
    "imported_cache_writes": ("source_id", "source_row_id"),
    "imported_cache_writes_1h": ("source_id", "source_row_id"),
    "bodies": ("body_id",),
    "budget_accounts": ("subject", "starts_at_us", "ends_at_us"),
    "limit_buckets": ("key_id", "kind"),
    "limit_windows": ("key_id", "kind"),
    "limit_holds": ("key_id", "run_id"),
    "kept_responses": ("response_id",),
}
_NUMBERED: Final = frozenset({"settlements", "outcomes", "certificates", "import_sources", "bodies"})
_MAY_TRAVEL: Final = {
    "bodies": "EXISTS (SELECT 1 FROM requests r WHERE r.request_id = bodies.request_id AND r.label = 'any')",
    "kept_responses": "label = 'any'",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedTable:
    """One table as it was copied: how many rows, and the same sum over them on either side.

    `rows_sha256` adds up the digests of the rows, in any order. `left_out` are bodies that may not travel there.
    """

    table: str
    rows: int
    rows_sha256: str
    left_out: int = 0


def copy_tables(source: Store, target: Store, connection: Connection, *, now: datetime) -> list[CopiedTable]:
    """Copy every table within the caller's transaction on `target`, from one snapshot of `source`; compare both.

    Raises: LedgerError, if a process still writes to the source, the target holds anything, or a row did not arrive.
    """
    _check_empty(target, connection)
    copied = []
    with _snapshot(source) as reader:
        if live := live_runs(reader, now=now):
            raise LedgerError(
                f"{len(live)} processes still write to the ledger, and what they add would not be copied",
                where=source.name,
                next_step="Stop the gateway, then copy",
            )
        for table, key in TABLES.items():
            which, left_out = "", 0
            if not target.is_on_this_machine and table in _MAY_TRAVEL:
                which = _MAY_TRAVEL[table]
                ((left_out,),) = reader.rows(f"SELECT COUNT(*) FROM {table} WHERE NOT ({which})")
            sent = _copy_table(reader, connection, table, key, which, is_postgres=target.kind == "postgresql")
            arrived = _sum(_pages(connection, table, key, ""))
            if sent != arrived:
                raise LedgerError(
                    f"table {table!r} did not arrive as it was: {sent[0]} rows were sent and {arrived[0]} are there",
                    where=target.name,
                    next_step="Nothing was kept there. Please report it",
                )
            copied.append(CopiedTable(table=table, rows=sent[0], rows_sha256=f"{sent[1]:064x}", left_out=left_out))
    return copied


def _check_empty(target: Store, connection: Connection) -> None:
    held = [table for table in TABLES if connection.rows(f"SELECT 1 FROM {table} LIMIT 1")]
    if held:
        raise LedgerError(
            f"the ledger to copy into is not empty: it has {', '.join(held[:4])}",
            where=target.name,
            allowed="A ledger without any row: a new file, or a database without the schema 'ownward'",
            next_step="Name another one; nothing was changed",
        )


@contextlib.contextmanager
def _snapshot(source: Store) -> Iterator[Connection]:
    with source.reading() as reader:
        is_postgres = source.kind == "postgresql"
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if is_postgres else "BEGIN")
        try:
            yield reader
        finally:
            reader.rollback()


def _copy_table(
    reader: Connection, writer: Connection, table: str, key: Sequence[str], which: str, *, is_postgres: bool
) -> tuple[int, int]:
    overriding = " OVERRIDING SYSTEM VALUE" if is_postgres and table in _NUMBERED else ""
    sent = (0, 0)
    for page in _pages(reader, table, key, which):
        marks = ", ".join("?" * len(page[0]))
        writer.execute_many(f"INSERT INTO {table}{overriding} VALUES ({marks})", page)
        sent = _add(sent, page)
    if overriding and sent[0]:
        writer.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', '{key[0]}'), (SELECT MAX({key[0]}) FROM {table}))"
        )
    return sent


def _pages(connection: Connection, table: str, key: Sequence[str], which: str) -> Iterator[list[Row]]:
    """Yield all rows of a table, some at a time, in the order of its key."""
    columns = ", ".join(key)
    marks = ", ".join("?" * len(key))
    last: tuple[Any, ...] | None = None
    while True:
        conditions = [f"({columns}) > ({marks})"] if last is not None else []
        conditions += [which] if which else []
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = connection.rows(
            f"SELECT {columns}, {table}.* FROM {table}{where} ORDER BY {columns} LIMIT {_PAGE_ROWS}", last or ()
        )
        if not rows:
            return
        last = rows[-1][: len(key)]
        yield [row[len(key) :] for row in rows]


def _sum(pages: Iterator[list[Row]]) -> tuple[int, int]:
    total = (0, 0)
    for page in pages:
        total = _add(total, page)
    return total


def _add(total: tuple[int, int], page: Sequence[Row]) -> tuple[int, int]:
    digests = sum(int.from_bytes(hashlib.sha256(_encoded(row)).digest()) for row in page)
    return total[0] + len(page), (total[1] + digests) % _MODULUS


def _encoded(row: Row) -> bytes:
    """Return a row as bytes that only this row has, whichever database it is from."""
    return repr(tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)).encode()
