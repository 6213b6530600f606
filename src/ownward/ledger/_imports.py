"""Past traffic into the ledger: gathered without a lock, then added in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

from ownward.core import LedgerError, usd_to_picousd
from ownward.ledger._records import ImportCount, TrafficRow
from ownward.ledger._statements import clean, clean_or_none
from ownward.ledger._store import STAGED_BESIDE, STAGED_COLUMNS, Row, Store
from ownward.ledger._times import to_us

_DIGEST_BYTES: Final = 12
_COLUMNS: Final = ", ".join(STAGED_COLUMNS)


def import_rows(store: Store, rows: Iterable[TrafficRow], *, source: str, imported_at_us: int) -> ImportCount:
    """Add `rows`, all or none; return how many were new and how many the source had brought before.

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
            f" SELECT {int(source_id)}, {_COLUMNS} FROM staged WHERE true ON CONFLICT DO NOTHING"
        )
        connection.execute(
            f"INSERT INTO imported_cache_writes (source_id, source_row_id, {STAGED_BESIDE})"  # noqa: S608 - as above
            f" SELECT {int(source_id)}, source_row_id, {STAGED_BESIDE} FROM staged WHERE {STAGED_BESIDE} > 0"
            " ON CONFLICT DO NOTHING"
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
        if row.source_row_id is not None:
            yield clean(row.source_row_id), *values, row.cache_write_tokens
            continue
        digest = blake2b(repr(values).encode(), digest_size=_DIGEST_BYTES).digest()
        count = times_seen.get(digest, 0) + 1
        times_seen[digest] = count
        yield f"~{digest.hex()}.{count}", *values, row.cache_write_tokens
