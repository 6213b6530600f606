"""What a worker learns of upstreams, told to the other workers: who is down or asks to wait, and what runs where.

Nothing waits for it. What happens within a few milliseconds is told together, and each worker decides by what it has
heard. What must be exact (budgets, limits, keys) is in the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from ownward.gateway.commons import Commons
from ownward.gateway.placing.breaker import Breaker
from ownward.gateway.working.messages import News

_GATHER_S: Final = 0.01


class Telling:
    """One worker's side: `tell` passes its news on, `hear` takes in those of another."""

    def __init__(self, commons: Commons, tell: Callable[[News], None]) -> None:
        """Tell whatever happens from now on."""
        self._commons = commons
        self._tell = tell
        self._breakers: dict[str, tuple[float, dict[str, Any]]] = {}
        self._changed: set[str] = set()  # upstreams whose calls in flight the others do not know yet
        self._timer: asyncio.TimerHandle | None = None
        commons.health.on_breaker = self._note_breaker
        commons.on_load = self._note_load
        commons.prefixes.on_news = self._tell_soon

    def hear(self, worker: int, news: News) -> None:
        """Take in what another worker tells."""
        commons = self._commons
        for key, (said_s, fields) in news["breakers"].items():
            commons.health.hear(key, Breaker(**fields), said_s)
        table = commons.table
        commons.peer_load.hear(worker, {key: calls for key, calls in news["calls"].items() if key in table.counted})
        targets = [target for name in table.prefix_tiers for target in table.targets[name]]
        commons.prefixes.hear(worker, (news["sent"], news["loads"]), targets)

    def forget(self, worker: int) -> None:
        """Forget the load of a worker that is gone."""
        self._commons.prefixes.forget_worker(worker)
        self._commons.peer_load.forget_worker(worker)

    def repeat(self) -> None:
        """Tell again what holds, for a worker that has just begun: breakers that are not closed, and loads."""
        for key, breaker in self._commons.health.breakers.items():
            if breaker.open_until_s:
                self._note_breaker(key, breaker)
        for key in self._commons.in_flight:
            self._note_load(key)

    def stop(self) -> None:
        """Tell nothing any more."""
        self._commons.health.on_breaker = self._commons.on_load = self._commons.prefixes.on_news = None
        if self._timer is not None:
            self._timer.cancel()

    def _note_breaker(self, key: str, breaker: Breaker) -> None:
        self._breakers[key] = self._commons.clock.monotonic_s(), asdict(breaker)
        self._tell_soon()

    def _note_load(self, key: str) -> None:
        if key in self._commons.table.counted:
            self._changed.add(key)
            self._tell_soon()
        else:
            self._commons.prefixes.note_load(key)

    def _tell_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_S, self._tell_now)

    def _tell_now(self) -> None:
        self._timer = None
        breakers, self._breakers = self._breakers, {}
        in_flight = self._commons.in_flight
        calls = {key: in_flight.get(key, 0) for key in self._changed}
        self._changed.clear()
        sent, loads = self._commons.prefixes.take_news(in_flight)
        self._tell({"breakers": breakers, "calls": calls, "sent": sent, "loads": loads})
