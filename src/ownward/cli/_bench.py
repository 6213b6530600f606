"""`ownward bench`: what this machine's memory, disk and engine really do, kept for `fit --machine this`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ownward.cli._output import emit, example, json_option, require_writable, say, write_whole
from ownward.core import KIB, format_bytes

if TYPE_CHECKING:
    from ownward.catalog import Machine
    from ownward.probe import BandwidthMeasurement, DiskReadMeasurement, FaultReadMeasurement, MachineFacts

# Pages, the kernel's usual read-ahead, and one matrix of an expert, alone and by a reader that keeps the disk busy.
_DISK_CASES = ((4 * KIB, 1), (128 * KIB, 1), (576 * KIB, 1), (576 * KIB, 8))
_QUIET_CORES = 0.3  # of other work, before anything is measured


@click.command(epilog=example("ownward bench --json"))
@click.option("--no-engine", "is_engine_left_out", is_flag=True, help="Measure memory and disk only.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the engine. [default: the cores that are free]")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Where the calibration goes; default: beside the store."
)
@json_option
def bench(*, is_engine_left_out: bool, threads: int | None, output: Path | None, as_json: bool) -> None:
    """Measure this machine's memory and disk, then the embedded engine on it; keep the result for `fit --machine this`.

    Takes about a minute. Shows each measured speed beside what was predicted before and after. The single stream, the
    longest prompt and the most users are fitted to; the rest is not, and shows what the calibration is worth.
    """
    from ownward.cli._calibration import CALIBRATION_SCHEMA, calibration_path
    from ownward.probe import measure_busy_cores, this_machine, to_machines

    busy = measure_busy_cores()
    if busy > _QUIET_CORES:
        say(f"other work keeps {busy:.1f} cores busy: a quiet machine gives better figures and a better calibration")
    say("measuring memory and disk")
    written = output or calibration_path()
    with contextlib.suppress(OSError):  # told by what follows
        written.parent.mkdir(parents=True, exist_ok=True)
    require_writable(written)
    facts = this_machine(path=written.parent)
    kernels = _measure_memory(facts)
    disk, faults = _measure_disk(written.parent, facts)
    machine = to_machines(facts, bandwidth=kernels[0])[-1]
    effects: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    if not is_engine_left_out:
        effects, rows = _measure_engine(machine, threads=threads)
    calibration = {
        "schema": CALIBRATION_SCHEMA,
        "machine": facts.name,
        "busy_cores": round(busy, 2),
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "memory_bytes": machine.memory_bytes.value if machine.memory_bytes else None,
        "bandwidth_bytes_per_s": kernels[0].median_bytes_per_s,
        "page_faults": None
        if not faults
        else {"bytes_per_s": faults[-1].bytes_per_s, "over_read": faults[-1].over_read or 1.0},
        "effects": effects,
    }
    write_whole(written, json.dumps(calibration, indent=1) + "\n")
    payload = {
        "schema": "ownward.bench/1",
        "machine": facts.name,
        "busy_cores": round(busy, 2),
        "memory": [_rates(found) for found in kernels],
        "disk": [dataclasses.asdict(found) for found in disk],
        "page_faults": [dataclasses.asdict(found) for found in faults],
        "disk_advice": None if facts.disk is None else facts.disk.advice,
        "engine": rows,
        "calibration_file": str(written),
    }
    emit(payload, as_json=as_json, render=_render)


def _measure_memory(facts: MachineFacts) -> list[BandwidthMeasurement]:
    """Return the bandwidth of each kernel with all cores, reading first, and of reading with one."""
    from ownward.probe import measure_memory_bandwidth

    threads = max(facts.usable_cores.value, 1)
    found = [measure_memory_bandwidth(threads=threads, kernel=kernel) for kernel in ("read", "copy", "write")]
    if threads > 1:
        found.append(measure_memory_bandwidth(threads=1, kernel="read"))
    return found


def _measure_disk(
    folder: Path, facts: MachineFacts
) -> tuple[tuple[DiskReadMeasurement, ...], list[FaultReadMeasurement]]:
    """Return direct reads, and reads by page faults with one thread and with as many as compute."""
    from ownward.core import OwnwardError
    from ownward.probe import measure_disk_read, measure_fault_read

    disk: tuple[DiskReadMeasurement, ...] = ()
    faults: list[FaultReadMeasurement] = []
    with contextlib.suppress(OwnwardError):
        disk = measure_disk_read(folder, cases=_DISK_CASES)
    for threads in sorted({1, max(facts.usable_cores.value, 1)}):
        with contextlib.suppress(OwnwardError):
            faults.append(measure_fault_read(folder, threads=threads))
    return disk, faults


def _measure_engine(machine: Machine, *, threads: int | None) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the effects that fit the embedded engine's speeds, and a row for each speed, measured and predicted."""
    from ownward import anatomy
    from ownward.cli._bench_engine import measure_engine
    from ownward.cli._calibration import fit_effects, predict_speed
    from ownward.cli._weights import fetch_weights
    from ownward.engines import EMBEDDED_MODEL

    weights = fetch_weights(EMBEDDED_MODEL.id)
    say("measuring the embedded engine")
    speeds = asyncio.run(measure_engine(weights, threads=threads))
    model = anatomy.read(weights)
    effects = fit_effects(model, machine, speeds)
    return effects, [
        {
            "metric": speed.metric,
            "concurrency": speed.concurrency,
            "input_tokens": speed.prompt_tokens,
            "measured": speed.median,
            "measured_low": speed.low,
            "measured_high": speed.high,
            "predicted_before": predict_speed(speed, model, machine, None),
            "predicted_after": predict_speed(speed, model, machine, effects),
        }
        for speed in speeds
    ]


