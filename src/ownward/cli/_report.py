"""`ownward report`: what it cost, what came of it, and what nobody knows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from ownward.cli._context import load_settings, open_ledger
from ownward.cli._output import emit, example, json_option, last_option, ledger_option, since_last
from ownward.core import UnknownName, to_jsonable


@click.command(epilog=example("ownward report --ledger ledger.db --plan plan.toml"))
@ledger_option
@click.option(
    "--plan",
    "plan_file",
    default=None,
    metavar="plan.toml",
    help="The plan, for floors, the baseline and loaded prices.",
)
@click.option("--workload", default=None, help="Only this workload.")
@last_option
@json_option
def report(
    *, ledger_target: str | None, plan_file: str | None, workload: str | None, last: str | None, as_json: bool
) -> None:
    """Report cost per completed task, savings against the baseline, certificates, and what is not known."""
    from ownward.cli._plans import read_plan
    from ownward.reports import compute_report, price_steps, render_report

    since = None if last is None else since_last(last)
    plan = None if plan_file is None else read_plan(Path(plan_file))
    with open_ledger(ledger_target, is_read_only=True) as opened:
        made = compute_report(
            opened.query_served(workload=workload, since=since, input_steps=price_steps(plan)),
            opened.query_certificates(workload),
            plan=plan,
            human_usd_per_hour=load_settings().economics.people_usd_per_hour,
            at=datetime.now(UTC),
        )
        if workload is not None and not made.workloads and not (plan and workload in plan.workloads):
            known = [row.workload for row in opened.query_workloads()]
            if workload not in known:
                raise UnknownName(workload, known, what="workload in this ledger", see="ownward ledger show")
    emit(to_jsonable(made.as_record()), as_json=as_json, render=lambda _: render_report(made))
