"""What the writer does when the database cannot be written: who waits is told, money is kept."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ledger_rows import usual_intent, usual_request, usual_settlement
from ownward import ledger
from ownward.core import LedgerError
from ownward.ledger import Settlement
from ownward.ledger._commits import Committer
from ownward.ledger._sqlite import SqliteConnection, SqliteStore

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def begin(book: ledger.Ledger, *numbers: int) -> list[BaseException | None]:
    async def main() -> list[BaseException | None]:
        pairs = [
            (
                usual_request(f"r{number}", at=NOW, task_id=f"t{number}", is_stream=True, reason="x" * 2000),
                usual_intent(f"r{number}", at=NOW, high=9),
            )
            for number in numbers
        ]
        return await asyncio.gather(*(book.begin(*pair) for pair in pairs), return_exceptions=True)

    return asyncio.run(main())


def settled(number: int) -> Settlement:
    return usual_settlement(f"r{number}", at=NOW, charge=5)


class Disk:
    """A disk that can be full: SQLite's own limit, on each connection that is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        connect = SqliteStore.connect

        def connect_limited(store: SqliteStore) -> SqliteConnection:
            connection = connect(store)
            if self.is_full:
                ((pages,),) = connection.rows("PRAGMA page_count")
                connection.rows(f"PRAGMA max_page_count = {pages}")
            return connection

        monkeypatch.setattr(SqliteStore, "connect", connect_limited)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def settle_while_there_is_room(book: ledger.Ledger, numbers: range) -> int:
    """Settle one by one what fits into pages that are there already; return how many, the next one is kept."""
    for fitting, number in enumerate(numbers):
        book.settle(settled(number))
        try:
            book.flush_blocking()
        except LedgerError:
            return fitting
    pytest.fail("the disk was not full")


def test_a_full_disk_fails_every_begin(tmp_path: Path, disk: Disk) -> None:
    disk.is_full = True
    with ledger.open(tmp_path / "ledger.db") as book:
        results = begin(book, *range(300))
        assert {type(result) for result in results} == {LedgerError}
        assert "full" in str(results[0])
        assert "space" in str(results[0])
        assert list(book.export_rows()) == []


