"""Journals as files: by whichever name the ledger is opened, whatever else lies beside it, and whose they are."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from ledger_rows import usual_intent, usual_request, usual_settlement
from noted_ledgers import NOW, begin, count, leave_behind, noted, request, states, warm
from ownward import ledger
from ownward.core import LedgerError
from ownward.ledger import BudgetCheck, BudgetSpent, LimitTake
from ownward.ledger._journal import Journal, ask_to_stop, find_journals, lock_journal, path_of, read_journal
from ownward.ledger._posting import remove_posted
from ownward.ledger._sqlite import SqliteStore

BUDGET = BudgetCheck(
    kind="workload", name="w", limit_picousd=1000, starts_at=NOW - timedelta(days=1), ends_at=NOW + timedelta(days=1)
)
RUN = "run_00000000000000000000000000"


@pytest.fixture(params=["through memory", "by calls"], autouse=True)
def how_notes_are_written(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by calls":
        monkeypatch.setattr("ownward.ledger._journal.map_in_place", lambda _file, _size: None)


def test_a_ledger_is_one_ledger_by_whichever_name_it_is_opened(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "link.db").symlink_to(path)
    (elsewhere / "folder").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        with ledger.open("ledger.db") as book, ledger.open(elsewhere / "link.db") as other:
            monkeypatch.chdir(elsewhere)
            for one in (book, other):
                await warm(one) if one is book else await one.begin(*request("x"))
            await other.begin(*request("y"))
            await other.flush()
            await begin(book, "a")
            await begin(other, "b")
            assert len(find_journals(path)) == 2
            expected = {"x": "intent", "y": "intent", "a": "intent", "b": "intent"}
            for name in ("link.db", "folder/ledger.db", "../ledger.db"):
                with ledger.open(name, is_read_only=True) as reader:
                    assert states(reader) == expected
                    assert reader.name == name
        assert sorted(found.name for found in elsewhere.iterdir()) == ["folder", "link.db"]

    asyncio.run(main())


def test_the_calls_noted_under_another_spelling_of_a_ledgers_name_are_found(path: Path, tmp_path: Path) -> None:
    """To the file systems of macOS `Ledger.db` and `ledger.db` are one file; here a second name stands for that."""
    run_id, other_id = f"run_{'0' * 26}", f"run_{'1' * 26}"
    path.touch()
    path_of(tmp_path / "Ledger.db", run_id).touch()
    path_of(tmp_path / "of-another.db", other_id).touch()
    (tmp_path / "of-another.db").touch()
    assert find_journals(path) == {}
    (tmp_path / "Ledger.db").hardlink_to(path)
    assert find_journals(path) == {tmp_path / f"Ledger.db-calls-{run_id}": run_id}


@pytest.mark.parametrize("why", [errno.EOPNOTSUPP, errno.EINVAL])
def test_calls_are_noted_where_no_room_on_disk_can_be_asked_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, why: int
) -> None:
    """As with musl on NFS; glibc writes the bytes itself."""

    def refuse(*_: object) -> None:
        raise OSError(why, os.strerror(why))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    journal = Journal(path_of(path, RUN))
    assert journal.open()
    journal.close()


def test_nothing_is_noted_where_the_disk_is_full(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    journal = Journal(path_of(path, RUN))
    assert not journal.open()
    assert find_journals(path) == {}


def test_a_ledger_whose_name_is_no_text_is_written_and_read(path: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"a?b#c%41 \xff.db")

    async def main() -> None:
        with ledger.open(odd) as book, ledger.open(odd, is_read_only=True) as other:
            await warm(book)
            await begin(book, "a")
            assert noted_beside(odd) == 1
            assert states(other) == {"a": "intent"}

    asyncio.run(main())


def noted_beside(ledger_path: Path) -> int:
    return sum(len(read_journal(at)) for at in find_journals(ledger_path))


def test_only_names_of_runs_are_journals(path: Path) -> None:
    journal = leave_behind(path)
    data = journal.read_bytes()
    for name in (
        f"{journal.name}.bak",
        f"{journal.name}~",
        f"{path.name}-calls-old",
        f"{path.name}-calls-x-calls-{RUN}",
    ):
        journal.with_name(name).write_bytes(data)
    assert list(find_journals(path)) == [journal]
    with ledger.open(path) as book:
        assert states(book) == {"a": "unsettled"}
    assert journal.with_name(f"{journal.name}.bak").read_bytes() == data


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Path.mkdir, "a folder stands where a file should"),
        (os.mkfifo, "a pipe stands where a file should"),
        (lambda place: place.symlink_to("/dev/zero"), "Too many levels of symbolic links"),
        (lambda place: place.symlink_to("nothing"), "Too many levels of symbolic links"),
        (lambda place: place.write_text("something else"), "it starts with b'something else'"),
    ],
    ids=["folder", "pipe", "link", "dangling link", "text"],
)
def test_what_is_no_journal_but_has_the_name_of_one_is_told_at_once(
    path: Path, make: Callable[[Path], object], why: str
) -> None:
    ledger.open(path).close()
    wrong = path_of(path, RUN)
    make(wrong)
    with ledger.open(path) as book:
        began_s = time.monotonic()
        for ask in (book.reconcile, lambda: list(book.export_rows()), lambda: book.open_budgets([BUDGET])):
            with pytest.raises(LedgerError, match="a journal of the ledger cannot be read") as caught:
                ask()
            assert why in caught.value.message
            assert caught.value.where == str(wrong)
            assert caught.value.next_step
        assert time.monotonic() - began_s < 3
    assert os.path.lexists(wrong)


def test_a_journal_that_may_not_be_read_is_told_with_what_to_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = leave_behind(path)
    os_open = os.open

    def deny(place: Path, *rest: int) -> int:
        if place == journal:
            raise PermissionError(13, "Permission denied")
        return os_open(place, *rest)

    with ledger.open(path) as book:
        monkeypatch.setattr("os.open", deny)
        with pytest.raises(LedgerError, match="cannot be read: Permission denied") as caught:
            book.reconcile()
        assert "the owner and the permissions of the ledger" in (caught.value.next_step or "")
        monkeypatch.undo()
        assert book.reconcile() == 3


def test_nobody_is_asked_to_stop_in_a_file_that_is_no_journal(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"x" * 100)
    link = tmp_path / "link"
    link.symlink_to(other)
    ask_to_stop(other)
    ask_to_stop(link)
    assert other.read_bytes() == b"x" * 100


def test_a_folder_that_may_not_be_listed_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.open(path).close()

    def deny(_place: object) -> object:
        raise PermissionError(13, "Permission denied")

    with ledger.open(path) as book:
        monkeypatch.setattr("os.scandir", deny)
        with pytest.raises(LedgerError, match="cannot be looked for") as caught:
            list(book.export_rows())
    assert "chmod +r" in (caught.value.next_step or "")


def test_who_may_read_the_ledger_may_read_its_journal(tmp_path: Path) -> None:
    ledger_file = tmp_path / "ledger.db"
    ledger_file.touch()
    ledger_file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(ledger_file, 12345, 23456)
    journal = Journal(path_of(ledger_file, RUN), like=ledger_file)
    assert journal.open()
    kept, made = ledger_file.stat(), journal.path.stat()
    assert (made.st_mode, made.st_uid, made.st_gid) == (kept.st_mode, kept.st_uid, kept.st_gid)
    journal.close()


def test_what_is_all_in_the_tables_does_not_keep_a_ledger_at_rest_from_being_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = leave_behind(path)
    kept = journal.read_bytes()
    with ledger.open(path) as book:
        book.reconcile()
    journal.write_bytes(kept)
    folder = path.parent
    monkeypatch.setattr("os.access", lambda place, mode: Path(place) != folder)
    monkeypatch.setattr("ownward.ledger._sqlite.SqliteStore.connect", None)  # nothing can be made in that folder
    with ledger.open(path, is_read_only=True) as book:
        assert states(book) == {"a": "unsettled"}
    assert journal.exists()


def test_a_lock_is_had_only_on_what_has_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the journal of a process that runs is removed, which was made while its old one was being looked at."""
    journal = tmp_path / "journal"
    journal.write_bytes(b"old")
    os_open = os.open

    def open_and_be_late(place: Path, flags: int) -> int:
        file = os_open(place, flags)
        journal.unlink()
        journal.write_bytes(b"new")
        return file

    monkeypatch.setattr("os.open", open_and_be_late)
    assert lock_journal(journal) is None
    monkeypatch.undo()
    file = lock_journal(journal)
    assert file is not None
    os.close(file)


