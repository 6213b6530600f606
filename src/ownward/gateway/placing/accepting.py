"""Which workloads accept a model and a key, found without looking at every workload of a large plan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ownward.plan import Match, Workload

ANYTHING = Match()
"""The conditions of a workload that states none."""


class Accepting:
    """The workloads of a plan by how the models that they accept begin."""

    __slots__ = ("_by_beginning", "_by_model", "_conditions", "_lengths")

    def __init__(self, workloads: Sequence[Workload]) -> None:
        """Take workloads in the order in which they are tried."""
        self._by_model: defaultdict[str, list[int]] = defaultdict(list)
        self._by_beginning: defaultdict[str, list[int]] = defaultdict(list)
        self._conditions = [
            (workload, Match(models=workload.match.models, keys=workload.match.keys), _is_certain(workload.match))
            for workload in workloads
        ]
        for place, workload in enumerate(workloads):
            for pattern in workload.match.models or ("*",):
                beginning, star, _ = pattern.partition("*")
                (self._by_beginning if star else self._by_model)[beginning].append(place)
        self._lengths = sorted(set(map(len, self._by_beginning)))

    def find(self, model: str, key_id: str | None) -> tuple[tuple[Workload, bool], ...]:
        """Return the workloads whose conditions on model and key hold, in their order.

        The flag says that these are all its conditions, so that it is certain to accept.
        """
        places = set(self._by_model.get(model, ()))
        for length in self._lengths:
            places.update(self._by_beginning.get(model[:length], ()))
        conditions = self._conditions
        return tuple(
            (workload, is_certain)
            for workload, match, is_certain in map(conditions.__getitem__, sorted(places))
            if match.accepts(model=model, key_id=key_id)
        )


def _is_certain(match: Match) -> bool:
    return not (match.headers or match.metadata or match.fingerprints)
