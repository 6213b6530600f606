"""Which runs are over, and what that makes of the intents they left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from ownward.ledger._budgets import count_unsettled, marks, parts
from ownward.ledger._process import ProcessIdentity, is_alive
from ownward.ledger._schema import POSTGRES_TYPES, SQLITE_TYPES
from ownward.ledger._statements import RECONCILE, RELEASE_HOLDS
from ownward.ledger._store import Connection, Store
from ownward.ledger._times import to_us

HEARTBEAT_LIMIT_S: Final = 60.0

_UNSETTLED = """
SELECT i.run_id, i.request_id FROM intents i
LEFT JOIN settlements s ON s.request_id = i.request_id AND s.attempt = i.attempt WHERE s.request_id IS NULL"""
_OPEN_RUNS = """
SELECT run_id, pid, process_start, host_id, host_name, heartbeat_at_us FROM runs WHERE closed_at_us IS NULL"""


def live_runs(connection: Connection, *, now: datetime) -> list[str]:
    """Return the runs whose process still lives, so that what they have in flight may still be settled."""
    now_us = to_us(now)
    return [run_id for run_id, lives in _judged(connection, now_us=now_us) if lives]


def find_left(connection: Connection, *, now: datetime) -> dict[str, list[str]]:
    """Return the runs that are over and not closed, or that left calls unsettled, each with the requests of these.

    It looks through the whole ledger, which takes a second for some hundred thousand calls, and holds up nobody.
    """
    lives = dict(_judged(connection, now_us=to_us(now)))
    left: dict[str, list[str]] = {run_id: [] for run_id, is_live in lives.items() if not is_live}
    for run_id, request_id in connection.rows(_UNSETTLED):
        if not lives.get(run_id, False):
            left.setdefault(run_id, []).append(request_id)
    return left


def reconcile_ended(store: Store, connection: Connection, left: Mapping[str, Sequence[str]], *, now: datetime) -> int:
    """Settle as unsettled, with bounds, what ended runs left open, and close them; return how many attempts.

    Runs in the caller's transaction; `left` is what was found just before it. Running it again finds nothing to do.
    """
    now_us = to_us(now)
    store.lock_budgets(connection)  # first, as every writer does
    store.lock_rows(connection, "settlements")
    lives = dict(_judged(connection, now_us=now_us))
    types = SQLITE_TYPES if store.kind == "sqlite" else POSTGRES_TYPES
    settled = 0
    for run_id, request_ids in left.items():
        if lives.get(run_id, False):
            continue  # it has given a sign of life meanwhile
        for part in parts(request_ids):
            count_unsettled(connection, run_id, part)
            sql = RECONCILE.format_map({**types, "requests": marks(part)})
            settled += connection.execute(sql, (now_us, run_id, *part))
        if run_id in lives:
            connection.execute("UPDATE runs SET closed_at_us = ? WHERE run_id = ?", (now_us, run_id))
            connection.execute(RELEASE_HOLDS, (run_id,))
    return settled


def _judged(connection: Connection, *, now_us: int) -> list[tuple[str, bool]]:
    judged = []
    for run_id, pid, start, host_id, host_name, beat_us in connection.rows(_OPEN_RUNS):
        process = ProcessIdentity(pid=pid, process_start=start, host_id=host_id, host_name=host_name)
        age_s = (now_us - beat_us) / 1e6
        judged.append((run_id, is_alive(process, heartbeat_age_s=age_s, heartbeat_limit_s=HEARTBEAT_LIMIT_S)))
    return judged
