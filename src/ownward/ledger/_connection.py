"""One connection to the ledger's database, whichever it is: the statements that both understand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

Row: TypeAlias = tuple[Any, ...]


class Connection(Protocol):
    """One connection, in no transaction until `begin`."""

    def execute(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Run one statement; return how many rows it changed, or -1."""
        ...

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each row."""
        ...

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        """Return all rows of a query."""
        ...

    @property
    def is_lost(self) -> bool:
        """Whether the other end is gone, so that only a new connection helps."""
        ...

    def require_in_place(self) -> None:
        """Return where what is written can be found again under its name.

        Raises: LedgerError, where a file was removed or replaced while it was open.
        """
        ...

    def begin(self) -> None:
        """Start a transaction that may write; wait for other writers."""
        ...

    def begin_at_once(self) -> bool:
        """Start a transaction that waits for nobody and no disk, up to its commit; False where that cannot be had."""
        ...

    def commit(self) -> None:
        """End it; when this returns, it is durable as the ledger's setting says."""
        ...

    def rollback(self) -> None:
        """Undo it, where there is one; never fails."""
        ...

    def close(self) -> None:
        """Let go of the database; never fails."""
        ...
