"""The application: which function answers which path, and the gateway's start, reload, periodic work and stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ownward.core import Clock
from ownward.gateway import control
from ownward.gateway.asgi import ASGIApp, Receive, Scope, Send
from ownward.gateway.commons import Commons
from ownward.gateway.cross_origin import is_by_name_of_here, is_foreign, is_forwarded
from ownward.gateway.endpoints import ROUTES
from ownward.gateway.exchange import Exchange
from ownward.gateway.holding.budgets import checks_of_plan, unheld_lines
from ownward.gateway.keeping.bodies import delete_expired, uncaptured_lines
from ownward.gateway.listening.asgi_call import AnyCall, AsgiCall, answer_other
from ownward.gateway.placing.engine_address import Addresses, EngineAddress
from ownward.gateway.placing.routing import RoutingTable, compile_plan
from ownward.gateway.reconciling import begin_reconciling, end_reconciling
from ownward.gateway.settings import GatewaySettings
from ownward.gateway.watching.counting import Watcher
from ownward.ledger import Ledger
from ownward.plan import Plan
from ownward.upstreams import Door, make_transport

Secrets = Mapping[str, str] | Callable[[Plan], Mapping[str, str]]
"""The values of the environment variables that a plan names, or how to get them for any plan."""

_LOG = logging.getLogger("ownward.gateway")
_SWEEP_S = 5.0
_DELETE_BODIES_S = 60.0
_CLOCKS_AGREE_S = 5.0


class Gateway(Commons):
    """An application that carries out a plan; `GatewayServer` puts it on a port, and any ASGI server can."""

    def __init__(
        self,
        *,
        plan: Plan,
        ledger: Ledger,
        door: Door,
        settings: GatewaySettings,
        clock: Clock,
        addresses: Addresses | None = None,
        secrets: Secrets | None = None,
        mounts: Mapping[str, ASGIApp] | None = None,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        """Compile the plan.

        Raises: ConfigError, if the plan has a workload that cannot be carried out.
        """
        self._addresses = dict(addresses or {})
        self._secrets = secrets or {}
        self._mounts = tuple(sorted((mounts or {}).items(), key=lambda item: len(item[0]), reverse=True))
        self._next_deletion_s = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_every_s = min(_SWEEP_S, settings.stream_keep_alive_s / 4 or _SWEEP_S)
        super().__init__(
            table=self._compile(plan), ledger=ledger, door=door, settings=settings, clock=clock, watchers=watchers
        )

    # Start, reload, stop.

    async def start(self) -> None:
        """Keep the plan and its prices in the ledger, sum up its budgets, settle what dead processes left; sweep.

        Raises: ConfigError, naming a certificate file of the plan that cannot be used; MissingExtra, if the plan states
        a proxy and aiohttp is not installed; LedgerError.
        """
        await asyncio.to_thread(_check_ways, self.table)
        await asyncio.to_thread(self._snapshot, self.table.plan)
        if self.settings.worker == 0:  # for all of them
            running = await begin_reconciling(self.ledger, go_on=lambda: not self.is_draining)
            if running is not None:
                self.aside(end_reconciling(running))
            _warn_of_clock(await asyncio.to_thread(self.ledger.query_clock_lead_s), ledger=self.ledger.name)
        self._warn()
        self._sweep()

    async def reload(self, plan: Plan) -> None:
        """Serve new requests by `plan`; those in flight keep the table they began with.

        Raises: ConfigError, MissingExtra or LedgerError, and the old plan stays.
        """
        # In a thread, as a plan of a thousand workloads takes 50 ms; it refuses before anything is written.
        table = await asyncio.to_thread(self._compile, plan)
        await asyncio.to_thread(_check_ways, table)
        await asyncio.to_thread(self._snapshot, plan)
        await self.door.read_certificates(table.ways - self.table.ways)  # nobody has read them while no plan had them
        self.use(self._compile(plan))  # anew: an engine may have moved while the ledger was written
        self._warn()

    async def read_certificates(self) -> None:
        """Read the authorities and client certificates of the plan's upstreams again.

        Raises: ConfigError, naming each file that cannot be used; what was read before stays in use there.
        """
        await self.door.read_certificates(self.table.ways)

    def set_address(self, upstream: str, address: EngineAddress | None) -> None:
        """Note where an engine listens now; None: it is down and stays so. What its last life taught is forgotten."""
        if address is None:
            self._addresses.pop(upstream, None)
        else:
            self._addresses[upstream] = address
        self.use(self._compile(self.table.plan))
        for targets in self.table.targets.values():
            for target in targets:
                if upstream in {target.key, target.name}:
                    self.health.forget(target.key)

    async def stop(self) -> None:
        """Have every settlement committed; where a start was cut short, there is none to wait for."""
        self.is_draining = self.has_stopped = True
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            sweeper.cancel()
        self.judging.close()
        await self.asides_done()
        if sweeper is not None:
            await self.ledger.flush()

    def _warn(self) -> None:
        plan = self.table.plan
        unheld = unheld_lines(plan, today=self.clock.now().date())
        uncaptured = uncaptured_lines(plan, is_on_this_machine=self.ledger.is_on_this_machine)
        for line in (*self.table.unusable, *unheld, *uncaptured):
            _LOG.warning("%s", line)

    def _compile(self, plan: Plan) -> RoutingTable:
        secrets = self._secrets(plan) if callable(self._secrets) else self._secrets
        return compile_plan(plan, addresses=self._addresses, secrets=secrets)

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
        """Every few seconds: cut clients that have stopped reading, keep silent streams alive, delete old bodies."""
        now_s = self.clock.monotonic_s()
        for exchange in tuple(self.exchanges):
            exchange.client.cut_if_stalled(now_s, self.settings.client_stall_s)
            exchange.client.beat(now_s)
        if now_s >= self._next_deletion_s:
            self._next_deletion_s = now_s + _DELETE_BODIES_S
            self.aside(delete_expired(self))
        self._sweeper = asyncio.get_running_loop().call_later(self._sweep_every_s, self._sweep)

    # Requests.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request that another ASGI server carries."""
        if scope["type"] != "http":
            await answer_other(scope, receive, send)
            return
        call = AsgiCall(scope, receive, send)
        await self.answer(call)
        await call.drained()

    def answer(self, call: AnyCall) -> Awaitable[None]:
        """Return what answers one request: no coroutine of its own, which every resumption would pass through."""
        scope = call.scope
        path = scope["path"]
        endpoint = ROUTES.get(path)
        if endpoint is not None and scope["method"] == "POST":
            return Exchange(self, endpoint, call).run()
        for prefix, app in self._mounts:
            if path == prefix or path.startswith(f"{prefix}/"):
                headers = dict(scope["headers"])
                if is_foreign(scope, headers) or is_forwarded(headers) or not is_by_name_of_here(headers):
                    break  # they ask for no key and are for this machine alone
                return app({**scope, "root_path": scope.get("root_path", "") + prefix}, call.receive, call.send)
        return control.answer(self, call)


def _check_ways(table: RoutingTable) -> None:
    """Read the certificates that a plan names, so that what cannot be used is told now and not at a request.

    Raises: ConfigError, naming the file; MissingExtra, if the plan states a proxy and aiohttp is not installed.
    """
    for way in table.ways:
        if not way.is_direct:
            make_transport(way)


def _warn_of_clock(lead_s: float, *, ledger: str) -> None:
    """Say where this machine's clock is not the one that others on the ledger go by."""
    if abs(lead_s) > _CLOCKS_AGREE_S:
        _LOG.warning(
            "this machine's clock is %.0f s %s that of the ledger's server (%s): with hosts whose clocks differ, limits"
            " of keys let more through than was stated, budgets begin and end at other times, and from a minute on"
            " calls that run are taken for those of a dead process. Set both by NTP (timedatectl set-ntp true), then"
            " start this gateway again",
            abs(lead_s),
            "ahead of" if lead_s > 0 else "behind",
            ledger,
        )
