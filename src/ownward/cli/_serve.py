"""`ownward serve`: settings, plan, engines, ledger and gateway put together and run until told to stop."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ownward.cli._context import load_settings, open_ledger
from ownward.cli._logs import logging_to
from ownward.cli._output import ledger_option, say
from ownward.cli._serve_engines import choose_for_tiers, find_weights, make_engine
from ownward.cli._serving_choice import choose_for_file, stated_in
from ownward.cli._spans import spans_of
from ownward.core import UsageError, to_json

if TYPE_CHECKING:
    from ownward.config import Settings
    from ownward.engines import EngineStatus, ServingChoice
    from ownward.gateway import GatewayServer, GatewaySettings
    from ownward.plan import Plan, Tier


@click.command(epilog="Example: ownward serve; then: curl http://127.0.0.1:8484/v1/models")
@click.option("--plan", "plan_file", default=None, metavar="plan.toml", help="Carry out this plan.")
@click.option(
    "--model",
    "model_file",
    default=None,
    metavar="FILE.gguf",
    help="Serve this GGUF file instead, or hf:org/name/file.gguf.",
)
@click.option("--slots", type=click.IntRange(1), help="Requests decoded together. [default: up to 4, as memory allows]")
@click.option(
    "--context",
    "context_tokens",
    type=click.IntRange(1),
    help="Tokens of each. [default: up to 4096, as memory allows]",
)
@click.option("--threads", type=click.IntRange(1), help="Of the engine. [default: the cores that are free]")
@ledger_option
@click.option("--host", default=None, help="Address to listen on. [default: 127.0.0.1]")
@click.option("--port", type=int, default=None, help="Port; 0 takes a free one. [default: 8484]")
@click.option(
    "--tls-cert", "tls_cert", default=None, metavar="PEM", help="Listen over TLS with this certificate chain."
)
@click.option("--tls-key", "tls_key", default=None, metavar="PEM", help="Its key. [default: in the same file]")
@click.option("--ready-file", default=None, metavar="R", help="Written once requests are accepted, and not before.")
@click.option("--workers", type=click.IntRange(1), default=None, help="Processes that serve the port. [default: 1]")
@click.option("--worker", "descriptors", default=None, hidden=True)
@click.option("--drain", "drain_s", type=float, default=None, metavar="S", help="Seconds that open requests may go on.")
@click.option("--config", "config_file", default=None, metavar="FILE", help="Read this file instead of ownward.toml.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default=None,
    help="From info on, a line for each request. [default: warning]",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default=None, help="[default: text]")
@click.option("--json", "as_json", is_flag=True, help="Print ownward.ready/1 once requests are accepted.")
def serve(
    *,
    plan_file: str | None,
    model_file: str | None,
    slots: int | None,
    context_tokens: int | None,
    threads: int | None,
    ledger_target: str | None,
    host: str | None,
    port: int | None,
    tls_cert: str | None,
    tls_key: str | None,
    ready_file: str | None,
    workers: int | None,
    descriptors: str | None,
    drain_s: float | None,
    config_file: str | None,
    log_level: str | None,
    log_format: str | None,
    as_json: bool,
) -> None:
    """Serve one OpenAI-compatible endpoint (and Anthropic's) on loopback, and keep the ledger.

    Without a plan it serves the embedded model; --model serves any GGUF file. Ctrl-C lets open requests end and stops
    everything; SIGHUP reads the plan again.
    """
    if plan_file is not None and model_file is not None:
        raise UsageError("--plan and --model exclude each other", next_step="Name the model in the plan's tier")
    settings = load_settings(
        config_file,
        server__host=host,
        server__port=port,
        server__tls_cert_file=tls_cert,
        server__tls_key_file=tls_key,
        server__drain_s=drain_s,
        gateway__workers=workers,
        logs__level=log_level,
        logs__format=log_format,
        engine__slots=slots,
        engine__context_tokens=context_tokens,
        engine__threads=threads,
    )
    with logging_to(sys.stderr, level=settings.logs.level, form=settings.logs.format):
        if descriptors is not None:
            from ownward.cli._serve_workers import serve_as_worker
            from ownward.gateway import run_loop

            with open_ledger(ledger_target) as opened:
                run_loop(functools.partial(serve_as_worker, opened, settings, descriptors))
            return
        serving = choose_serving(settings, plan_file=plan_file, model_file=model_file)

        from ownward.gateway import run_loop

        with open_ledger(ledger_target) as opened:

            async def main() -> None:
                if settings.gateway.workers > 1:
                    await _serve_with_workers(
                        serving, opened, settings, ready_file=ready_file, ledger_target=ledger_target, as_json=as_json
                    )
                    return
                async with running(serving, opened, settings, ready_file=ready_file) as server:
                    await server.serve(
                        lambda: _announce(server.base_url, serving.plan, server.settings, as_json=as_json)
                    )

            run_loop(main)


async def _serve_with_workers(
    serving: Serving,
    opened: Any,
    settings: Settings,
    *,
    ready_file: str | None,
    ledger_target: str | None,
    as_json: bool,
) -> None:
    from ownward.cli._serve_workers import serve_with_workers

    arguments = ["--log-level", settings.logs.level, "--log-format", settings.logs.format]
    if ledger_target is not None:
        arguments += ["--ledger", ledger_target]
    if settings.file is not None:
        arguments += ["--config", str(settings.file.absolute())]
    await serve_with_workers(
        serving,
        opened,
        settings,
        ready_file=ready_file,
        arguments=arguments,
        on_ready=lambda pool: _announce(pool.base_url, serving.plan, pool.settings, as_json=as_json),
    )


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
    from ownward.cli._weights import fetch_weights, is_hub_name
    from ownward.engines import EMBEDDED_MODEL

    path = Path(plan_file) if plan_file is not None else settings.server.plan_file
    if path is not None and model_file is None:
        plan = read_plan(path)
        found = find_weights(plan.tiers, path)
        return Serving(plan=plan, plan_path=path, weights=found, choices=choose_for_tiers(plan.tiers, found, settings))
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

    def note_address(upstream: str, url: str | None) -> None:
        for server in servers:
            server.set_address(upstream, url)

    our_settings = gateway_settings(settings, ready_file)
    # The pages ask for no key, so that they are there for this machine alone.
    mounts = pages_of(opened, serving.plan) if our_settings.is_loopback else {}
    # The gateway bounds what is in flight; the door must not hold it up before that.
    limits = DoorLimits(connections_per_origin=our_settings.max_in_flight_requests)
    async with (
        Door(limits=limits) as door,
        spans_of(settings, door) as spans,
        engines_of(serving, settings, note_address) as addresses,
    ):
        server = GatewayServer(
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
        check_ways(server)
        servers.append(server)
        try:
            yield server
        finally:
            servers.clear()


@contextlib.asynccontextmanager
async def engines_of(
    serving: Serving, settings: Settings, on_address: Callable[[str, str | None], None]
) -> AsyncIterator[dict[str, str | None]]:
    """Start the engines and stop them at the end; yield their addresses by `tier/upstream`.

    `on_address` is told where one listens from then on; None, that it is down.
    """
    from ownward.engines import EngineState

    def note(tier: str, status: EngineStatus) -> None:
        for upstream in _started_upstreams(serving.plan.tiers[tier]):
            on_address(upstream, status.base_url if status.state is EngineState.READY else None)

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
            say(f"starting {serving.plan.tiers[tier].model} …")
            tell(serving.choices.get(tier))
            await engine.start()
        yield {
            upstream: engine.base_url
            for tier, engine in engines.items()
            for upstream in _started_upstreams(serving.plan.tiers[tier])
        }
    finally:
        for engine in engines.values():
            await engine.stop()


def tell(choice: ServingChoice | None) -> None:
    """Say why the engine is started as it is, where that is not the usual way."""
    if choice is None:
        return
    for reason in choice.reasons:
        say(f"  {reason}")
    for warning in choice.warnings:
        say(f"  warning: {warning}")


def pages_of(opened: Any, plan: Plan) -> dict[str, Any]:
    """Return the pages by their path; none where the extra `pages` is not installed."""
    if not has_pages():
        return {}
    from ownward.dashboard import make_dashboard

    return {"/dashboard": make_dashboard(opened, plan=plan)}


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


def check_ways(server: GatewayServer) -> None:
    """Read the certificates that the plan names, so that what cannot be used is told now and not at a request.

    Raises: ConfigError, naming the file; MissingExtra, if the plan states a proxy and aiohttp is not installed.
    """
    from ownward.upstreams import make_transport

    ways = {target.way for targets in server.gateway.table.targets.values() for target in targets}
    for way in ways:
        if not way.is_direct:
            make_transport(way)


def _loader(path: Path) -> Any:
    from ownward.cli._plans import read_plan

    return lambda: read_plan(path)


def _announce(base_url: str, plan: Plan, settings: GatewaySettings, *, as_json: bool) -> None:
    if as_json:
        import os

        record = {"schema": "ownward.ready/1", "base_url": base_url, "pid": os.getpid(),
                  "tiers": sorted(plan.tiers)}  # fmt: skip
        print(to_json(record), flush=True)
        return
    model = next(iter(plan.tiers.values())).model
    pages = f"pages: {base_url}/dashboard, " if settings.is_loopback and has_pages() else ""
    say(f"ready at {base_url}/v1  ({pages}stop with Ctrl-C)")
    say(
        f"  curl {base_url}/v1/chat/completions -H 'content-type: application/json'"
        f""" -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}\'"""
    )
