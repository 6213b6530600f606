"""`ownward trial`: from graded outcomes, recorded or made now, to a certificate."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, time
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ownward.cli._captured import read_captured
from ownward.cli._context import leaving_no_trace, open_ledger
from ownward.cli._output import (
    as_text,
    at_option,
    emit,
    example,
    json_option,
    ledger_option,
    open_input,
    open_text_input,
    progress,
    say,
    today,
)
from ownward.cli._trial_kept import KeptAnswers
from ownward.core import OwnwardError, UsageError, format_counted, format_percent, format_usd, to_jsonable

if TYPE_CHECKING:
    from ownward.cli._ask_gateway import Endpoint
    from ownward.ledger import AttemptRow, Ledger
    from ownward.quality import OutcomeTable, PairedTask
    from ownward.trials import Task, TaskResult

_LOST = "costs stay unknown, and neither outcomes nor the certificate get to where plan and report look"


@click.command(epilog=example("ownward trial --outcomes results.jsonl --baseline gpt --candidate small --rho 0.98"))
@click.option(
    "--outcomes", default=None, metavar="FILE", help="Recorded outcomes, one task per row: JSON Lines, CSV or Parquet."
)
@click.option("--tasks", "tasks_file", default=None, metavar="FILE", help="Tasks to ask now, with expected answers.")
@click.option("--captured", is_flag=True, help="Ask the workload's captured requests again (capture in the plan).")
@click.option(
    "--grader", default=None, metavar="KIND or JSON", help="How captured answers are compared, such as exact."
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Ask the newest, at most this many.",
)
@click.option("--url", default="http://127.0.0.1:8484", show_default=True, help="The running gateway to ask them at.")
@click.option("--key-env", default=None, metavar="VAR", help="The variable that holds a key for it, if it wants one.")
@click.option(
    "--workload", default=None, metavar="NAME", help="The plan's workload they belong to; the certificate is kept."
)
@click.option("--baseline", required=True, metavar="NAME", help="The strategy (or tier) that serves today.")
@click.option("--candidate", required=True, metavar="NAME", help="The strategy (or tier) that may replace it.")
@click.option("--rho", default=0.98, show_default=True, help="Share of the baseline's completions to keep, 0 to 1.")
@click.option("--confidence", default=0.95, show_default=True, help="Certainty demanded, 0 to 1.")
@click.option("--concurrency", type=click.IntRange(min=1), default=4, show_default=True, help="Tasks asked at a time.")
@ledger_option
@at_option
@json_option
def trial(
    *,
    outcomes: str | None,
    tasks_file: str | None,
    captured: bool,
    grader: str | None,
    limit: int,
    workload: str | None,
    baseline: str,
    candidate: str,
    rho: float,
    confidence: float,
    ledger_target: str | None,
    at: Any,
    as_json: bool,
    **asking: Any,
) -> None:
    """Say whether a candidate completes at least RHO of what the baseline completes.

    From recorded --outcomes, or by asking --tasks of both tiers at a running gateway and grading the answers, or by
    asking --captured requests again, each under the label it was captured with, and holding both answers against the
    captured one. The verdict holds however often you look: certified, not_certified (more tasks may decide) or
    refuted. Two tiers that complete the same take a few hundred tasks at RHO 0.9, and several thousand at 0.98.

    A run that was interrupted goes on where it was, with the same command.
    """
    from ownward.quality import certify

    if [outcomes is not None, tasks_file is not None, captured].count(True) != 1:
        raise UsageError("a trial needs tasks", allowed="one of --outcomes FILE, --tasks FILE and --captured")
    if baseline == candidate:
        raise UsageError(f"--baseline and --candidate are both {baseline!r}", allowed="Two strategies or tiers")
    issued_at = datetime.now(UTC) if at is None else datetime.combine(today(at), time(), tzinfo=UTC)
    judge = partial(
        certify, baseline=baseline, candidate=candidate, rho=rho, confidence=confidence, issued_at=issued_at
    )
    judge(())  # what cannot be judged is told before anything is asked, and paid
    facts: dict[str, Any] = {}
    kept = None
    if outcomes is not None:
        tasks, facts = _recorded(outcomes, baseline, candidate)
    else:
        with leaving_no_trace(ledger_target), open_ledger(ledger_target) as opened:
            if captured:
                to_ask, facts = read_captured(opened, workload=workload, grader=grader, limit=limit)
            else:
                assert tasks_file is not None
                to_ask = _read_tasks(tasks_file)
            with KeptAnswers.of(opened, workload=workload, baseline=baseline, candidate=candidate) as kept:
                tasks, left_out = _ask_now(to_ask, baseline, candidate, opened, kept, workload=workload, **asking)
        asked = {"repeated": _say_repeated(to_ask), "taken_over": kept.taken_over.total()}
        facts = {**_with_left_out(facts, left_out), **asked}
    certificate = judge(tasks)
    payload = {"schema": "ownward.certificate/1", **to_jsonable(certificate), "workload": workload, **facts}
    if workload is not None:
        with open_ledger(ledger_target) as opened:
            opened.record_certificate(payload)
    if kept is not None:
        kept.finish()
    emit(payload, as_json=as_json, render=lambda _: _render(certificate, left_out=facts.get("left_out", 0)))


def _recorded(outcomes: str, baseline: str, candidate: str) -> tuple[list[PairedTask], dict[str, Any]]:
    table = _read_outcomes(outcomes)
    tasks, left_out = table.pair(baseline, candidate)
    bad = [{"line": line, "why": why} for line, why in table.bad]
    if bad:
        say(f"{table.bad_total} rows cannot be read; line {bad[0]['line']}: {bad[0]['why']}")
    if table.duplicates:
        say(f"{table.duplicates} rows repeat a task and are left out: the first counts")
    return tasks, {
        "left_out": left_out, "duplicates": table.duplicates, "bad": bad, "bad_total": table.bad_total,
    }  # fmt: skip


def _read_outcomes(outcomes: str) -> OutcomeTable:
    from ownward.quality import read_outcome_rows, read_outcomes
    from ownward.traffic import PARQUET_MAGIC, read_parquet

    with open_input(outcomes) as stream:
        head = stream.peek(len(PARQUET_MAGIC)) if isinstance(stream, io.BufferedReader) else b""
        if head.startswith(PARQUET_MAGIC):
            return read_outcome_rows(read_parquet(stream, name=outcomes), name=outcomes)
        with as_text(stream) as text:
            return read_outcomes(text, name=outcomes)


def _read_tasks(tasks_file: str) -> list[Task]:
    from ownward.trials import read_tasks

    with open_text_input(tasks_file) as text:
        return read_tasks(text, name=tasks_file)


def _say_repeated(tasks: Sequence[Task]) -> int:
    from ownward.trials import count_repeated

    repeated = count_repeated(tasks)
    if repeated:
        say(
            f"{repeated} of {len(tasks)} tasks repeat another task: the verdict counts each as a separate task,"
            " so it is surer than it should be"
        )
    return repeated


def _with_left_out(facts: dict[str, Any], left_out: Counter[str]) -> dict[str, Any]:
    """Return the facts of a trial with the tasks that were not answered as they had to be."""
    whys = Counter(facts.get("left_out_why", {})) + left_out
    return {**facts, "left_out": whys.total(), "left_out_why": dict(whys)} if whys else facts


def _ask_now(
    tasks: Sequence[Task],
    baseline: str,
    candidate: str,
    opened: Ledger,
    kept: KeptAnswers,
    *,
    workload: str | None,
    url: str,
    key_env: str | None,
    concurrency: int,
) -> tuple[list[PairedTask], Counter[str]]:
    """Ask every task of both tiers, record the outcomes, and pair what came back with what it cost.

    Returned besides is how many tasks were left out, by reason.
    Raises: UpstreamError, if none is left.
    """
    from ownward.cli._ask_gateway import Endpoint
    from ownward.config import resolve_secret
    from ownward.quality import PairedTask
    from ownward.trials import pair_results

    key = None if key_env is None else resolve_secret(key_env)
    endpoint = Endpoint(url=url, key=key, run_id=kept.run_id, workload=workload)
    results = _ask_both(tasks, (baseline, candidate), opened, kept, endpoint, concurrency=concurrency)
    asked, left_out = pair_results(results[baseline], results[candidate])
    failed = [item for listed in results.values() for item in listed if item.answer.text is None]
    if all(new.answer.text is None for _, new in asked):
        silent = Counter({"the candidate gave no answer": len(asked)})
        raise _nothing_to_compare(left_out + silent, failed[0].answer.error)
    if failed:
        say(f"{format_counted(len(failed), 'call')} gave no answer; the first: {failed[0].answer.error}")
    for why, count in left_out.items():
        say(f"left out: {count:,} of {format_counted(len(tasks), 'task')}: {why}")
    for model, listed in results.items():
        told = [item for item in listed if item.answer.not_asked is None]
        _record_outcomes(opened, told, run_id=kept.run_id, model=model)
    paired = [
        PairedTask(
            task_id=old.task.task_id,
            baseline_completion=old.grade.score if old.grade.is_completed else 0.0,
            candidate_completion=new.grade.score if new.grade.is_completed else 0.0,
            baseline_cost_usd=_cost(opened, old),
            candidate_cost_usd=_cost(opened, new),
        )
        for old, new in asked
    ]
    return paired, left_out


def _ask_both(
    tasks: Sequence[Task],
    tiers: tuple[str, str],
    opened: Ledger,
    kept: KeptAnswers,
    endpoint: Endpoint,
    *,
    concurrency: int,
) -> dict[str, list[TaskResult]]:
    """Return each tier's graded answers, in the order of the tasks: those that are kept, and the others asked now."""
    from ownward.cli._ask_gateway import make_asker
    from ownward.gateway import run_loop
    from ownward.trials import run_tasks
    from ownward.upstreams import Door

    results = kept.take(tasks, *tiers)
    is_known = True
    with progress("tasks asked and graded", total=2 * len(tasks), unit="tasks") as advance:

        def note(tier: str, result: TaskResult) -> None:
            nonlocal is_known
            asked = _first_call(opened, result)
            if is_known and asked is None and result.answer.request_id is not None:
                is_known = False
                say(f"the ledger {opened.name} is not the gateway's: {_LOST}. End this, and name that with --ledger")
            model = None if asked is None else asked.model
            if kept.drop_others(tier, model):
                results[tier].clear()
            kept.add(tier, result, model=model)
            results[tier][result.task.task_id] = result
            advance(sum(map(len, results.values())))

        async def ask_both() -> None:
            async with Door() as door:
                askers = {tier: make_asker(door, endpoint, model=tier) for tier in reversed(tiers)}
                few, all_left = concurrency, len(tasks)
                for most in (few, all_left, all_left):  # a name may be of no tier; of another model, all are asked
                    for tier, ask in askers.items():
                        left = [task for task in tasks if task.task_id not in results[tier]][:most]
                        asked = await run_tasks(left, ask, concurrency=concurrency, on_result=partial(note, tier))
                        if asked:
                            _go_on_if_asked(list(results[tier].values()))

        run_loop(ask_both)
    return {tier: [results[tier][task.task_id] for task in tasks] for tier in tiers}


