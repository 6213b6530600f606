"""What `ownward serve` serves: a plan and its weights, the engines and the gateway that carry it out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ownward.cli._logs import announce
from ownward.cli._serve_engines import choose_for_tiers, find_weights, make_engine
from ownward.cli._serving_choice import choose_for_file, stated_in
from ownward.cli._spans import spans_of

_LOG = logging.getLogger(__name__)

if TYPE_CHECKING:
    from ownward.config import Settings
    from ownward.engines import EngineStatus, ServingChoice
    from ownward.gateway import EngineAddress, GatewayServer, GatewaySettings
    from ownward.plan import Plan, Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A plan and, for each tier that serve starts itself, the file of its weights."""

    plan: Plan
    plan_path: Path | None
    weights: dict[str, Path | None]
    choices: dict[str, ServingChoice]


def choose_serving(settings: Settings, *, plan_file: str | None, model_file: str | None) -> Serving:
    """Return what to serve: the plan named by flag or settings, a GGUF file, or the embedded model.

    Raises: ConfigError, BadInput, FetchFailed.
    """
    from ownward import plan as plan_room
    from ownward.cli._plans import read_plan

    path = Path(plan_file) if plan_file is not None else settings.server.plan_file
    if path is not None and model_file is None:
        plan = read_plan(path)
        found = find_weights(plan.tiers, path)
        return Serving(plan=plan, plan_path=path, weights=found, choices=choose_for_tiers(plan.tiers, found, settings))
    from ownward.cli._weights import fetch_weights, is_hub_name
    from ownward.engines import EMBEDDED_MODEL

    if model_file is not None:
        weights = fetch_weights(model_file) if is_hub_name(model_file) else Path(model_file)
        name = weights.name.removesuffix(".gguf")
    else:
        weights, name = fetch_weights(EMBEDDED_MODEL.id), EMBEDDED_MODEL.id
    choice = choose_for_file(weights, stated_in(settings))
    plan = plan_room.for_single_model(
        "local",
        model=name,
        max_context_tokens=choice.context_tokens,
        max_output_tokens=choice.context_tokens,
        max_concurrency=4 * choice.slots,
        capabilities=(),  # not stated: llama.cpp says itself what a model cannot do
    )
    return Serving(plan=plan, plan_path=None, weights={"local": weights}, choices={"local": choice})


@contextlib.asynccontextmanager
async def running(
    serving: Serving, opened: Any, settings: Settings, *, ready_file: str | None = None
) -> AsyncIterator[GatewayServer]:
    """Start the engines, hand them to a gateway, and stop whatever is left at the end."""
    from ownward.gateway import GatewayServer, RequestLog
    from ownward.upstreams import Door, DoorLimits

    servers: list[GatewayServer] = []

    def note_address(upstream: str, address: EngineAddress | None) -> None:
        for server in servers:
            server.set_address(upstream, address)

    our_settings = gateway_settings(settings, ready_file)
    # The pages ask for no key, so that they are there for this machine alone.
    mounts = pages_of(opened, lambda: server.gateway.table.plan, settings) if our_settings.is_loopback else {}
    # The gateway bounds what is in flight; the door must not hold it up before that.
    limits = DoorLimits(connections_per_origin=our_settings.max_in_flight_requests)
    async with (
        Door(limits=limits) as door,
        spans_of(settings, door) as spans,
        engines_of(serving, settings, note_address) as addresses,
    ):
        server: GatewayServer = GatewayServer(
            plan=serving.plan,
            ledger=opened,
            door=door,
            settings=our_settings,
            addresses=addresses,
            secrets=secrets_of,
            mounts=mounts,
            load_plan=None if serving.plan_path is None else _loader(serving.plan_path),
            watchers=(RequestLog(), *spans),
        )
        servers.append(server)
        try:
            yield server
        finally:
            servers.clear()


