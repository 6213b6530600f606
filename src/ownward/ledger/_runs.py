"""Which runs are over, and what that makes of the intents they left."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Final

from ownward.ledger._budgets import count_unsettled
from ownward.ledger._connection import Connection, Row
from ownward.ledger._process import ProcessIdentity, is_alive
from ownward.ledger._schema import POSTGRES_TYPES, SQLITE_TYPES
from ownward.ledger._statements import RECONCILE, RELEASE_HOLDS
from ownward.ledger._store import Store
from ownward.ledger._times import to_us

HEARTBEAT_LIMIT_S: Final = 60.0

_OPEN_RUNS = """
SELECT run_id, pid, process_start, host_id, host_name, heartbeat_at_us FROM runs WHERE closed_at_us IS NULL"""

_STEP: Final = 20_000
"""Intents that are looked at in one read."""

_TOGETHER: Final = 500
"""Attempts that are settled in one transaction, which others wait for."""

_STEP_END: Final = (
    "SELECT request_id, attempt FROM intents WHERE (request_id, attempt) > (?, ?)"
    " ORDER BY request_id, attempt LIMIT 1 OFFSET ?"
)
_LEFT_FROM: Final = (
    "SELECT i.request_id, i.attempt, i.run_id FROM intents i WHERE (i.request_id, i.attempt) > (?, ?) AND NOT EXISTS"
    " (SELECT 1 FROM settlements s WHERE s.request_id = i.request_id AND s.attempt = i.attempt)"
)
_LEFT_BETWEEN: Final = f"{_LEFT_FROM} AND (i.request_id, i.attempt) <= (?, ?)"


def live_runs(connection: Connection, *, now: datetime) -> list[str]:
    """Return the runs whose process still lives, so that what they have in flight may still be settled."""
    now_us = to_us(now)
    return [run_id for run_id, lives in _judged(connection, now_us=now_us) if lives]


def ended_runs(connection: Connection, *, now: datetime) -> tuple[frozenset[str], frozenset[str]]:
    """Return the runs that are over, and of these the ones that nobody has closed yet."""
    unclosed = frozenset(run_id for run_id, lives in _judged(connection, now_us=to_us(now)) if not lives)
    closed = connection.rows("SELECT run_id FROM runs WHERE closed_at_us IS NOT NULL")
    return unclosed | {run_id for (run_id,) in closed}, unclosed


def find_left(store: Store, runs: Collection[str]) -> Iterator[list[Row]]:
    """Yield the attempts that `runs` left in flight, with their run, a few at a time, found by short reads.

    All intents are looked through, which takes seconds for millions: no lock is held meanwhile.
    """
    last: Row | None = ("", 0)
    while last is not None:
        first = last
        with store.reading() as reader:
            last = next(iter(reader.rows(_STEP_END, (*first, _STEP - 1))), None)
            found = reader.rows(_LEFT_FROM, first) if last is None else reader.rows(_LEFT_BETWEEN, (*first, *last))
        left = [row for row in found if row[-1] in runs]
        for at in range(0, len(left), _TOGETHER) or (0,):
            yield left[at : at + _TOGETHER]


def settle_left(store: Store, connection: Connection, left: Iterable[Row], *, now: datetime) -> int:
    """Settle as unsettled, with bounds, what was found and still is in flight; return how many attempts.

    Runs in the caller's transaction. Runs that have given a sign of life meanwhile are left alone.
    """
    store.lock_budgets(connection)  # first, as every writer does
    store.lock_rows(connection, "settlements")
    live = set(live_runs(connection, now=now))
    attempts = [(request_id, attempt) for request_id, attempt, run_id in left if run_id not in live]
    count_unsettled(connection, attempts)
    sql = RECONCILE.format_map(SQLITE_TYPES if store.kind == "sqlite" else POSTGRES_TYPES)
    return sum(connection.execute(sql, (to_us(now), *attempt)) for attempt in attempts)


def close_runs(connection: Connection, runs: Collection[str], *, now: datetime) -> None:
    """Note that runs are over, and release what they held; in the caller's transaction."""
    for run_id in sorted(set(runs).difference(live_runs(connection, now=now))):
        connection.execute("UPDATE runs SET closed_at_us = ? WHERE run_id = ?", (to_us(now), run_id))
        connection.execute(RELEASE_HOLDS, (run_id,))


def _judged(connection: Connection, *, now_us: int) -> list[tuple[str, bool]]:
    judged = []
    for run_id, pid, start, host_id, host_name, beat_us in connection.rows(_OPEN_RUNS):
        process = ProcessIdentity(pid=pid, process_start=start, host_id=host_id, host_name=host_name)
        age_s = (now_us - beat_us) / 1e6
        judged.append((run_id, is_alive(process, heartbeat_age_s=age_s, heartbeat_limit_s=HEARTBEAT_LIMIT_S)))
    return judged
