"""Past traffic into the ledger: gathered without a lock, then added in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

from ownward.core import LedgerError, usd_to_picousd
from ownward.ledger._connection import Row
from ownward.ledger._records import ImportCount, TrafficRow
from ownward.ledger._statements import clean, clean_or_none
from ownward.ledger._store import STAGED_BESIDE, STAGED_COLUMNS, Store
from ownward.ledger._times import to_us

_DIGEST_BYTES: Final = 12
_COLUMNS: Final = ", ".join(STAGED_COLUMNS)
# Source by source, so that each is looked up by its key. Ids that were made here of a row's content say nothing of
# other sources: two machines may log equal rows.
_ELSEWHERE: Final = """SELECT 1 FROM import_sources o CROSS JOIN imported i
  WHERE SUBSTR(staged.source_row_id, 1, 1) <> '~' AND SUBSTR(staged.source_row_id, 1, 4) <> 'row-'
  AND o.source_id <> ? AND i.source_id = o.source_id AND i.source_row_id = staged.source_row_id
  AND i.started_at_us = staged.started_at_us
  AND i.input_tokens = staged.input_tokens AND i.output_tokens = staged.output_tokens"""


def import_rows(store: Store, rows: Iterable[TrafficRow], *, source: str, imported_at_us: int) -> ImportCount:
    """Add `rows`, all or none; return how many were new and how many this or another source had brought before.

    Exports of one log overlap: of another source is a row the same that has its id, its time and its tokens.
    Raises: LedgerError, and whatever `rows` raises.
    """
    if not source:
        raise LedgerError("an import has no source", allowed="A name that stays the same when the file comes again")
    connection = None
    try:
        connection = store.connect()
        read = store.stage_imported(connection, _values(rows))
        connection.begin()
        connection.execute(
            "INSERT INTO import_sources (name, imported_at_us) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (clean(source), imported_at_us),
        )
        ((source_id,),) = connection.rows("SELECT source_id FROM import_sources WHERE name = ?", (clean(source),))
        imported = connection.execute(
            f"INSERT INTO imported (source_id, {_COLUMNS})"  # noqa: S608 - our own columns
            f" SELECT {int(source_id)}, {_COLUMNS} FROM staged WHERE NOT EXISTS ({_ELSEWHERE}) ON CONFLICT DO NOTHING",
            (source_id,),
        )
        for column, table in STAGED_BESIDE.items():
            connection.execute(
                f"INSERT INTO {table} (source_id, source_row_id, {column})"  # noqa: S608 - as above
                f" SELECT i.source_id, i.source_row_id, {column} FROM staged JOIN imported i"
                f" ON i.source_id = ? AND i.source_row_id = staged.source_row_id WHERE {column} > 0"
                " ON CONFLICT DO NOTHING",
                (source_id,),
            )
        connection.commit()
    except Exception as error:
        if not store.is_database_error(error):
            raise  # the reader's own
        raise store.translate(error, "import into") from error
    finally:
        if connection is not None:
            connection.rollback()
            connection.close()
    return ImportCount(imported=imported, duplicates=read - imported)


def _values(rows: Iterable[TrafficRow]) -> Iterator[Row]:
    times_seen: dict[bytes, int] = {}
    for row in rows:
        values = (
            None if row.started_at is None else to_us(row.started_at),
            row.arrival_s,
            row.input_tokens,
            row.cached_input_tokens,
            row.output_tokens,
            clean_or_none(row.workload),
            clean_or_none(row.session),
            clean_or_none(row.model),
            None if row.charge_usd is None else usd_to_picousd(row.charge_usd),
            None if row.completed is None else int(row.completed),
        )
        written = row.cache_write_tokens, row.cache_write_1h_tokens
        if row.source_row_id is not None:
            yield clean(row.source_row_id), *values, *written
            continue
        digest = blake2b(repr(values).encode(), digest_size=_DIGEST_BYTES).digest()
        count = times_seen.get(digest, 0) + 1
        times_seen[digest] = count
        yield f"~{digest.hex()}.{count}", *values, *written
