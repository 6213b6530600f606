"""`ownward serve`: settings, plan, engines, ledger and gateway put together and run until told to stop."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ownward.cli._context import load_settings, open_ledger
from ownward.cli._early_signals import EarlySignals
from ownward.cli._logs import announce, logging_to
from ownward.cli._output import example, ledger_option
from ownward.cli._serve_workers import serve_as_worker, serve_with_workers
from ownward.cli._serving import Serving, choose_serving, has_pages, running
from ownward.core import UsageError, to_json

if TYPE_CHECKING:
    from ownward.config import Settings
    from ownward.gateway import GatewaySettings, WorkerPool
    from ownward.plan import Plan


@click.command(epilog=example("ownward serve", "curl http://127.0.0.1:8484/v1/models"))
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
    help="Tokens for each. [default: up to 4096, as memory allows]",
)
@click.option("--threads", type=click.IntRange(1), help="Threads of the engine. [default: the cores that are free]")
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
@click.option(
    "--drain", "drain_s", type=float, default=None, metavar="S", help="Seconds that open requests may continue."
)
@click.option("--config", "config_file", default=None, metavar="FILE", help="Read this file instead of ownward.toml.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default=None,
    help="At info and debug, a line for each request. [default: warning]",
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
    everything; SIGHUP reads the plan and certificates again.
    """
    if plan_file is not None and model_file is not None:
        raise UsageError("--plan and --model cannot be used together", next_step="Name the model in the plan's tier")
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
            from ownward.gateway import run_loop

            with open_ledger(ledger_target, settings=settings) as opened:
                run_loop(functools.partial(serve_as_worker, opened, settings, descriptors))
            return
        signals = EarlySignals()
        from ownward.gateway import ReadyFile, require_descriptors, run_loop

        if ready_file is not None:  # what waits for it must not find a killed gateway's while engines start
            ReadyFile(Path(ready_file)).clear()
        require_descriptors(workers=settings.gateway.workers, connections=settings.gateway.max_connections)
        serving = choose_serving(settings, plan_file=plan_file, model_file=model_file)

        with open_ledger(ledger_target, settings=settings) as opened:

            def on_ready(base_url: str, gateway: GatewaySettings) -> None:
                _announce(base_url, serving.plan, gateway, as_json=as_json)
                signals.pass_on()

            async def main() -> None:
                if settings.gateway.workers > 1:
                    await _serve_with_workers(
                        serving,
                        opened,
                        settings,
                        ready_file=ready_file,
                        ledger_target=ledger_target,
                        on_ready=lambda pool: on_ready(pool.base_url, pool.settings),
                        on_stopped=signals.pass_over,
                    )
                    return
                async with running(serving, opened, settings, ready_file=ready_file) as server:
                    await server.serve(lambda: on_ready(server.base_url, server.settings))
                    signals.pass_over()

            run_loop(main)


async def _serve_with_workers(
    serving: Serving,
    opened: Any,
    settings: Settings,
    *,
    ready_file: str | None,
    ledger_target: str | None,
    on_ready: Callable[[WorkerPool], None],
    on_stopped: Callable[[], None],
) -> None:
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
        on_ready=on_ready,
        on_stopped=on_stopped,
    )


def _announce(base_url: str, plan: Plan, settings: GatewaySettings, *, as_json: bool) -> None:
    if as_json:
        import os

        record = {"schema": "ownward.ready/1", "base_url": base_url, "pid": os.getpid(),
                  "tiers": sorted(plan.tiers)}  # fmt: skip
        print(to_json(record), flush=True)
        return
    pages = f"pages: {base_url}/dashboard, " if settings.is_loopback and has_pages() else ""
    announce(f"ready at {base_url}/v1  ({pages}stop with Ctrl-C)")
    model, header = request_that_is_served(plan)
    key = ' -H "authorization: Bearer $KEY"' if settings.requires_keys else ""
    announce(
        f"  curl {base_url}/v1/chat/completions -H 'content-type: application/json'{header}{key}"
        f""" -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'"""
    )
    if key:
        announce("  where KEY is the secret that this makes: ownward keys create NAME")


def request_that_is_served(plan: Plan) -> tuple[str, str]:
    """Return a model's name and what of a header it takes beside it, so that a request for it is some workload's.

    What no workload matches has no label of its own, and is refused where the plan states none for all.
    """
    from ownward.plan import Match

    first = next(iter(plan.tiers.values())).model
    for workload in sorted(plan.workloads.values(), key=lambda one: one.match != Match()):  # one that takes all first
        model = plan.tiers[workload.strategy.tiers[0]].model
        if workload.match == Match():
            return model, ""
        named = [name for name in workload.match.models if "*" not in name]
        if named and workload.match == Match(models=workload.match.models):
            return named[0], ""
        return model, f" -H 'x-ownward-workload: {workload.name}'"
    return first, ""
