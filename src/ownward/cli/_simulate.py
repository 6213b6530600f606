"""`ownward simulate`: a trace replayed against a deployment."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ownward.cli._lengths import read_lengths
from ownward.cli._lookup import find_anatomy, find_machines
from ownward.cli._numbers import ABOVE_ZERO, Finite
from ownward.cli._output import emit, example, json_option, open_input, say, writable_file, write_whole
from ownward.core import (
    BadInput,
    SystemClock,
    UsageError,
    format_count,
    format_counted,
    format_duration,
    format_percent,
    to_json,
    to_jsonable,
)

if TYPE_CHECKING:
    from ownward.perf import StepModel
    from ownward.traffic import Trace, TrafficRecord

_JOULES_PER_KWH = 3.6e6


@click.command(
    epilog=example("ownward simulate --trace requests.csv --model qwen3-30b-a3b --machine 'RTX 5090' --weights q4_k_m")
)
@click.option(
    "--trace", "trace_file", required=True, metavar="FILE", help="Arrivals and lengths: JSON Lines, CSV or Parquet."
)
@click.option("--lengths", "lengths_file", default=None, metavar="FILE", help="Lengths for ServeGen's arrivals.")
@click.option("--model", default=None, help="A model file or catalogue name; with --machine.")
@click.option("--machine", "machine_name", default=None, help='A catalogue name, 2x"RTX 3090", or a file.')
@click.option("--weights", default="bf16", show_default=True, help="Weight format.")
@click.option("--kv-type", default="bf16", show_default=True, help="Cache format.")
@click.option("--engine", default=None, help="llama.cpp or vllm; chosen by the kind of machine unless given.")
@click.option(
    "--step-model", "step_file", default=None, metavar="S.json", help="Step-time coefficients instead of a prediction."
)
@click.option(
    "--scheduler", "scheduler_file", default=None, metavar="K.json", help="Batch, token budget, chunking, policy."
)
@click.option(
    "--cache-reuse",
    type=Finite(min=0, max=1),
    default=None,
    metavar="SHARE",
    help="How much of the input that the trace calls cached is cached here too, where it has no prefix blocks."
    "  [default: 0]",
)
@click.option("--replicas", default=1, show_default=True, help="Copies of the deployment.")
@click.option("--slo-ttft", default=None, type=ABOVE_ZERO, metavar="S", help="Seconds to the first token.")
@click.option("--slo-tpot", default=None, type=ABOVE_ZERO, metavar="S", help="Seconds for each token after the first.")
@click.option(
    "--fleet",
    "find_fleet",
    is_flag=True,
    help="Find the fewest replicas that serve 99% of requests so, plus one to spare.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed for spreading requests over replicas and for random draws.",
)
@click.option(
    "--per-request",
    "per_request",
    default=None,
    metavar="OUT.jsonl",
    callback=writable_file,
    help="Write one row for each request here.",
)
@json_option
def simulate(
    *,
    trace_file: str,
    lengths_file: str | None,
    model: str | None,
    machine_name: str | None,
    weights: str,
    kv_type: str,
    engine: str | None,
    step_file: str | None,
    scheduler_file: str | None,
    cache_reuse: float | None,
    replicas: int,
    slo_ttft: float | None,
    slo_tpot: float | None,
    find_fleet: bool,
    seed: int,
    per_request: str | None,
    as_json: bool,
) -> None:
    """Replay a trace: time to first token, time a token, goodput, utilisation, energy.

    The deployment is a --model on a --machine, or a --step-model of your own. Two runs with one seed are equal.
    """
    from ownward.simulation import Scheduler, Slo, smallest_fleet
    from ownward.simulation import simulate as run

    trace = _read_trace(trace_file, lengths_file, seed)
    scheduler = (
        Scheduler.from_mapping(_read_object(scheduler_file), where=scheduler_file) if scheduler_file else Scheduler()
    )
    step_model = _step_model(
        step_file, model=model, machine_name=machine_name, weights=weights, kv_type=kv_type, engine=engine, trace=trace
    )
    if cache_reuse is None and trace.prefix_offsets is None and (cached := int(trace.cached_input_tokens.sum())):
        say(
            f"{format_percent(cached / int(trace.input_tokens.sum()))} of the input was cached where it was logged;"
            " here all of it is computed, unless --cache-reuse says how much is not"
        )
    slo = Slo(ttft_s=slo_ttft, tpot_s=slo_tpot) if slo_ttft is not None or slo_tpot is not None else None
    fleet = None
    if find_fleet:
        if slo is None:
            raise UsageError("--fleet needs a service level", allowed="--slo-ttft S, --slo-tpot S or both")
        fleet = smallest_fleet(trace, step_model, scheduler, slo, seed=seed, recorded_reuse_fraction=cache_reuse or 0.0)
        replicas = fleet.replicas
    result = run(
        trace,
        step_model,
        scheduler,
        slo=slo,
        replicas=replicas,
        seed=seed,
        recorded_reuse_fraction=cache_reuse or 0.0,
        clock=SystemClock(),
    )
    if per_request is not None:
        write_whole(Path(per_request), (to_json(row) + "\n" for row in result.per_request.rows()))
    payload = to_jsonable(result.as_record())
    if fleet is not None:
        payload["fleet"] = to_jsonable(fleet.as_record())
    payload["step_model"] = to_jsonable(step_model)
    payload["sequences_at_once"] = result.per_request.compute_sequences_at_once()
    emit(payload, as_json=as_json, render=_render)


def _read_trace(trace_file: str, lengths_file: str | None, seed: int) -> Trace:
    from ownward import traffic

    lengths = read_lengths(trace_file, lengths_file)
    with open_input(trace_file) as stream:
        reading = traffic.read(stream, name=trace_file, lengths=lengths, seed=seed)
        records = iter(reading)
        first_record = next(records, None)
        found = None if first_record is None else _trace_or_why(itertools.chain([first_record], records))
    if reading.count.bad_total:
        first = reading.count.bad[0]
        raise BadInput(
            f"{format_counted(reading.count.bad_total, 'row')} cannot be read; line {first.line}: {first.why}",
            where=trace_file,
            allowed="arrival_s, input_tokens, output_tokens in every row",
        )
    if found is None:
        raise BadInput("the trace has no requests", where=trace_file)
    if isinstance(found, BadInput):
        raise found
    if reading.count.duplicates:
        say(f"left out because an earlier row has the same id: {format_counted(reading.count.duplicates, 'row')}")
    return found


def _trace_or_why(records: Iterable[TrafficRecord]) -> Trace | BadInput:
    """Return the trace, or why it is none, which rows that cannot be read may explain better."""
    from ownward.traffic import Trace

    try:
        return Trace.from_records(records)
    except BadInput as error:
        return error


def _read_object(path: str) -> dict[str, Any]:
    with open_input(path) as stream:
        try:
            value = json.loads(stream.read(1 << 20))
        except (ValueError, RecursionError) as error:
            raise BadInput(f"not JSON: {error}", where=path) from error
    if not isinstance(value, dict):
        raise BadInput(f"a {type(value).__name__}, not an object", where=path)
    return value


def _step_model(
    step_file: str | None,
    *,
    model: str | None,
    machine_name: str | None,
    weights: str,
    kv_type: str,
    engine: str | None,
    trace: Trace,
) -> StepModel:
    """Return the step model that is stated, or the one that is predicted."""
    from ownward.core import DoesNotFit, NoCapacity, format_bytes
    from ownward.perf import StepModel, deploy, weight_format
    from ownward.planner import IDLE_FRACTION, default_engine, stored_as_of

    if step_file is not None:
        if model is not None or machine_name is not None:
            raise UsageError("two deployments are named", allowed="--model M --machine X, or --step-model S.json")
        return StepModel.from_mapping(_read_object(step_file), where=step_file)
    if model is None or machine_name is None:
        raise UsageError("no deployment to replay against", allowed="--model M --machine X, or --step-model S.json")
    count, machine = find_machines(machine_name)
    stored = weight_format(weights)
    deployment = deploy(
        find_anatomy(model),
        machine=machine,
        machines_count=count,
        engine=engine or default_engine(machine, stored_as_of(stored)),
        weights=stored,
        kv_type=kv_type,
    )
    if isinstance(deployment, str):
        raise NoCapacity(deployment)
    lengths, most = trace.input_tokens + trace.output_tokens, deployment.anatomy.max_context_tokens
    if most is not None and (longer := int((lengths > most).sum())):
        say(
            f"longer than the context of {model} ({most:,} tokens), so that an engine would refuse what is simulated"
            f" here: {format_counted(longer, 'request')} of {len(trace):,}"
        )
    context = int(lengths.mean())
    memory = deployment.compute_memory(concurrency=1, context_tokens=context)
    if deployment.usable_bytes is not None and memory.total > deployment.usable_bytes:
        raise DoesNotFit(
            f"{model} in {weights} does not fit on {machine_name}: it needs {format_bytes(memory.total)},"
            f" usable memory is {format_bytes(deployment.usable_bytes)}",
            next_step=f"See what does: ownward fit {model} --machine {machine_name!r}",
        )
    step_model = deployment.compute_step_model(context_tokens=context)
    if machine.tdp_watts is None:
        return step_model
    watts = machine.tdp_watts.value * count
    return replace(step_model, power_busy_watts=watts, power_idle_watts=IDLE_FRACTION * watts)


def _render(payload: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from ownward.reports import Fitted

    title = f"{format_counted(payload['requests'], 'request')} on {format_counted(payload['replicas'], 'replica')}"
    table = Table(box=None, title=title, title_justify="left")
    for heading in ("", "p50", "p90", "p95", "p99", "mean", "max"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=bool(heading))
    for name, label in (("ttft_s", "first token"), ("tpot_s", "each token after"), ("latency_s", "whole answer")):
        values = payload[name] or {}
        table.add_row(label, *(format_duration(values.get(key)) for key in ("p50", "p90", "p95", "p99", "mean", "max")))
    goodput = payload["goodput"]
    busy = (
        f"busy {format_percent(payload['utilisation_fraction'])} of the time,"
        f" {format_counted(payload['preemptions'], 'preemption')},"
        f" {format_counted(payload['cached_input_tokens'], 'input token')} from cache,"
        f" {payload['refused']:,} refused"
    )
    lines = [busy]
    if goodput:
        lines.append(f"{format_percent(goodput['good_fraction'], places=1)} met the service level")
    lines.append(f"energy {_kwh(payload['energy_joules'])}")
    lines.append(f"a replica decodes {payload['sequences_at_once']:.0f} at a time, as a request sees it")
    if payload["requests_per_wall_s"]:
        lines.append(f"simulated at {format_count(payload['requests_per_wall_s'])} requests a second")
    return Group(Fitted(table, leaves_out=(5, 2, 6, 3)), "", Text("\n".join(lines)))


def _kwh(joules: float | None) -> str:
    return "?: nobody has stated the power" if joules is None else f"{joules / _JOULES_PER_KWH:.3g} kWh"
