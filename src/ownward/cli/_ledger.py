"""`ownward ledger`: what the record holds, in full."""

from __future__ import annotations

import csv
import sys
from typing import Any

import click

from ownward.cli._context import open_ledger
from ownward.cli._output import emit, json_option, ledger_option
from ownward.core import format_usd, to_json, to_jsonable


@click.group()
def ledger() -> None:
    """Export the ledger, settle what ended processes left, see what it holds."""


@ledger.command(epilog="Example: ownward ledger export --ledger ledger.db --format jsonl > rows.jsonl")
@ledger_option
@click.option("--format", "format_name", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@json_option
def export(*, ledger_target: str | None, format_name: str, as_json: bool) -> None:
    """Write every attempt as one row, oldest first. Times are UTC, money is in dollars, unknown is empty or null.

    --json is the same as --format jsonl.
    """
    with open_ledger(ledger_target, is_read_only=True) as opened:
        rows = opened.export_rows()
        if format_name == "jsonl" or as_json:
            for row in rows:
                sys.stdout.write(to_json(row) + "\n")
            return
        writer: csv.DictWriter[str] | None = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(sys.stdout, fieldnames=list(row))
                writer.writeheader()
            writer.writerow(to_jsonable(row))


@ledger.command(epilog="Example: ownward ledger reconcile")
@ledger_option
@json_option
def reconcile(*, ledger_target: str | None, as_json: bool) -> None:
    """Mark what ended processes left in flight as unsettled, with bounds. Running it again changes nothing."""
    with open_ledger(ledger_target) as opened:
        count = opened.reconcile()
    payload = {"schema": "ownward.reconciliation/1", "unsettled": count}
    emit(payload, as_json=as_json, render=lambda _: f"{count} attempts marked as unsettled")


@ledger.command(epilog="Example: ownward ledger show --json")
@ledger_option
@json_option
def show(*, ledger_target: str | None, as_json: bool) -> None:
    """Show requests, tokens and spend by workload and tier."""
    with open_ledger(ledger_target, is_read_only=True) as opened:
        spend = opened.query_spend()
        workloads = opened.query_workloads()
    payload = {
        "schema": "ownward.ledger/1",
        "workloads": to_jsonable(workloads),
        "spend": [
            {**to_jsonable(row), "settled_usd": to_jsonable(row.spend.settled_usd),
             "high_usd": to_jsonable(row.spend.high_usd)}
            for row in spend
        ],
    }  # fmt: skip
    emit(payload, as_json=as_json, render=lambda _: _table(spend, workloads))


def _table(spend: list[Any], workloads: list[Any]) -> Any:
    from rich.console import Group
    from rich.table import Table

    served = Table(box=None, title="served", title_justify="left")
    for heading in ("workload", "tier", "requests", "settled", "unsettled", "input", "output", "spend", "at most"):
        served.add_column(heading, justify="left" if heading in {"workload", "tier"} else "right")
    for row in spend:
        served.add_row(
            row.group["workload"],
            row.group["tier"] or "(refused)",
            f"{row.requests:,}",
            f"{row.settled_attempts:,}",
            f"{row.spend.unsettled_attempts:,}",
            f"{row.input_tokens:,}",
            f"{row.output_tokens:,}",
            "?" if row.spend.unpriced_attempts else format_usd(row.spend.settled_usd),
            format_usd(row.spend.high_usd),
        )
    known = Table(box=None, title="known workloads", title_justify="left")
    for heading in ("workload", "own requests", "imported"):
        known.add_column(heading, justify="left" if heading == "workload" else "right")
    for item in workloads:
        known.add_row(item.workload, f"{item.own_requests:,}", f"{item.imported_requests:,}")
    return Group(served, "", known)
