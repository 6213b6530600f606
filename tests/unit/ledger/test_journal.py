"""What is written to the journal first, how it comes into the tables, and who finds it there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ledger_rows import usual_intent, usual_request, usual_settlement
from noted_ledgers import NOW, begin, count, leave_behind, noted, request, states, warm
from ownward import ledger
from ownward.core import LedgerError
from ownward.ledger import BudgetCheck, BudgetSpent, Outcome, _schema, _sqlite_file, _store
from ownward.ledger._commits import Committer
from ownward.ledger._journal import find_journals
from ownward.ledger._sqlite_connections import SqliteConnection
from ownward.ledger._writing_thread import WritingThread


@pytest.fixture(params=["through memory", "by calls"], autouse=True)
def how_notes_are_written(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by calls":
        monkeypatch.setattr("ownward.ledger._journal.map_in_place", lambda _file, _size: None)


async def until(condition: object) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.005)


def test_a_call_is_noted_first_and_in_the_tables_a_moment_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ownward.ledger._writing_thread._POST_S", 0.2)

    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await begin(book, "a")
            book.settle(usual_settlement("a", at=NOW, charge=5))
            await until(lambda: noted(path) == 2)
            assert count(path, "intents") == 2
            await until(lambda: count(path, "settlements"))
            assert (noted(path), count(path, "intents")) == (0, 3)

    asyncio.run(main())


def test_only_calls_that_come_often_are_noted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ownward.ledger._writer._OFTEN", 3)

    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await begin(book, "a")
            await book.flush()
            assert (noted(path), count(path, "intents")) == (0, 3)
            await begin(book, "b")  # the third that the event loop commits within a second
            await book.flush()
            await begin(book, "c")
            assert (noted(path), count(path, "intents")) == (1, 4)

    asyncio.run(main())


def test_a_request_whose_id_another_may_have_is_not_noted(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await book.begin(*request("a"))
            assert (noted(path), count(path, "intents")) == (0, 3)
            with pytest.raises(LedgerError, match="refused"):
                await book.begin(*request("a"))

    asyncio.run(main())


def test_a_journal_in_which_nobody_notes_is_removed_and_made_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ownward.ledger._writing_thread._POST_S", 0.01)
    monkeypatch.setattr("ownward.ledger._writing_thread._IDLE_POSTS", 2)
    monkeypatch.setattr("ownward.ledger._writer._OFTEN_S", 0.0)

    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            for name in ("a", "b"):
                await begin(book, f"{name}1")
                await book.flush()
                await begin(book, f"{name}2")  # noted: the journal is open, whichever call had it opened
                assert find_journals(path)
                await until(lambda: not find_journals(path))
            assert set(states(book)) == {"a1", "a2", "b1", "b2"}

    asyncio.run(main())


def test_a_full_journal_leaves_calls_to_the_tables(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ownward.ledger._journal._HALF_BYTES", 4096)

    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            for number in range(40):
                await begin(book, f"r{number}")
            assert count(path, "intents") > 2  # what found no room took along what was there
            assert len(states(book)) == 40

    asyncio.run(main())


def test_both_halves_are_written_by_turns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ownward.ledger._writing_thread._POST_S", 0.005)

    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            for number in range(200):
                await begin(book, f"r{number}")
                await asyncio.sleep(0.001)
            (journal,) = find_journals(path)
            data = journal.read_bytes()
            assert all(data[4096 + half * 1024 * 1024] for half in (0, 1))  # the size of a note
            assert len(states(book)) == 200

    asyncio.run(main())


def test_a_journal_that_cannot_be_written_leaves_calls_to_the_tables(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    monkeypatch.setattr("ownward.ledger._journal.map_in_place", lambda _file, _size: None)

    def fail(file: int, data: bytes, at: int) -> int:
        written.append(os.write(file, b""))
        raise OSError(28, "No space left on device")

    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await begin(book, "a")
            with monkeypatch.context() as broken:
                broken.setattr("os.pwrite", fail)
                await begin(book, "b")
                await begin(book, "c")
            assert len(written) == 1  # it is not tried again
            assert states(book) == {"a": "intent", "b": "intent", "c": "intent"}

    asyncio.run(main())


def test_a_killed_process_loses_nothing_that_is_in_the_journal(path: Path) -> None:
    script = f"""