def test_settlements_are_kept_over_a_full_disk(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ownward.ledger._writing_thread._RETRY_S", 0.01)
    numbers = range(200)
    with ledger.open(tmp_path / "ledger.db") as book:
        assert begin(book, *numbers) == [()] * len(numbers)
    disk.is_full = True
    with ledger.open(tmp_path / "ledger.db") as book:
        fitting = settle_while_there_is_room(book, numbers)
        for number in numbers[fitting + 1 :]:
            book.settle(settled(number))
        with pytest.raises(LedgerError, match="full"):
            book.flush_blocking()
        states = Counter(row["state"] for row in book.export_rows())
        assert states == Counter(settled=fitting, unsettled=len(numbers) - fitting)
        disk.is_full = False
        book.flush_blocking()
        rows = list(book.export_rows())
        assert [row["state"] for row in rows] == ["settled"] * len(numbers)
        (total,) = book.query_spend(by=())
        assert total.spend.settled_picousd == 5 * len(numbers)


def test_a_full_disk_that_takes_a_heartbeat_is_full_all_the_same(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a gateway says now and then that it is ready, while what became of its calls cannot be written."""
    monkeypatch.setattr("ownward.ledger._writing_thread._HEARTBEAT_INTERVAL_S", 0.05)
    with ledger.open(tmp_path / "ledger.db") as book:
        begin(book, *range(60))
        disk.is_full = True
        book._writer._thread._committer.close()  # so that its next connection knows
        settle_while_there_is_room(book, range(60))
        time.sleep(1.5)  # in which the kept settlement is tried again, and a heartbeat is due, a few times
        assert book.is_failing
        assert "can be written again" not in caplog.text
        disk.is_full = False
        deadline_s = time.monotonic() + 20
        while book.is_failing and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert not book.is_failing
    assert caplog.text.count("can be written again") == 1


def test_closing_over_a_full_disk_says_what_was_lost(tmp_path: Path, disk: Disk) -> None:
    with ledger.open(tmp_path / "ledger.db") as book:
        begin(book, *range(200))
    disk.is_full = True
    book = ledger.open(tmp_path / "ledger.db")
    for number in range(200):
        book.settle(settled(number))
    with pytest.raises(LedgerError, match="full"):
        book.close()


def test_a_queue_of_unwritable_settlements_is_bounded(tmp_path: Path, disk: Disk) -> None:
    opened = ledger.open(tmp_path / "ledger.db")
    begin(opened, *range(200))
    disk.is_full = True
    book = ledger.Ledger(opened._store, clock=opened._clock, queue_rows=50)

    def settle_for_long() -> None:
        for number in range(20_000):
            book.settle(settled(number % 200))

    with pytest.raises(LedgerError, match="full"):
        settle_for_long()
    assert len(book._writer._thread.kept) + book.queue_depth < 5_000
    with pytest.raises(LedgerError):
        book.close()
    opened.close()


def test_an_error_nobody_foresaw_reaches_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("no such luck")

    with ledger.open(tmp_path / "ledger.db") as book:
        monkeypatch.setattr(SqliteConnection, "execute_many", broken)
        (result,) = begin(book, 1)
        assert isinstance(result, LedgerError)
        assert "no such luck" in str(result)


def test_a_writer_that_ends_fails_all_and_refuses_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise SystemExit

    book = ledger.open(tmp_path / "ledger.db")
    monkeypatch.setattr(SqliteConnection, "execute_many", broken)
    (result,) = begin(book, 1)
    assert isinstance(result, LedgerError)
    (result,) = begin(book, 2)
    assert isinstance(result, LedgerError)
    with pytest.raises(LedgerError):
        book.close()


def test_one_event_per_batch_reaches_the_loop(tmp_path: Path) -> None:
    calls = 0

    async def main(book: ledger.Ledger) -> None:
        nonlocal calls
        loop = asyncio.get_running_loop()
        original = loop.call_soon_threadsafe

        def counted(*args: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            return original(*args, **options)  # type: ignore[arg-type]

        loop.call_soon_threadsafe = counted  # type: ignore[assignment,method-assign]
        from ownward.ledger._entries import Entry

        await asyncio.gather(*(book._writer.wait_for(Entry()) for _ in range(1_000)))

    with ledger.open(tmp_path / "ledger.db") as book:
        asyncio.run(main(book))
    assert 1 <= calls < 100


@pytest.mark.parametrize("becomes", ["gone", "another", "a ledger"])
def test_a_file_that_is_removed_or_replaced_while_it_is_open_is_noticed_and_nothing_more_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, becomes: str
) -> None:
    monkeypatch.setattr("ownward.ledger._writing_thread._HEARTBEAT_INTERVAL_S", 0.02)
    path = tmp_path / "ledger.db"
    with ledger.open(path) as book:
        assert begin(book, 1) == [()]
        book.flush_blocking()
        (tmp_path / "elsewhere").mkdir()
        for file in tmp_path.glob("ledger.db*"):
            file.rename(tmp_path / "elsewhere" / file.name)
        if becomes == "another":
            path.write_bytes(b"")
        elif becomes == "a ledger":  # a backup, say: what was noted and committed since is not in it
            ledger.open(path).close()
        deadline_s = time.monotonic() + 5
        while not book.is_failing and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert book.is_failing
        assert "removed or replaced while it was open" in caplog.text
        for number in (2, 3):
            (error,) = begin(book, number)
            assert isinstance(error, LedgerError)
            assert "removed or replaced while it was open" in str(error)


def test_what_writes_nothing_does_not_say_that_a_ledger_can_be_written_again(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.is_full = True
    with ledger.open(tmp_path / "ledger.db") as book:
        (error,) = begin(book, 1)
        assert isinstance(error, LedgerError)
        book.flush_blocking()
        assert book.is_failing
        disk.is_full = False
    assert "can be written again" not in caplog.text


def test_a_file_that_is_put_back_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ownward.ledger._writing_thread._HEARTBEAT_INTERVAL_S", 0.02)
    path = tmp_path / "ledger.db"
    with ledger.open(path) as book:
        assert begin(book, 1) == [()]
        path.rename(tmp_path / "elsewhere.db")
        deadline_s = time.monotonic() + 5
        while not book.is_failing and time.monotonic() < deadline_s:
            time.sleep(0.01)
        (tmp_path / "elsewhere.db").rename(path)
        assert begin(book, 2) == [()]
        assert not book.is_failing
    with ledger.open(path) as book:
        assert {row["request_id"] for row in book.export_rows()} == {"r1", "r2"}


def settle_many(book: ledger.Ledger) -> None:
    for number in range(10, 20):
        book.settle(settled(number))


@pytest.mark.parametrize("long_s", [0.05, 1000])
def test_nobody_is_held_while_the_ledger_fails_and_does_not_answer(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, long_s: float
) -> None:
    """Neither who begins a call nor, where the queue is full, who settles one: all streams would stand still."""
    monkeypatch.setattr("ownward.ledger._writing_thread._LONG_S", long_s)
    with ledger.open(tmp_path / "ledger.db") as opened:
        book = ledger.Ledger(opened._store, clock=opened._clock, queue_rows=3)
        disk.is_full = True
        (error,) = begin(book, 1)
        assert isinstance(error, LedgerError)
        answers, is_at_it = threading.Event(), threading.Event()
        committer = book._writer._thread._committer
        commit = committer.commit

        def commit_late(*args: Any, **kwargs: Any) -> None:
            is_at_it.set()
            answers.wait()
            commit(*args, **kwargs)

        monkeypatch.setattr(committer, "commit", commit_late)
        try:
            book.settle(settled(2))
            assert is_at_it.wait(5)
            time.sleep(0.1)
            (error,) = begin(book, 6)
            assert "full" in str(error)
            with pytest.raises(LedgerError, match="3 rows wait to be written"):
                settle_many(book)
        finally:
            disk.is_full = False
            answers.set()
        with suppress(LedgerError):  # they settle what was never begun
            book.flush_blocking()
        assert begin(book, 20) == [()]
        with suppress(LedgerError):
            book.close()


def test_a_ledger_that_failed_the_first_call_of_a_process_is_found_to_be_well_without_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A balancer sends none to a gateway that is not ready."""
    monkeypatch.setattr("ownward.ledger._writing_thread._HEARTBEAT_INTERVAL_S", 0.02)
    path = tmp_path / "ledger.db"
    with ledger.open(path, busy_timeout_s=0.05) as book:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        (error,) = begin(book, 1)
        assert isinstance(error, LedgerError)
        other.execute("ROLLBACK")
        deadline_s = time.monotonic() + 5
        while book.is_failing and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert not book.is_failing
        rows = other.execute("SELECT run_id FROM runs").fetchall()
        assert rows == [(book.run_id,)], "something was written: a disk that is full would have been found out"
        other.close()


@pytest.mark.parametrize("has_begun", [False, True])
def test_who_asks_is_told_how_the_ledger_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_begun: bool
) -> None:
    monkeypatch.setattr("ownward.ledger._writing_thread._KNOWN_S", 0.0)
    path = tmp_path / "ledger.db"
    with ledger.open(path, busy_timeout_s=0.05) as book:
        if has_begun:
            assert begin(book, 1) == [()]
        book.flush_blocking()
        asyncio.run(book.look(5))
        assert not book.is_failing
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        asyncio.run(book.look(5))
        assert book.is_failing
        other.close()
        asyncio.run(book.look(5))
        assert not book.is_failing


def test_who_asks_in_a_row_or_together_has_the_ledger_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    beat = Committer.beat
    monkeypatch.setattr(Committer, "beat", lambda self, **words: looks.append(beat(self, **words)))

    async def ask(book: ledger.Ledger) -> None:
        await asyncio.gather(*(book.look(5) for _ in range(20)))
        await book.look(5)

    with ledger.open(tmp_path / "ledger.db") as book:
        book.flush_blocking()
        monkeypatch.setattr(book._writer._thread, "_known_at_s", 0.0)
        asyncio.run(ask(book))
        assert len(looks) == 1
