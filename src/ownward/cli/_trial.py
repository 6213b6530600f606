"""`ownward trial`: from graded outcomes to a certificate."""

from __future__ import annotations

import io
from datetime import UTC, datetime, time
from typing import Any

import click

from ownward.cli._output import at_option, emit, json_option, open_input, today
from ownward.core import format_percent, format_usd


@click.command(epilog="Example: ownward trial --outcomes results.jsonl --baseline gpt --candidate small --rho 0.98")
@click.option(
    "--outcomes", required=True, metavar="FILE", help="Recorded outcomes, one task a row (JSON Lines or CSV)."
)
@click.option("--baseline", required=True, metavar="NAME", help="The strategy that serves today.")
@click.option("--candidate", required=True, metavar="NAME", help="The strategy that may replace it.")
@click.option("--rho", default=0.98, show_default=True, help="Share of the baseline's completions to keep, 0 to 1.")
@click.option("--confidence", default=0.95, show_default=True, help="Certainty demanded, 0 to 1.")
@at_option
@json_option
def trial(
    *, outcomes: str, baseline: str, candidate: str, rho: float, confidence: float, at: Any, as_json: bool
) -> None:
    """Say whether a candidate completes at least RHO of what the baseline completes.

    The verdict holds however often one looks: certified, not_certified (more tasks may decide) or refuted.
    """
    from ownward.quality import certify, read_outcomes

    with open_input(outcomes) as raw:
        table = read_outcomes(io.TextIOWrapper(raw, encoding="utf-8", errors="replace"), name=outcomes)
    tasks, left_out = table.pair(baseline, candidate)
    issued_at = datetime.now(UTC) if at is None else datetime.combine(today(at), time(), tzinfo=UTC)
    certificate = certify(
        tasks, baseline=baseline, candidate=candidate, rho=rho, confidence=confidence, issued_at=issued_at
    )
    from ownward.core import to_jsonable

    payload = {
        "schema": "ownward.certificate/1",
        **to_jsonable(certificate),
        "left_out": left_out,
        "duplicates": table.duplicates,
        "bad": [{"line": line, "why": why} for line, why in table.bad],
    }
    emit(payload, as_json=as_json, render=lambda _: _render(certificate, left_out=left_out))


def _render(certificate: Any, *, left_out: int) -> Any:
    from rich.table import Table

    table = Table(title=f"{certificate.candidate} instead of {certificate.baseline}: {certificate.state}", box=None)
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
    table.caption = f"{certificate.tasks} tasks, {left_out} left out; {certificate.why}"
    return table
