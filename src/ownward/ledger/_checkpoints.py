"""Moving SQLite's write-ahead log into its file beside the writer, on a thread and a connection of its own.

By itself SQLite does this within a commit: about one in a hundred requests would wait for two flushes and a copy.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PASSES_AT_ONCE: Final = 4
_FEW_FRAMES: Final = 200
_FRAME_HEAD_BYTES: Final = 24
_LOOK_COMMITS: Final = 64
_TRIES: Final = 200
_TRY_AGAIN_S: Final = 0.005
_PATIENCE_S: Final = 0.02
_NICE: Final = 10
_FAULTS: Final = (sqlite3.Error, MemoryError)  # the latter is what sqlite3 makes of SQLITE_NOMEM

# Pages that commits of this schema change: a few for each row, up to where rows share them (measured: 14 frames for a
# request of two commits and four rows, 70 for a commit of 250 rows). What it really comes to is learned.
_FRAMES_PER_ROW: Final = 3.3
_FRAMES_PER_LARGE_COMMIT: Final = 12.0
_FRAMES_PER_LATER_ROW: Final = 0.3
_FACTORS: Final = (0.25, 8.0)


def _yield_to_requests() -> None:
    """Have this thread run when requests leave the processor free, where threads have a priority of their own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRules:
    """When the log is moved; a frame is one page in it.

    From about `start_frames` on, a thread copies what is committed. Where it has caught up with the writer, the log
    begins anew and its file grows no further; else the writer copies the little that is left, or above `most_frames`
    all that is, and a commit waits for it. After `idle_s` without a commit the log's file is emptied.
    """

    start_frames: int = 16_000
    most_frames: int = 64_000
    idle_s: float = 2.0


