"""The write-ahead log: bounded while the ledger is written, emptied while it rests, out of the writer's way."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ownward import ledger
from ownward.ledger import _checkpoints
from ownward.ledger._checkpoints import CheckpointRules
from ownward.ledger._sqlite import SqliteStore
from ownward.ledger._sqlite_connections import WritingConnection

PAGE_BYTES = 2048
RULES = CheckpointRules(start_frames=50, most_frames=200, idle_s=0.05)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    ledger.open(path).close()
    return path


@pytest.fixture
def writer(path: Path) -> Iterator[WritingConnection]:
    store = SqliteStore(path, durability="process", busy_timeout_s=5, checkpoint_rules=RULES)
    connection = store.connect_writer()
    assert isinstance(connection, WritingConnection)
    yield connection
    connection.close()
    store.close()


def log_bytes(path: Path) -> int:
    log = path.with_name(path.name + "-wal")
    return log.stat().st_size if log.exists() else 0


def write(writer: WritingConnection, number: int) -> None:
    writer.begin()
    writer.execute("INSERT INTO workloads VALUES (?, ?, ?)", (f"w{number}", "x" * 3000, number))
    writer.commit()


def wait_until(is_so: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a writer that helps wait for the thread however long it gets no time: the bounds are then exact."""
    monkeypatch.setattr(_checkpoints, "_PATIENCE_S", 60.0)


@pytest.mark.usefixtures("patient")
def test_the_log_stays_bounded_while_the_ledger_is_written_without_a_pause(
    path: Path, writer: WritingConnection
) -> None:
    largest = 0
    for number in range(2_000):
        write(writer, number)
        largest = max(largest, log_bytes(path))
    written_bytes = 2_000 * 2 * PAGE_BYTES
    assert largest < written_bytes / 4
    assert writer.rows("SELECT count(*) FROM workloads") == [(2_000,)]


@pytest.mark.usefixtures("patient")
def test_the_log_stays_bounded_where_its_thread_gets_no_time(
    path: Path, writer: WritingConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass that takes long ends far behind the writer, which then copies the rest itself."""

    copy = _checkpoints.copy_log

    def copy_slowly(connection: sqlite3.Connection) -> tuple[int, int]:
        if connection is not writer.raw:
            time.sleep(0.01)
        return copy(connection)

    monkeypatch.setattr(_checkpoints, "copy_log", copy_slowly)
    for number in range(2_000):
        write(writer, number)
    assert log_bytes(path) < 2_000 * 2 * PAGE_BYTES / 2


@pytest.mark.usefixtures("patient")
def test_the_log_stays_bounded_under_several_writers(path: Path) -> None:
    """As several worker processes write one ledger: between two commits of one of them, another commits."""
    done = []

    def work(name: int) -> None:
        store = SqliteStore(path, durability="process", busy_timeout_s=30, checkpoint_rules=RULES)
        connection = store.connect_writer()
        for number in range(1_000):
            write(connection, 10_000 * name + number)  # type: ignore[arg-type]
        connection.close()
        store.close()
        done.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    largest = 0
    while any(thread.is_alive() for thread in threads):
        largest = max(largest, log_bytes(path))
        time.sleep(0.002)
    assert sorted(done) == [0, 1, 2]
    assert largest < 3 * 1_000 * 2 * PAGE_BYTES / 3


def test_the_log_is_emptied_while_nobody_writes(path: Path, writer: WritingConnection) -> None:
    for number in range(20):
        write(writer, number)
    assert log_bytes(path) > 0
    assert wait_until(lambda: log_bytes(path) == 0)
    write(writer, 20)
    assert log_bytes(path) > 0
    assert wait_until(lambda: log_bytes(path) == 0)


def test_a_reader_keeps_its_snapshot_and_the_log_is_emptied_after_it(path: Path, writer: WritingConnection) -> None:
    write(writer, 0)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM workloads").fetchall() == [(1,)]
    for number in range(1, 500):
        write(writer, number)
    time.sleep(3 * RULES.idle_s)
    assert reader.execute("SELECT count(*) FROM workloads").fetchall() == [(1,)]
    assert log_bytes(path) > 0
    reader.execute("COMMIT")
    reader.close()
    assert wait_until(lambda: log_bytes(path) == 0)
    assert writer.rows("SELECT count(*) FROM workloads") == [(500,)]


def test_a_commit_does_not_copy_the_log_by_itself(writer: WritingConnection) -> None:
    assert writer.rows("PRAGMA wal_autocheckpoint") == [(0,)]


@pytest.mark.parametrize("fault", [sqlite3.OperationalError("disk I/O error"), MemoryError()])
def test_a_log_that_cannot_be_copied_costs_no_commit_and_is_copied_later(
    path: Path, writer: WritingConnection, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail(_: sqlite3.Connection) -> tuple[int, int]:
        raise fault

    with monkeypatch.context() as for_a_while:
        for_a_while.setattr(_checkpoints, "copy_log", fail)
        for number in range(500):
            write(writer, number)
        assert writer.rows("SELECT count(*) FROM workloads") == [(500,)]
    assert wait_until(lambda: log_bytes(path) == 0)


def test_closing_the_ledger_leaves_no_log(path: Path) -> None:
    with ledger.open(path) as opened:
        opened.record_workload("w", {})
        assert log_bytes(path) > 0
    assert log_bytes(path) == 0


def test_a_commit_does_not_wait_long_for_a_thread_that_gets_no_time(path: Path, writer: WritingConnection) -> None:
    write(writer, 0)
    checkpoints = writer._checkpoints
    checkpoints._is_too_long = True
    with checkpoints._copying:  # as the thread holds it, with a low priority on a busy machine
        began_s = time.monotonic()
        write(writer, 1)
        assert time.monotonic() - began_s < 2
    assert not checkpoints._is_too_long  # until the log is looked at again
    assert writer.rows("SELECT count(*) FROM workloads") == [(2,)]


@pytest.mark.parametrize(
    ("start_frames", "idle_s"), [(100_000, 0.5), (50, 60.0)], ids=["emptied at rest", "copied to its end"]
)
def test_a_commit_that_begins_the_log_anew_is_known_to_take_longer(
    path: Path, start_frames: int, idle_s: float
) -> None:
    """It flushes the disk, so that it is not made where it would hold requests up."""
    rules = CheckpointRules(start_frames=start_frames, most_frames=200_000, idle_s=idle_s)
    store = SqliteStore(path, durability="process", busy_timeout_s=5, checkpoint_rules=rules)
    connection = store.connect_writer()
    assert isinstance(connection, WritingConnection)
    checkpoints = connection._checkpoints
    assert checkpoints.next_commit_waits
    write(connection, 0)
    assert not checkpoints.next_commit_waits
    written = 100
    for number in range(1, written):
        write(connection, number)
    while idle_s > 1 and not wait_until(lambda: checkpoints.next_commit_waits, seconds=0.5):
        assert written < 2_000
        for _ in range(50):  # a thread that was early met commits on its way, and waits for as many again
            write(connection, written)
            written += 1
    assert wait_until(lambda: checkpoints.next_commit_waits)
    write(connection, written)
    assert connection.rows("SELECT count(*) FROM workloads") == [(written + 1,)]
    connection.close()
    store.close()
