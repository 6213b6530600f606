"""The one thread that writes: whatever waits is committed together, and who waits is told afterwards.

While one transaction is being made durable, further rows gather for the next
one, so that the batch grows with the load and an idle ledger answers at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from ownward.core import Clock, LedgerError
from ownward.ledger._budgets import Books, BudgetCheck, has_accounts
from ownward.ledger._limits import Buckets, LimitTake
from ownward.ledger._statements import BEAT, CLOSE_RUN, INSERT_RUN, INSERTS, RELEASE_HOLDS, Table, Values
from ownward.ledger._store import Connection, Store
from ownward.ledger._times import to_us

_T = TypeVar("_T")
_log = logging.getLogger("ownward.ledger")

_BATCH_ENTRIES: Final = 4096
_HEARTBEAT_INTERVAL_S: Final = 10.0
_RETRY_S: Final = 0.5
_TRIES: Final = 5


@dataclass(slots=True, eq=False)
class Entry:
    """What is written together or not at all, and who waits for it."""

    rows: tuple[tuple[Table, Values], ...] = ()
    call: Callable[[Connection], Any] | None = None
    waiter: asyncio.Future[Any] | Future[Any] | None = None
    begins: bool = False  # needs the run's row
    checks: tuple[BudgetCheck, ...] = ()  # budgets that its intent must fit under
    takes: tuple[LimitTake, ...] = ()  # what its intent must find in the buckets of its key
    releases: tuple[tuple[LimitTake, int], ...] = ()  # what was held for a call that is over, and what it used
    outcome: Any = None
    error: LedgerError | None = field(default=None)

    @property
    def moves_money(self) -> bool:
        """Whether a budget's account may have to follow it."""
        return bool(self.rows) and self.rows[-1][0] != "requests"

    @property
    def must_not_be_lost(self) -> bool:
        """Whether it carries money and nobody waits who could try again."""
        return self.waiter is None and bool(self.rows)


class _Stop:
    """Says that nothing follows."""


