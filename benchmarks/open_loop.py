"""How late the slowest hundredth is at 500 requests a second: ours beside nginx, many rounds by turns.

    python -m benchmarks.open_loop                   # about 25 minutes; nothing else should run
    python -m benchmarks.open_loop --rounds 4 --out /tmp/open_loop.json

One round of 3,000 requests has twice the 99th percentile of the next, on a machine that others share, so that five
rounds (`benchmarks.gateway`) cannot tell 1.6 times nginx's from 2.3. Here each round asks each contender at random and
at even times, in an order drawn anew, and what is told is the ratio of medians with the interval that holds 19 of 20
resamplings of the rounds (bootstrap, rounds drawn with replacement, the same ones for both). Two gateways of one code
say what processes of one code differ by.

Needs two cores, `nginx` (Debian package) and `wrk`; see `benchmarks.gateway`. Writes results/open_loop-DATE.json and
its table into docs/reference/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender, prepare_peer, start_nginx, start_ownward, start_pipe, start_tensorzero
from benchmarks.gateway import Measured, Sizes, alone, measure_open_loop, put_into_page
from benchmarks.light_client import run_wrk
from benchmarks.light_upstream import started_upstream
from benchmarks.machine_facts import new_record, write_record

_TIMES = {"at random times": "open_loop", "at even times": "open_loop_even"}
_RESAMPLED = 10_000
_WARM_S = 2.0


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "ownward-bench-peers")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where the ledger is written")
    parser.add_argument("--gateway-core", type=int, default=1)
    parser.add_argument("--load-core", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.load_core})
    sizes, record = Sizes(), new_record("open_loop")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
        upstream = stack.enter_context(started_upstream())
        measured = []
        for contender in _start_all(upstream, folder, options.gateway_core, options.peers):
            stack.callback(contender.stop)
            run_wrk(contender.address, connections=64, seconds=_WARM_S, cores=str(options.load_core))
            contender.pause()
            measured.append(Measured(contender))
        _measure(measured, sizes, rounds=options.rounds)
    record["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
    record |= {
        "method": {"rounds": options.rounds, "requests": sizes.open_requests, "per_s": sizes.open_per_s},
        "results": _summarise(measured),
    }
    print(f"written to {write_record(record, options.out)}", file=sys.stderr)
    if options.out is None:
        put_into_page(table(record), "open_loop")
    print(table(record))


def _start_all(upstream: int, folder: Path, core: int, peers: Path) -> list[Contender]:
    folders = [folder / str(index) for index in range(5)]
    for each in folders:
        each.mkdir()
    return [
        start_nginx(upstream, folders[0], core),
        start_pipe(upstream, folders[1], core),
        start_ownward(upstream, folders[2], core),
        start_ownward(upstream, folders[3], core, name="ownward, once more"),
        start_tensorzero(upstream, folders[4], core, prepare_peer(peers, "tensorzero", "tensorzero")),
    ]


def _measure(measured: Sequence[Measured], sizes: Sizes, *, rounds: int) -> None:
    for seed in range(rounds):
        for each in random.Random(seed).sample(list(measured), len(measured)):
            with alone(each.contender):
                for figures in _TIMES.values():
                    measure_open_loop(each, sizes, seed=seed, figures=figures, is_even=figures.endswith("even"))
        print(f"round {seed + 1} of {rounds}: load {os.getloadavg()[0]:.2f}", file=sys.stderr)


def _summarise(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return each contender's rounds, and how many times nginx's its 99th percentile is."""
    nginx = next(each for each in measured if each.contender.name == "nginx")
    rows = []
    for each in measured:
        rounds = {name: [round(value, 4) for value in values] for name, values in each.rounds.items()}
        times = {
            figures: compute_ratio(each.rounds[f"{figures}_p99_ms"], nginx.rounds[f"{figures}_p99_ms"])
            for figures in _TIMES.values()
        }
        rows.append(
            {
                "name": each.contender.name,
                "version": each.contender.version,
                "notes": sorted(set(each.notes)),
                "p99_times_nginx": times,
                "rounds": rounds,
            }
        )
    return rows


def compute_ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the ratio of the medians of rounds, and the interval of 19 in 20 resamplings of them."""
    draw = random.Random(1)
    count = range(len(ours))
    ratios = []
    for _ in range(_RESAMPLED):
        drawn = draw.choices(count, k=len(ours))
        ratios.append(statistics.median([ours[at] for at in drawn]) / statistics.median([theirs[at] for at in drawn]))
    ratios.sort()
    return {
        "ratio": round(statistics.median(ours) / statistics.median(theirs), 3),
        "low": round(ratios[int(0.025 * _RESAMPLED)], 3),
        "high": round(ratios[int(0.975 * _RESAMPLED)], 3),
    }


def table(record: Mapping[str, Any]) -> str:
    """Return the results as a Markdown table: medians, and in brackets the lowest and highest round."""
    heads = [f"{when}: p50 ms | p99 ms | times nginx's (19 of 20) | CPU us" for when in _TIMES]
    lines = ["| | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * 4 * len(_TIMES)]
    for row in record["results"]:
        cells = []
        for figures in _TIMES.values():
            p50, p99, cpu = (row["rounds"][f"{figures}_{name}"] for name in ("p50_ms", "p99_ms", "cpu_us_per_request"))
            times = row["p99_times_nginx"][figures]
            cells += [
                f"{statistics.median(p50):.2f}",
                f"{statistics.median(p99):.2f} ({min(p99):.2f} to {max(p99):.2f})",
                "" if row["name"] == "nginx" else f"{times['ratio']:.2f} ({times['low']:.2f} to {times['high']:.2f})",
                f"{statistics.median(cpu):.0f}",
            ]
        lines.append(f"| {row['name']} {row['version']} | " + " | ".join(cells) + " |")
    machine, method = record["machine"], record["method"]
    load = f"{machine['load_average_before']} to {machine['load_average_after']}"
    lines.append(
        f"\n{record['measured_at']}, {method['rounds']} rounds of {method['requests']:,} requests,"
        f" {machine['cpu_cores']} cores of {machine['cpu']}, load average {load}."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
