"""What requests share: the routing table in force, the ledger and the door, and what each request teaches the next.

Every mutation happens on one event loop. How requests come in, and what is done between them, stands in `app`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from ownward.core import Clock
from ownward.gateway.client import Client
from ownward.gateway.health import Health
from ownward.gateway.holding.admission import Slots, split
from ownward.gateway.holding.judging import Judging
from ownward.gateway.holding.keys import KeyRing
from ownward.gateway.placing.affinity import Prefixes
from ownward.gateway.placing.breaker import BreakerRules
from ownward.gateway.placing.extra_calls import ExtraCalls
from ownward.gateway.placing.hedging import Pace
from ownward.gateway.placing.learned_quirks import LearnedQuirks
from ownward.gateway.placing.peer_load import PeerLoad
from ownward.gateway.placing.routing import RoutingTable
from ownward.gateway.settings import GatewaySettings
from ownward.gateway.watching.counting import Counting, Watcher
from ownward.gateway.watching.exposition import write_in_turns
from ownward.gateway.watching.fault_log import FaultLog
from ownward.gateway.watching.gauges import gauge_families, read_budgets
from ownward.ledger import Ledger
from ownward.traffic import Sketcher
from ownward.upstreams import Door, Gathering


class Underway(Protocol):
    """A request that is being served."""

    client: Client
    table: RoutingTable


class Commons:
    """One gateway's, from its start to its end; `table` is the plan that new requests are served by."""

    def __init__(
        self,
        *,
        table: RoutingTable,
        ledger: Ledger,
        door: Door,
        settings: GatewaySettings,
        clock: Clock,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        """Begin with nothing learned."""
        self.ledger = ledger
        self.door = door
        self.settings = settings
        self.most_in_flight = split(settings.max_in_flight_requests, index=settings.worker, count=settings.workers)
        self.most_body_bytes = split(settings.max_bodies_bytes, index=settings.worker, count=settings.workers)
        self.body_bytes = 0  # of all requests that are served
        self.clock = clock
        self.counting = Counting(clock, watchers)
        self.fault_log = FaultLog(clock)
        self.in_flight: dict[str, int] = {}
        self.peer_load = PeerLoad()  # the calls in flight that other workers have
        self.prefixes = Prefixes()
        self.health = Health(
            clock,
            BreakerRules(
                failures=settings.breaker_failures,
                wait_s=settings.breaker_wait_s,
                longest_wait_s=settings.breaker_longest_wait_s,
            ),
            counting=self.counting,
            prefixes=self.prefixes,
        )
        self.learned = LearnedQuirks()
        self.slots: dict[str, Slots] = {}
        self.full_tiers = _FullTiers(self.slots)
        self.exchanges: set[Underway] = set()
        self.paces: dict[str, Pace] = {}  # by tier, where the plan hedges
        self.retries = ExtraCalls(fraction=settings.retry_fraction, burst=settings.retry_burst)
        self.keys = (
            KeyRing(
                ledger.verify_key, clock=clock, remember_s=settings.key_cache_s, is_failing=lambda: ledger.is_failing
            )
            if settings.requires_keys
            else None
        )
        # Request ids name, they do not authorise: a seeded generator spares a system call for each of them.
        self.random_bits = random.Random().getrandbits
        self.judging = Judging()
        self.is_draining = False  # `/readyz` says so; requests that still come are served
        self.has_stopped = False
        self.gather_metrics: Callable[[bytes], Awaitable[bytes]] | None = None  # set where there are several workers
        self.on_load: Callable[[str], None] | None = None  # likewise
        self.sketcher = Sketcher()
        self.gathering = Gathering(settings.gather_stream_s) if settings.gather_stream_s else None
        self._asides: set[asyncio.Task[None]] = set()
        self.use(table)

    def use(self, table: RoutingTable) -> None:
        """Serve new requests by `table`; those in flight keep the one they began with."""
        queue_limit = self.settings.queue_share
        for tier in table.plan.tiers.values():
            limit = tier.max_concurrency
            if limit is not None:
                limit = split(limit, index=self.settings.worker, count=self.settings.workers)
            slots = self.slots.get(tier.name)
            if slots is None:
                self.slots[tier.name] = Slots(tier.name, limit=limit, queue_limit=queue_limit)
            else:
                slots.resize(limit=limit, queue_limit=queue_limit)
        hedges = {tier.name: tier.hedge for tier in table.plan.tiers.values() if tier.hedge is not None}
        self.paces = {name: self.paces.get(name) or Pace(hedge) for name, hedge in hedges.items()}
        for name, hedge in hedges.items():
            self.paces[name].follow(hedge)
        self.prefixes.keep({target.key for name in table.prefix_tiers for target in table.targets[name]})
        self.peer_load.keep(table.counted)
        self.learned.forget()
        self.table = table
        self._forget_what_no_plan_has()

    def _forget_what_no_plan_has(self) -> None:
        """Keep tiers and upstreams of the plan in force and of those that requests go on by: plans come for ever."""
        tables = {self.table, *(exchange.table for exchange in self.exchanges)}
        keys = {target.key for table in tables for targets in table.targets.values() for target in targets}
        self.health.keep(keys)
        for key in [key for key, calls in self.in_flight.items() if not calls and key not in keys]:
            del self.in_flight[key]
        tiers = {name for table in tables for name in table.plan.tiers}
        for name in self.slots.keys() - tiers:
            del self.slots[name]

    def aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work that no request waits for; `asides_done` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    async def asides_done(self) -> None:
        """Return once all that was begun by `aside` is done."""
        if self._asides:
            await asyncio.wait(tuple(self._asides))

    # What can be seen of it.

    async def render_own_metrics(self) -> bytes:
        """Return this process's metrics in Prometheus' text form."""
        budgets = await read_budgets(self)
        return await write_in_turns([*self.counting.metrics.families(), *gauge_families(self, budgets)])

    async def render_metrics(self) -> bytes:
        """Return the metrics of all processes of this gateway."""
        own = await self.render_own_metrics()
        return own if self.gather_metrics is None else await self.gather_metrics(own)

    @property
    def why_not_ready(self) -> str | None:
        """Why no request can be served; None, where one can."""
        if self.is_draining:
            return "it is stopping"
        if not any(target.unusable is None for targets in self.table.targets.values() for target in targets):
            return "no upstream of the plan can be used"
        if self.ledger.is_failing:
            return "the ledger cannot be written, and nothing is sent that is not recorded"
        return None


class _FullTiers:
    """The tiers that would turn a request away, read when asked."""

    __slots__ = ("_slots",)

    def __init__(self, slots: Mapping[str, Slots]) -> None:
        self._slots = slots

    def __contains__(self, tier: object) -> bool:
        slots = self._slots.get(tier) if isinstance(tier, str) else None
        return slots is not None and slots.is_full
