"""Whoever notes, posts, is killed or comes again, in any order: what was noted is in the tables once, and in order."""

from __future__ import annotations

import mmap
import os
import sqlite3
import tempfile
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_rows import usual_intent, usual_request, usual_settlement
from ownward.core import new_id
from ownward.ledger import _statements as statements
from ownward.ledger._entries import Entry
from ownward.ledger._journal import Journal, find_journals, path_of
from ownward.ledger._posting import post, post_files, remove_posted
from ownward.ledger._process import this_process
from ownward.ledger._sqlite import SqliteStore

NOW = datetime(2026, 11, 1, tzinfo=UTC)
HEAD = 4096
HALF = 3000  # a handful of notes

which = st.sampled_from([0, 0, 0, 1, 2])
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["begin", "begin", "begin", "settle", "settle"]), which, st.integers(0, 99)),
        st.tuples(
            st.sampled_from(["post", "post", "post, then note", "post in vain", "post, then be killed"]),
            which,
            st.just(0),
        ),
        st.tuples(
            st.sampled_from(["others post", "others post in vain", "tidy", "close", "be killed"]), which, st.just(0)
        ),
        st.tuples(st.just("be killed while noting"), which, st.integers(1, 60)),
    ),
    max_size=60,
)


class Torn:
    """A journal's memory of whose next note only some bytes get there."""

    def __init__(self, memory: mmap.mmap | None, written: int) -> None:
        self.memory, self.written = memory, written

    def __setitem__(self, at: slice, note: bytes) -> None:
        assert self.memory is not None
        self.memory[at.start : at.start + len(note[: self.written])] = note[: self.written]


class Process:
    """What a process has of its journal, and the ids of the calls that it began."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.run_id = new_id("run_")
        row = statements.run_values(self.run_id, this_process(), version="0", started_at_us=0)
        world.connection.execute(statements.INSERT_RUN, row)
        self.journal = Journal(path_of(world.path, self.run_id))
        self.begun: list[str] = []

    def note(self, entry: Entry) -> bool:
        """Note an entry where there is room; a process with no file opens one, as it would before it commits again."""
        self.journal.is_open or self.journal.open()
        return self.journal.enter([entry])

    def begin(self) -> None:
        """Begin a call."""
        name = f"r{len(self.world.calls)}"
        task, values = statements.request_values(usual_request(name, at=NOW))
        rows = (
            ("tasks", task),
            ("requests", values),
            ("intents", statements.intent_values(usual_intent(name, at=NOW, high=9), self.run_id)),
        )
        if self.note(Entry(rows=rows, is_fresh=True)):  # type: ignore[arg-type]
            self.begun.append(name)
            self.world.calls[name] = []

    def settle(self, charge: int) -> None:
        """Settle one of the calls that were begun here."""
        if self.begun:
            name = self.begun[charge % len(self.begun)]
            row = statements.settlement_values(usual_settlement(name, at=NOW, charge=charge))
            if self.note(Entry(rows=(("settlements", row),))):
                self.world.calls[name].append(charge)

    def post(self, *, ends: str) -> None:
        """Put what is noted here into the tables, as the writer does."""
        connection = self.world.connection
        connection.begin()
        noted = self.journal.take()
        assert not post(self.world.store, connection, self.run_id, noted)
        if ends == "post, then note":
            self.begin()
        if ends == "post in vain":
            connection.rollback()
            return
        connection.commit()
        if ends == "post, then be killed":
            self.world.kill(self)
        elif noted:
            self.journal.note_posting(noted[-1].number)


class World:
    """A ledger, the processes that note beside it, and what they were told: the charges of each call, as settled."""

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "ledger.db"
        self.store = SqliteStore(self.path, durability="process", busy_timeout_s=1)
        self.store.prepare(applied_at_us=0, is_read_only=False)
        self.connection = self.store.connect()
        self.calls: dict[str, list[int]] = {}
        self.processes = [Process(self) for _ in range(3)]

    def play(self, step: str, number: int, value: int) -> None:
        """Take one step."""
        process = self.processes[number]
        if step == "begin":
            process.begin()
        elif step == "settle":
            process.settle(value)
        elif step.startswith("post"):
            process.post(ends=step)
        elif step.startswith("others post"):
            self.connection.begin()
            assert not post_files(self.store, self.connection, self.path)
            self.connection.rollback() if step.endswith("vain") else self.connection.commit()
        elif step == "tidy":
            remove_posted(self.connection, self.path)
        elif step == "close":
            process.journal.close()
        elif step == "be killed":
            self.kill(process)
        else:
            self.kill_while_noting(process, value)

    def kill(self, process: Process) -> None:
        """End it; another takes its place."""
        process.journal.forget()
        self.processes[self.processes.index(process)] = Process(self)

    def kill_while_noting(self, process: Process, written: int) -> None:
        """End it when only some bytes of a note are written; nobody was told that it is noted."""
        kept = dict(self.calls)
        torn = Torn(process.journal._memory, written)
        with (
            patch("os.pwrite", lambda file, data, at: _pwrite(file, data[:written], at)),
            patch.object(process.journal, "_memory", torn if process.journal._memory is not None else None),
        ):
            process.begin()
        self.calls = kept
        self.kill(process)

    def check(self) -> None:
        """Compare the tables, once all is posted, with what was told."""
        self.play("others post", 0, 0)
        with closing(sqlite3.connect(self.path)) as reader:
            requests = [name for (name,) in reader.execute("SELECT request_id FROM requests")]
            found: dict[str, list[int]] = {name: [] for name in requests}
            assert len(found) == len(requests)
            for name, charge in reader.execute(
                "SELECT request_id, charge_picousd FROM settlements ORDER BY settlement_id"
            ):
                found[name].append(charge)
        assert found == self.calls

    def end(self) -> None:
        """End all; nothing may be left but what is in the tables, and that is removed."""
        for process in self.processes:
            process.journal.forget()
        self.check()
        remove_posted(self.connection, self.path)
        assert not find_journals(self.path)
        self.connection.close()
        self.store.close()


_pwrite = os.pwrite


@pytest.mark.parametrize("how", ["through memory", "by calls"])
@hypothesis.settings(max_examples=200, deadline=None)
@given(taken=steps)
def test_what_was_noted_is_in_the_tables_once_and_in_order(how: str, taken: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as patches:
        if how == "by calls":
            patches.enter_context(patch("ownward.ledger._journal.map_in_place", lambda _file, _size: None))
        patches.enter_context(patch("ownward.ledger._journal._HALF_BYTES", HALF))
        patches.enter_context(patch("ownward.ledger._journal._FILE_BYTES", HEAD + 2 * HALF))
        world = World(folder)
        for at, step in enumerate(taken):
            world.play(*step)
            if at % 15 == 14:
                world.check()
        world.end()
