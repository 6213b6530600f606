"""What other workers of this gateway have at each upstream, as they told it last."""

from __future__ import annotations

from collections.abc import Mapping


class Elsewhere:
    """Numbers by upstream, the sum over the other workers in `totals`.

    They are told whole and not as differences, so that what is lost is put right by what is told next.
    """

    __slots__ = ("_told", "totals")

    def __init__(self) -> None:
        """Start with nothing told."""
        self.totals: dict[str, int] = {}
        self._told: dict[str, dict[int, int]] = {}  # by upstream, then by worker

    def hear(self, worker: int, told: Mapping[str, int]) -> None:
        """Take in what one worker has, by upstream."""
        for key, number in told.items():
            by_worker = self._told.setdefault(key, {})
            self.totals[key] = self.totals.get(key, 0) + number - by_worker.get(worker, 0)
            by_worker[worker] = number

    def forget_worker(self, worker: int) -> None:
        """Forget what a worker has that is gone."""
        self.hear(worker, {key: 0 for key, by_worker in self._told.items() if worker in by_worker})

    def forget(self, key: str) -> None:
        """Forget what is at an upstream."""
        self.totals.pop(key, None)
        self._told.pop(key, None)

    def keep(self, keys: frozenset[str] | set[str]) -> None:
        """Forget every upstream but these."""
        for key in self._told.keys() - keys:
            self.forget(key)
