"""`ownward fit`: will it run here, in which format, how fast, at what cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ownward.cli._output import at_option, emit, json_option, today
from ownward.cli._subjects import catalog_files, find_anatomy, find_machines
from ownward.core import format_bytes, format_count, format_usd, to_jsonable

if TYPE_CHECKING:
    from ownward.perf import Prediction
    from ownward.planner import FitOption

_SHOWN = 8
_BAR_WIDTH = 24


@click.command(epilog="Example: ownward fit qwen3-30b-a3b --machine 'RTX 4090' --context 16384")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--machine", "machine_name", required=True, metavar="M", help='A catalogue name, 2x"RTX 3090", or a file.'
)
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

    count, machine = find_machines(machine_name)
    anatomies = []
    if models:
        anatomies = [find_anatomy(name) for name in models]
    else:
        for release in catalog.models(catalog_files()):
            try:
                anatomies.append(find_anatomy(release.id))
            except OwnwardError:  # a release whose architecture cannot be read is not proposed
                continue
    options = fit_models(
        anatomies,
        machine=machine,
        machines_count=count,
        engine=engine,
        formats=[weight_format(name) for name in weights],
        context_tokens=context_tokens,
        concurrency=concurrency,
        kv_type=kv_type,
        at=today(at),
    )
    payload = {
        "schema": "ownward.fit/1",
        "machine": machine.id,
        "machines_count": count,
        "context_tokens": context_tokens,
        "concurrency": concurrency,
        "options": [_row(option) for option in options],
    }
    emit(
        payload,
        as_json=as_json,
        render=lambda _: _render(options, f"{count} x {machine.name}" if count > 1 else machine.name),
    )


def _row(option: FitOption) -> dict[str, Any]:
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
        "basis": option.basis,
        "unknown": list(option.unknown),
    }


def _band(prediction: Prediction) -> dict[str, Any]:
    return {"value": prediction.value, "low80": prediction.low80, "high80": prediction.high80}


def command_for(option: FitOption) -> str:
    """Return the command that runs the option; file names are the user's to fill in."""
    context = min(option.context_tokens, option.max_context_tokens or option.context_tokens)
    if option.engine == "vllm":
        words = ["vllm", "serve", option.model, "--max-model-len", str(context)]
        words += ["--max-num-seqs", str(option.concurrency)]
        if option.variant == "fp8":
            words += ["--quantization", "fp8"]
        if option.machines_count > 1:
            words += ["--tensor-parallel-size", str(option.machines_count)]
        return " ".join(words)
    words = ["llama-server", "--model", f"{option.model}-{option.variant.upper()}.gguf"]
    words += ["--ctx-size", str(context * option.concurrency), "--parallel", str(option.concurrency)]
    if "RAM" not in option.placement.split():
        words += ["--n-gpu-layers", "999"]
    return " ".join([*words, "--no-webui"])


def _render(options: list[FitOption], machine: str) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, title=f"on {machine}", title_justify="left")
    numbers = ("memory", "context", "decode\ntok/s", "prefill\ntok/s", "energy\n$/Mtok", "all\n$/Mtok")
    for heading in ("model", "weights", *numbers):
        table.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    fitting = [option for option in options if option.fits is not False]
    shown = fitting[:_SHOWN] or options[:3]
    for option in shown:
        table.add_row(
            option.model,
            option.variant,
            format_bytes(option.memory.total),
            format_count(option.max_context_tokens),
            _speed(option.decode_tokens_per_s),
            _speed(option.prefill_tokens_per_s),
            format_usd(option.usd_per_mtok_marginal),
            format_usd(option.usd_per_mtok_loaded),
        )
    if not fitting:
        nearest = options[0] if options else None
        missing = format_bytes(nearest.missing_bytes) if nearest else "?"
        return Group(table, Text(f"\nNothing fits. The nearest, {nearest.model if nearest else '?'}"
                                 f" in {nearest.variant if nearest else '?'}, misses {missing}."))  # fmt: skip
    best = shown[0]
    lines = [_memory_bar(best), f"run it: {command_for(best)}"]
    if best.unknown:
        lines.append(f"not known: {', '.join(best.unknown)}")
    return Group(table, "", Text("\n".join(lines)))


def _speed(prediction: Prediction) -> str:
    if prediction.value is None or prediction.low80 is None:
        return "?"
    return f"{prediction.value:,.0f} ±{100 * (1 - prediction.low80 / prediction.value):.0f}%"


def _memory_bar(option: FitOption) -> str:
    usable = option.usable_bytes or option.memory.total
    parts = {"weights": option.memory.weights, "cache": option.memory.cache + option.memory.state,
             "other": option.memory.activations + option.memory.overhead}  # fmt: skip
    bar = "".join(
        symbol * round(_BAR_WIDTH * amount / usable) for symbol, amount in zip("#=-", parts.values(), strict=True)
    )
    legend = ", ".join(
        f"{symbol} {name} {format_bytes(amount)}" for symbol, (name, amount) in zip("#=-", parts.items(), strict=True)
    )
    return f"[{bar.ljust(_BAR_WIDTH, '.')[:_BAR_WIDTH]}] {legend}, of {format_bytes(usable)} usable"
