"""What is written to the journal first, how it comes into the tables, and who finds it there."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from ledger_rows import usual_intent, usual_request, usual_settlement
from ownward import ledger
from ownward.core import LedgerError
from ownward.ledger import BudgetCheck, BudgetSpent, Intent, Ledger, Request

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def request(name: str, high: int = 9) -> tuple[Request, Intent]:
    return usual_request(name, at=NOW), usual_intent(name, at=NOW, high=high)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a ledger is whose event loop always commits itself, and posts when it is told to."""
    monkeypatch.setattr("ownward.ledger._writer._SLOW_S", 60.0)
    monkeypatch.setattr("ownward.ledger._writer._POST_S", 3600.0)
    return tmp_path / "ledger.db"


def count(path: Path, table: str) -> int:
    with sqlite3.connect(path) as reader:
        ((found,),) = reader.execute(f"SELECT COUNT(*) FROM {table}").fetchall()
    reader.close()
    return int(found)


async def warm(book: Ledger) -> None:
    """The first commit opens the database and begins the log, on the thread."""
    await book.begin(*request("first"))
    await book.flush()


def states(book: Ledger) -> dict[str, str]:
    return {row["request_id"]: row["state"] for row in book.export_rows()}


def test_a_call_is_in_the_journal_first_and_in_the_tables_a_moment_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ownward.ledger._writer._POST_S", 0.05)

    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await book.begin(*request("a"))
            assert (count(path, "journal"), count(path, "intents")) == (1, 1)
            deadline_s = time.monotonic() + 10
            while count(path, "journal"):
                assert time.monotonic() < deadline_s
                await asyncio.sleep(0.01)
            assert count(path, "intents") == 2

    asyncio.run(main())


