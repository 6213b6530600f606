"""`ownward demo`: the whole loop in about a minute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ownward.cli._output import console, example, json_option, progress, say
from ownward.cli._weights import fetch_weights
from ownward.core import format_percent, format_usd, to_json, to_jsonable

if TYPE_CHECKING:
    from ownward.demo import DemoResult

_TASKS = 40


@click.command(epilog=example("ownward demo"))
@click.option(
    "--out", default="ownward-demo", show_default=True, metavar="DIR", help="Where the plan and the ledger are written."
)
@json_option
def demo(*, out: str, as_json: bool) -> None:
    """Run the whole loop once, on shipped real data, in about a minute.

    Fetches and runs the embedded model, asks it real tasks through the gateway, grades and records them, plans a
    production trace over owned machines and APIs, and reports. No key, no GPU. The embedded model is tiny: it shows
    the plumbing, and the plan says what it is not good enough for.
    """
    from ownward.demo import claim_folder, run_demo
    from ownward.engines import EMBEDDED_MODEL
    from ownward.gateway import run_loop

    claim_folder(Path(out))
    weights = fetch_weights(EMBEDDED_MODEL.id)
    done = 0
    with progress("tasks answered and graded", total=_TASKS, unit="tasks") as advance:

        def on_task(_result: Any) -> None:
            nonlocal done
            done += 1
            advance(done)

        result = run_loop(lambda: run_demo(weights, Path(out), tell=say, on_task=on_task))
    if as_json:
        print(to_json(_payload(result)))
        return
    _print(result)


def _payload(result: DemoResult) -> dict[str, Any]:
    return {
        "schema": "ownward.demo/1",
        "trials": to_jsonable(result.trials),
        "report": to_jsonable(result.report.as_record()),
        "comparison": [to_jsonable(item.own_vs_rent) for item in result.decision.comparisons],
        "why": [*result.decision.choice.why, *result.task_reasons],
        "plan": str(result.plan_path),
        "ledger": str(result.ledger_path),
        "seconds": result.seconds,
    }


def _print(result: DemoResult) -> None:
    from rich.table import Table
    from rich.text import Text

    from ownward.demo import MODEL, SERVICE_LEVEL
    from ownward.reports import render_comparisons, render_report

    out = console()
    table = Table(
        box=None, title="1. What the embedded model really achieved", title_justify="left", title_style="bold"
    )
    for heading in ("task set", "completed", "score", "expected, for example", "answered"):
        table.add_column(heading, no_wrap=True)
    for line in result.trials:
        expected, answered, completed = line.examples[0]
        table.add_row(
            line.workload,
            f"{line.completed}/{line.tasks} ({format_percent(line.completed / line.tasks)})",
            f"{line.mean_score:.2f}",
            _cut(expected, 22),
            f"{'right' if completed else 'wrong'}: {_cut(answered, 17)}",
        )
    out.print(table)
    out.print(Text("A model of 135M parameters is for plumbing, not for quality; the plan below refuses it.\n"))
    out.print(Text("2. The ledger's account of it", style="bold"))
    out.print(render_report(result.report))
    out.print(Text("\n3. A production trace, on machines one would own and APIs one would rent", style="bold"))
    out.print(
        Text(
            f"Owned: {MODEL} on each machine, as many as hold {SERVICE_LEVEL.fraction:.0%} of requests to"
            f" {SERVICE_LEVEL.ttft_s:g} s for the first token and {SERVICE_LEVEL.tpot_s:g} s for each after it,"
            " in the busiest minutes too: peaks buy machines that idle the rest of the time."
        )
    )
    out.print(render_comparisons(result.decision.comparisons, result.decision.choice))
    out.print(Text("\n4. The plan, by what 1,000 of each task set cost", style="bold"))
    for reason in result.task_reasons:
        out.print(Text(f"→ {reason}"))
    out.print(
        Text(
            f"\nwrote {result.plan_path} and {result.ledger_path} in {result.seconds:.0f} s; nothing is left running.\n"
            "Next:\n"
            f"  ownward report --ledger {result.ledger_path} --plan {result.plan_path}\n"
            "  ownward serve"
        )
    )
    if result.report.cost_usd is not None:
        out.print(Text(f"The tasks cost {format_usd(result.report.cost_usd)} of energy, assumed at 45 W."))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
