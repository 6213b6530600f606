"""How right the predictions are: every measured row asked, scored per metric, engine and device class.

`python -m benchmarks.accuracy --data FILE --configs DIR` scores any file with the columns of measured.csv by the rules
of `measured_rows`. With --leave-pair-out each row is answered by coefficients fitted without any row of its model on
its hardware; with --leave-out model, machine or page, without any row of its model, of its machine, or of the page that
it stands on; without either, by the coefficients the package ships. `least 95%` is the mean error without the worst 5%.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.answering import Answer, answer_rows
from benchmarks.measured_cases import Configs
from benchmarks.measured_rows import GROUPS, RULES, MeasuredRow, load_rows

_FEWEST_ROWS = 10
_FEWEST_ON_THE_PAGE = 20
_KEPT = 0.95
_WORDS = {
    "decode_tok_s_per_user": "decode, one user",
    "prefill_tok_s": "prefill",
    "decode_tok_s_total": "throughput of a batch",
    "e2e_total_tok_s": "prompt and answer, end to end",
    "tpot_ms": "TPOT under load",
    "ttft_ms": "TTFT",
    "e2e_ms": "latency under load",
}


def score(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the figures of one cell: errors as shares of the measured value; a refusal counts as a miss."""
    given = [answer for answer in answers if answer.value is not None]
    errors = [answer.value / answer.row.value - 1 for answer in given if answer.value is not None]
    inside = sum(
        1 for a in given if a.low80 is not None and a.high80 is not None and a.low80 <= a.row.value <= a.high80
    )
    missed = [abs(error) for error in errors] + [1.0] * (len(answers) - len(given))
    logs = [math.log(1 + error) for error in errors if error > -1]
    return {
        "rows": len(answers),
        "pairs": len({answer.row.pair for answer in answers}),
        "refusals": len(answers) - len(given),
        "median_error": statistics.median(missed) if missed else None,
        "mape": statistics.fmean(abs(error) for error in errors) if errors else None,
        "mape_with_misses": statistics.fmean(missed) if missed else None,
        "trimmed": statistics.fmean(sorted(missed)[: max(math.ceil(_KEPT * len(missed)), 1)]) if missed else None,
        "bias": math.expm1(statistics.median(logs)) if logs else None,
        "coverage": inside / len(answers) if answers else None,
        "coverage_of_answers": inside / len(given) if given else None,
        "noise_floor": noise_floor([answer.row for answer in answers]),
    }


def noise_floor(rows: Sequence[MeasuredRow]) -> float | None:
    """Return the mean distance of repeated rows from their group's median; None where nothing repeats."""
    groups: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for row in rows:
        groups[row.repeat_key].append(row.value)
    spread = [
        abs(value / statistics.median(values) - 1) for values in groups.values() if len(values) > 1 for value in values
    ]
    return statistics.fmean(spread) if spread else None


