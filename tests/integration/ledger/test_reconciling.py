"""What ended processes left in flight, on a ledger with many calls: found in steps, while others write."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from ledger_rows import usual_intent, usual_request, usual_settlement
from ownward import ledger
from ownward.ledger import _runs

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
SIX = [f"r{number}" for number in range(6)]


def begin_all(book, names):
    async def main():
        await asyncio.gather(*(book.begin(usual_request(name, at=NOW), usual_intent(name, at=NOW)) for name in names))

    asyncio.run(main())


@pytest.mark.parametrize("step", [1, 2, 6, 7])
def test_all_that_is_left_is_found_whatever_is_looked_at_together(target, monkeypatch, step):
    monkeypatch.setattr(_runs, "_STEP", step)
    monkeypatch.setattr(_runs, "_TOGETHER", 2)
    with ledger.open(target) as book:
        begin_all(book, SIX)
        book.settle(usual_settlement("r3", at=NOW, charge=1))
    with ledger.open(target) as book:
        assert [book.reconcile(), book.reconcile()] == [5, 0]
        assert [row["state"] for row in book.export_rows()].count("unsettled") == 5


def test_others_write_while_what_is_left_is_looked_for_and_it_can_be_ended_early(target, monkeypatch):
    monkeypatch.setattr(_runs, "_STEP", 2)
    with ledger.open(target) as book:
        begin_all(book, SIX)
    with ledger.open(target) as book, ledger.open(target, busy_timeout_s=0.05) as other:
        written = []

        def go_on():
            begin_all(other, [name := f"s{len(written)}"])
            written.append(name)
            return len(written) < 2

        assert book.reconcile(go_on=go_on) == 4
        assert written == ["s0", "s1"]
        assert book.reconcile() == 2, "what lives is left alone"


def test_nothing_is_looked_for_where_all_that_ended_said_so_unless_it_is_to_be_thorough(target):
    with ledger.open(target) as book:
        begin_all(book, SIX)
    with ledger.open(target) as book:
        assert book.reconcile(is_thorough=False) == 0
        assert book.reconcile() == 6
