"""Ask whether data ever travels where its label does not let it, many times; then break the policy and ask again.

    python -m benchmarks.sovereignty                    # 100,000 requests, then every mutant
    python -m benchmarks.sovereignty --cases 5000 --no-mutants

A case is one request to the real gateway (application, door, transport, ledger) on a network in memory, among hosts
that fail, redirect, quote and move, while plans, labels and keys change. What is checked of each stands in `lab`.
The result is written to benchmarks/results/sovereignty-DATE.json; the exit code is 1 where something did not hold.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.machine_facts import new_record, write_record
from benchmarks.sovereignty import mutants
from benchmarks.sovereignty.running import try_cases

_SEEDS_APART = 1_000_000


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--no-mutants", action="store_true")
    parser.add_argument("--only", help="try only mutants with this in their name")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    record = new_record("sovereignty")
    start_s = time.perf_counter()
    fault, counts = None, Counter[str]()
    if options.cases:
        parts = [
            (-(-options.cases // options.processes), options.seed + number * _SEEDS_APART)
            for number in range(options.processes)
        ]
        with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
            for found, went_wrong in pool.starmap(try_cases, parts):
                counts += found
                fault = fault or went_wrong
        if fault is not None:  # what follows takes a while
            print(f"DID NOT HOLD       {fault}", file=sys.stderr)
    record |= {
        "seed": options.seed,
        "seconds": round(time.perf_counter() - start_s, 1),
        "what_was_done": dict(sorted(counts.items())),
        "what_did_not_hold": fault,
    }
    tried: list[dict[str, Any]] = []
    if not options.no_mutants:
        if unfit := mutants.check():
            sys.exit("these mutants do not fit the source: " + "; ".join(unfit))
        if not mutants.passes_unbroken():
            sys.exit("the tests fail although nothing was broken")
        chosen = [mutant for mutant in mutants.MUTANTS if not options.only or options.only in mutant.name]
        for result in mutants.try_all(chosen):
            tried.append(result)
            print(f"{result['killed_by'] or 'SURVIVED':18} {result['mutant']}", file=sys.stderr)
        killed = sum(result["killed_by"] is not None for result in tried)
        record |= {"mutants": len(tried), "mutants_killed": killed, "each_mutant": tried}
    print(json.dumps({key: value for key, value in record.items() if key != "each_mutant"}, indent=1))
    print(f"written to {write_record(record, options.out)}", file=sys.stderr)
    sys.exit(1 if fault or any(result["killed_by"] is None for result in tried) else 0)


if __name__ == "__main__":
    main()