@contextlib.asynccontextmanager
async def engines_of(
    serving: Serving, settings: Settings, on_address: Callable[[str, EngineAddress | None], None]
) -> AsyncIterator[dict[str, EngineAddress]]:
    """Start the engines and stop them at the end; yield their addresses by `tier/upstream`.

    `on_address` is told where one listens from then on; None: it is down and stays so.
    """
    from ownward.gateway import EngineAddress

    def note(tier: str, status: EngineStatus) -> None:
        from ownward.engines import EngineState

        tell_change(status)
        is_ready = status.state is EngineState.READY
        comes_back = status.state is EngineState.STARTING or status.restart_in_s is not None
        address = EngineAddress(status.base_url if is_ready else None, status.lacks) if is_ready or comes_back else None
        for upstream in _started_upstreams(serving.plan.tiers[tier]):
            on_address(upstream, address)

    engines = {
        tier: make_engine(
            serving.plan.tiers[tier],
            weights,
            settings,
            choice=serving.choices.get(tier),
            on_change=functools.partial(note, tier),
        )
        for tier, weights in serving.weights.items()
    }
    try:
        for tier, engine in engines.items():
            announce(f"starting {serving.plan.tiers[tier].model} …")
            tell(serving.choices.get(tier))
            await engine.start()
        yield {
            upstream: EngineAddress(engine.base_url, engine.status.lacks)
            for tier, engine in engines.items()
            for upstream in _started_upstreams(serving.plan.tiers[tier])
        }
    finally:
        for engine in engines.values():
            await engine.stop()


def tell_change(status: EngineStatus) -> None:
    """Log that an engine which was ready failed, and what becomes of it; a first start that fails is raised instead."""
    from ownward.engines import EngineState

    reason = (status.reason or "").rstrip(".")
    if status.state is EngineState.READY and status.restarts:
        _LOG.warning('engine "%s" is ready again, after %.1f s', status.name, status.load_s)
    elif status.state is EngineState.FAILED and status.restart_in_s is not None:
        _LOG.warning("%s; it is started again in %g s", reason, status.restart_in_s)
    elif status.state is EngineState.FAILED and status.restarts:
        _LOG.error("%s; it has failed too often and stays down: fix the cause and start serve again", reason)


def tell(choice: ServingChoice | None) -> None:
    """Say why the engine is started as it is, where that is not the usual way."""
    if choice is None:
        return
    for reason in choice.reasons:
        announce(f"  {reason}")
    for warning in choice.warnings:
        announce(f"  warning: {warning}", level=logging.WARNING)


def pages_of(opened: Any, find_plan: Callable[[], Plan], settings: Settings) -> dict[str, Any]:
    """Return the pages by their path; none where the extra `pages` is not installed."""
    if not has_pages():
        return {}
    from ownward.dashboard import Dashboard

    hour = settings.economics.people_usd_per_hour
    return {"/dashboard": Dashboard(opened, find_plan=find_plan, human_usd_per_hour=hour)}


def has_pages() -> bool:
    """Return whether the libraries that the pages are made with are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("jinja2", "starlette"))


def _started_upstreams(tier: Tier) -> list[str]:
    return [f"{tier.name}/{upstream.name}" for upstream in tier.upstreams if upstream.url is None]


def gateway_settings(settings: Settings, ready_file: str | None) -> GatewaySettings:
    """Return the gateway's settings."""
    from ownward.gateway import GatewaySettings

    ours = {field.name for field in dataclasses.fields(GatewaySettings)}
    values = {
        field.name: getattr(settings.gateway, field.name)
        for field in dataclasses.fields(settings.gateway)
        if field.name in ours
    }
    return GatewaySettings(
        **values,
        host=settings.server.host,
        port=settings.server.port,
        drain_s=settings.server.drain_s,
        tls_cert_file=settings.server.tls_cert_file,
        tls_key_file=settings.server.tls_key_file,
        allow_plaintext=settings.server.allow_plaintext,
        ready_file=None if ready_file is None else Path(ready_file),
    )


def secrets_of(plan: Plan) -> dict[str, str]:
    """Return the values of the environment variables that a plan names."""
    from ownward.config import resolve_secret

    names = {
        name
        for tier in plan.tiers.values()
        for upstream in tier.upstreams
        for name in (upstream.api_key_env, upstream.proxy_url_env)
        if name is not None
    }
    return {name: resolve_secret(name) for name in sorted(names)}


def _loader(path: Path) -> Any:
    from ownward.cli._plans import read_plan

    return lambda: read_plan(path)
