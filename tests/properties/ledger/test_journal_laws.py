"""A ledger whose calls pass through the journal says what one says that writes its tables at once."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import hypothesis
from hypothesis import given
from hypothesis import strategies as st

from ledger_rows import usual_intent, usual_request, usual_settlement
from ownward import ledger
from ownward.core import LedgerError
from ownward.ledger import BudgetCheck
from ownward.ledger._journal import Journal

NOW = datetime(2026, 11, 1, tzinfo=UTC)
BUDGET = BudgetCheck(kind="workload", name="w", limit_picousd=400, starts_at=NOW - timedelta(days=1), ends_at=None)

names = st.sampled_from([f"r{number}" for number in range(6)])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), names, st.sampled_from([0, 7, 90, 1 << 63])),
        st.tuples(st.just("begin held to a budget"), names, st.sampled_from([0, 7, 90])),
        st.tuples(st.just("two at once"), names, names),
        st.tuples(st.just("begin again"), names, st.integers(1, 3)),
        st.tuples(st.just("settle"), names, st.integers(0, 60)),
        st.tuples(st.just("refuse"), names, st.just(0)),
        st.tuples(st.sampled_from(["turn", "rest", "read", "another process reads", "open again"]), names, st.just(0)),
    ),
    max_size=30,
)


async def play(path: Path, taken: list[tuple[str, str, Any]]) -> list[object]:
    """Return what each step said, and all rows at the end."""
    said: list[object] = []
    begun: set[str] = set()
    asked = {"first"}
    book = ledger.open(path)
    await book.begin(usual_request("first", at=NOW), usual_intent("first", at=NOW, high=1))
    await book.flush()
    for step, name, value in taken:
        try:
            if step == "begin":
                is_fresh = name not in asked
                asked.add(name)
                request, intent = usual_request(name, at=NOW), usual_intent(name, at=NOW, high=value)
                await book.begin(request, intent, is_fresh=is_fresh)
                begun.add(name)
            elif step == "begin held to a budget":
                asked.add(name)
                await book.begin(usual_request(name, at=NOW), usual_intent(name, at=NOW, high=value), budgets=[BUDGET])
                begun.add(name)
            elif step == "two at once":
                asked.update((name, value))
                both = (book.begin(usual_request(n, at=NOW), usual_intent(n, at=NOW, high=3)) for n in (name, value))
                found = await asyncio.gather(*both, return_exceptions=True)
                said.append(sorted(type(one).__name__ for one in found))
            elif step == "begin again":
                await book.begin_attempt(usual_intent(name, at=NOW, high=5, attempt=value))
            elif step == "settle" and name in begun:
                book.settle(usual_settlement(name, at=NOW, charge=value))
            elif step == "refuse":
                asked.add(name)
                book.refuse(usual_request(name, at=NOW), reason="no", status=403)
            elif step == "turn":
                await asyncio.sleep(0)
            elif step == "rest":
                await asyncio.sleep(0.007)
            elif step == "read":
                await _flush(book)
                said.append(list(book.export_rows()))
            elif step == "another process reads":
                await _flush(book)
                with ledger.open(path, is_read_only=True) as other:
                    said.append([(row.group, row.spend) for row in other.query_spend(by=("tier",))])
                    said.append([(task.task_id, task.spend) for task in other.query_tasks()])
            elif step == "open again":
                _close(book)
                book = ledger.open(path)
        except LedgerError as error:
            said.append(type(error).__name__)
    await _flush(book)
    said.append(list(book.export_rows()))
    said.append(book.query_budgets([BUDGET]))
    _close(book)
    return said


async def _flush(book: ledger.Ledger) -> None:
    with contextlib.suppress(LedgerError):  # rows that were refused, told here or in the log, whoever met them
        await book.flush()


def _close(book: ledger.Ledger) -> None:
    with contextlib.suppress(LedgerError):
        book.close()


@hypothesis.settings(max_examples=60, deadline=None)
@given(steps)
def test_what_passes_through_the_journal_is_what_is_written_at_once(taken: list[tuple[str, str, Any]]) -> None:
    settings = {"_writer._SLOW_S": 60.0, "_writer._OFTEN": 1, "_writer._OFTEN_S": 0.0, "_writing_thread._POST_S": 0.005}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as patches:
        for name, value in settings.items():
            patches.enter_context(patch(f"ownward.ledger.{name}", value))
        journaled = asyncio.run(play(Path(folder) / "a.db", taken))
        with patch.object(Journal, "enter", lambda *_: False):
            direct = asyncio.run(play(Path(folder) / "b.db", taken))
    assert journaled == direct
