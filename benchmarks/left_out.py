"""How right predictions are the further a question lies from what was measured: four things left out in turn.

    python -m benchmarks.left_out --data measured.csv --configs DIR    # about three minutes of one core

Each row is answered by coefficients fitted without its pair of model and machine, without its model on any machine,
without its machine under any model, and without the page it stands on. Writes results/left_out-DATE.json. That one
Newton step stands for a whole fit overstates errors where much is left out at once (docs/log.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy import summarise
from benchmarks.answering import answer_cases
from benchmarks.machine_facts import new_record, write_record
from benchmarks.measured_cases import Configs, case_of
from benchmarks.measured_rows import GROUPS, load_rows

# Lines of the table: their words, the metric, and the rows of it.
_LINES = (
    ("decode, one user", "decode_tok_s_per_user", "tiers A and B"),
    ("prefill", "prefill_tok_s", "tiers A and B"),
    ("throughput of a batch", "decode_tok_s_total", "tiers A and B"),
    ("TPOT that is one", "tpot_ms", "A and B, possible"),
    ("TTFT", "ttft_ms", "tiers A and B"),
)
_HEADS = {
    "pair": "its pair left out",
    "model": "its model",
    "machine": "its machine",
    "page": "its page",
}


def main() -> None:
    """Answer, score, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--configs", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    record = new_record("left_out")
    configs = Configs(options.configs)
    rows = [row for row in load_rows(options.data, configs.names) if row.config is not None and row.value > 0]
    record["rows"] = len(rows)
    record["groups"] = {kind: len({row.group(kind) for row in rows}) for kind in GROUPS}
    cases = [case_of(row, configs) for row in rows]
    record["results"] = {kind: _kept(summarise(answer_cases(rows, cases, leave_out=kind))) for kind in GROUPS}
    print(table(record))
    print(f"written to {write_record(record, options.out)}")


def _kept(summary: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in summary if not row["engine"].startswith("all")]


def table(record: Mapping[str, Any]) -> str:
    """Return median error, mean error and share in the band for each thing that was left out, in Markdown."""
    lines = [
        f"| | rows | {' | '.join(_HEADS.values())} |",
        f"|---|---|{'---|' * len(_HEADS)}",
    ]
    for words, metric, group in _LINES:
        cells = []
        for kind in _HEADS:
            found = next(row for row in record["results"][kind] if (row["metric"], row["engine"]) == (metric, group))
            shares = (found["median_error"], found["mape"], found["coverage_of_answers"])
            cells.append(", ".join(f"{100 * share:.0f}%" for share in shares))
        lines.append(f"| {words} | {found['rows']} | {' | '.join(cells)} |")
    counted = ", ".join(f"{count} {kind}s" for kind, count in record["groups"].items())
    return "\n".join(
        [*lines, "", f"Median error, mean error, share in the 80% band; {record['rows']:,} rows of {counted}."]
    )


if __name__ == "__main__":
    main()
