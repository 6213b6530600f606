"""What one pass over a ledger holds while it adds up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import pytest

from ownward.ledger import _served

USED = (100, 0, 0, 0, 10, 5, 5, 5, 0.1, 0.2, None, 1, 0)


class Counted(tuple):  # type: ignore[type-arg]
    """A row that is counted while anybody holds it."""

    __slots__ = ()
    held = 0
    most = 0

    def __new__(cls, values: tuple[object, ...]) -> Self:
        cls.held += 1
        cls.most = max(cls.most, cls.held)
        return super().__new__(cls, values)

    def __del__(self) -> None:
        Counted.held -= 1


@pytest.mark.parametrize("workloads", [1, 40])
def test_no_more_rows_are_held_at_once_however_many_there_are_and_of_however_many_workloads(workloads: int) -> None:
    """A ledger has a hundred million of them, some in each of a thousand workloads."""
    Counted.most = Counted.held = 0
    calls = 35_000

    def rows() -> Iterator[Counted]:
        for number in range(calls):
            workload = f"w{number % workloads}"
            yield Counted((f"t{number}", workload, "box", None, None, 1, "settled", number, *USED))

    served = _served._Adding(()).add_all(rows())
    assert sum(one.requests for one in served) == sum(one.settled for one in served) == calls
    assert len(served) == workloads
    assert 5_000 < Counted.most <= 10_001, "and the one that comes"
