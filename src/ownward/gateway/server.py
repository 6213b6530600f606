"""The server around the gateway: it binds the port, writes the ready file, reloads plan and certificates, drains."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Self

from ownward.core import Clock, ConfigError, OwnwardError, SystemClock
from ownward.gateway.app import Gateway, Secrets
from ownward.gateway.asgi import ASGIApp
from ownward.gateway.listening.descriptors import raise_descriptor_limit
from ownward.gateway.listening.listener import Listener
from ownward.gateway.listening.port import bind
from ownward.gateway.listening.tls import ListenerTls, listener_tls
from ownward.gateway.placing.engine_address import Addresses, EngineAddress
from ownward.gateway.ready_file import ReadyFile
from ownward.gateway.settings import GatewaySettings
from ownward.gateway.signals import has_started, heeded_signals
from ownward.gateway.watching.counting import Watcher
from ownward.ledger import Ledger
from ownward.plan import Plan
from ownward.upstreams import Door, DoorLimits

_LOG = logging.getLogger("ownward.gateway")
_YOUNG_OBJECTS = 10_000
_DAY_S = 86_400.0
LAST_WRITES_S = 3.0
"""How long a ledger that does not answer is waited for at the end, beyond the drain."""


class GatewayServer:
    """One gateway, listening.

    `plan` says where requests go; `addresses` holds the base URLs of upstreams whose engine was started for it, by
    upstream name or `tier/upstream`; `secrets` the values of the environment variables that the plan names (or a
    function of the plan that returns them, so that a reload can bring new ones).
    `mounts` are further ASGI applications by path prefix (their lifespan is not run). `load_plan` is asked for
    a new plan on SIGHUP. `watchers` are told of every request that is over. `listener` is a socket to accept from in
    place of one of its own. The ledger and the door stay the caller's to close.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        ledger: Ledger,
        door: Door,
        settings: GatewaySettings | None = None,
        addresses: Addresses | None = None,
        secrets: Secrets | None = None,
        mounts: Mapping[str, ASGIApp] | None = None,
        load_plan: Callable[[], Plan] | None = None,
        watchers: Sequence[Watcher] = (),
        clock: Clock | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        """Compile the plan; nothing listens yet.

        Raises: ConfigError, if the plan has a workload that cannot be carried out.
        """
        self.settings = settings or GatewaySettings()
        self.gateway = Gateway(
            plan=plan,
            ledger=ledger,
            door=door,
            settings=self.settings,
            clock=clock or SystemClock(),
            addresses=addresses,
            secrets=secrets,
            mounts=mounts,
            watchers=watchers,
        )
        self._load_plan = load_plan
        self._listener: Listener | None = None
        self._socket: socket.socket | None = listener
        self._tls: ListenerTls | None = None
        self._expiry_check: asyncio.TimerHandle | None = None  # once a day
        self._tasks: set[asyncio.Task[None]] = set()
        self._reload_lock = asyncio.Lock()  # of two reloads the later one reads the file last

    @property
    def base_url(self) -> str:
        """Where clients connect; its OpenAI base URL is this and `/v1`."""
        if self._socket is None:
            message = "the server has not been started"
            raise RuntimeError(message)
        return self.settings.base_url(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Listen, and write the ready file once requests are accepted.

        Raises: PortTaken; ConfigError, if the ready file has no folder or the certificate cannot be used.
        """
        ready_file = ReadyFile(self.settings.ready_file)
        ready_file.clear()
        tls = self._tls = listener_tls(self.settings)
        if self._socket is None:
            self._socket = bind(self.settings.host, self.settings.port)
        await self.gateway.start()
        self._listener = Listener(self.gateway.answer, limits=self.settings, clock=self.gateway.clock)
        await self._listener.start(self._socket, tls=None if tls is None else tls.context)
        self._check_expiry()
        ready_file.write(base_url=self.base_url, tiers=list(self.gateway.table.plan.tiers))
        _LOG.info("accepting requests at %s", self.base_url)

    async def reload(self, plan: Plan) -> None:
        """Serve new requests by `plan`; requests in flight end as they began.

        Raises: ConfigError or LedgerError, and the old plan stays.
        """
        await self.gateway.reload(plan)

    def read_certificates(self) -> None:
        """Read our certificate and those of upstreams again; one that cannot be used changes nothing and is logged."""
        self._begin(self._read_upstream_certificates())
        if self._tls is None:
            return
        try:
            self._tls.reload()
        except ConfigError as error:
            _LOG.error("the certificate was not read again and the old one stays: %s", error)
        self._check_expiry()

    def _check_expiry(self) -> None:
        """Log a certificate that expires soon; of several workers, which all show the same one, the first does."""
        if self._expiry_check is not None:
            self._expiry_check.cancel()
        if self._tls is not None and not self.settings.worker:
            self._tls.log_expiry(self.gateway.clock)
            self._expiry_check = asyncio.get_running_loop().call_later(_DAY_S, self._check_expiry)

    async def _read_upstream_certificates(self) -> None:
        try:
            await self.gateway.read_certificates()
        except ConfigError as error:
            _LOG.error("certificates of upstreams were not read again and the old ones stay: %s", error)

    def set_address(self, upstream: str, address: EngineAddress | None) -> None:
        """Note where an engine listens now; None: it is down and stays so."""
        self.gateway.set_address(upstream, address)

    def take(self, connection: socket.socket) -> None:
        """Serve a connection that another process has accepted at the same address."""
        if self._listener is None:
            connection.close()
        else:
            self._listener.take(connection)

    async def stop(self) -> None:
        """Take no new requests, let those in flight end within `drain_s`, settle the rest.

        A ledger that does not answer is given up soon after it.
        """
        drain_s = 0.0 if self._listener is None else self.settings.drain_s
        self.gateway.ledger.hurry(drain_s + LAST_WRITES_S)
        if self._expiry_check is not None:
            self._expiry_check.cancel()
        if self._listener is not None:
            self.gateway.is_draining = True
            await self._listener.stop(self.settings.drain_s)
            self._listener = None
        elif self._socket is not None:
            self._socket.close()
        ReadyFile(self.settings.ready_file).remove()
        await self.gateway.stop()

    def hurry(self) -> None:
        """Cut the drain short: requests still in flight are cancelled."""
        self.gateway.ledger.hurry(LAST_WRITES_S)
        if self._listener is not None:
            self._listener.hurry.set()

    async def serve(self, on_ready: Callable[[], None] | None = None) -> None:
        """Start, run until SIGINT, SIGTERM or SIGQUIT (a second one cuts the drain short), stop.

        A stop that comes during the start ends it. `on_ready` is called once requests are accepted.
        Raises: PortTaken.
        """
        stopping = asyncio.Event()
        with self._signals(stopping):
            try:
                if await has_started(self.start(), stopping):
                    calm_collector()
                    if on_ready is not None:
                        on_ready()
                    await stopping.wait()
            finally:
                await self.stop()

    async def __aenter__(self) -> Self:
        """Start; where that fails, stop what was started."""
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop."""
        await self.stop()

    def _signals(self, stopping: asyncio.Event) -> contextlib.AbstractContextManager[None]:
        if threading.current_thread() is not threading.main_thread():
            return contextlib.nullcontext()

        def on_stop() -> None:
            if stopping.is_set():
                self.hurry()
            stopping.set()

        return heeded_signals(stop=on_stop, reload=self._on_hangup)

    def _on_hangup(self) -> None:
        self.read_certificates()
        if self._load_plan is None:
            _LOG.warning("SIGHUP: no plan file to read again")
            return
        self._begin(self._reload_from_file(self._load_plan))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload_from_file(self, load_plan: Callable[[], Plan]) -> None:
        async with self._reload_lock:
            try:
                await self.reload(await asyncio.to_thread(load_plan))
            except (OwnwardError, OSError) as error:
                _LOG.error("the plan was not reloaded and the old one stays: %s", error)
                return
            _LOG.info("reloaded plan %s", self.gateway.table.plan_sha256[:12])


def serve_app(
    *,
    plan: Plan,
    ledger: Ledger,
    settings: GatewaySettings | None = None,
    limits: DoorLimits | None = None,
    on_ready: Callable[[GatewayServer], None] | None = None,
    **more: Any,
) -> None:
    """Run a gateway in this thread until it is told to stop; `more` goes to `GatewayServer`.

    Uses uvloop where it is installed. `on_ready` is called once requests are accepted.
    Raises: ConfigError, PortTaken.
    """

    async def main() -> None:
        async with Door(limits=limits) as door:
            server = GatewayServer(plan=plan, ledger=ledger, door=door, settings=settings, **more)
            await server.serve(None if on_ready is None else lambda: on_ready(server))

    run_loop(main)


def run_loop(main: Callable[[], Any]) -> Any:
    """Run a coroutine function to its end on uvloop where it is installed, else on asyncio's own loop.

    This process may have as many file descriptors as its user may from then on.
    """
    raise_descriptor_limit()
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if sys.platform != "win32":
        with contextlib.suppress(ImportError):
            import uvloop

            factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


def calm_collector() -> None:
    """Exempt what start-up made from garbage collection and run it seldom: a request leaves next to no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
