"""What the event loop commits by itself, and what it leaves to the ledger's thread."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger_rows import usual_intent, usual_request, usual_settlement
from ownward import ledger
from ownward.ledger import Intent, Ledger, Request, Settlement
from ownward.ledger._commits import Committer
from ownward.ledger._entries import Entry

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def request(name: str) -> tuple[Request, Intent]:
    return usual_request(name, at=NOW), usual_intent(name, at=NOW, high=9)


def settled(name: str, charge_picousd: int = 5) -> Settlement:
    return usual_settlement(name, at=NOW, charge=charge_picousd)


class Commits:
    """How many entries each commit had, by who made it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here: list[int] = []
        self.by_thread: list[int] = []
        at_once, commit = Committer.commit_at_once, Committer.commit

        def note_at_once(committer: Committer, entries: list[Entry]) -> bool:
            is_done = at_once(committer, entries)
            if is_done:
                self.here.append(len(entries))
            return is_done

        def note_commit(committer: Committer, entries: list[Entry], *, rest: Callable[[], object] | None) -> None:
            if any(entry.rows for entry in entries):
                self.by_thread.append(len(entries))
            commit(committer, entries, rest=rest)

        monkeypatch.setattr(Committer, "commit_at_once", note_at_once)
        monkeypatch.setattr(Committer, "commit", note_commit)


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> Commits:
    monkeypatch.setattr("ownward.ledger._writer._SLOW_S", 60.0)  # however busy the machine is
    monkeypatch.setattr("ownward.ledger._writer._OFTEN", 1_000_000)  # nothing is noted in a journal
    return Commits(monkeypatch)


@pytest.fixture
def gathered(commits: Commits, monkeypatch: pytest.MonkeyPatch) -> Commits:
    """Each waits to the end of its turn, as under load."""
    monkeypatch.setattr("ownward.ledger._writer._LONELY_TURNS", 1_000_000)
    return commits


def count_rows(path: Path, table: str) -> int:
    with sqlite3.connect(path) as reader:
        ((count,),) = reader.execute(f"SELECT COUNT(*) FROM {table}").fetchall()
    reader.close()
    return int(count)


async def begin(book: Ledger, *names: str) -> None:
    await asyncio.gather(*(book.begin(*request(name)) for name in names))


async def warm(book: Ledger) -> None:
    """The first commit opens the database and begins the log, on the thread."""
    await begin(book, "first")
    await book.flush()


def test_intents_alone_in_their_turn_are_committed_without_the_thread(tmp_path: Path, gathered: Commits) -> None:
    async def main() -> None:
        with ledger.open(tmp_path / "ledger.db") as book:
            await warm(book)
            await begin(book, "a")
            assert count_rows(tmp_path / "ledger.db", "intents") == 2  # committed when `begin` returned
            await begin(book, "b", "c")
            assert gathered.here == [1, 2]
            assert gathered.by_thread == [1]

    asyncio.run(main())


def test_many_intents_of_one_turn_are_left_to_the_thread(tmp_path: Path, gathered: Commits) -> None:
    async def main() -> None:
        with ledger.open(tmp_path / "ledger.db") as book:
            await warm(book)
            await begin(book, *(f"r{number}" for number in range(40)))
            assert gathered.here == []
            assert gathered.by_thread == [1, 40]

    asyncio.run(main())


def test_an_intent_that_comes_alone_is_committed_before_its_turn_ends(tmp_path: Path, commits: Commits) -> None:
    async def main() -> None:
        with ledger.open(tmp_path / "ledger.db") as book:
            await warm(book)
            await begin(book, "a")  # the second that looked for company in vain
            book.settle(settled("first"))
            begun = book.begin(*request("b"))
            with pytest.raises(StopIteration):  # it asks nothing of the event loop
                begun.send(None)
            assert commits.here == [1, 2]
            assert count_rows(tmp_path / "ledger.db", "intents") == 3

    asyncio.run(main())


def test_intents_wait_for_company_where_some_was_found_and_look_for_it_again_and_again(
    tmp_path: Path, commits: Commits
) -> None:
    async def main() -> None:
        with ledger.open(tmp_path / "ledger.db") as book:
            await warm(book)
            await begin(book, "a")
            await begin(book, *(f"alone{number}" for number in range(35)))
            assert commits.here == [1] * 33 + [3]  # thirty-two of a turn for themselves, then the rest together
            commits.here.clear()
            await begin(book, "b", "c")
            await begin(book, "d", "e")
            await begin(book, "f")
            await begin(book, "g")
            await begin(book, "h", "i")
            assert commits.here == [2, 2, 1, 1, 1, 1]

    asyncio.run(main())