def test_many_entries_are_posted_when_an_answer_has_left(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            for number in range(32):
                await book.begin(*request(f"r{number}"))
            await asyncio.sleep(0)
            assert (count(path, "journal"), count(path, "intents")) == (32, 1)
            commits = book.commit_count
            book.settle(usual_settlement("r1", at=NOW, charge=5))
            book.settle(usual_settlement("r2", at=NOW, charge=5))
            await asyncio.sleep(0)
            assert [count(path, table) for table in ("journal", "intents", "settlements")] == [0, 33, 2]
            assert book.commit_count == commits + 1

    asyncio.run(main())


def test_the_journal_holds_so_much_and_no_more(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            for number in range(128):
                await book.begin(*request(f"r{number}"))
            assert (count(path, "journal"), count(path, "intents")) == (128, 1)
            await book.begin(*request("last"))  # no answer has left meanwhile
            assert (count(path, "journal"), count(path, "intents")) == (0, 130)

    asyncio.run(main())


def test_what_nobody_waits_for_goes_into_the_tables_and_takes_the_journal_along(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await book.begin(*request("a"))
            book.settle(usual_settlement("a", at=NOW, charge=5))
            deadline_s = time.monotonic() + 10
            while not count(path, "settlements"):
                assert time.monotonic() < deadline_s
                await asyncio.sleep(0.001)
            assert count(path, "journal") == 0

    asyncio.run(main())


def test_a_killed_process_loses_nothing_that_is_in_the_journal(path: Path) -> None:
    script = f"""
import asyncio, os, sys
sys.path[:0] = {sys.path!r}
from test_journal import *
from ownward.ledger import _writer
_writer._POST_S, _writer._SLOW_S = 3600.0, 60.0
async def main():
    book = ledger.open({str(path)!r})
    await warm(book)
    await book.begin(*request("a"))
    book.settle(usual_settlement("a", at=NOW, charge=5))
    await book.begin(*request("b", 77))
    os._exit(9)
asyncio.run(main())
"""
    folder = str(Path(__file__).parent)
    ended = subprocess.run([sys.executable, "-c", script], cwd=folder, check=False, timeout=60)
    assert ended.returncode == 9
    assert (count(path, "journal"), count(path, "intents")) == (2, 1)

    with ledger.open(path, is_read_only=True) as book:
        rows = {row["request_id"]: row for row in book.export_rows()}
    assert {name: row["state"] for name, row in rows.items()} == {
        "first": "unsettled",
        "a": "settled",
        "b": "unsettled",
    }
    assert (Decimal(rows["b"]["charge_low_usd"]), Decimal(rows["b"]["charge_high_usd"])) == (0, Decimal("77e-12"))
    with ledger.open(path) as book:
        assert book.reconcile() == 2
        assert states(book) == {"first": "unsettled", "a": "settled", "b": "unsettled"}


def test_a_killed_process_is_reconciled_before_anybody_has_read(path: Path) -> None:
    async def leave_two() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await book.begin(*request("a"))
            book._writer._hand_over = lambda: None  # type: ignore[method-assign]
            with sqlite3.connect(path) as other:
                kept = other.execute("SELECT * FROM journal").fetchall()
            other.close()
        with sqlite3.connect(path) as other:  # as if the process had not closed it
            other.executemany("INSERT INTO journal VALUES (?, ?)", kept)
            other.execute("DELETE FROM intents WHERE request_id = 'a'")
            other.execute("DELETE FROM requests WHERE request_id = 'a'")
        other.close()

    asyncio.run(leave_two())
    with ledger.open(path) as book:
        assert book.reconcile() == 2
        assert states(book) == {"first": "unsettled", "a": "unsettled"}


def test_closing_posts_the_journal(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await book.begin(*request("a"))
            assert count(path, "journal") == 1

    asyncio.run(main())
    assert (count(path, "journal"), count(path, "intents")) == (0, 2)


def test_others_find_what_is_in_the_journal_of_a_running_process(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book, ledger.open(path, is_read_only=True) as other:
            await warm(book)
            await book.begin(*request("a"))
            book.refuse(usual_request("no", at=NOW), reason="no tier", status=403)
            await book.begin(*request("b"))
            assert count(path, "journal") == 2
            assert states(other) == {"first": "intent", "a": "intent", "b": "intent", "no": "refused"}
            (spend,) = other.query_spend(by=())
            assert (spend.attempts, spend.spend.high_picousd) == (3, 27)
            await book.begin(*request("c"))
            assert [row.request_id for row in other.query_requests(request_id="c")] == ["c"]
            await book.begin(*request("d"))
            assert [task.task_id for task in other.query_tasks(task_id="d")] == ["d"]
            await book.begin(*request("e"))
            assert other.query_last_activity() == NOW
            (workload,) = other.query_workloads()
            assert workload.own_requests == 6

    asyncio.run(main())


def test_a_request_begins_once_wherever_it_lies(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await book.begin(*request("a"))
            with pytest.raises(LedgerError, match="refused"):
                await book.begin(*request("a"))  # in the journal
            assert count(path, "journal") == 0  # where it met the tables, these were brought up to date
            with pytest.raises(LedgerError, match="refused"):
                await book.begin(*request("a"))  # in the tables
            await book.begin(*request("b"))
            again = await asyncio.gather(book.begin(*request("b")), book.begin(*request("c")), return_exceptions=True)
            assert [type(found) for found in again] == [LedgerError, tuple]
            assert sorted(states(book)) == ["a", "b", "c", "first"]

    asyncio.run(main())


def test_two_calls_of_one_turn_do_not_begin_one_request(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            again = await asyncio.gather(book.begin(*request("a")), book.begin(*request("a")), return_exceptions=True)
            assert sorted(type(found).__name__ for found in again) == ["LedgerError", "tuple"]
            assert sorted(states(book)) == ["a", "first"]

    asyncio.run(main())


def test_a_further_call_of_a_request_in_the_journal_finds_it(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await book.begin(*request("a"))
            await book.begin_attempt(usual_intent("a", at=NOW, attempt=2))
            assert [row["attempt"] for row in book.export_rows() if row["request_id"] == "a"] == [1, 2]

    asyncio.run(main())


def test_a_bound_beyond_what_a_table_holds_is_refused_before_anything_is_sent(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            with pytest.raises(LedgerError, match="refused"):
                await book.begin(*request("a", 1 << 63))
            await book.begin(*request("b", (1 << 63) - 1))
            assert states(book) == {"first": "intent", "b": "intent"}

    asyncio.run(main())


def test_a_budget_counts_what_was_in_the_journal_when_it_was_opened(path: Path) -> None:
    budget = BudgetCheck(
        kind="workload", name="w", limit_picousd=100, starts_at=NOW - timedelta(days=1), ends_at=NOW + timedelta(days=1)
    )

    async def main() -> None:
        with ledger.open(path) as book, ledger.open(path) as other:
            await warm(book)
            await book.begin(*request("a", 40))
            assert count(path, "journal") == 1
            await asyncio.to_thread(other.open_budgets, [budget])
            await book.begin(*request("b", 30), budgets=[budget])
            await book.begin(*request("c", 5))  # not held to it, but charged to it
            assert count(path, "journal") == 0  # from here on, accounts and intents change together
            with pytest.raises(BudgetSpent):
                await book.begin(*request("d", 30), budgets=[budget])
            (state,) = book.query_budgets([budget])
            assert state.reserved_picousd == 9 + 40 + 30 + 5

    asyncio.run(main())


def test_a_row_that_the_tables_refuse_takes_no_other_with_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            book.settle(usual_settlement("nobody", at=NOW, charge=5))
            await book.begin(*request("a"))
            assert count(path, "journal") == 1
            assert states(book) == {"first": "intent", "a": "intent"}
            assert "a row was refused" in caplog.text
            book.settle(usual_settlement("nobody", at=NOW, charge=5))
            await book.begin(*request("b"))
            book.reconcile()
            with pytest.raises(LedgerError, match="a row was refused"):
                await book.flush()
            await book.flush()  # told once
            assert states(book) == {"first": "intent", "a": "intent", "b": "intent"}

    asyncio.run(main())


def test_an_entry_that_cannot_be_read_is_told_and_kept(path: Path) -> None:
    asyncio.run(_leave_damage(path))
    with ledger.open(path) as book:
        with pytest.raises(LedgerError, match="entry 7 of the journal cannot be read") as caught:
            book.reconcile()
        assert "DELETE FROM journal WHERE journal_id = 7" in str(caught.value.next_step)
        with pytest.raises(LedgerError, match="entry 7"):
            list(book.export_rows())
    assert count(path, "journal") == 1


async def _leave_damage(path: Path) -> None:
    with ledger.open(path) as book:
        await warm(book)
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO journal VALUES (7, '[[[\"intentions\", []]]]')")
    other.close()


def test_who_may_not_write_waits_until_a_running_process_has_posted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ownward.ledger._writer._POST_S", 0.2)

    async def main() -> None:
        with ledger.open(path) as book, ledger.open(path, is_read_only=True) as other:
            await warm(book)
            await book.begin(*request("a"))
            assert count(path, "journal") == 1
            monkeypatch.setattr("os.access", lambda place, mode: Path(place) != path)
            assert await asyncio.to_thread(states, other) == {"first": "intent", "a": "intent"}

    asyncio.run(main())


def test_who_may_not_write_is_told_what_a_killed_process_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(_leave_damage(path))
    monkeypatch.setattr("os.access", lambda place, mode: Path(place) != path)
    monkeypatch.setattr("ownward.ledger._sqlite._POSTING_PATIENCE_S", 0.05)
    with (
        ledger.open(path, is_read_only=True) as book,
        pytest.raises(LedgerError, match="newest calls stand in the journal alone"),
    ):
        list(book.export_rows())


def test_while_another_process_writes_a_call_waits_in_the_thread(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            task = asyncio.create_task(book.begin(*request("a")))
            await asyncio.sleep(0.02)
            assert not task.done()
            other.execute("COMMIT")
            other.close()
            await task
            assert states(book) == {"first": "intent", "a": "intent"}

    asyncio.run(main())
