"""`ownward serve --workers N`: one parent that owns the engines, and N processes that serve the port."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ownward.cli import _serving
from ownward.cli._spans import spans_of
from ownward.core import OwnwardError, UsageError

if TYPE_CHECKING:
    from ownward.config import Settings
    from ownward.gateway import EngineAddress, WorkerPool

_LOG = logging.getLogger("ownward.gateway")
_HANDED = 3
"""Descriptors that a worker is started with: its listening socket, its line, and where it is handed connections."""


async def serve_with_workers(
    serving: _serving.Serving,
    opened: Any,
    settings: Settings,
    *,
    ready_file: str | None,
    arguments: list[str],
    on_ready: Callable[[WorkerPool], None],
    on_stopped: Callable[[], None],
) -> None:
    """Start engines and workers, run until told to stop, and leave none of either behind.

    `arguments` are the flags that a worker reads too; `on_stopped` is called before engines are stopped.
    Raises: PortTaken; ConfigError; EngineError, if a worker or an engine does not start.
    """
    from ownward.gateway import WorkerPool, has_started, heeded_signals, settings_as_message, worker_command

    gateway_settings = _serving.gateway_settings(settings, ready_file)
    pools: list[WorkerPool] = []
    async with _serving.engines_of(serving, settings, functools.partial(_tell, pools)) as addresses:
        pool = WorkerPool(
            count=gateway_settings.workers,
            command=worker_command(*arguments),
            hello=lambda number: {"settings": settings_as_message(gateway_settings), "number": number},
            plan=serving.plan,
            settings=gateway_settings,
            ledger=opened,
            addresses=addresses,
        )
        stopping = asyncio.Event()
        reloads: set[asyncio.Task[None]] = set()
        in_turn = asyncio.Lock()  # of two reloads the later one reads the file later, and holds

        def on_stop() -> None:
            if stopping.is_set():
                pool.hurry()
            stopping.set()

        def on_hangup() -> None:
            pool.read_certificates()
            task = asyncio.create_task(_reload(pool, serving, in_turn))
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        with heeded_signals(stop=on_stop, reload=on_hangup):
            try:
                if await has_started(pool.start(), stopping):
                    pools.append(pool)
                    on_ready(pool)
                    await stopping.wait()
            finally:
                pools.clear()
                await pool.stop()
        on_stopped()


async def serve_as_worker(opened: Any, our_settings: Settings, descriptors: str) -> None:
    """Serve the port that the parent opened, by its orders."""
    from ownward import plan as plan_room
    from ownward.gateway import (
        GatewayServer,
        RequestLog,
        WorkerLine,
        address_of_message,
        settings_of_message,
        socket_of,
    )
    from ownward.upstreams import Door, DoorLimits

    given = [int(number) for number in descriptors.split(":") if number.isdecimal()]
    if len(given) != _HANDED:
        raise UsageError("--worker is used by ownward serve itself", next_step="Use --workers N")
    listener, *of_line = given
    line = await WorkerLine.open(*of_line)
    hello = await line.hear_first()
    settings = settings_of_message({**hello["settings"], "worker": hello["number"]})
    plan = plan_room.loads(hello["plan"], file="the parent's plan")
    limits = DoorLimits(connections_per_origin=settings.max_in_flight_requests)
    async with Door(limits=limits) as door, spans_of(our_settings, door) as spans:
        server: GatewayServer = GatewayServer(
            plan=plan,
            ledger=opened,
            door=door,
            settings=settings,
            addresses={name: address_of_message(said) for name, said in hello["addresses"].items()},
            secrets=_serving.secrets_of,
            mounts=_serving.pages_of(opened, lambda: server.gateway.table.plan, our_settings)
            if settings.is_loopback
            else {},
            watchers=(RequestLog(), *spans),
            listener=socket_of(listener),
        )
        await line.serve(server)


def _tell(pools: list[WorkerPool], upstream: str, address: EngineAddress | None) -> None:
    for pool in pools:
        pool.set_address(upstream, address)


async def _reload(pool: WorkerPool, serving: _serving.Serving, in_turn: asyncio.Lock) -> None:
    from ownward.cli._plans import read_plan

    if serving.plan_path is None:
        _LOG.warning("SIGHUP: no plan file to read again")
        return
    async with in_turn:
        try:
            await pool.reload(await asyncio.to_thread(read_plan, serving.plan_path))
        except (OwnwardError, OSError) as error:
            _LOG.error("the plan was not reloaded and the old one stays: %s", error)
            return
        _LOG.info("reloaded plan %s in every worker", pool.plan.sha256[:12])
