"""The ASGI application: what lives across requests, and which function answers which path."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping, Sequence
from typing import Any

from ownward.core import Clock
from ownward.gateway import control, wire
from ownward.gateway.endpoints import ENDPOINTS
from ownward.gateway.exchange import Exchange
from ownward.gateway.holding.admission import Slots, split
from ownward.gateway.holding.budgets import checks_of_plan, unheld_lines
from ownward.gateway.holding.keys import KeyRing
from ownward.gateway.keeping.bodies import delete_expired, uncaptured_lines
from ownward.gateway.placing.affinity import Prefixes
from ownward.gateway.placing.breaker import CLOSED, Breaker, BreakerRules
from ownward.gateway.placing.hedging import Pace
from ownward.gateway.placing.retries import RetryBudget
from ownward.gateway.placing.routing import RoutingTable, compile_plan
from ownward.gateway.settings import GatewaySettings
from ownward.gateway.watching.counting import Counting, Watcher
from ownward.gateway.watching.gauges import gauge_lines, read_budgets
from ownward.ledger import Ledger
from ownward.plan import Plan
from ownward.traffic import Sketcher
from ownward.upstreams import Door

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

Secrets = Mapping[str, str] | Callable[[Plan], Mapping[str, str]]
"""The values of the environment variables that a plan names, or how to get them for any plan."""

_LOG = logging.getLogger("ownward.gateway")
_SWEEP_S = 5.0
_DELETE_BODIES_S = 60.0


class Gateway:
    """An ASGI application that carries out a plan; `GatewayServer` puts it on a port.

    Holds what requests share: the routing table, breakers, slots, counts. Every mutation happens on one event loop.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        ledger: Ledger,
        door: Door,
        settings: GatewaySettings,
        clock: Clock,
        addresses: Mapping[str, str | None] | None = None,
        secrets: Secrets | None = None,
        mounts: Mapping[str, ASGIApp] | None = None,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        """Compile the plan.

        Raises: ConfigError, if the plan has a workload that cannot be carried out.
        """
        self.ledger = ledger
        self.door = door
        self.settings = settings
        self.most_in_flight = split(settings.max_in_flight_requests, index=settings.worker, count=settings.workers)
        self.clock = clock
        self.counting = Counting(clock, watchers)
        self.breakers: dict[str, Breaker] = {}
        self.in_flight: dict[str, int] = {}
        self.prefixes = Prefixes()
        self.slots: dict[str, Slots] = {}
        self.full_tiers = _FullTiers(self.slots)
        self.exchanges: set[Exchange] = set()
        self.paces: dict[str, Pace] = {}  # by tier, where the plan hedges
        self.retries = RetryBudget(fraction=settings.retry_fraction, burst=settings.retry_burst)
        self.keys = (
            KeyRing(ledger.verify_key, clock=clock, remember_s=settings.key_cache_s) if settings.requires_keys else None
        )
        # Request ids name, they do not authorise: a seeded generator spares a system call for each of them.
        self.random_bits = random.Random().getrandbits
        self.is_draining = False
        self.gather_metrics: Callable[[bytes], Awaitable[bytes]] | None = None  # set where there are several workers
        self._addresses = dict(addresses or {})
        self._secrets = secrets or {}
        self._mounts = tuple(sorted((mounts or {}).items(), key=lambda item: len(item[0]), reverse=True))
        self._rules = BreakerRules(
            failures=settings.breaker_failures,
            wait_s=settings.breaker_wait_s,
            longest_wait_s=settings.breaker_longest_wait_s,
        )
        self.sketcher = Sketcher()
        self._asides: set[asyncio.Task[None]] = set()
        self._delete_bodies_s = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        self.table: RoutingTable = self._compile(plan)
        self._use(self.table)

    # Life.

    async def start(self) -> None:
        """Keep the plan and its prices in the ledger, sum up its budgets, settle what dead processes left; sweep."""
        await asyncio.to_thread(self._snapshot, self.table.plan)
        await asyncio.to_thread(self.ledger.reconcile)
        self._warn()
        self._sweep()

    async def reload(self, plan: Plan) -> None:
        """Serve new requests by `plan`; those in flight keep the table they began with.

        Raises: ConfigError or LedgerError, and the old plan stays.
        """
        self._compile(plan)  # refuses before anything is written
        await asyncio.to_thread(self._snapshot, plan)
        self._use(self._compile(plan))  # anew: an engine may have moved while the ledger was written
        self._warn()

    def set_address(self, upstream: str, url: str | None) -> None:
        """Note where an engine listens now; None, that it is down. What its last life taught is forgotten."""
        self._addresses[upstream] = url
        self._use(self._compile(self.table.plan))
        for targets in self.table.targets.values():
            for target in targets:
                if upstream in {target.key, target.name}:
                    self.breakers.pop(target.key, None)
                    self.prefixes.forget(target.key)

    async def stop(self) -> None:
        """Have every settlement committed."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        if self._asides:
            await asyncio.wait(tuple(self._asides))
        await self.ledger.flush()

    def aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done that no request waits for; `stop` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    def _warn(self) -> None:
        plan = self.table.plan
        uncaptured = uncaptured_lines(plan, is_on_this_machine=self.ledger.is_on_this_machine)
        for line in (*self.table.unusable, *self.table.ignored, *unheld_lines(plan), *uncaptured):
            _LOG.warning("%s", line)

    def _compile(self, plan: Plan) -> RoutingTable:
        secrets = self._secrets(plan) if callable(self._secrets) else self._secrets
        return compile_plan(plan, addresses=self._addresses, secrets=secrets)

    def _use(self, table: RoutingTable) -> None:
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
        self.table = table

    def _snapshot(self, plan: Plan) -> None:
        self.ledger.snapshot_plan(plan.sha256, plan.canonical_text)
        for tier in plan.tiers.values():
            for price in (tier.price, tier.loaded_price):
                if price is not None:
                    self.ledger.snapshot_price(price)
        budgets = checks_of_plan(plan, at=self.clock.now())
        if budgets:
            self.ledger.open_budgets(budgets)

    def _sweep(self) -> None:
        """Cut clients that have read nothing for too long while bytes wait for them; delete bodies in their time."""
        now_s = self.clock.monotonic_s()
        for exchange in tuple(self.exchanges):
            exchange.client.cut_if_stalled(now_s, self.settings.client_stall_s)
        if now_s >= self._delete_bodies_s:
            self._delete_bodies_s = now_s + _DELETE_BODIES_S
            self.aside(delete_expired(self))
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    # Requests.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await _refuse_other(scope, receive, send)
            return
        path = scope["path"]
        endpoint = ENDPOINTS.get(path)
        if endpoint is not None and scope["method"] == "POST":
            await Exchange(self, endpoint, scope, receive, send).run()
            return
        for prefix, app in self._mounts:
            if not self.keys and wire.is_foreign(dict(scope["headers"])):
                break
            if path == prefix or path.startswith(f"{prefix}/"):
                await app({**scope, "root_path": scope.get("root_path", "") + prefix}, receive, send)
                return
        await control.answer(self, scope, receive, send)

    # What requests teach.

    def learn_dispatch(self, key: str) -> None:
        """Note that a request goes out; to a half-open upstream it is the probe."""
        breaker = self.breakers.get(key)
        if breaker is not None:
            self.breakers[key] = breaker.after_dispatch(self.clock.monotonic_s())

    def learn_success(self, key: str) -> None:
        """Note an answer."""
        breaker = self.breakers.get(key)
        if breaker is not None:
            self._remember(key, breaker.after_success(self.clock.monotonic_s()))

    def learn_failure(self, key: str) -> None:
        """Note that an upstream failed."""
        now_s = self.clock.monotonic_s()
        before = self.breakers.get(key, CLOSED)
        after = before.after_failure(now_s, self._rules)
        self._remember(key, after)
        if after.opened > before.opened:
            self.counting.breaker_opened(key)

    def learn_nothing(self, key: str) -> None:
        """Note a request that says nothing of its upstream."""
        breaker = self.breakers.get(key)
        if breaker is not None:
            self._remember(key, breaker.after_nothing_learned())

    def learn_wait(self, key: str, wait_s: float | None) -> None:
        """Note that an upstream asks to wait; without a time it only says that it is busy."""
        if wait_s is None:
            self.learn_nothing(key)
            return
        now_s = self.clock.monotonic_s()
        self._remember(key, self.breakers.get(key, CLOSED).after_request_to_wait(now_s, wait_s, self._rules))

    def _remember(self, key: str, breaker: Breaker) -> None:
        if breaker is CLOSED:
            self.breakers.pop(key, None)
        else:
            self.breakers[key] = breaker

    async def render_own_metrics(self) -> bytes:
        """Return this process's metrics in Prometheus' text form."""
        return self.counting.metrics.render(gauge_lines(self, await read_budgets(self)))

    async def render_metrics(self) -> bytes:
        """Return the metrics of all processes of this gateway."""
        own = await self.render_own_metrics()
        return own if self.gather_metrics is None else await self.gather_metrics(own)

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken and at least one upstream can be used."""
        usable = any(target.unusable is None for targets in self.table.targets.values() for target in targets)
        return usable and not self.is_draining


class _FullTiers:
    """The tiers that would turn a request away, read when asked."""

    __slots__ = ("_slots",)

    def __init__(self, slots: Mapping[str, Slots]) -> None:
        self._slots = slots

    def __contains__(self, tier: object) -> bool:
        slots = self._slots.get(tier) if isinstance(tier, str) else None
        return slots is not None and slots.is_full


async def _refuse_other(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what is no HTTP request: nothing to do for a lifespan, no websockets."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1003})
