"""`ownward bench`: what this machine's memory, disk and engine really do, kept for `fit --machine this`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ownward.cli._output import emit, json_option, say
from ownward.core import format_bytes

if TYPE_CHECKING:
    from ownward.perf import Coefficients
    from ownward.upstreams import Door

_PROMPT_LINES = 40
_ANSWER_TOKENS = 64
_CONCURRENCY = (1, 4)
_RUNS = 2
_CALIBRATION_ROUNDS = 12
_LARGEST_ANSWER_BYTES = 1 << 20
_KERNELS: tuple[Literal["read", "copy"], ...] = ("read", "copy")
CALIBRATION_SCHEMA = "ownward.calibration/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpeed:
    """What the engine did at one concurrency: the median of some runs."""

    concurrency: int
    input_tokens: int
    prefill_tokens_per_s: float
    decode_tokens_per_s: float


@click.command(epilog="Example: ownward bench --json")
@click.option("--no-engine", "is_engine_left_out", is_flag=True, help="Measure memory and disk only.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Where the calibration goes; default: beside the store."
)
@json_option
def bench(*, is_engine_left_out: bool, output: Path | None, as_json: bool) -> None:
    """Measure this machine's memory and disk, then the embedded engine on it; keep the result for `fit --machine this`.

    Takes about half a minute. Shows each speed predicted before and after against the one measured.
    """
    from ownward.core import OwnwardError
    from ownward.probe import (
        DiskReadMeasurement,
        measure_disk_read,
        measure_memory_bandwidth,
        this_machine,
        to_machines,
    )

    say("measuring memory and disk")
    facts = this_machine()
    threads = max(facts.usable_cores.value, 1)
    read, copy = (measure_memory_bandwidth(threads=threads, kernel=kernel) for kernel in _KERNELS)
    kernels = [read, copy]
    written = output or calibration_path()
    written.parent.mkdir(parents=True, exist_ok=True)
    disk: tuple[DiskReadMeasurement, ...] = ()
    with contextlib.suppress(OwnwardError):
        disk = measure_disk_read(written.parent)
    machine = to_machines(facts, bandwidth=read)[-1]
    speeds: list[EngineSpeed] = []
    rows: list[dict[str, Any]] = []
    effects: dict[str, float] = {}
    if not is_engine_left_out:
        from ownward.cli._weights import fetch_weights
        from ownward.engines import EMBEDDED_MODEL

        weights = fetch_weights(EMBEDDED_MODEL.id)
        say("measuring the embedded engine")
        speeds = asyncio.run(_measure_engine(weights))
        effects, rows = _calibrate(weights, machine, speeds)
    calibration = {
        "schema": CALIBRATION_SCHEMA,
        "machine": facts.name,
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "memory_bytes": machine.memory_bytes.value if machine.memory_bytes else None,
        "bandwidth_bytes_per_s": read.median_bytes_per_s,
        "effects": effects,
    }
    partial = written.with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps(calibration, indent=1) + "\n", encoding="utf-8")
    partial.replace(written)
    payload = {
        "schema": "ownward.bench/1",
        "machine": facts.name,
        "memory": [
            {
                "kernel": found.kernel,
                "threads": found.threads,
                "low_bytes_per_s": found.low_bytes_per_s,
                "median_bytes_per_s": found.median_bytes_per_s,
                "high_bytes_per_s": found.high_bytes_per_s,
            }
            for found in kernels
        ],
        "disk": [
            {
                "block_bytes": found.block_bytes,
                "depth": found.depth,
                "bytes_per_s": found.bytes_per_s,
                "is_direct": found.is_direct,
            }
            for found in disk
        ],
        "engine": rows,
        "calibration_file": str(written),
    }
    emit(payload, as_json=as_json, render=_render)


def calibration_path() -> Path:
    """Return where the calibration of this machine is kept: beside the store of weights."""
    from ownward.cli._context import load_settings

    cache_dir = load_settings().engine.cache_dir
    assert cache_dir is not None  # filled in by config.load
    return cache_dir / "calibration.json"


def load_calibration(path: Path | None = None) -> dict[str, Any] | None:
    """Return the calibration of this machine, None where `bench` has not run or its file cannot be read."""
    try:
        found = json.loads((path or calibration_path()).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == CALIBRATION_SCHEMA else None


def calibrated(effects: dict[str, float]) -> Coefficients:
    """Return the shipped coefficients with what was measured here laid over them."""
    from dataclasses import replace

    from ownward.perf import load_coefficients

    shipped = load_coefficients()
    return replace(
        shipped, effects={**shipped.effects, **effects}, source=f"{shipped.source}; calibrated on this machine"
    )


async def _measure_engine(weights: Path) -> list[EngineSpeed]:
    """Return the speeds of the embedded engine on its model, from the engine's own timings."""
    from ownward.engines import EmbeddedEngine, EngineOptions
    from ownward.upstreams import Door

    options = EngineOptions(model_path=weights, alias="bench", slots=max(_CONCURRENCY), context_tokens=2048)
    async with EmbeddedEngine(options) as engine, Door() as door:
        address = engine.base_url
        found = []
        for concurrency in _CONCURRENCY:
            timings = []
            for turn in range(_RUNS):
                asked = [_ask(door, address, f"{turn}-{concurrency}-{slot}") for slot in range(concurrency)]
                timings += await asyncio.gather(*asked)
            found.append(
                EngineSpeed(
                    concurrency=concurrency,
                    input_tokens=round(statistics.median(t["prompt_n"] for t in timings)),
                    prefill_tokens_per_s=statistics.median(t["prompt_per_second"] for t in timings),
                    decode_tokens_per_s=statistics.median(t["predicted_per_second"] for t in timings),
                )
            )
        return found


