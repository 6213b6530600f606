"""What the writer is handed: rows that belong together, and who waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import msgspec

from ownward.core import LedgerError
from ownward.ledger._checks import BudgetCheck, LimitTake
from ownward.ledger._connection import Connection
from ownward.ledger._statements import Table, Values


class Entry(msgspec.Struct, eq=False):
    """What is written together or not at all, and who waits for it."""

    rows: tuple[tuple[Table, Values], ...] = ()
    call: Callable[[Connection], Any] | None = None
    waiter: asyncio.Future[Any] | Future[Any] | None = None
    begins: bool = False  # needs the run's row
    is_fresh: bool = False  # the request's id was drawn by chance just now: no other can have it
    checks: tuple[BudgetCheck, ...] = ()  # budgets that its intent must fit under
    takes: tuple[LimitTake, ...] = ()  # what its intent must find in the buckets of its key
    releases: tuple[tuple[LimitTake, int], ...] = ()  # what was held for a call that is over, and what it used
    outcome: Any = None
    error: LedgerError | None = None

    @property
    def moves_money(self) -> bool:
        """Whether a budget's account may have to follow it."""
        return bool(self.rows) and self.rows[-1][0] != "refusals"

    @property
    def must_not_be_lost(self) -> bool:
        """Whether it carries money and nobody waits who could try again."""
        return self.waiter is None and bool(self.rows)