def _go_on_if_asked(listed: Sequence[TaskResult]) -> None:
    """Raise where nobody was asked any of the tasks so far, for what will not let the others be asked either."""
    from ownward.cli._ask_gateway import FORBIDDEN

    whys = Counter(item.answer.not_asked or FORBIDDEN for item in listed)
    if FORBIDDEN not in whys:
        raise _nothing_to_compare(whys, listed[0].answer.error)


def _nothing_to_compare(left_out: Counter[str], first: str | None) -> OwnwardError:
    """Return the error of a trial in which one of the two answered nothing that could be compared."""
    from ownward.cli._ask_gateway import FORBIDDEN, UNREACHED
    from ownward.core import UpstreamError

    if set(left_out) == {FORBIDDEN}:
        return UsageError(
            "no task may be sent to both: the labels of all of them forbid it",
            allowed="A candidate that every label permits, such as a tier on this machine",
        )
    whys = "; ".join(f"{count} times {why}" for why, count in left_out.items())
    return UpstreamError(
        f"the trial says nothing: {whys}. The first error: {first}",
        next_step="Start the gateway with: ownward serve --plan plan.toml. One at another address is named with --url"
        if set(left_out) == {UNREACHED}
        else "No certificate was made. Ask both once by hand (curl), then try again",
    )


