"""`ownward fit`: will it run here, in which format, how fast, at what cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ownward.cli._fit_beside import Beside
from ownward.cli._fit_page import command_for, render
from ownward.cli._fit_subject import find_subject
from ownward.cli._output import at_option, emit, json_option, today
from ownward.cli._subjects import catalog_files, find_anatomy
from ownward.core import to_jsonable

if TYPE_CHECKING:
    from ownward.perf import Prediction
    from ownward.planner import FitOption


@click.command(epilog="Example: ownward fit qwen3-30b-a3b --machine 'RTX 4090' --context 16384")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--machine",
    "machine_name",
    default="this",
    show_default=True,
    metavar="M",
    help='A catalogue name, 2x"RTX 3090", a file, or `this`.',
)
@click.option("--ram", metavar="SIZE", help="Free memory of the host behind a card, such as 64GB.")
@click.option("--ssd", metavar="RATE", help="Read rate of the disk behind it, such as 7GB/s.")
@click.option("--engine", default=None, help="llama.cpp or vllm; chosen by the kind of machine unless given.")
@click.option(
    "--weights", multiple=True, help="Weight formats to try, such as q4_k_m; all of the engine's unless given."
)
@click.option("--context", "context_tokens", default=8192, show_default=True, help="Tokens each sequence holds.")
@click.option("--concurrency", default=1, show_default=True, help="Sequences at a time.")
@click.option("--kv-type", default="bf16", show_default=True, help="Cache format: bf16, fp8, q8_0 or q4_0.")
@at_option
@json_option
def fit(
    *,
    models: tuple[str, ...],
    machine_name: str,
    ram: str | None,
    ssd: str | None,
    engine: str | None,
    weights: tuple[str, ...],
    context_tokens: int,
    concurrency: int,
    kv_type: str,
    at: Any,
    as_json: bool,
) -> None:
    """Rank the ways to run MODELs on a machine; without a MODEL, the best of the catalogue for it.

    Memory is counted exactly; speeds are predictions with an 80% band.
    """
    from ownward import catalog
    from ownward.core import OwnwardError
    from ownward.perf import weight_format
    from ownward.planner import fit as fit_models

    subject = find_subject(machine_name, ram=ram, ssd=ssd)
    count, machine = subject.count, subject.machine
    anatomies = []
    if models:
        anatomies = [find_anatomy(name) for name in models]
    else:
        for release in catalog.models(catalog_files()):
            try:
                anatomies.append(find_anatomy(release.id))
            except OwnwardError:  # a release whose architecture cannot be read is not proposed
                continue
    beside = Beside(at=today(at))
    options = fit_models(
        anatomies,
        machine=machine,
        machines_count=count,
        engine=engine,
        formats=[weight_format(name) for name in weights],
        context_tokens=context_tokens,
        concurrency=concurrency,
        kv_type=kv_type,
        host=subject.host,
        coefficients=subject.coefficients,
        merits=None if models else {found.name: beside.merit(found) for found in anatomies},
        at=today(at),
    )
    payload = {
        "schema": "ownward.fit/1",
        "machine": machine.id,
        "machines_count": count,
        "context_tokens": context_tokens,
        "concurrency": concurrency,
        "options": [_row(option, beside) for option in options],
    }
    emit(
        payload,
        as_json=as_json,
        render=lambda _: render(options, f"{count} x {machine.name}" if count > 1 else machine.name, beside),
    )


def _row(option: FitOption, beside: Beside) -> dict[str, Any]:
    api = beside.cheapest_api(option.model)
    return {
        "model": option.model,
        "variant": option.variant,
        "engine": option.engine,
        "placement": option.placement,
        "fits": option.fits,
        "missing_bytes": option.missing_bytes,
        "memory": to_jsonable(option.memory),
        "usable_bytes": option.usable_bytes,
        "max_context_tokens": option.max_context_tokens,
        "prefill_tokens_per_s": _band(option.prefill_tokens_per_s),
        "decode_tokens_per_s": _band(option.decode_tokens_per_s),
        "usd_per_mtok_marginal": to_jsonable(option.usd_per_mtok_marginal),
        "usd_per_mtok_loaded": to_jsonable(option.usd_per_mtok_loaded),
        "command": command_for(option),
        "ttft_s": _band(option.ttft_ms, scale=1e-3),
        "layers_on_host": option.layers_on_host,
        "licence": beside.licence(option.model),
        "scores": beside.scores(option.model),
        "cheapest_api": None
        if api is None
        else {
            "provider": api.provider,
            "input_usd_per_mtok": to_jsonable(api.input_usd_per_mtok),
            "output_usd_per_mtok": to_jsonable(api.output_usd_per_mtok),
        },
        "basis": option.basis,
        "unknown": list(option.unknown),
    }


def _band(prediction: Prediction, scale: float = 1.0) -> dict[str, Any]:
    band = {"value": prediction.value, "low80": prediction.low80, "high80": prediction.high80}
    return {name: None if value is None else value * scale for name, value in band.items()}
