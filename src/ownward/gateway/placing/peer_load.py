"""The load that the other workers of this gateway have at each upstream, as each reported it last."""

from __future__ import annotations

from collections.abc import Mapping


class PeerLoad:
    """A number for each upstream and worker; `totals` sums them over the workers.

    Workers report whole numbers and no differences, so that the next report mends a lost one.
    """

    __slots__ = ("_reported", "totals")

    def __init__(self) -> None:
        """Start with no reports."""
        self.totals: dict[str, int] = {}
        self._reported: dict[str, dict[int, int]] = {}  # by upstream, then by worker

    def hear(self, worker: int, reported: Mapping[str, int]) -> None:
        """Take in one worker's report, by upstream."""
        for key, number in reported.items():
            by_worker = self._reported.setdefault(key, {})
            self.totals[key] = self.totals.get(key, 0) + number - by_worker.get(worker, 0)
            by_worker[worker] = number

    def forget_worker(self, worker: int) -> None:
        """Forget the load of a worker that is gone."""
        self.hear(worker, {key: 0 for key, by_worker in self._reported.items() if worker in by_worker})

    def forget(self, key: str) -> None:
        """Forget the load at one upstream."""
        self.totals.pop(key, None)
        self._reported.pop(key, None)

    def keep(self, keys: frozenset[str] | set[str]) -> None:
        """Forget every upstream but these."""
        for key in self._reported.keys() - keys:
            self.forget(key)
