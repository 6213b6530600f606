"""The thread that writes: whatever waits is committed together, and who waits is told afterwards.

While its transaction is being made durable, further entries wait for the next one, so that the batch grows with the
load and an idle ledger answers at once. It also puts into the tables what is noted in the journal, a few times a
second, and says that this run lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Final

from ownward.core import Clock, LedgerError
from ownward.ledger._commits import Committer
from ownward.ledger._entries import Entry
from ownward.ledger._statements import Values
from ownward.ledger._store import Store
from ownward.ledger._waiters import tell

_log = logging.getLogger("ownward.ledger")

_BATCH_ENTRIES: Final = 4096
_HEARTBEAT_INTERVAL_S: Final = 10.0
_RETRY_S: Final = 0.5
_SAY_EVERY_S: Final = 60.0
_LONG_S: Final = 1.0
_KNOWN_S: Final = 1.0

_POST_S: Final = 0.25
_IDLE_POSTS: Final = 20
_REST_S: Final = 0.00002
"""How long the thread rests after some rows that it posts: the event loop is not to wait for the processor. Who merely
yields it (`sched_yield`) would get it back late where another process wants all of it."""


class _Stop:
    """Says that nothing follows."""


class _Wake:
    """Says that there is something in the journal."""


class _Look:
    """Says that somebody wants to know whether the ledger can be written."""


class WritingThread:
    """What is to be written, and the thread that writes it; it starts with the first entry.

    Who puts entries, or writes beside it (`note`, `commit_at_once`), holds `lock`, and writes only while nothing is
    `in_hand`: entries are committed in the order in which they were put.
    """

    def __init__(self, store: Store, *, run_id: str, run_row: Values, clock: Clock) -> None:
        """Keep the parts; it runs once it is started."""
        self._store = store
        self._committer = Committer(store, run_id=run_id, run_row=run_row, clock=clock)
        self._clock = clock
        self._queue: queue.SimpleQueue[Entry | _Stop | _Wake | _Look] = queue.SimpleQueue()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._fault: LedgerError | None = None  # at which it ended
        self._posts_at_s = 0.0
        self._idle_posts = 0
        self._stuck: LedgerError | None = None  # why entries are kept
        self._says_again_s = 0.0
        self._known_at_s = 0.0  # when it was found out last whether anything can be written
        self._look: Future[None] | None = None  # one that is yet to be taken
        self._said: LedgerError | None = None  # the newest failure
        self._writes_since_s: float | None = None
        self._refused: LedgerError | None = None  # a row without a waiter that can never be written
        self.lock = threading.Lock()
        self.is_running = False  # whether it takes entries
        self.in_hand = 0  # entries that it has yet to write
        self.kept: list[Entry] = []  # settlements among them whose commit failed: tried again with the next batch
        self.tends_journal = False  # whether it posts what is noted, and looks whether it still may be
        self.is_failing = False  # whether the last commit failed, and no heartbeat went well since
        self.commits = 0  # and notes in the journal
        self.count_waiting = self._queue.qsize

    # For who writes, and holds the lock for all but `join`, `answer` and `report`.

    @property
    def takes_long(self) -> bool:
        """Whether it has been writing one batch for so long that nobody should wait for the next."""
        since_s = self._writes_since_s
        return since_s is not None and self._clock.monotonic_s() - since_s > _LONG_S

    @property
    def failure(self) -> LedgerError | None:
        """Why the last batch could not be written, while none has been since; anew for each who is told."""
        said = self._said
        if not self.is_failing or said is None:
            return None
        return LedgerError(said.message, where=said.where, allowed=said.allowed, next_step=said.next_step)

    def look(self) -> Future[None] | None:
        """Have it found out now whether the ledger can be written; None where that was a moment ago, or cannot be."""
        if not self.is_running or self._clock.monotonic_s() - self._known_at_s < _KNOWN_S:
            return None
        if self._look is None:
            self._look = Future()
            self._queue.put(_Look())
        return self._look

    def start(self) -> None:
        """Take entries from now on.

        Raises: LedgerError, if it was stopped or has ended.
        """
        if self._is_closed:
            raise LedgerError("the ledger is closed", where=self._store.name, next_step="Open it again")
        self.is_running = True
        self._thread = threading.Thread(target=self._work, name="ownward-ledger", daemon=True)
        self._thread.start()

    def put(self, entries: list[Entry]) -> None:
        """Queue entries; where it ended by a fault since they came, who waits is told."""
        if self._fault is not None:
            self._refuse(entries, self._fault)
            return
        self.in_hand += len(entries)
        for entry in entries:
            self._queue.put(entry)

    def note(self, entries: list[Entry]) -> bool:
        """Note entries in the journal; False where they belong in the tables."""
        if self.is_failing or not self._committer.note(entries):
            return False
        self.commits += 1
        if not self.tends_journal:
            self.tends_journal = True
            self._queue.put(_Wake())
        return True

    def commit_at_once(self, entries: list[Entry]) -> bool:
        """Commit entries in the caller's thread; False where nothing was written, as that might have to wait."""
        if not self._writing.acquire(blocking=False):
            return False
        try:
            if not self._committer.commit_at_once(entries):
                return False
        finally:
            self._writing.release()
        self._note_commit()
        return True

    def open_journal(self) -> None:
        """Have calls noted in the journal from now on, where they may be."""
        self._posts_at_s = self._clock.monotonic_s() + _POST_S  # and not at once, with the first of them
        self.tends_journal = True
        self.put([Entry(call=self._committer.open_journal)])

    def stop(self) -> None:
        """Take no more entries, and end when all are written."""
        if not self._is_closed:
            self._is_closed, self.is_running = True, False
            self._queue.put(_Stop())

    def join(self) -> None:
        """Wait until it has ended."""
        if self._thread is not None:
            self._thread.join()

    def answer(self, entries: Iterable[Entry], *, here: asyncio.AbstractEventLoop | None = None) -> None:
        """Tell who waits; `here` is the event loop that this runs on."""
        self._refused = tell(entries, here=here) or self._refused

    def report(self) -> None:
        """Raise what could not be written since the last report, and had nobody waiting."""
        error = self._refused or self._committer.refused or self._stuck
        self._refused = self._committer.refused = None
        if error is not None:
            raise error

    # The thread itself.

    def _work(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # noqa: BLE001 - the thread's outermost frame: nobody may be left waiting
            _log.critical("the ledger's writer ended: %s", error, exc_info=True)
            fault = LedgerError(f"the ledger's writer ended: {error!r}", where=self._store.name)
            with self.lock:
                self._is_closed, self.is_running = True, False
                self._fault = self._stuck = fault
            self._refuse(self._take_all(), fault)
        finally:
            self._committer.close_journal()
            self._committer.close()

    def _loop(self) -> None:
        beat_at_s = self._clock.monotonic_s() + _HEARTBEAT_INTERVAL_S
        while True:
            batch, is_last = self._take()
            if batch or self.kept or self._committer.is_in_doubt:
                self._write(batch)
            if is_last:
                self._finish()
                return
            now_s = self._clock.monotonic_s()
            if self.tends_journal and now_s >= self._posts_at_s:
                self._tend_journal()
                self._posts_at_s = self._clock.monotonic_s() + _POST_S
            if batch and self.is_failing:
                beat_at_s = now_s + _HEARTBEAT_INTERVAL_S  # what has just failed would fail again
            if self._look is not None or now_s >= beat_at_s:
                look, self._look = self._look, None
                is_awaited = look is not None and look.set_running_or_notify_cancel()
                self._beat()
                if look is not None and is_awaited:
                    look.set_result(None)
                beat_at_s = now_s + _HEARTBEAT_INTERVAL_S

    def _take(self) -> tuple[list[Entry], bool]:
        """Return what waits, at least one entry unless time is up, and whether it is the last."""
        batch: list[Entry] = []
        is_due = self.kept or self._committer.is_in_doubt
        patience_s = _RETRY_S if is_due else _HEARTBEAT_INTERVAL_S
        if self.tends_journal:
            patience_s = max(0.0, self._posts_at_s - self._clock.monotonic_s())
        try:
            entry = self._queue.get(timeout=patience_s)
            while True:
                if isinstance(entry, _Stop):
                    return batch, True
                if isinstance(entry, _Wake):
                    self._posts_at_s = self._clock.monotonic_s() + _POST_S
                    return batch, False
                if isinstance(entry, _Look):
                    return batch, False
                batch.append(entry)
                if len(batch) == _BATCH_ENTRIES:
                    return batch, False
                entry = self._queue.get_nowait()
        except queue.Empty:
            return batch, False

    def _take_all(self) -> list[Entry]:
        """Return what waits, whatever else is asked left in its place."""
        waiting: list[Entry] = []
        others: list[_Stop | _Wake | _Look] = []
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._queue.get_nowait()
                if isinstance(item, Entry):
                    waiting.append(item)
                else:
                    others.append(item)
        for other in others:
            self._queue.put(other)
        return waiting

    def _tend_journal(self) -> None:
        """Post what is noted, and note nothing any more where that was asked for, or nobody has for a while."""
        committer = self._committer
        if committer.must_close_journal():
            committer.close_journal()
        if committer.unposted:
            self._idle_posts = 0
            self._write([])
            return
        self._idle_posts += 1
        if self._idle_posts >= _IDLE_POSTS:
            with self.lock:
                committer.close_journal()
                self.tends_journal, self._idle_posts = bool(committer.unposted), 0

    def _rest(self) -> None:
        """Let the event loop have the processor, while nobody waits for what the thread writes."""
        if self._queue.empty():
            time.sleep(_REST_S)

    def _write(self, batch: list[Entry]) -> None:
        """Commit what was kept and `batch`, and tell who waits."""
        entries, self.kept = [*self.kept, *batch], []
        with self._at_it():
            try:
                self._committer.commit(entries, rest=None if entries else self._rest)
            except Exception as error:  # noqa: BLE001 - whatever it was, each who waits must hear of it
                if self.takes_long:
                    entries += self._take_all()  # who came meanwhile would wait as long again
                entries = self._give_up(entries, error)
            except BaseException as error:
                self.answer(self._give_up(entries, error))
                raise
            else:
                # Whoever only waits for what was written before has written nothing: no word of a full disk's end.
                self._note_commit(has_written=not entries or any(entry.rows for entry in entries))
        with self.lock:
            self.in_hand -= len(entries)
        self.answer(entries)

    @contextlib.contextmanager
    def _at_it(self) -> Iterator[None]:
        with self._writing:
            self._writes_since_s = self._clock.monotonic_s()
            try:
                yield
            finally:
                self._writes_since_s = None

    def _note_commit(self, *, has_written: bool = True) -> None:
        self._stuck = None
        if has_written:
            self._note_health()
        self.commits += 1

    def _beat(self) -> None:
        """Say that this run lives; so it is also found out that a ledger cannot be written, or can be again."""
        with self._at_it():
            try:
                self._committer.beat(must_write=self.is_failing)
            except Exception as error:  # noqa: BLE001 - whatever it was, it is told and tried again
                self._note_failure(error if isinstance(error, LedgerError) else self._store.translate(error, "write"))
            else:
                if not self.kept:  # these have just failed: a full disk has room for a heartbeat, and for little else
                    self._note_health()

    def _note_health(self) -> None:
        self._known_at_s = self._clock.monotonic_s()
        if self.is_failing:
            self.is_failing = False
            _log.warning("%s: the ledger can be written again", self._store.name)

    def _note_failure(self, fault: LedgerError) -> None:
        """Say why nothing can be written, once a minute while it lasts, and start afresh with the database."""
        now_s = self._known_at_s = self._clock.monotonic_s()
        if not self.is_failing or now_s >= self._says_again_s:
            _log.error("%s", fault)
            self._says_again_s = now_s + _SAY_EVERY_S
        self._said, self.is_failing = fault, True
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
                self.kept.append(entry)
            else:
                entry.error = fault
                told.append(entry)
        if self.kept:
            self._stuck = fault
        return told

    def _refuse(self, entries: list[Entry], fault: LedgerError) -> None:
        for entry in entries:
            entry.error = fault
        self.answer(entries)

    def _finish(self) -> None:
        if self.kept or self._committer.is_in_doubt:
            self._write([])
        with self._writing:
            try:
                self._committer.end_run()
            except Exception as error:  # noqa: BLE001 - kept for `report`, which raises it
                self._stuck = self._stuck or self._store.translate(error, "close")
        lost = sum(any(table == "settlements" for table, _ in entry.rows) for entry in self.kept)
        if lost and self._stuck is not None:
            self._stuck = LedgerError(
                f"{self._stuck.message}; what became of {lost} {'call' if lost == 1 else 'calls'} was not written",
                where=self._stuck.where,
                allowed="On the ledger that is unsettled, with bounds, once a gateway has started on it again",
                next_step=self._stuck.next_step,
            )
