"""Who writes, and when: the event loop a little by itself, and the thread all else.

Few rows are written by the event loop at the end of its turn, where neither another writer nor the disk has to be
waited for: handing them to the thread and being woken by it takes longer than writing. Where they come often, they are
noted in the journal, which the thread puts into the tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

from ownward.core import Clock, LedgerError
from ownward.ledger._connection import Connection
from ownward.ledger._entries import Entry
from ownward.ledger._statements import Values
from ownward.ledger._store import Store
from ownward.ledger._writing_thread import WritingThread

_T = TypeVar("_T")

_PATIENCE_S: Final = 1.0  # with a ledger that fails

# What the event loop commits by itself. A settlement rides with the next intent, or goes when none comes in time.
_MOST_WAITING: Final = 4
_MOST_AT_ONCE: Final = 16
_RIDE_S: Final = 0.005

# After a commit of the event loop that took so long, the thread commits everything for so many times as long.
_SLOW_S: Final = 0.005
_REST_TIMES: Final = 20

# The journal is used while so many commits of the event loop come within so long, until none has come for a while.
_OFTEN: Final = 8
_OFTEN_S: Final = 1.0

# After so many turns of the event loop in which one intent found no other, so many do not wait for their turn's end.
_LONELY_TURNS: Final = 2
_ALONE: Final = 32


class Writer:
    """What is to be written; entries are committed in the order in which they were put.

    The event loop writes only what it has gathered itself, while the thread has nothing in hand.
    """

    def __init__(self, store: Store, *, run_id: str, run_row: Values, clock: Clock, queue_rows: int) -> None:
        """Keep the parts; the thread starts with the first entry."""
        self._thread = WritingThread(store, run_id=run_id, run_row=run_row, clock=clock)
        self._lock = self._thread.lock
        self._clock = clock
        self._queue_rows = queue_rows
        self._gathered: list[Entry] = []  # put on the event loop since its last commit
        self._event_loop: asyncio.AbstractEventLoop | None = None  # the one that gathers
        self._turn_end: asyncio.Handle | None = None
        self._ride_end: asyncio.Handle | None = None
        self._lonely_turns = 0  # one after another in which one intent found no company
        self._alone_left = 0  # intents that need not look for any
        self._rests_until_s = 0.0  # after a commit that took long
        self._often_since_s = 0.0
        self._often = 0  # commits of the event loop since then

    @property
    def depth(self) -> int:
        """How many entries wait, the batch being written left out."""
        return self._thread.count_waiting() + len(self._gathered)

    @property
    def is_failing(self) -> bool:
        """Whether the last commit failed, and no heartbeat went well since."""
        return self._thread.is_failing

    @property
    def commits(self) -> int:
        """How many transactions, or notes in the journal, there were."""
        return self._thread.commits

    async def look(self, most_s: float) -> None:
        """Return once it is known anew whether the ledger can be written, or after `most_s`."""
        with self._lock:
            looking = self._thread.look()
        if looking is not None:
            await asyncio.wait({asyncio.wrap_future(looking)}, timeout=most_s)

    def put(self, entry: Entry) -> None:
        """Queue an entry for the thread.

        Raises: LedgerError, if the ledger is closed or its writer has ended.
        """
        with self._lock:  # nothing may be queued behind the stop: it would wait for ever
            if not self._thread.is_running:
                self._thread.start()
            self._hand_over()
            self._thread.put([entry])

    def put_without_waiter(self, entry: Entry) -> None:
        """Queue an entry for which nobody waits; hold the caller while the queue is full.

        Raises: LedgerError, if the ledger is closed, or full because it cannot be written; at once, where its caller
        would be held for long.
        """
        thread = self._thread
        if thread.count_waiting() >= self._queue_rows or len(thread.kept) >= self._queue_rows:
            if thread.is_failing or thread.takes_long:
                raise LedgerError(
                    f"{self._queue_rows} rows wait to be written, and none is",
                    next_step="Look why the ledger cannot be written; what a call used stays open, with its bounds",
                )
            self.run(_nothing)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.put(entry)
        else:
            self._gather(entry, loop)

    def write_alone(self, entry: Entry) -> bool:
        """Commit what somebody is about to wait for, and what has been gathered; False where it has to be waited for.

        Only while the last turns of the event loop have had no other company for it.
        """
        if not self._alone_left:
            return False
        with self._lock:
            self._alone_left -= 1
            if self._turn_end:
                return False
            entries = [*self._gathered, entry]
            if len(entries) > _MOST_AT_ONCE or not self._write_here(entries):
                return False
            self._gathered = []  # for none of these does anybody wait
        return True

    async def wait_for(self, entry: Entry) -> None:
        """Queue an entry and return once it is committed; wait first while the queue is full.

        Raises: LedgerError, if it could not be committed; where the ledger fails, at once while its next batch takes
        long, else after a second: then it may be committed all the same, and has to be cancelled.
        """
        failure = self._thread.failure if self._thread.is_failing else None
        if failure is not None and self._thread.takes_long:
            raise failure
        while self._thread.count_waiting() >= self._queue_rows:
            await self._barrier()
        loop = asyncio.get_running_loop()
        entry.waiter = loop.create_future()
        self._gather(entry, loop)
        if failure is None:
            await entry.waiter
            return
        try:
            await asyncio.wait_for(entry.waiter, _PATIENCE_S)
        except TimeoutError:
            raise failure from None

    async def flush(self) -> None:
        """Return once all that was queued before is committed.

        Raises: LedgerError, if some of it could not be.
        """
        await self._barrier()
        self._thread.report()

    def flush_blocking(self) -> None:
        """Do as `flush`, from a thread without an event loop."""
        self.run(_nothing)
        self._thread.report()

    def run(self, call: Callable[[Connection], _T]) -> _T:
        """Return what `call` returns, after its transaction is committed; the calling thread waits.

        Raises: LedgerError, if it could not be committed.
        """
        waiter: Future[_T] = Future()
        self.put(Entry(call=call, waiter=waiter))
        try:
            return waiter.result()
        finally:
            del waiter  # which holds an error, and that this frame

    def close(self) -> None:
        """Write what is queued, say that the run ended, and let go of the database.

        Raises: LedgerError, if settlements could not be written.
        """
        with self._lock:
            self._hand_over()
            self._thread.stop()
        self._thread.join()
        self._thread.report()

    async def _barrier(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self.put(Entry(waiter=waiter))
        await waiter

    def _hand_over(self) -> None:
        """Let the thread have what the event loop has gathered; the caller holds the lock."""
        gathered, self._gathered = self._gathered, []
        self._thread.put(gathered)

    # What the event loop does by itself.

    def _gather(self, entry: Entry, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            if not self._thread.is_running:
                self._thread.start()
            if loop is not self._event_loop:
                self._hand_over()
                self._event_loop, self._turn_end, self._ride_end = loop, None, None
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
            if not _is_small(entries) or not self._write_here(entries):
                self._hand_over()
                return
            self._gathered = []
        self._thread.answer(entries, here=asyncio.get_running_loop())

    def _write_here(self, entries: list[Entry]) -> bool:
        """Note or commit entries; False where that might have to wait. The caller holds the lock."""
        thread, began_s = self._thread, self._clock.monotonic_s()
        if thread.in_hand or not thread.is_running or began_s < self._rests_until_s:
            return False
        if not thread.note(entries):
            if not thread.commit_at_once(entries):
                return False
            if not thread.tends_journal:
                self._open_journal_if_often(began_s)
        took_s = self._clock.monotonic_s() - began_s
        if took_s > _SLOW_S:
            self._rests_until_s = began_s + took_s + _REST_TIMES * took_s
        return True

    def _open_journal_if_often(self, now_s: float) -> None:
        if now_s - self._often_since_s > _OFTEN_S:
            self._often_since_s, self._often = now_s, 0
        self._often += 1
        if self._often == _OFTEN:
            self._thread.open_journal()


def _nothing(_connection: Connection) -> None:
    """Have a transaction of its own."""


def _is_small(entries: list[Entry]) -> bool:
    return len(entries) <= _MOST_AT_ONCE and sum([entry.waiter is not None for entry in entries]) <= _MOST_WAITING
