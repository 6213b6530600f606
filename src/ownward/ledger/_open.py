"""From a path or an address to an open ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Final, get_args

from ownward.core import Clock, LedgerError, SystemClock
from ownward.ledger._ledger import Ledger
from ownward.ledger._postgres_address import is_address
from ownward.ledger._sqlite import SqliteStore
from ownward.ledger._store import Durability, Store
from ownward.ledger._times import to_us

_BUSY_TIMEOUT_S: Final = 30.0


def open(  # noqa: A001 - read as ledger.open
    target: str | Path,
    *,
    durability: Durability = "process",
    clock: Clock | None = None,
    is_read_only: bool = False,
    busy_timeout_s: float = _BUSY_TIMEOUT_S,
) -> Ledger:
    """Return the ledger at a path, which is made if it is not there, or at a `postgresql://` address.

    `durability`: `process` survives the death of any of our processes, `power`
    the loss of power too, at the price of a disk flush for each group of rows.
    `busy_timeout_s` is how long a write waits for other processes' writes.
    With `is_read_only`, nothing is made or migrated, and nothing changed but what running or killed processes have
    noted beside the tables, which is put into them.
    Raises: LedgerError, if it cannot be a ledger (a folder, another file, a read-only
    place, no server), SchemaTooNew, and MissingExtra without psycopg; nothing is changed then.
    """
    if durability not in get_args(Durability):
        raise LedgerError(f"durability is {durability!r}", allowed=f"One of {', '.join(get_args(Durability))}")
    clock = clock or SystemClock()
    store: Store
    if isinstance(target, str) and is_address(target):
        from ownward.ledger._postgres import PostgresStore

        store = PostgresStore(target, durability=durability, busy_timeout_s=busy_timeout_s)
    else:
        store = SqliteStore(Path(target).expanduser(), durability=durability, busy_timeout_s=busy_timeout_s)
    try:
        store.prepare(applied_at_us=to_us(clock.now()), is_read_only=is_read_only)
    except BaseException:
        store.close()
        raise
    return Ledger(store, clock=clock, is_read_only=is_read_only)