import asyncio, os, sys
sys.path[:0] = {sys.path!r}
from test_journal import *
from ownward.ledger import _writer, _writing_thread
_writing_thread._POST_S, _writer._SLOW_S, _writer._OFTEN = 3600.0, 60.0, 1
async def main():
    book = ledger.open({str(path)!r})
    await warm(book)
    await begin(book, "a")
    book.settle(usual_settlement("a", at=NOW, charge=5))
    await begin(book, "b", 77)
    os._exit(9)
asyncio.run(main())
"""
    folder = str(Path(__file__).parent)
    ended = subprocess.run([sys.executable, "-c", script], cwd=folder, check=False, timeout=60)
    assert ended.returncode == 9
    assert (noted(path), count(path, "intents")) == (2, 2)

    with ledger.open(path, is_read_only=True) as book:
        rows = {row["request_id"]: row for row in book.export_rows()}
        assert {name: rows[name]["state"] for name in "ab"} == {"a": "settled", "b": "unsettled"}
    assert (Decimal(rows["b"]["charge_low_usd"]), Decimal(rows["b"]["charge_high_usd"])) == (0, Decimal("77e-12"))
    assert not find_journals(path)
    with ledger.open(path) as book:
        assert book.reconcile() == 3
        assert states(book) == {"a": "settled", "b": "unsettled"}


def test_a_killed_process_is_reconciled_before_anybody_has_read(path: Path) -> None:
    leave_behind(path)
    with ledger.open(path) as book:
        assert book.reconcile() == 3
        assert states(book) == {"a": "unsettled"}
        assert not find_journals(path)


def test_a_note_that_is_not_whole_does_not_count(path: Path) -> None:
    def tear(data: bytes) -> bytes:
        at = len(data.rstrip(b"\0")) - 1
        return data[:at] + b"\0" * (len(data) - at)

    leave_behind(path, change=tear)
    with ledger.open(path, is_read_only=True) as book:
        assert states(book) == {}


def test_a_journal_that_was_cut_off_or_only_just_made_holds_nothing(path: Path) -> None:
    for change in (lambda data: data[:4100], lambda data: b"", lambda data: b"\0" * len(data)):
        path.unlink(missing_ok=True)
        leave_behind(path, change=change)
        with ledger.open(path, is_read_only=True) as book:
            assert states(book) == {}


def test_closing_posts_what_is_noted_and_removes_the_journal(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await begin(book, "a")
            assert noted(path) == 1

    asyncio.run(main())
    assert (find_journals(path), count(path, "intents")) == ({}, 3)


def test_others_find_what_a_running_process_has_noted(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book, ledger.open(path, is_read_only=True) as other:
            await warm(book)
            await begin(book, "a")
            book.refuse(usual_request("no", at=NOW), reason="no tier", status=403)
            await begin(book, "b")
            assert noted(path) == 2
            assert states(other) == {"a": "intent", "b": "intent", "no": "refused"}
            assert (noted(path), len(find_journals(path))) == (0, 1)  # its process goes on noting there
            (spend,) = other.query_spend(by=())
            assert (spend.attempts, spend.spend.high_picousd) == (4, 36)
            await begin(book, "c")
            assert [row.request_id for row in other.query_requests(request_id="c")] == ["c"]
            await begin(book, "d")
            assert [task.task_id for task in other.query_tasks(task_id="d")] == ["d"]
            await begin(book, "e")
            (workload,) = other.query_workloads()
            assert workload.own_requests == 7
            await book.begin_attempt(usual_intent("e", at=NOW, attempt=2))
            assert [row["attempt"] for row in other.export_rows() if row["request_id"] == "e"] == [1, 2]

    asyncio.run(main())


def test_what_another_process_says_of_a_task_finds_it_in_the_journal(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book, ledger.open(path) as other:
            await warm(book)
            await begin(book, "a")
            assert noted(path) == 1
            outcome = Outcome(task_id="a", source="user", completed=True, recorded_at=NOW)
            await asyncio.to_thread(other.record_outcome, outcome)
            assert noted(path) == 0

    asyncio.run(main())


def test_a_further_call_of_a_noted_request_finds_it(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await begin(book, "a")
            await book.begin_attempt(usual_intent("a", at=NOW, attempt=2))
            assert [row["attempt"] for row in book.export_rows() if row["request_id"] == "a"] == [1, 2]

    asyncio.run(main())


def test_many_notes_are_put_into_the_tables_by_the_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ownward.ledger._writing_thread._POST_S", 60.0)  # not by the way

    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            for number in range(5):
                await begin(book, f"r{number}")
            posted: list[str] = []
            post = Committer._post

            def note_post(committer: Committer, *parts: Any, **how: Any) -> int:
                posted.append(threading.current_thread().name)
                return post(committer, *parts, **how)

            monkeypatch.setattr(Committer, "_post", note_post)
            await book.begin(*request("a"))
            assert posted == ["ownward-ledger"]
            await begin(book, "b")
            await book.begin(*request("c"))
            assert posted == ["ownward-ledger", "MainThread"]

    asyncio.run(main())


def test_a_bound_beyond_what_a_table_holds_is_refused_before_anything_is_sent(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            with pytest.raises(LedgerError, match="refused"):
                await begin(book, "a", 1 << 63)
            await begin(book, "b", (1 << 63) - 1)
            assert states(book) == {"b": "intent"}

    asyncio.run(main())


@pytest.mark.parametrize("is_other", [False, True])
def test_the_first_budget_ends_all_noting_and_counts_what_was_noted(
    path: Path, monkeypatch: pytest.MonkeyPatch, is_other: bool
) -> None:
    monkeypatch.setattr("ownward.ledger._writing_thread._POST_S", 0.05)
    budget = BudgetCheck(
        kind="workload", name="w", limit_picousd=100, starts_at=NOW - timedelta(days=1), ends_at=NOW + timedelta(days=1)
    )

    async def main() -> None:
        with ledger.open(path) as book, ledger.open(path) as other:
            await warm(book)
            await begin(book, "a", 40)
            await asyncio.to_thread((other if is_other else book).open_budgets, [budget])
            await book.begin(*request("b", 30), budgets=[budget])
            await begin(book, "c", 5)  # not held to it, but charged to it
            assert noted(path) == 0  # from here on, accounts and intents change together
            with pytest.raises(BudgetSpent):
                await book.begin(*request("d", 20), budgets=[budget])
            (state,) = book.query_budgets([budget])
            assert state.reserved_picousd == 9 + 9 + 40 + 30 + 5

    asyncio.run(main())


def test_a_process_that_does_not_stop_noting_keeps_budgets_from_being_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ownward.ledger._sqlite._STOPPING_PATIENCE_S", 0.05)
    budget = BudgetCheck(kind="workload", name="w", limit_picousd=100, starts_at=NOW, ends_at=None)

    async def main() -> None:
        with ledger.open(path) as book, ledger.open(path) as other:
            await warm(book)
            await begin(book, "a")  # and its thread looks again in an hour, as one does that hangs
            with pytest.raises(LedgerError, match="still notes calls"):
                await asyncio.to_thread(other.open_budgets, [budget])
            assert count(path, "budget_accounts") == 0

    asyncio.run(main())


def test_a_row_that_the_tables_refuse_takes_no_other_with_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            book.settle(usual_settlement("nobody", at=NOW, charge=5))
            await begin(book, "a")
            assert noted(path) == 1  # a settlement goes with the next intent
            assert states(book) == {"a": "intent"}
            assert "a row was refused" in caplog.text
            book.settle(usual_settlement("nobody", at=NOW, charge=5))
            await begin(book, "b")
            with pytest.raises(LedgerError, match="a row was refused"):
                await book.flush()
            await book.flush()  # told once
            assert states(book) == {"a": "intent", "b": "intent"}

    asyncio.run(main())


def test_the_thread_copies_no_pages_unless_a_row_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ownward.ledger._writing_thread._POST_S", 0.02)
    said: list[str] = []
    execute = SqliteConnection.execute

    def note_saying(connection: SqliteConnection, sql: str, *values: Any) -> int:
        said.append(sql)
        return execute(connection, sql, *values)

    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            monkeypatch.setattr(SqliteConnection, "execute", note_saying)
            await begin(book, "a")
            await begin(book, "b")
            await until(lambda: count(path, "intents") == 4)
            assert said
            assert not any("SAVEPOINT" in sql for sql in said)
            await begin(book, "c")
            book.settle(usual_settlement("nobody", at=NOW, charge=5))
            book.settle(usual_settlement("c", at=NOW, charge=7))
            await until(lambda: count(path, "settlements"))
            assert any("SAVEPOINT" in sql for sql in said)
            assert "a row was refused" in caplog.text
            assert noted(path) == 0
            assert states(book) == {"a": "intent", "b": "intent", "c": "settled"}
            with pytest.raises(LedgerError, match="a row was refused"):
                await book.flush()

    asyncio.run(main())


def test_the_thread_rests_between_rows_and_lets_the_event_loop_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ownward.ledger._writing_thread._POST_S", 0.05)
    monkeypatch.setattr("ownward.ledger._statements._ROWS_BETWEEN_RESTS", 4)
    rests: list[str] = []
    rest = WritingThread._rest

    def note_rest(writer: WritingThread) -> None:
        rests.append(threading.current_thread().name)
        rest(writer)

    monkeypatch.setattr(WritingThread, "_rest", note_rest)

    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            for number in range(9):
                await begin(book, f"r{number}")
            await until(lambda: count(path, "intents") == 11)

    asyncio.run(main())
    assert set(rests) == {"ownward-ledger"}
    assert len(rests) >= 3 * 3  # after every four rows of three tables


def test_a_journal_of_another_version_is_told_and_kept(path: Path) -> None:
    journal = leave_behind(path, change=lambda data: data.replace(b"ownward calls 2", b"ownward calls 3"))
    with ledger.open(path) as book:
        with pytest.raises(LedgerError, match="ownward calls 3") as caught:
            book.reconcile()
        assert caught.value.where == str(journal)
        with pytest.raises(LedgerError, match="ownward calls 3"):
            list(book.export_rows())
    assert journal.exists()


def test_a_journal_that_an_earlier_version_left_is_put_into_the_tables(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("ownward.ledger._journal._MAGIC", b"ownward calls 1\n")
        earlier.setattr("ownward.ledger._journal._encode", msgspec.json.Encoder().encode)
        journal = leave_behind(path)
    assert journal.read_bytes().startswith(b"ownward calls 1\n")
    with ledger.open(path) as book:
        book.reconcile()
        assert states(book) == {"a": "unsettled"}
    assert not journal.exists()


def test_a_journal_that_cannot_be_read_leaves_the_ledger_to_the_version_that_wrote_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_behind(path, change=lambda data: data.replace(b"ownward calls 2", b"ownward calls 3"))
    added = _schema.Migration(name="9999_more", statements=("CREATE TABLE extra (a {int})",))
    with monkeypatch.context() as later:
        for module in (_schema, _store, _sqlite_file):
            later.setattr(module, "MIGRATIONS", (*_schema.MIGRATIONS, added))
        with pytest.raises(LedgerError, match="ownward calls 3"):
            ledger.open(path)
    ledger.open(path).close()


def test_who_may_not_write_waits_until_a_running_process_has_posted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ownward.ledger._writing_thread._POST_S", 0.2)

    async def main() -> None:
        with ledger.open(path) as book, ledger.open(path, is_read_only=True) as other:
            await warm(book)
            await begin(book, "a")
            assert noted(path) == 1
            monkeypatch.setattr("os.access", lambda place, mode: Path(place) != path)
            assert await asyncio.to_thread(states, other) == {"a": "intent"}

    asyncio.run(main())


def test_who_may_not_write_is_told_what_a_killed_process_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_behind(path)
    monkeypatch.setattr("os.access", lambda place, mode: Path(place) != path)
    monkeypatch.setattr("ownward.ledger._sqlite._POSTING_PATIENCE_S", 0.05)
    with (
        ledger.open(path, is_read_only=True) as book,
        pytest.raises(LedgerError, match="newest calls stand in a journal alone"),
    ):
        list(book.export_rows())


def test_while_another_process_writes_calls_are_noted_all_the_same(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            await begin(book, "a")
            assert noted(path) == 1
            with contextlib.closing(other):
                other.execute("COMMIT")
            assert states(book) == {"a": "intent"}

    asyncio.run(main())


def test_nothing_is_noted_where_a_commit_must_outlive_the_loss_of_power(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path, durability="power") as book:
            await warm(book)
            await begin(book, "a")
            assert (find_journals(path), count(path, "intents")) == ({}, 3)

    asyncio.run(main())
