"""Who writes, and when: whatever waits is committed together, and who waits is told afterwards.

Few rows are written by the event loop itself at the end of its turn, where neither another writer nor the disk has to
be waited for: handing them to a thread and being woken by it takes longer than writing. Where they come often, they are
noted in the journal, which the thread puts into the tables a few times a second. All else is the work of that thread.
While its transaction is being made durable, further rows gather for the next one, so that the batch grows with the load
and an idle ledger answers at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from ownward.core import Clock, LedgerError
from ownward.ledger._commits import Committer
from ownward.ledger._entries import Entry
from ownward.ledger._statements import Values
from ownward.ledger._store import Connection, Store
from ownward.ledger._waiters import tell

_T = TypeVar("_T")
_log = logging.getLogger("ownward.ledger")

_BATCH_ENTRIES: Final = 4096
_HEARTBEAT_INTERVAL_S: Final = 10.0
_RETRY_S: Final = 0.5
_SAY_EVERY_S: Final = 60.0

# What the event loop commits by itself. A settlement rides with the next intent, or goes when none comes in time.
_MOST_WAITING: Final = 4
_MOST_AT_ONCE: Final = 16
_RIDE_S: Final = 0.005
_SLOW_S: Final = 0.005

# The journal is used while so many commits of the event loop come within so long, until none has come for a while.
_OFTEN: Final = 8
_OFTEN_S: Final = 1.0
_POST_S: Final = 0.25
_IDLE_POSTS: Final = 20
_REST_S: Final = 0.00002
"""How long the thread rests after some rows that it posts: the event loop is not to wait for the processor. Who merely
yields it (`sched_yield`) would get it back late where another process wants all of it."""

# After so many turns of the event loop in which one intent found no other, so many do not wait for their turn's end.
_LONELY_TURNS: Final = 2
_ALONE: Final = 32
_REST_TIMES: Final = 20


class _Stop:
    """Says that nothing follows."""


class _Wake:
    """Says that there is something in the journal."""


class Writer:
    """What is to be written, the thread that writes it, and the event loop that writes a little beside it.

    Entries are committed in the order in which they were put: the event loop writes only what it has gathered itself,
    while nothing else is in hand.
    """

    def __init__(self, store: Store, *, run_id: str, run_row: Values, clock: Clock, queue_rows: int) -> None:
        """Keep the parts; the thread starts with the first entry."""
        self._store = store
        self._committer = Committer(store, run_id=run_id, run_row=run_row, clock=clock)
        self._clock = clock
        self._queue_rows = queue_rows
        self._queue: queue.SimpleQueue[Entry | _Stop | _Wake] = queue.SimpleQueue()
        self._in_hand = 0  # entries that the thread has yet to write
        self._gathered: list[Entry] = []  # put on the event loop since its last commit
        self._event_loop: asyncio.AbstractEventLoop | None = None  # the one that gathers
        self._turn_end: asyncio.Handle | None = None
        self._ride_end: asyncio.Handle | None = None
        self._lonely_turns = 0  # one after another in which one intent found no company
        self._alone_left = 0  # intents that need not look for any
        self._rests_until_s = 0.0  # after a commit that took long, the thread commits everything
        self._tends_journal = False  # whether the thread posts what is noted, and looks whether it still may be
        self._posts_at_s = 0.0
        self._idle_posts = 0
        self._often_since_s = 0.0
        self._often = 0  # commits of the event loop since then
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._kept: list[Entry] = []  # settlements whose commit failed: tried again with the next batch
        self._stuck: LedgerError | None = None  # why they are kept
        self.is_failing = False  # whether the last commit failed, and no heartbeat went well since
        self._says_again_s = 0.0
        self._refused: LedgerError | None = None  # a row without a waiter that can never be written
        self.commits = 0  # figures for metrics and benchmarks
        self.entries = 0

    @property
    def depth(self) -> int:
        """How many entries wait, the batch being written left out."""
        return self._queue.qsize() + len(self._gathered)

    @property
    def is_full(self) -> bool:
        """Whether who can wait should wait."""
        return self._queue.qsize() >= self._queue_rows

    def put(self, entry: Entry) -> None:
        """Queue an entry for the thread.

        Raises: LedgerError, if the ledger is closed or its writer has ended.
        """
        with self._lock:  # nothing may be queued behind the stop: it would wait for ever
            self._require_open()
            self._hand_over()
            self._queue.put(entry)
            self._in_hand += 1

    def put_without_waiter(self, entry: Entry) -> None:
        """Queue an entry for which nobody waits; hold the caller while the queue is full.

        Raises: LedgerError, if the ledger is closed, or full because it cannot be written.
        """
        if self.is_full or len(self._kept) >= self._queue_rows:
            self.run(_nothing)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.put(entry)
        else:
            self._gather(entry, loop)

    async def wait_for(self, entry: Entry) -> Any:
        """Queue an entry and return its outcome once it is committed; wait first while the queue is full.

        Raises: LedgerError, if it could not be committed.
        """
        while self.is_full:
            await self._barrier()
        loop = asyncio.get_running_loop()
        if not self._alone_left or not self._write_alone(entry, loop):
            entry.waiter = loop.create_future()
            self._gather(entry, loop)
            return await entry.waiter
        if entry.error is not None:
            raise entry.error
        return entry.outcome

    async def flush(self) -> None:
        """Return once all that was queued before is committed.

        Raises: LedgerError, if some of it could not be.
        """
        await self._barrier()
        self._report()

    def flush_blocking(self) -> None:
        """Do as `flush`, from a thread without an event loop."""
        self.run(_nothing)
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
                self._hand_over()
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
        error = self._refused or self._committer.refused or self._stuck
        self._refused = self._committer.refused = None
        if error is not None:
            raise error

    def _require_open(self) -> None:
        if self._is_closed:
            raise LedgerError("the ledger is closed", where=self._store.name, next_step="Open it again")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="ownward-ledger", daemon=True)
            self._thread.start()

    def _hand_over(self) -> None:
        """Let the thread have what the event loop has gathered; the caller holds the lock."""
        for entry in self._gathered:
            self._queue.put(entry)
        self._in_hand += len(self._gathered)
        self._gathered.clear()

    # The event loop's side.

    def _write_alone(self, entry: Entry, loop: asyncio.AbstractEventLoop) -> bool:
        """Commit what somebody is about to wait for, with what has been gathered, before anybody has to wait."""
        with self._lock:
            self._alone_left -= 1
            if self._in_hand or self._kept or self._is_closed or loop is not self._event_loop or self._turn_end:
                return False
            entries = [*self._gathered, entry]
            if len(entries) > _MOST_AT_ONCE or not self._write_here(entries):
                return False
            self._gathered = []
        if len(entries) > 1:
            self._answer(entries[:-1], here=loop)
        return True

    def _gather(self, entry: Entry, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._require_open()
            if loop is not self._event_loop:
                self._hand_over()
                self._event_loop, self._turn_end, self._ride_end = loop, None, None
            is_alone = self._alone_left and not (self._in_hand or self._kept or self._gathered)
            if entry.waiter is None and is_alone and self._note_here([entry]):
                return
            self._gathered.append(entry)
            if entry.waiter is not None:
                self._turn_end = self._turn_end or loop.call_soon(self._end_turn)
            elif self._ride_end is None:
                self._ride_end = loop.call_later(_RIDE_S, self._end_ride)

    def _end_turn(self) -> None:
        self._turn_end = None
        self._note_company()
        self._write_gathered()

    def _note_company(self) -> None:
        """Have the next ones not wait for company, where none came in the last turns in which it was waited for."""
        if sum([entry.waiter is not None for entry in self._gathered]) > 1:
            self._lonely_turns = 0
            return
        self._lonely_turns += 1
        if self._lonely_turns >= _LONELY_TURNS:
            self._alone_left = _ALONE

    def _end_ride(self) -> None:
        self._ride_end = None
        self._write_gathered()

    def _write_gathered(self) -> None:
        with self._lock:
            entries = self._gathered
            if not entries:
                return
            is_small = not self._in_hand and not self._kept and _is_small(entries)
            if not is_small or not self._write_here(entries):
                self._hand_over()
                return
            self._gathered = []
        self._answer(entries, here=asyncio.get_running_loop())

    def _write_here(self, entries: list[Entry]) -> bool:
        """Write on the event loop; False where nothing was written, as that might have to wait."""
        return self._note_here(entries) or self._commit_here(entries)

    def _note_here(self, entries: list[Entry]) -> bool:
        """Note them in the journal; the caller holds the lock."""
        began_s = self._clock.monotonic_s()
        if began_s < self._rests_until_s or self.is_failing or not self._committer.note(entries):
            return False
        self._note_duration(began_s)
        self.commits += 1
        self.entries += len(entries)
        if not self._tends_journal:
            self._tends_journal = True
            self._queue.put(_Wake())
        return True

    def _commit_here(self, entries: list[Entry]) -> bool:
        """Commit them; the caller holds the lock."""
        began_s = self._clock.monotonic_s()
        if began_s < self._rests_until_s or not self._writing.acquire(blocking=False):
            return False
        try:
            if not self._committer.commit_at_once(entries):
                return False
        finally:
            self._writing.release()
        self._note_duration(began_s)
        self._note_commit(entries)
        if not self._tends_journal:
            self._open_journal_if_often(began_s)
        return True

    def _note_duration(self, began_s: float) -> None:
        """Leave it to the thread for a while, where this took long."""
        took_s = self._clock.monotonic_s() - began_s
        if took_s > _SLOW_S:
            self._rests_until_s = began_s + took_s + _REST_TIMES * took_s

    def _open_journal_if_often(self, now_s: float) -> None:
        if now_s - self._often_since_s > _OFTEN_S:
            self._often_since_s, self._often = now_s, 0
        self._often += 1
        if self._often == _OFTEN:
            self._tends_journal = True
            self._queue.put(Entry(call=self._committer.open_journal))
            self._in_hand += 1

    # The thread's side.

    def _work(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # noqa: BLE001 - the thread's outermost frame: nobody may be left waiting
            _log.critical("the ledger's writer ended: %s", error, exc_info=True)
            with self._lock:
                self._is_closed = True
                self._hand_over()
            self._fail_all(LedgerError(f"the ledger's writer ended: {error!r}", where=self._store.name))
        finally:
            self._committer.close_journal()
            self._committer.close()

    def _loop(self) -> None:
        beat_at_s = self._clock.monotonic_s() + _HEARTBEAT_INTERVAL_S
        while True:
            batch, is_last = self._take()
            if batch or self._kept:
                with self._writing:
                    told = self._write(batch)
                with self._lock:
                    self._in_hand -= len(batch)
                self._answer(told)
            now_s = self._clock.monotonic_s()
            if self._tends_journal and not is_last and now_s >= self._posts_at_s:
                self._tend_journal()
                self._posts_at_s = self._clock.monotonic_s() + _POST_S
            if self._committer.has_run and now_s >= beat_at_s and not is_last:
                with self._writing:
                    self._beat()
                beat_at_s = now_s + _HEARTBEAT_INTERVAL_S
            if is_last:
                self._finish()
                return

    def _take(self) -> tuple[list[Entry], bool]:
        """Return what waits, at least one entry unless time is up, and whether it is the last."""
        batch: list[Entry] = []
        patience_s = _RETRY_S if self._kept else _HEARTBEAT_INTERVAL_S if self._committer.has_run else None
        if self._tends_journal:
            patience_s = max(0.0, self._posts_at_s - self._clock.monotonic_s())
        try:
            entry = self._queue.get(timeout=patience_s)
            while True:
                if isinstance(entry, _Stop):
                    return batch, True
                if isinstance(entry, _Wake):
                    self._posts_at_s = self._clock.monotonic_s() + _POST_S
                    return batch, False
                batch.append(entry)
                if len(batch) == _BATCH_ENTRIES:
                    return batch, False
                entry = self._queue.get_nowait()
        except queue.Empty:
            return batch, False

    def _tend_journal(self) -> None:
        """Post what is noted, and note nothing any more where that was asked for, or nobody has for a while."""
        committer = self._committer
        if committer.must_close_journal():
            committer.close_journal()
        if committer.unposted:
            self._idle_posts = 0
            with self._writing:
                told = self._write([])
            self._answer(told)
            return
        self._idle_posts += 1
        if self._idle_posts >= _IDLE_POSTS:
            with self._lock:
                committer.close_journal()
                self._tends_journal, self._idle_posts = bool(committer.unposted), 0

    def _rest(self) -> None:
        """Let the event loop have the processor, while nobody waits for what the thread writes."""
        if self._queue.empty():
            time.sleep(_REST_S)

    def _write(self, batch: list[Entry]) -> list[Entry]:
        """Commit what was kept and `batch`; return whom to tell."""
        entries, self._kept = [*self._kept, *batch], []
        try:
            self._committer.commit(entries, rest=None if entries else self._rest)
        except Exception as error:  # noqa: BLE001 - whatever it was, each who waits must hear of it
            return self._give_up(entries, error)
        except BaseException as error:
            self._answer(self._give_up(entries, error))
            raise
        self._note_commit(entries)
        return entries

    def _note_commit(self, entries: list[Entry]) -> None:
        self._stuck = None
        self._note_health()
        self.commits += 1
        self.entries += len(entries)

    def _beat(self) -> None:
        """Say that this run lives; so it is also found out that a ledger cannot be written, or can be again."""
        try:
            self._committer.beat()
        except Exception as error:  # noqa: BLE001 - whatever it was, it is told and tried again
            self._note_failure(error if isinstance(error, LedgerError) else self._store.translate(error, "write"))
        else:
            self._note_health()

    def _note_health(self) -> None:
        if self.is_failing:
            self.is_failing = False
            _log.warning("%s: the ledger can be written again", self._store.name)

    def _note_failure(self, fault: LedgerError) -> None:
        """Say why nothing can be written, once a minute while it lasts, and start afresh with the database."""
        now_s = self._clock.monotonic_s()
        if not self.is_failing or now_s >= self._says_again_s:
            _log.error("%s", fault)
            self._says_again_s = now_s + _SAY_EVERY_S
        self.is_failing = True
        self._committer.close()

    def _give_up(self, entries: list[Entry], error: BaseException) -> list[Entry]:
        """Return whom to tell; keep what carries money and has nobody waiting; start afresh with the database."""
        fault = error if isinstance(error, LedgerError) else self._store.translate(error, "write")
        fault.__cause__ = error if fault is not error else None
        self._note_failure(fault)
        told = []
        for entry in entries:
            for take in entry.takes:
                take.is_held = False
            if entry.must_not_be_lost:
                entry.error = None
                self._kept.append(entry)
            else:
                entry.error = fault
                told.append(entry)
        if self._kept:
            self._stuck = fault
        return told

    def _answer(self, entries: Iterable[Entry], *, here: asyncio.AbstractEventLoop | None = None) -> None:
        self._refused = tell(entries, here=here) or self._refused

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

    def _finish(self) -> None:
        with self._writing:
            if self._kept:
                self._answer(self._write([]))
            try:
                self._committer.end_run()
            except Exception as error:  # noqa: BLE001 - kept for close(), which raises it
                self._stuck = self._store.translate(error, "close")


def _nothing(_connection: Connection) -> None:
    """Have a transaction of its own."""


def _is_small(entries: list[Entry]) -> bool:
    return len(entries) <= _MOST_AT_ONCE and sum([entry.waiter is not None for entry in entries]) <= _MOST_WAITING