def _record_outcomes(opened: Ledger, results: list[TaskResult], *, run_id: str, model: str) -> None:
    from ownward.cli._ask_gateway import task_name
    from ownward.core import LedgerError
    from ownward.ledger import Outcome

    for result in results:
        outcome = Outcome(
            task_id=task_name(run_id, model, result.task.task_id),
            completed=result.grade.is_completed,
            score=result.grade.score,
            source="verifier",
            recorded_at=datetime.now(UTC),
            comment=result.grade.why,
        )
        try:
            opened.record_outcome(outcome)
        except LedgerError:
            return  # not the gateway's ledger, as was told


def _first_call(opened: Ledger, result: TaskResult) -> AttemptRow | None:
    """Return the first call that was made for a result; None where the ledger does not know it."""
    if result.answer.request_id is None:
        return None
    return next(iter(opened.query_requests(request_id=result.answer.request_id)), None)


def _cost(opened: Ledger, result: TaskResult) -> Decimal | None:
    """Return what a task's calls cost by the ledger; None where it does not know."""
    if result.answer.request_id is None:
        return None
    charges = [row.charge_usd for row in opened.query_requests(request_id=result.answer.request_id)]
    known = [charge for charge in charges if charge is not None]
    return sum(known, Decimal(0)) if charges and len(known) == len(charges) else None


def _render(certificate: Any, *, left_out: int) -> Any:
    from rich.table import Table

    table = Table(box=None, title=f"{certificate.candidate} instead of {certificate.baseline}: {certificate.state}")
    table.add_column("")
    table.add_column(certificate.baseline, justify="right")
    table.add_column(certificate.candidate, justify="right")
    table.add_row(
        "completed",
        format_percent(certificate.baseline_completion_fraction, places=1),
        format_percent(certificate.candidate_completion_fraction, places=1),
    )
    costs = (certificate.cpct_baseline_usd, certificate.cpct_candidate_usd)
    table.add_row("cost per completed task", *(format_usd(cost.value) for cost in costs))
    table.add_row(
        f"  {format_percent(certificate.confidence)} interval",
        *(f"{format_usd(cost.low)} to {format_usd(cost.high)}" for cost in costs),
    )
    table.caption = f"{format_counted(certificate.tasks, 'task')}, {left_out} left out; {certificate.why}"
    return table
