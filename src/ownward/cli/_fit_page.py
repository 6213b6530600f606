"""The page that `fit` prints: a table right in 80 columns, the memory of the best, and the command that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ownward.core import format_bytes, format_count, format_usd

if TYPE_CHECKING:
    from ownward.cli._fit_beside import Beside
    from ownward.perf import Prediction
    from ownward.planner import FitOption

_SHOWN = 8
_BAR_WIDTH = 40
_CARD_LAYERS = 999


def command_for(option: FitOption) -> str:
    """Return the command that runs the option; file names are the user's to fill in."""
    import shlex

    from ownward.engines import EngineOptions, VllmOptions, llama_server_command, vllm_command

    context = max(min(option.context_tokens, option.max_context_tokens or option.context_tokens), 1)
    if option.engine == "vllm":
        return shlex.join(
            vllm_command(
                VllmOptions(
                    model=option.model,
                    alias=option.model,
                    max_context_tokens=context,
                    slots=option.concurrency,
                    tensor_parallel=option.machines_count,
                    quantization="fp8" if option.variant == "fp8" else None,
                    kv_type="fp8" if option.kv_type == "fp8" else "auto",
                    port=8000,
                )
            )
        )
    is_on_cpu = "RAM" in option.placement.split() and not option.layers_on_host
    layers: int | None = None if is_on_cpu else _CARD_LAYERS
    extra: tuple[str, ...] = ()
    if option.layers_on_host and option.is_split_by_expert:
        extra = ("--n-cpu-moe", str(option.layers_on_host))
    elif option.layers_on_host:
        layers = max(option.layer_count - option.layers_on_host, 0)
    options = EngineOptions(
        model_path=Path(f"{option.model}-{option.variant.upper()}.gguf"),
        alias=option.model,
        slots=option.concurrency,
        context_tokens=context,
        gpu_layers=layers,
        warmup="SSD" not in option.placement,
        kv_type="q8_0" if option.kv_type in {"q8_0", "fp8"} else "q4_0" if option.kv_type == "q4_0" else "f16",
        port=8080,
    )
    words = llama_server_command(options, threads=_THREADS, extra=extra)
    return shlex.join(words)


_THREADS = 8


def render(options: list[FitOption], machine: str, beside: Beside) -> Any:
    """Return the page."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, title=f"on {machine}", title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    numbers = ("memory", "context", "decode\ntok/s", "prefill\ntok/s", "energy\n$/Mtok", "all\n$/Mtok")
    for heading in ("model", "weights", *numbers):
        table.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    fitting = [option for option in options if option.fits is not False]
    shown = fitting[:_SHOWN] or options[:3]
    for option in shown:
        mark = "*" if option.layers_on_host else ""
        table.add_row(
            option.model,
            option.variant + mark,
            format_bytes(option.memory.total),
            format_count(option.max_context_tokens),
            _speed(option.decode_tokens_per_s),
            _speed(option.prefill_tokens_per_s),
            format_usd(option.usd_per_mtok_marginal),
            format_usd(option.usd_per_mtok_loaded),
        )
    if not fitting:
        return Group(table, "", Text(_nothing_fits(options)))
    lines = _about(shown[0], beside)
    if any(option.layers_on_host for option in shown):
        lines.append("* part of the weights in the host's memory or on disk")
    return Group(table, "", Text("\n".join(lines)))


def _about(best: FitOption, beside: Beside) -> list[str]:
    lines = [f"{best.model} in {best.variant}: {best.placement}", *_memory_bar(best)]
    ttft = best.ttft_ms
    if ttft.value is not None and ttft.low80 is not None and ttft.high80 is not None:
        band = f"{ttft.low80 / 1e3:.2g} to {ttft.high80 / 1e3:.2g} s"
        lines.append(f"first token after {ttft.value / 1e3:.2g} s ({band}) for a prompt of 2,048 tokens")
    api = beside.cheapest_api(best.model)
    if api is not None:
        lines.append(
            f"cheapest API for it: {api.provider}, {format_usd(api.input_usd_per_mtok)} in and "
            f"{format_usd(api.output_usd_per_mtok)} out $/Mtok"
        )
    licence = beside.licence(best.model)
    if licence:
        lines.append(f"licence: {licence}")
    scores = beside.scores(best.model)
    if scores:
        lines.append("published: " + ", ".join(f"{row['benchmark']} {row['score']}" for row in scores[:2]))
    lines.append(f"run it: {command_for(best)}")
    if best.unknown:
        lines.append(f"not known: {', '.join(best.unknown)}")
    return lines


def _nothing_fits(options: list[FitOption]) -> str:
    if not options:
        return "Nothing can be said: no option of these models could be placed."
    nearest = options[0]
    return (
        f"Nothing fits. The nearest, {nearest.model} in {nearest.variant}, "
        f"misses {format_bytes(nearest.missing_bytes)}.\n"
        "Name the memory behind the card (--ram 64GB), its disk (--ssd 7GB/s), a shorter\n"
        "--context or a smaller --kv-type."
    )


def _speed(prediction: Prediction) -> str:
    if prediction.value is None or prediction.low80 is None or prediction.high80 is None:
        return "?"
    width = (prediction.high80 - prediction.low80) / 2 / prediction.value
    return f"{prediction.value:,.0f} ±{100 * width:.0f}%"


def _memory_bar(option: FitOption) -> list[str]:
    usable = max(option.usable_bytes or option.memory.total, 1)
    parts = {
        "weights": option.memory.weights,
        "cache": option.memory.cache + option.memory.state,
        "other": option.memory.activations + option.memory.overhead,
    }
    whole = max(usable, option.memory.total)
    bar = "".join(
        symbol * round(_BAR_WIDTH * amount / whole) for symbol, amount in zip("#=-", parts.values(), strict=True)
    )
    legend = ", ".join(
        f"{symbol} {name} {format_bytes(amount)}" for symbol, (name, amount) in zip("#=-", parts.items(), strict=True)
    )
    return [f"[{bar.ljust(_BAR_WIDTH, '.')[:_BAR_WIDTH]}] of {format_bytes(usable)} on the device", f"  {legend}"]