def tabulate(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Return one scored row per metric, engine family and device class, largest first; small cells are kept."""
    cells: dict[tuple[str, str, str], list[Answer]] = defaultdict(list)
    for answer in answers:
        cells[answer.cell].append(answer)
    table = [
        {"metric": metric, "engine": engine, "device": device, **score(found)}
        for (metric, engine, device), found in cells.items()
    ]
    return sorted(table, key=lambda row: (row["metric"], -row["rows"]))


def summarise(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Return one scored row per metric, over tiers A and B and over all tiers."""
    found = []
    for metric in sorted({answer.row.metric for answer in answers}):
        of_metric = [answer for answer in answers if answer.row.metric == metric]
        controlled = [answer for answer in of_metric if answer.row.tier in {"A", "B"}]
        found.append({"metric": metric, "engine": "tiers A and B", "device": "all", **score(controlled)})
        possible = [answer for answer in controlled if answer.is_possible]
        if len(possible) < len(controlled):
            found.append({"metric": metric, "engine": "A and B, possible", "device": "all", **score(possible)})
        for shape in sorted({answer.shape for answer in controlled} - {""}):
            of_shape = [answer for answer in controlled if answer.shape == shape]
            found.append({"metric": metric, "engine": f"A and B, {shape}", "device": "all", **score(of_shape)})
        found.append({"metric": metric, "engine": "all tiers", "device": "all", **score(of_metric)})
    return found


def render(table: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table."""
    heads = (
        "metric",
        "engine",
        "device",
        "rows",
        "pairs",
        "refused",
        "median",
        "MAPE",
        "least 95%",
        "bias",
        "band",
        "noise",
    )
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines.extend(
        "| "
        + " | ".join(
            (
                row["metric"], row["engine"], row["device"], str(row["rows"]), str(row["pairs"]), str(row["refusals"]),
                _percent(row["median_error"]), _percent(row["mape"]), _percent(row["trimmed"]),
                _percent(row["bias"], sign=True),
                _percent(row["coverage_of_answers"]), _percent(row["noise_floor"]),
            )
        )
        + " |"
        for row in table
    )  # fmt: skip
    return "\n".join(lines)


def render_cells(cells: Sequence[dict[str, Any]]) -> str:
    """Return the cells that the page about predictions shows, as it does."""
    lines = [
        "| | engine | device | rows | pairs | refused | median error | MAPE of the best 95% | bias | in the band |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    order = list(_WORDS)
    shown = [row for row in cells if row["rows"] >= _FEWEST_ON_THE_PAGE]
    lines.extend(
        f"| {_WORDS[row['metric']]} | {row['engine']} | {row['device']} | {row['rows']} | {row['pairs']} |"
        f" {row['refusals']} | {_percent(row['median_error'])} | {_percent(row['trimmed'])} |"
        f" {_percent(row['bias'], sign=True)} | {_percent(row['coverage_of_answers'])} |"
        for row in sorted(shown, key=lambda row: (order.index(row["metric"]), -row["rows"]))
    )
    return "\n".join(lines)


def _percent(value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return "-"
    return f"{100 * value:+.0f}%" if sign else f"{100 * value:.0f}%"


def main() -> None:
    """Ask, score, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--configs", type=Path)
    parser.add_argument("--leave-out", choices=GROUPS, help="what a row's own coefficients are fitted without")
    parser.add_argument("--leave-pair-out", action="store_const", const="pair", dest="leave_out")
    parser.add_argument("--rules", action="store_true", help="print the row filter and the name rules")
    parser.add_argument("--json", type=Path, help="write the tables as JSON")
    parser.add_argument("--worst", type=int, default=0, help="also print the N rows that miss by most")
    options = parser.parse_args()
    if options.rules:
        print(RULES)
        return
    if options.data is None:
        parser.error("no measurements are named: --data FILE (with the columns of measured.csv) and --configs DIR")
    configs = Configs(options.configs)
    rows = list(load_rows(options.data, configs.names))
    asked = [row for row in rows if row.config is not None and row.value > 0]
    started = time.perf_counter()
    answers = answer_rows(asked, configs, leave_out=options.leave_out)
    elapsed = time.perf_counter() - started
    print(
        f"{len(rows)} rows; {len(rows) - len(asked)} without a config or a value; {len(asked)} asked; {elapsed:.1f} s\n"
    )
    summary, table = summarise(answers), tabulate(answers)
    print(render(summary), "\n")
    print(render([row for row in table if row["rows"] >= _FEWEST_ROWS]))
    small = [row for row in table if row["rows"] < _FEWEST_ROWS]
    print(f"\nand {len(small)} cells of fewer than {_FEWEST_ROWS} rows, {sum(row['rows'] for row in small)} rows")
    reasons = Counter(answer.refused for answer in answers if answer.refused)
    for reason, count in reasons.most_common(15):
        print(f"refused {count}: {reason}")
    worst = sorted(
        (answer for answer in answers if answer.value), key=lambda a: -abs(math.log((a.value or 1.0) / a.row.value))
    )
    for answer in worst[: options.worst]:
        print(
            f"{answer.value:.4g} for {answer.row.value:.4g}: {answer.row.pair} {answer.row.question}", file=sys.stderr
        )
    if options.json:
        payload = {"rows": len(rows), "asked": len(asked), "leave_out": options.leave_out,
                   "summary": summary, "cells": table, "refusals": reasons.most_common()}  # fmt: skip
        options.json.write_text(json.dumps(payload, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