async def _ask(door: Door, address: str, salt: str) -> dict[str, float]:
    """Return llama.cpp's timings of one completion whose prompt no cache holds."""
    from ownward.policy import LOCAL_ONLY, Place, issue_permit

    words = " ".join(f"{salt} {number}" for number in range(_PROMPT_LINES))
    body = json.dumps(
        {"prompt": words, "n_predict": _ANSWER_TOKENS, "ignore_eos": True, "cache_prompt": False, "temperature": 0}
    ).encode()
    origin = address.removesuffix("/").removesuffix("/v1")
    permit = issue_permit(
        label=LOCAL_ONLY,
        place=Place(is_local=True, region=None, provider=None),
        upstream="bench",
        origin=origin,
        body=body,
    )
    headers = [(b"content-type", b"application/json")]
    answer = await door.send(permit, method="POST", target="/completion", headers=headers, body=body)
    timings: dict[str, float] = json.loads(await answer.read(_LARGEST_ANSWER_BYTES))["timings"]
    return timings


def _calibrate(weights: Path, machine: Any, speeds: list[EngineSpeed]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the effects that make the single stream right, and each speed predicted before and after."""
    import math

    from ownward import anatomy
    from ownward.perf import Case, load_coefficients, predict

    model = anatomy.read(weights)

    def ask(speed: EngineSpeed, metric: str, effects: dict[str, float] | None) -> float | None:
        case = Case(
            id=metric, anatomy=model, machine=machine, engine="llama.cpp", weights="native", kv_type="f16",
            concurrency=1 if metric == "prefill_tok_s" else speed.concurrency,
            input_tokens=speed.input_tokens if metric == "prefill_tok_s" else 0,
            context_depth=0 if metric == "prefill_tok_s" else speed.input_tokens,
            output_tokens=_ANSWER_TOKENS, metric=metric,
        )  # fmt: skip
        return predict(case, load_coefficients() if effects is None else calibrated(effects)).value

    measured = {"prefill_tok_s": "prefill_tokens_per_s", "decode_tok_s_per_user": "decode_tokens_per_s"}
    effects: dict[str, float] = {}
    single = speeds[0]
    touched = {
        "decode_tok_s_per_user": ("weight_mbu", "kv_mbu", "half_tokens", "layer_s", "step_s"),
        "prefill_tok_s": ("mfu", "attention_mfu"),
    }
    for metric, field in [*measured.items()] * _CALIBRATION_ROUNDS:
        said = ask(single, metric, effects)
        if said is not None and said > 0:
            step = max(min(math.log(getattr(single, field) / said), 1.0), -1.0) / 2
            for name in touched[metric]:
                key = (
                    f"{name}|e/d|llama.cpp|{machine.id}"
                    if name in {"weight_mbu", "mfu"}
                    else f"{name}|e/f|llama.cpp|cpu"
                )
                sign = -1.0 if name.endswith("_s") or name == "half_tokens" else 1.0
                before = effects.get(key, load_coefficients().effects.get(key, 0.0))
                effects[key] = max(min(before + sign * step, 3.0), -3.0)
    rows = []
    for speed in speeds:
        for metric, field in measured.items():
            if metric == "prefill_tok_s" and speed.concurrency > 1:
                continue
            rows.append(
                {
                    "metric": metric,
                    "concurrency": speed.concurrency,
                    "input_tokens": speed.input_tokens,
                    "measured": getattr(speed, field),
                    "predicted_before": ask(speed, metric, None),
                    "predicted_after": ask(speed, metric, effects),
                }
            )
    return effects, rows


def _render(payload: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    memory = Table(box=None, title=payload["machine"], title_justify="left")
    for heading in ("memory", "threads", "lowest", "median", "highest"):
        memory.add_column(heading, justify="left" if heading == "memory" else "right")
    for row in payload["memory"]:
        rates = [f"{row[f'{which}_bytes_per_s'] / 1e9:.1f} GB/s" for which in ("low", "median", "high")]
        memory.add_row(row["kernel"], str(row["threads"]), *rates)
    disk = Table(box=None)
    for heading in ("disk reads of", "at once", "rate"):
        disk.add_column(heading, justify="right")
    for row in payload["disk"]:
        note = "" if row["is_direct"] else " (cached)"
        disk.add_row(format_bytes(row["block_bytes"]), str(row["depth"]), f"{row['bytes_per_s'] / 1e9:.2f} GB/s{note}")
    parts: list[Any] = [memory, "", disk]
    if payload["engine"]:
        engine = Table(box=None)
        for heading in ("engine", "users", "measured", "predicted before", "after"):
            engine.add_column(heading, justify="left" if heading == "engine" else "right")
        for row in payload["engine"]:
            name = "prefill tok/s" if row["metric"] == "prefill_tok_s" else "decode tok/s each"
            said = [_number(row[key]) for key in ("measured", "predicted_before", "predicted_after")]
            engine.add_row(name, str(row["concurrency"]), *said)
        parts += ["", engine]
    return Group(*parts, "", Text(f"kept in {payload['calibration_file']}; `ownward fit --machine this` uses it"))


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"