def test_starting_again_removes_what_killed_processes_left(path: Path) -> None:
    journal = leave_behind(path)
    data = journal.read_bytes()
    for number in range(30):
        path_of(path, f"run_{number:026}").write_bytes(data[:4096] if number % 2 else b"")
    with ledger.open(path) as book:
        book.reconcile()
        assert find_journals(path) == {}
        assert states(book) == {"a": "unsettled"}


def test_a_journal_closed_before_all_was_in_the_tables_is_removed_after(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    assert journal.open()
    assert journal.enter([])
    journal.close()
    assert journal.path.exists()
    assert not journal.open()
    journal.note_posting(0)
    assert journal.path.exists()
    journal.note_posting(journal.number)
    assert not journal.path.exists()
    assert journal.open()
    journal.close()
    assert not journal.path.exists()


def test_who_lost_the_name_of_a_journal_notes_no_more(tmp_path: Path) -> None:
    """Nobody could ask for it any more, and nobody would find what is noted."""
    journal = Journal(tmp_path / "journal")
    assert journal.open()
    assert not journal.is_wanted()
    journal.path.unlink()
    assert journal.is_wanted()
    journal.close()
    assert not journal.is_wanted()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_that_was_forked_does_not_seem_to_note(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    assert journal.open()
    child = os.fork()
    if not child:  # pragma: no cover - another process
        time.sleep(30)
        os._exit(0)
    try:
        time.sleep(0.05)
        assert journal.enter([])
        assert lock_journal(journal.path) is None
        journal.close()
        file = lock_journal(journal.path)
        assert file is not None
        os.close(file)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_the_first_budget_asks_all_processes_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ownward.ledger._writing_thread._POST_S", 0.3)

    async def main() -> None:
        with ExitStack() as books:
            noting = [books.enter_context(ledger.open(path)) for _ in range(8)]
            for number, book in enumerate(noting):
                for call in range(3):
                    await book.begin(*request(f"{number}-{call}"))
                    await book.flush()
            assert len(find_journals(path)) == 8
            other = books.enter_context(ledger.open(path))
            began_s = time.monotonic()
            await asyncio.to_thread(other.open_budgets, [BUDGET])
            assert time.monotonic() - began_s < 2
            (state,) = other.query_budgets([BUDGET])
            assert state.reserved_picousd == 8 * 3 * 9

    asyncio.run(main())


def test_a_process_that_does_not_stop_noting_is_named_with_what_to_do(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ownward.ledger._sqlite._STOPPING_PATIENCE_S", 0.05)

    async def main() -> None:
        with ledger.open(path) as book, ledger.open(path) as other:
            await warm(book)
            await begin(book, "a")
            with pytest.raises(LedgerError, match="the first budget cannot be opened") as caught:
                await asyncio.to_thread(other.open_budgets, [BUDGET])
            assert caught.value.where == str(next(iter(find_journals(path))))
            assert "kill -CONT" in (caught.value.next_step or "")

    asyncio.run(main())


def test_what_is_left_of_a_tasks_budget_counts_what_is_noted(path: Path) -> None:
    task = BudgetCheck(kind="task", name="a", limit_picousd=1000, starts_at=NOW, ends_at=None)

    async def main() -> None:
        with ledger.open(path) as book, ledger.open(path, is_read_only=True) as other:
            await warm(book)
            await begin(book, "a", 77)
            assert noted(path) == 1
            (state,) = other.query_budgets([task])
            assert state.reserved_picousd == 77

    asyncio.run(main())


def test_a_copy_of_a_ledger_and_its_journal_finds_all(path: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    copied.mkdir()

    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await begin(book, "a")
            for file in path.parent.glob("ledger.db*"):
                shutil.copy(file, copied)

    asyncio.run(main())
    assert count(path, "intents") == 3
    with ledger.open(copied / path.name) as book:
        assert states(book) == {"a": "intent"}  # the process that wrote it runs


def test_threads_that_settle_while_the_event_loop_notes_lose_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ownward.ledger._writing_thread._POST_S", 0.002)

    async def main() -> None:
        begun: list[str] = []
        is_over = threading.Event()

        def settle_all(book: ledger.Ledger) -> None:
            at = 0
            while at < 300 and not is_over.wait(0.0005):
                for name in begun[at:]:
                    book.settle(usual_settlement(name, at=NOW, charge=5))
                    at += 1

        with ledger.open(path) as book:
            await warm(book)
            settling = threading.Thread(target=settle_all, args=(book,))
            settling.start()
            try:
                for number in range(300):
                    await begin(book, f"r{number}")
                    begun.append(f"r{number}")
                    if number % 7 == 0:
                        await asyncio.sleep(0.002)
                await asyncio.to_thread(settling.join, 10)
            finally:
                is_over.set()
            await book.flush()  # a settlement is queued, and read once it is committed
            found = states(book)
            assert (len(found), set(found.values())) == (300, {"settled"})

    asyncio.run(main())


def test_only_what_is_in_the_tables_is_removed(path: Path) -> None:
    journal = leave_behind(path)
    store = SqliteStore(path, durability="process", busy_timeout_s=1)
    with store.reading() as reader:
        remove_posted(reader, path)
        assert journal.exists()
        store.post_for_reading()
        assert not journal.exists()
    store.close()


def test_a_half_is_begun_anew_only_when_all_in_it_is_in_the_tables(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    assert journal.open()

    def numbers() -> list[int]:
        return [one.number for one in read_journal(journal.path)]

    assert journal.enter([])
    journal.take()
    assert journal.enter([])  # in the other half
    journal.take()  # the first was not posted: what follows may not take its place
    assert journal.enter([])
    assert numbers() == [1, 2, 3]
    journal.note_posting(2)
    journal.take()
    assert journal.enter([])  # where the first was, and after what is in the other half
    assert numbers() == [2, 3, 4]
    journal.note_posting(3)
    journal.take()
    assert journal.enter([])  # where the second was, before the third, which is in the tables and counts no more
    assert numbers() == [4, 5]
    journal.close()


def test_closing_after_a_fault_puts_what_is_noted_into_the_tables(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await begin(book, "a")
            book._writer._thread._note_failure(LedgerError("the disk was full for a moment"))
            assert noted(path) == 1

    asyncio.run(main())
    assert (find_journals(path), count(path, "intents")) == ({}, 3)


def test_closing_where_nothing_can_be_written_tells_and_keeps_what_is_noted(path: Path) -> None:
    async def main() -> None:
        book = ledger.open(path, busy_timeout_s=0.05)
        await warm(book)
        await begin(book, "a")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with contextlib.closing(other), pytest.raises(LedgerError, match="locked"):
            await asyncio.to_thread(book.close)
        assert noted(path) == 1
        with ledger.open(path, is_read_only=True) as reader:
            assert states(reader) == {"a": "intent"}  # its process runs
        assert find_journals(path) == {}

    asyncio.run(main())


def test_what_is_large_or_held_to_a_limit_goes_into_the_tables(path: Path) -> None:
    take = LimitTake(key_id="k", kind="requests", amount=1, per_minute=100)

    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await book.begin(
                usual_request("large", at=NOW, reason="x" * 20_000), usual_intent("large", at=NOW), is_fresh=True
            )
            assert (noted(path), count(path, "intents")) == (0, 3)
            states_of = await book.begin(*request("held"), limits=[take], is_fresh=True)
            assert (noted(path), len(states_of)) == (0, 1)
            book.settle(usual_settlement("held", at=NOW, charge=5), releases=[(take, 1)])
            assert noted(path) == 0

    asyncio.run(main())


def test_a_half_that_is_full_to_its_last_byte_ends_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ownward.ledger._journal._HALF_BYTES", 2 * (16 + len("[]")))
    journal = Journal(tmp_path / "journal")
    assert journal.open()
    assert journal.enter([])
    assert journal.enter([])
    assert not journal.enter([])
    journal.take()
    assert journal.enter([])
    assert [one.number for one in read_journal(journal.path)] == [1, 2, 3]
    journal.close()


def test_a_call_held_to_its_tasks_budget_counts_what_others_have_noted(path: Path) -> None:
    budget = BudgetCheck(kind="task", name="task", limit_picousd=100, starts_at=NOW, ends_at=None)

    async def main() -> None:
        with ledger.open(path) as book, ledger.open(path) as other:
            await warm(book)
            await other.begin(*request("third"))
            await other.begin(usual_request("a", at=NOW, task_id="task"), usual_intent("a", at=NOW, high=60))
            await other.flush()
            await begin(book, "b")
            await book.begin(
                usual_request("c", at=NOW, task_id="task"), usual_intent("c", at=NOW, high=30), is_fresh=True
            )
            assert noted(path) == 2
            held = usual_request("d", at=NOW, task_id="task"), usual_intent("d", at=NOW, high=11)
            with pytest.raises(BudgetSpent):
                await other.begin(*held, budgets=[budget], is_fresh=True)
            held = usual_request("e", at=NOW, task_id="task"), usual_intent("e", at=NOW, high=10)
            await book.begin(*held, budgets=[budget], is_fresh=True)
            assert noted(path) == 0
            held = usual_request("f", at=NOW, task_id="task"), usual_intent("f", at=NOW, high=1)
            with pytest.raises(BudgetSpent):
                await book.begin(*held, budgets=[budget], is_fresh=True)

    asyncio.run(main())


def test_no_journal_is_opened_where_another_process_has_opened_a_budget_meanwhile(path: Path) -> None:
    with ledger.open(path) as book, ledger.open(path) as other:
        asyncio.run(begin(book, "a"))
        other.open_budgets([BUDGET])
        book._run(book._writer._thread._committer.open_journal)
        assert find_journals(path) == {}
        asyncio.run(begin(book, "b"))
        (state,) = other.query_budgets([BUDGET])
        assert state.reserved_picousd == 18


@pytest.mark.parametrize("how", ["at once", "with a call"])
def test_a_later_settlement_counts_though_an_earlier_one_waits_for_another_process(path: Path, how: str) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            for number in range(40):  # so that calls are written before anybody has to wait
                await begin(book, f"r{number}")
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            await asyncio.to_thread(book.settle, usual_settlement("r7", at=NOW, charge=1))
            book.settle(usual_settlement("r7", at=NOW, charge=2))
            beginning = asyncio.create_task(begin(book, "late")) if how == "with a call" else None
            await asyncio.sleep(0.02)
            with contextlib.closing(other):
                other.execute("COMMIT")
            if beginning is not None:
                await beginning
            await book.flush()
            (row,) = book.query_requests(request_id="r7")
            assert row.charge_picousd == 2

    asyncio.run(main())


def test_nothing_is_noted_while_the_tables_cannot_be_written(path: Path) -> None:
    async def main() -> None:
        with ledger.open(path) as book:
            await warm(book)
            await begin(book, "a")
            assert noted(path) == 1
            book._writer._thread._note_failure(LedgerError("the disk was full for a moment"))
            await begin(book, "b")
            assert (noted(path), book.is_failing) == (0, False)
            await begin(book, "c")
            assert states(book) == {"a": "intent", "b": "intent", "c": "intent"}

    asyncio.run(main())


def test_the_first_call_held_to_a_budget_counts_what_a_killed_process_left(path: Path) -> None:
    leave_behind(path)

    async def main() -> None:
        with ledger.open(path) as book:
            await book.begin(*request("b", 20), budgets=[BUDGET])
            (state,) = book.query_budgets([BUDGET])
            assert state.reserved_picousd == 9 + 9 + 9 + 20

    asyncio.run(main())


@pytest.mark.parametrize("given", [None, 0o640], ids=["made", "found empty"])
def test_a_new_ledger_is_its_users_alone_and_one_that_is_there_keeps_who_may_read_it(
    path: Path, given: int | None
) -> None:
    """It says who asked what and what it cost, and most systems let others read what is made."""
    before = os.umask(0o022)
    try:
        if given is not None:
            path.touch()
            path.chmod(given)

        async def main() -> set[str]:
            with ledger.open(path) as book:
                await warm(book)
                await begin(book, "a")
                return {
                    f"{file.name.partition('run_')[0]} {file.stat().st_mode & 0o777:o}"
                    for file in path.parent.iterdir()
                }

        names = ("ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db-calls-")
        assert asyncio.run(main()) >= {f"{name} {given or 0o600:o}" for name in names}
    finally:
        os.umask(before)