def test_a_settlement_rides_with_the_next_intent(tmp_path: Path, commits: Commits) -> None:
    async def main() -> None:
        with ledger.open(tmp_path / "ledger.db") as book:
            await warm(book)
            await begin(book, "a")
            book.settle(settled("a"))
            await begin(book, "b")
            assert commits.here == [1, 2]

    asyncio.run(main())


def test_a_settlement_that_no_intent_follows_is_written_soon(tmp_path: Path, commits: Commits) -> None:
    async def main() -> None:
        with ledger.open(tmp_path / "ledger.db") as book:
            await warm(book)
            await begin(book, "a")
            book.settle(settled("a"))
            deadline_s = time.monotonic() + 5
            while not count_rows(tmp_path / "ledger.db", "settlements"):
                assert time.monotonic() < deadline_s
                await asyncio.sleep(0.001)
            assert commits.here == [1, 1]

    asyncio.run(main())


def test_the_newest_settlement_counts_whoever_writes_it(tmp_path: Path, commits: Commits) -> None:
    async def main() -> None:
        with ledger.open(tmp_path / "ledger.db") as book:
            await warm(book)
            await begin(book, "a")
            book.settle(settled("a", 1))
            await asyncio.to_thread(book.settle, settled("a", 2))
            book.settle(settled("a", 3))
            await book.flush()
            (row,) = book.query_requests(request_id="a")
            assert row.charge_picousd == 3

    asyncio.run(main())


def test_another_process_that_writes_does_not_hold_up_the_event_loop(tmp_path: Path, commits: Commits) -> None:
    path = tmp_path / "ledger.db"

    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            task = asyncio.create_task(begin(book, "a"))
            longest_s, last_s = 0.0, time.monotonic()
            for _ in range(50):
                await asyncio.sleep(0.002)
                now_s = time.monotonic()
                longest_s, last_s = max(longest_s, now_s - last_s), now_s
            assert not task.done()
            assert longest_s < 1  # SQLite's own patience is five seconds
            other.execute("COMMIT")
            other.close()
            await task
            assert commits.here == []
            await begin(book, "b")
            assert commits.here == [1]

    asyncio.run(main())


def test_commits_that_flush_the_disk_are_left_to_the_thread(tmp_path: Path, commits: Commits) -> None:
    async def main() -> None:
        with ledger.open(tmp_path / "ledger.db", durability="power") as book:
            await warm(book)
            await begin(book, "a")
            assert commits.here == []

    asyncio.run(main())


def test_after_a_commit_that_took_long_the_thread_commits_for_a_while(
    tmp_path: Path, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ownward.ledger._writer._SLOW_S", -1.0)
    monkeypatch.setattr("ownward.ledger._writer._REST_TIMES", 1e9)

    async def main() -> None:
        with ledger.open(tmp_path / "ledger.db") as book:
            await warm(book)
            await begin(book, "a")
            await begin(book, "b")
            assert commits.here == [1]

    asyncio.run(main())


def test_what_fails_here_is_told_by_the_thread(
    tmp_path: Path, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = Committer._commit_together

    def fail_here(committer: Committer, connection: object, entries: list[Entry], rest: object) -> None:
        if threading.current_thread() is threading.main_thread():
            raise sqlite3.OperationalError("disk I/O error")
        together(committer, connection, entries, rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Committer, "_commit_together", fail_here)

    async def main() -> None:
        with ledger.open(tmp_path / "ledger.db") as book:
            await warm(book)
            await begin(book, "a")
            assert commits.here == []
            assert commits.by_thread == [1, 1]
            assert count_rows(tmp_path / "ledger.db", "intents") == 2

    asyncio.run(main())


def test_a_ledger_outlives_the_event_loop_that_used_it(tmp_path: Path, commits: Commits) -> None:
    async def settle_and_leave(book: Ledger) -> None:
        await warm(book)
        book.settle(settled("first"))  # its ride ends after the loop is closed

    with ledger.open(tmp_path / "ledger.db") as book:
        asyncio.run(settle_and_leave(book))
        asyncio.run(begin(book, "a"))
        assert {row["state"] for row in book.export_rows()} == {"settled", "intent"}


def test_closing_writes_what_still_rides(tmp_path: Path, commits: Commits) -> None:
    async def main() -> None:
        with ledger.open(tmp_path / "ledger.db") as book:
            await warm(book)
            book.settle(settled("first"))

    asyncio.run(main())
    assert count_rows(tmp_path / "ledger.db", "settlements") == 1


def test_an_intent_whose_task_was_cancelled_in_its_turn_is_settled_as_failed(tmp_path: Path, gathered: Commits) -> None:
    async def main() -> None:
        with ledger.open(tmp_path / "ledger.db") as book:
            await warm(book)
            task = asyncio.create_task(book.begin(*request("a")))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await book.flush()
            (row,) = book.query_requests(request_id="a")
            assert (row.state, row.charge_picousd) == ("failed", 0)

    asyncio.run(main())
