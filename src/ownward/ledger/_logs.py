"""When the logs that hold a workload's requests end."""

from __future__ import annotations

from ownward.ledger._connection import Row
from ownward.ledger._rows import LogRow
from ownward.ledger._store import Store
from ownward.ledger._times import from_us_or_none


def query_logs(store: Store) -> dict[str, LogRow]:
    """Return when the logs that hold each workload's requests end."""
    sql = """
SELECT source_id, workload, MAX(started_at_us), MAX(CASE WHEN started_at_us IS NULL THEN arrival_s END)
FROM imported GROUP BY source_id, workload
UNION ALL SELECT NULL, workload, MAX(started_at_us), NULL
FROM requests WHERE refused_at_us IS NULL GROUP BY workload"""
    with store.reading() as reader:
        rows = reader.rows(sql)
    ends_us: dict[int | None, int] = {}
    ends_s: dict[int | None, float] = {}
    held: dict[str, list[Row]] = {}
    for row in rows:
        source, workload, last_us, last_s = row
        if last_us is not None:
            ends_us[source] = max(last_us, ends_us.get(source, last_us))
        if last_s is not None:
            ends_s[source] = max(last_s, ends_s.get(source, last_s))
        if workload is not None:
            held.setdefault(workload, []).append(row)
    return {
        workload: LogRow(
            ends_at=from_us_or_none(max((ends_us[row[0]] for row in parts if row[0] in ends_us), default=None)),
            ends_s=max((ends_s[row[0]] for row in parts if row[0] in ends_s), default=None),
        )
        for workload, parts in held.items()
    }
