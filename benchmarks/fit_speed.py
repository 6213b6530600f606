"""How long predictions take: one, the catalogue on 20 machines in every weight format, and whole answers of `fit`.

    python -m benchmarks.fit_speed             # five runs, each in a process of its own
    python -m benchmarks.fit_speed --runs 1    # a look

Each run starts with nothing known, as the command does. Times are seconds of the processor, so that other work beside
it counts little; those of single predictions are by the wall. A deployment is memory, decode and prefill. Writes
results/fit_speed-DATE.json; the exit code is 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.machine_facts import new_record, write_record

from ownward import anatomy, catalog
from ownward.core import OwnwardError
from ownward.perf import Case, deploy, predict
from ownward.planner import advise, compute_curves, fit

T = TypeVar("T")

_MACHINES = 20
_FORMATS = ("bf16", "fp8", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q3_k_m", "q2_k")
_REPEATS = 2000
_AT = date(2026, 11, 21)
_BUDGET_USD = Decimal(3000)
_PREDICTION_AIM_S = 1e-3
# What a row of the table says, with counts of what was asked, and the seconds it has to stay below.
_ROWS: dict[str, tuple[str, float | None]] = {
    "prediction_again_s": ("one prediction, the same again and again", _PREDICTION_AIM_S),
    "prediction_other_s": ("one of a model on each of {machines} machines", _PREDICTION_AIM_S),
    "prediction_first_s": (
        "the first of a model, whose tensors are counted for it: the middle one of {models}",
        _PREDICTION_AIM_S,
    ),
    "prediction_slowest_s": ("the slowest of these; {slow_first_predictions} take longer than 1 ms", None),
    "catalogue_s": ("{models} models x {machines} machines x {formats} formats: {deployments:,} deployments", 3.0),
    "read_catalogue_s": ("reading the catalogue, before all that", None),
    "fit_s": ("`fit`: the best of {models} models on one machine, costs included", 1.0),
    "fit_machines_s": ("`fit` for each of {machines} machines: {options:,} options", None),
    "curves_s": ("the curves of one option over users and context", None),
    "buy_one_s": ("what to buy for one model, {purchases_for_one} purchases tried", None),
    "buy_best_s": ("what to buy for the best of {models} models, {purchases_for_all} purchases tried", None),
}


def main() -> None:
    """Measure, write, print; the exit code is 1 where an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one-run", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_run:
        print(json.dumps(run_once()))
        return
    record = new_record("fit_speed")
    record["runs"] = options.runs
    record["aims_s"] = {name: aim for name, (_, aim) in _ROWS.items() if aim is not None}
    runs = [run_apart() for _ in range(options.runs)]
    record["counts"] = runs[0]["counts"]
    record["results"] = {name: _summary([run["seconds"][name] for run in runs]) for name in _ROWS}
    record["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
    print(table(record))
    print(f"written to {write_record(record, options.out)}")
    sys.exit(1 if missed(record) else 0)


def run_apart() -> dict[str, Any]:
    """Return one run's figures, from a fresh process."""
    command = [sys.executable, "-m", "benchmarks.fit_speed", "--one-run"]
    said = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def run_once() -> dict[str, Any]:
    """Return the counts of what was asked, and the seconds that it took."""
    seconds: dict[str, float] = {}
    models, seconds["read_catalogue_s"] = timed(read_models)
    known = [item for item in catalog.machines() if item.bandwidth_bytes_per_s and item.kind != "storage"]
    machines = known[:_MACHINES]
    first, *others = (
        [_wall_s(Case(id="x", anatomy=model, machine=machine, weights="q4_k_m")) for model in models]
        for machine in machines
    )
    seconds["prediction_first_s"], seconds["prediction_slowest_s"] = statistics.median(first), max(first)
    seconds["prediction_other_s"] = statistics.median(chain.from_iterable(others))
    case = Case(id="x", anatomy=models[0], machine=machines[0], weights="q4_k_m")
    seconds["prediction_again_s"] = statistics.median(_wall_s(case) for _ in range(_REPEATS))
    deployments, seconds["catalogue_s"] = timed(lambda: answer_all(models, machines))
    merits = {model.name: float(model.total_live_params) for model in models}
    card = catalog.machine("RTX 4090")
    best, seconds["fit_s"] = timed(lambda: fit(models, machine=card, merits=merits, at=_AT))
    options, seconds["fit_machines_s"] = timed(
        lambda: sum(len(fit(models, machine=machine, at=_AT)) for machine in machines)
    )
    _, seconds["curves_s"] = timed(lambda: compute_curves(best[0]))
    one = [model for model in models if model.name == "Qwen3-30B-A3B"]
    for_one, seconds["buy_one_s"] = timed(
        lambda: advise(one, machines=catalog.machines(), budget_usd=_BUDGET_USD, at=_AT)
    )
    for_all, seconds["buy_best_s"] = timed(
        lambda: advise(models, machines=catalog.machines(), budget_usd=_BUDGET_USD, merits=merits, at=_AT)
    )
    counts = {
        "models": len(models),
        "machines": len(machines),
        "formats": len(_FORMATS),
        "deployments": deployments,
        "options": options,
        "slow_first_predictions": sum(each >= _PREDICTION_AIM_S for each in first),
        "purchases_for_one": for_one.tried,
        "purchases_for_all": for_all.tried,
    }
    return {"counts": counts, "seconds": seconds}


def read_models() -> list[Any]:
    """Return the anatomies of the catalogue."""
    models = []
    for release in catalog.models():
        try:
            models.append(anatomy.from_config(release.load_config(), name=release.name))
        except OwnwardError:  # not readable here, so not asked
            continue
    return models


def answer_all(models: Sequence[Any], machines: Sequence[Any]) -> int:
    """Lay out memory and predict both speeds of every model on every machine in every format; return how many."""
    answered = 0
    for model in models:
        for machine in machines:
            for weights in _FORMATS:
                placed = deploy(model, machine=machine, machines_count=1, engine="llama.cpp", weights=weights)
                if not isinstance(placed, str):
                    placed.compute_memory(concurrency=1, context_tokens=8192)
                    placed.compute_decode_step_s(sequences=1, context_tokens=8192)
                    placed.compute_prefill_s(tokens=2048)
                    answered += 1
    return answered


def table(record: Mapping[str, Any]) -> str:
    """Return the figures as a table in Markdown: the median of the runs, lowest and highest in brackets."""
    lines = ["| | median | lowest to highest | aim |", "| --- | ---: | ---: | ---: |"]
    for name, (words, aim) in _ROWS.items():
        found = record["results"][name]
        median, lowest, highest = (_spelled(found[which]) for which in ("median", "lowest", "highest"))
        below = "" if aim is None else f"below {_spelled(aim)}{', **missed**' if found['highest'] >= aim else ''}"
        lines.append(f"| {words.format(**record['counts'])} | {median} | {lowest} to {highest} | {below} |")
    machine = record["machine"]
    where = f"{machine['cpu_cores']} cores of {machine['cpu']}"
    load = f"load average {machine['load_average_before']} to {machine['load_average_after']}"
    return "\n".join([*lines, "", f"{record['measured_at']}, {record['runs']} runs, {where}, {load}."])


def missed(record: Mapping[str, Any]) -> list[str]:
    """Return the names of what took too long in any run."""
    return [name for name, aim in record["aims_s"].items() if record["results"][name]["highest"] >= aim]


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what `work` returns, and the processor's seconds that it took."""
    began = cpu_s()
    found = work()
    return found, cpu_s() - began


def cpu_s() -> float:
    """Return the processor's seconds so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _wall_s(case: Case) -> float:
    began = time.perf_counter()
    predict(case)
    return time.perf_counter() - began


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 6),
        "lowest": round(min(values), 6),
        "highest": round(max(values), 6),
    }


def _spelled(seconds: float) -> str:
    """Return seconds in the unit that suits them.

    >>> _spelled(0.000051), _spelled(0.0123), _spelled(1.5)
    ('51 us', '12.3 ms', '1.5 s')
    """
    if seconds < 1e-3:
        return f"{1e6 * seconds:.0f} us"
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


if __name__ == "__main__":
    main()