class Writer:
    """A queue and the thread that empties it into the database."""

    def __init__(self, store: Store, *, run_id: str, run_row: Values, clock: Clock, queue_rows: int) -> None:
        """Keep the parts; the thread starts with the first entry."""
        self._store = store
        self._run_id = run_id
        self._run_row = run_row
        self._clock = clock
        self._queue_rows = queue_rows
        self._queue: queue.SimpleQueue[Entry | _Stop] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._connection: Connection | None = None
        self._has_run = False
        self._keeps_books = False  # whether there were budget accounts at the last look; they are looked for until then
        self._kept: list[Entry] = []  # settlements whose commit failed: tried again with the next batch
        self._stuck: LedgerError | None = None  # why they are kept
        self._refused: LedgerError | None = None  # a row without a waiter that can never be written
        self.commits = 0  # figures for metrics and benchmarks
        self.entries = 0

    @property
    def depth(self) -> int:
        """How many entries wait, the batch being written left out."""
        return self._queue.qsize()

    @property
    def is_full(self) -> bool:
        """Whether who can wait should wait."""
        return self._queue.qsize() >= self._queue_rows

    def put(self, entry: Entry) -> None:
        """Queue an entry.

        Raises: LedgerError, if the ledger is closed or its writer has ended.
        """
        with self._lock:  # nothing may be queued behind the stop: it would wait for ever
            if self._is_closed:
                raise LedgerError("the ledger is closed", where=self._store.name, next_step="Open it again")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="ownward-ledger", daemon=True)
                self._thread.start()
            self._queue.put(entry)

    def put_without_waiter(self, entry: Entry) -> None:
        """Queue an entry for which nobody waits; hold the caller while the queue is full.

        Raises: LedgerError, if the ledger is closed, or full because it cannot be written.
        """
        if self.is_full or len(self._kept) >= self._queue_rows:
            self.run(lambda _connection: None)
        self.put(entry)

    async def wait_for(self, entry: Entry) -> Any:
        """Queue an entry and return its outcome once it is committed; wait first while the queue is full.

        Raises: LedgerError, if it could not be committed.
        """
        while self.is_full:
            await self._barrier()
        entry.waiter = asyncio.get_running_loop().create_future()
        self.put(entry)
        return await entry.waiter

    async def flush(self) -> None:
        """Return once all that was queued before is committed.

        Raises: LedgerError, if some of it could not be.
        """
        await self._barrier()
        self._report()

    def flush_blocking(self) -> None:
        """Do as `flush`, from a thread without an event loop."""
        self.run(lambda _connection: None)
        self._report()

    def run(self, call: Callable[[Connection], _T]) -> _T:
        """Return what `call` returns, after its transaction is committed; the calling thread waits.

        Raises: LedgerError, if it could not be committed.
        """
        waiter: Future[_T] = Future()
        self.put(Entry(call=call, waiter=waiter))
        return waiter.result()

    def close(self) -> None:
        """Write what is queued, say that the run ended, and let go of the database.

        Raises: LedgerError, if settlements could not be written.
        """
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(_Stop())
            thread = self._thread
        if thread is not None:
            thread.join()
        self._report()

    async def _barrier(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self.put(Entry(waiter=waiter))
        await waiter

    def _report(self) -> None:
        error, self._refused = self._refused or self._stuck, None
        if error is not None:
            raise error

    def _work(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # noqa: BLE001 - the thread's outermost frame: nobody may be left waiting
            _log.critical("the ledger's writer ended: %s", error, exc_info=True)
            with self._lock:
                self._is_closed = True
            self._fail_all(LedgerError(f"the ledger's writer ended: {error!r}", where=self._store.name))
        finally:
            if self._connection is not None:
                self._connection.close()

    def _loop(self) -> None:
        beat_at_s = self._clock.monotonic_s() + _HEARTBEAT_INTERVAL_S
        while True:
            batch, is_last = self._take()
            if batch or self._kept:
                self._write(batch)
            now_s = self._clock.monotonic_s()
            if self._has_run and now_s >= beat_at_s and not is_last:
                self._beat()
                beat_at_s = now_s + _HEARTBEAT_INTERVAL_S
            if is_last:
                self._finish()
                return

    def _take(self) -> tuple[list[Entry], bool]:
        """Return what waits, at least one entry unless time is up, and whether it is the last."""
        batch: list[Entry] = []
        patience_s = _RETRY_S if self._kept else _HEARTBEAT_INTERVAL_S if self._has_run else None
        try:
            entry = self._queue.get(timeout=patience_s)
            while True:
                if isinstance(entry, _Stop):
                    return batch, True
                batch.append(entry)
                if len(batch) == _BATCH_ENTRIES:
                    return batch, False
                entry = self._queue.get_nowait()
        except queue.Empty:
            return batch, False

    def _write(self, batch: list[Entry]) -> None:
        entries, self._kept = [*self._kept, *batch], []
        try:
            self._commit(entries)
        except Exception as error:  # noqa: BLE001 - whatever it was, each who waits must hear of it
            self._give_up(entries, error)
        except BaseException as error:
            self._give_up(entries, error)
            raise
        else:
            self._stuck = None
            self.commits += 1
            self.entries += len(entries)
            self._answer(entries)

    def _commit(self, entries: list[Entry]) -> None:
        if not any(entry.rows or entry.call for entry in entries):
            return  # barriers alone
        commit = self._commit_together
        for tries_left in reversed(range(_TRIES)):
            connection = self._begin()
            try:
                commit(connection, entries)
            except Exception as error:
                connection.rollback()
                if self._store.is_row_fault(error) and commit != self._commit_one_by_one:
                    commit = self._commit_one_by_one
                elif not self._store.is_worth_repeating(error):
                    raise
                if not tries_left:
                    raise
            else:
                return

    def _begin(self) -> Connection:
        """Return a connection in a new transaction; a server that restarted meanwhile is connected to again."""
        connection = self._connect()
        try:
            connection.begin()
        except Exception:
            if not connection.is_lost:
                raise
            self._connection = None
            connection = self._connect()
            connection.begin()
        return connection

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = self._store.connect_writer()
        return self._connection

    def _commit_together(self, connection: Connection, entries: list[Entry]) -> None:
        rows: dict[Table, list[Values]] = {}
        for entry in self._admit(connection, entries):
            for table, values in entry.rows:
                rows.setdefault(table, []).append(values)
        calls = [entry for entry in entries if entry.call is not None]
        has_run = self._add_run(connection, entries)
        if "tasks" in rows:
            rows["tasks"].sort()  # writers that meet at the same tasks wait in one order, not for each other
        for table, sql in INSERTS.items():
            if table in rows:
                connection.execute_many(sql, rows[table])
        for entry in calls:
            self._call(connection, entry)
        connection.commit()
        self._has_run = has_run

    def _commit_one_by_one(self, connection: Connection, entries: list[Entry]) -> None:
        """Write what can be written: one entry's fault is its own."""
        has_run = self._add_run(connection, entries)
        for entry in entries:
            connection.execute("SAVEPOINT one")
            try:
                for admitted in self._admit(connection, [entry]):
                    for table, values in admitted.rows:
                        connection.execute(INSERTS[table], values)
            except Exception as error:
                if not self._store.is_row_fault(error):
                    raise
                connection.execute("ROLLBACK TO SAVEPOINT one")
                entry.error = LedgerError(f"a row was refused: {error}", where=self._store.name)
            connection.execute("RELEASE SAVEPOINT one")
            if entry.call is not None:
                self._call(connection, entry)
        connection.commit()
        self._has_run = has_run

    def _admit(self, connection: Connection, entries: list[Entry]) -> list[Entry]:
        """Return the entries that no budget forbids, their accounts brought up to date; the others hear why."""
        if not any(entry.moves_money for entry in entries):
            return entries
        is_limited = any(entry.takes or entry.releases for entry in entries)
        if not (self._keeps_books or is_limited or any(entry.checks for entry in entries) or has_accounts(connection)):
            return entries
        self._store.lock_budgets(connection)
        self._keeps_books = self._keeps_books or any(entry.checks for entry in entries) or has_accounts(connection)
        books = Books(self._store, connection, entries) if self._keeps_books else None
        buckets = self._open_buckets(connection, entries) if is_limited else None
        admitted = []
        for entry in entries:
            entry.error = None if buckets is None else buckets.refuse(entry)
            if entry.error is None and books is not None:
                entry.error = books.enter(entry)
            if entry.error is None:
                admitted.append(entry)
                if buckets is not None:
                    buckets.enter(entry)
        if books is not None:
            books.write()
        if buckets is not None:
            buckets.write()
        return admitted

    def _open_buckets(self, connection: Connection, entries: list[Entry]) -> Buckets:
        return Buckets(connection, entries, run_id=self._run_id, now_us=to_us(self._clock.now()))

    def _call(self, connection: Connection, entry: Entry) -> None:
        assert entry.call is not None
        connection.execute("SAVEPOINT call")
        entry.error = None
        try:
            entry.outcome = entry.call(connection)
        except LedgerError as error:
            entry.error = error
        except Exception as error:
            if not self._store.is_row_fault(error):
                raise
            entry.error = LedgerError(f"a row was refused: {error}", where=self._store.name)
        if entry.error is not None:
            connection.execute("ROLLBACK TO SAVEPOINT call")
        connection.execute("RELEASE SAVEPOINT call")

    def _add_run(self, connection: Connection, entries: list[Entry]) -> bool:
        if not self._has_run and any(entry.begins for entry in entries):
            connection.execute(INSERT_RUN, self._run_row)
            return True
        return self._has_run

    def _give_up(self, entries: list[Entry], error: BaseException) -> None:
        """Tell who waits; keep what carries money and has nobody waiting; start afresh with the database."""
        fault = error if isinstance(error, LedgerError) else self._store.translate(error, "write")
        fault.__cause__ = error if fault is not error else None
        if self._stuck is None:  # else it was said already, and is tried again twice a second
            _log.error("%s", fault)
        if self._connection is not None:
            self._connection.rollback()
            self._connection.close()
            self._connection = None
        self._kept = [entry for entry in entries if entry.must_not_be_lost]
        if self._kept:
            self._stuck = fault
        for entry in entries:
            entry.error = fault
            for take in entry.takes:
                take.is_held = False
        self._answer([entry for entry in entries if not entry.must_not_be_lost])
        for entry in self._kept:
            entry.error = None

    def _answer(self, entries: Iterable[Entry]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[Entry]] = {}
        for entry in entries:
            waiter = entry.waiter
            if waiter is None:
                if entry.error is not None:
                    _log.error("%s", entry.error)
                    self._refused = entry.error
            elif isinstance(waiter, Future):
                if entry.error is not None:
                    waiter.set_exception(entry.error)
                else:
                    waiter.set_result(entry.outcome)
            else:
                by_loop.setdefault(waiter.get_loop(), []).append(entry)
        for loop, waiting in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_resume, waiting)

    def _fail_all(self, fault: LedgerError) -> None:
        self._stuck = fault
        waiting: list[Entry] = []
        with contextlib.suppress(queue.Empty):
            while True:
                entry = self._queue.get_nowait()
                if isinstance(entry, Entry):
                    entry.error = fault
                    waiting.append(entry)
        self._answer(waiting)

    def _beat(self) -> None:
        with contextlib.suppress(Exception):  # the next batch finds out and tells those who wait
            connection = self._connect()
            try:
                connection.begin()
                connection.execute(BEAT, (to_us(self._clock.now()), self._run_id))
                connection.commit()
            finally:
                connection.rollback()

    def _finish(self) -> None:
        if self._kept:
            self._write([])
        if self._has_run and self._connection is not None:
            now_us = to_us(self._clock.now())
            try:
                self._connection.begin()
                self._connection.execute(CLOSE_RUN, (now_us, now_us, self._run_id))
                self._connection.execute(RELEASE_HOLDS, (self._run_id,))
                self._connection.commit()
            except Exception as error:  # noqa: BLE001 - kept for close(), which raises it
                self._connection.rollback()
                self._stuck = self._store.translate(error, "close")


def _resume(waiting: list[Entry]) -> None:
    for entry in waiting:
        waiter = entry.waiter
        if waiter is None or waiter.done():
            continue
        if entry.error is not None:
            waiter.set_exception(entry.error)
        else:
            waiter.set_result(entry.outcome)