def _rates(found: BandwidthMeasurement) -> dict[str, Any]:
    return {
        "kernel": found.kernel,
        "threads": found.threads,
        "low_bytes_per_s": found.low_bytes_per_s,
        "median_bytes_per_s": found.median_bytes_per_s,
        "high_bytes_per_s": found.high_bytes_per_s,
    }


def _render(payload: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [_memory_table(payload), "", _disk_table(payload)]
    if payload["disk_advice"]:
        parts.append(Text(payload["disk_advice"]))
    if payload["engine"]:
        parts += ["", _engine_table(payload)]
    return Group(*parts, "", Text(f"kept in {payload['calibration_file']}; `ownward fit --machine this` uses it"))


def _memory_table(payload: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(box=None, title=payload["machine"], title_justify="left")
    for heading in ("memory", "threads", "lowest", "median", "highest"):
        table.add_column(heading, justify="left" if heading == "memory" else "right")
    for row in payload["memory"]:
        rates = [f"{row[f'{which}_bytes_per_s'] / 1e9:.1f} GB/s" for which in ("low", "median", "high")]
        table.add_row(row["kernel"], str(row["threads"]), *rates)
    return table


def _disk_table(payload: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(box=None)
    for heading in ("disk reads of", "at once", "rate", "read for each byte used"):
        table.add_column(heading, justify="right")
    for row in payload["disk"]:
        note = "" if row["is_direct"] else " (cached)"
        rate = f"{row['bytes_per_s'] / 1e9:.2f} GB/s{note}"
        table.add_row(format_bytes(row["block_bytes"]), str(row["depth"]), rate, "1")
    for row in payload["page_faults"]:
        over = "?" if row["over_read"] is None else f"{row['over_read']:.1f}"
        what = f"{format_bytes(row['slice_bytes'])}, by page faults"
        table.add_row(what, str(row["threads"]), f"{row['bytes_per_s'] / 1e9:.2f} GB/s", over)
    return table


def _engine_table(payload: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(box=None)
    for heading in ("engine, tok/s", "tokens | users", "measured", "from", "to", "predicted before", "after"):
        table.add_column(heading, justify="left" if heading.startswith("engine") else "right")
    for row in payload["engine"]:
        is_prompt = row["metric"] == "prefill_tok_s"
        name = "prompt" if is_prompt else "decode"
        said = [_number(row[key]) for key in ("predicted_before", "predicted_after")]
        spread = [_number(row[key]) for key in ("measured_low", "measured_high")]
        of = row["input_tokens"] if is_prompt else row["concurrency"]
        table.add_row(name, str(of), _number(row["measured"]), *spread, *said)
    return table


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"