class Checkpoints:
    """The thread that copies, and what the writer tells and asks it.

    A reader with an old snapshot (a long export) keeps the log from beginning anew; it grows until the reader ends.
    """

    def __init__(self, log: Path, connect: Callable[[], sqlite3.Connection], *, rules: CheckpointRules) -> None:
        """Keep the parts; the thread starts with the first commit."""
        self._log = log
        self._connect = connect
        self._rules = rules
        self._wake = threading.Event()
        self._copying = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._commits = 0
        self._frame_bytes = 0
        self._frames = 0.0  # in the log, estimated: its length cannot be asked for cheaply
        self._factor = 1.0
        self._needs_help = False
        self._is_too_long = False
        self._begins_anew = True
        self._helper: sqlite3.Connection | None = None
        self._has_log = False

    def take_over(self, writer: sqlite3.Connection) -> None:
        """Have the writer's commits copy nothing, and a log that grew beyond measure be cut when it begins anew."""
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        ((page_bytes,),) = writer.execute("PRAGMA page_size").fetchall()
        self._frame_bytes = page_bytes + _FRAME_HEAD_BYTES
        writer.execute(f"PRAGMA journal_size_limit = {self._rules.most_frames // 2 * self._frame_bytes}")

    @property
    def next_commit_waits(self) -> bool:
        """Whether the next commit may take milliseconds: it begins the log anew, which flushes it, or helps to copy."""
        return self._begins_anew or self._needs_help or self._is_too_long

    def after_commit(self, writer: sqlite3.Connection, rows: int, *, may_wait: bool = True) -> None:
        """Note a commit of `rows` rows; a writer that may wait helps where little is left to copy, or far too much."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="ownward-ledger-log", daemon=True)
            self._thread.start()
        self._has_log = True
        self._begins_anew = False
        self._commits += 1
        few, many = _FRAMES_PER_ROW * rows, _FRAMES_PER_LARGE_COMMIT + _FRAMES_PER_LATER_ROW * rows
        self._frames += self._factor * min(few, many)
        if self._commits % _LOOK_COMMITS == 0:
            self._is_too_long = self._is_too_long or self._log_bytes() > self._rules.most_frames * self._frame_bytes
        if may_wait and (self._needs_help or self._is_too_long):
            self._help(writer)
        elif self._frames >= self._rules.start_frames:
            self._wake.set()

    def _help(self, writer: sqlite3.Connection) -> None:
        """Copy what is left: nobody writes meanwhile, so that this reaches the log's end.

        A thread that is copying now is waited for, not long: on a busy machine its low priority would be the writer's.
        """
        if not self._copying.acquire(timeout=_PATIENCE_S):
            self._is_too_long = False  # until it is looked at again
            return
        try:
            with contextlib.suppress(*_FAULTS):
                if self._is_too_long:
                    self._copy_all(writer)
                else:
                    copy_log(writer)
        finally:
            self._copying.release()
        self._needs_help = self._is_too_long = False
        self._begins_anew = True
        self._frames = 0.0

    def _copy_all(self, writer: sqlite3.Connection) -> None:
        """Copy while no other process can write either: with several of them, none might ever reach the end."""
        self._helper = self._helper or self._connect()
        writer.execute("BEGIN IMMEDIATE")
        try:
            for _ in range(_TRIES):
                if copy_log(self._helper)[0] >= 0:
                    break
                time.sleep(_TRY_AGAIN_S)  # another process is copying; what it began before may not reach the end
        finally:
            writer.execute("ROLLBACK")

    def _log_bytes(self) -> int:
        with contextlib.suppress(OSError):
            return self._log.stat().st_size
        return 0

    def close(self) -> None:
        """End the thread; what is in the log stays in it, or is copied when the last connection closes."""
        self._is_closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        if self._helper is not None:
            self._helper.close()
            self._helper = None

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        _yield_to_requests()
        try:
            while True:
                commits_before = self._commits
                is_due = self._wake.wait(self._rules.idle_s)
                self._wake.clear()
                if self._is_closed:
                    return
                is_idle = not is_due and self._commits == commits_before
                if is_idle and not self._has_log:
                    continue
                # An error here costs nobody anything: the log grows, and the next pass tries again.
                with contextlib.suppress(*_FAULTS):
                    connection = connection or self._connect()
                    if is_due and not self._needs_help:  # else the writer would wait for a pass that leaves as much
                        self._catch_up(connection)
                    elif is_idle:
                        self._empty(connection)
        finally:
            if connection is not None:
                connection.close()

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Copy towards the log's end, where it begins anew; each pass leaves less to the next."""
        before = 0
        for _ in range(_PASSES_AT_ONCE):
            commits, estimate = self._commits, self._frames
            with self._copying:
                frames, copied = copy_log(connection)
            self._learn(frames, estimate)
            # A reader stands in the way, of the writer too; or all is copied, and nobody wrote meanwhile.
            if copied < frames or commits == self._commits:
                self._begins_anew = copied == frames
                self._frames = 0.0
                return
            if frames - before < _FEW_FRAMES:
                self._needs_help = True
                return
            before = frames

    def _learn(self, frames: int, estimate: float) -> None:
        """Correct the estimate, a little at a time: where the log began anew unseen, it counts too many."""
        if estimate > 0 and frames > 0:
            seen = min(max(frames / estimate, 0.5), 2.0)
            self._factor = min(max(self._factor * seen, _FACTORS[0]), _FACTORS[1])

    def _empty(self, connection: sqlite3.Connection) -> None:
        """Empty the log's file while nobody writes; where somebody reads or writes, it is left for later."""
        commits = self._commits
        if empty_log(connection) and commits == self._commits:
            self._begins_anew = True
            self._frames = 0.0
            self._has_log = False


def copy_log(connection: sqlite3.Connection) -> tuple[int, int]:
    """Copy what no reader holds back, without waiting; return the log's frames and how many of them are copied.

    Both are -1 while another connection copies.
    """
    ((_, frames, copied),) = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return frames, copied


def empty_log(connection: sqlite3.Connection) -> bool:
    """Copy everything and empty the log's file; False where somebody reads or writes."""
    ((is_busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return not is_busy
