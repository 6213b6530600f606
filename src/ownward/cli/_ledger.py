"""`ownward ledger`: what the record holds, in full."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Any

import click

from ownward.cli._context import leaving_no_trace, open_ledger
from ownward.cli._ledger_screen import render_ledger
from ownward.cli._output import emit, example, json_lines_option, json_option, last_option, ledger_option, since_last
from ownward.core import UsageError, to_json, to_jsonable

if TYPE_CHECKING:
    from ownward.ledger import CopiedTable


@click.group()
def ledger() -> None:
    """Export the ledger, settle what ended processes left, see what it holds."""


@ledger.command(epilog=example("ownward ledger export --ledger ledger.db --format jsonl > rows.jsonl"))
@ledger_option
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="How rows are written.",
)
@last_option
@json_lines_option
def export(*, ledger_target: str | None, format_name: str, last: str | None, as_json: bool) -> None:
    """Write every attempt as one row, oldest first. Times are UTC, money is in dollars, unknown is empty or null.

    --json is the same as --format jsonl.
    """
    from ownward.ledger import EXPORT_COLUMNS

    since = None if last is None else since_last(last)
    with open_ledger(ledger_target, is_read_only=True) as opened:
        rows = opened.export_rows(since=since)
        if format_name == "jsonl" or as_json:
            for row in rows:
                sys.stdout.write(to_json(row) + "\n")
            return
        writer = csv.DictWriter(sys.stdout, fieldnames=EXPORT_COLUMNS)
        writer.writeheader()
        writer.writerows(map(to_jsonable, rows))


@ledger.command(epilog=example("ownward ledger copy --ledger ledger.db --to postgresql://ownward@db.internal/ownward"))
@ledger_option
@click.option(
    "--to", "target", default=None, metavar="PATH", help="An empty ledger: a file, or a postgresql:// address."
)
@click.option("--to-env", "target_env", default=None, metavar="VAR", help="The variable that holds that address.")
@json_option
def copy(*, ledger_target: str | None, target: str | None, target_env: str | None, as_json: bool) -> None:
    """Copy everything into an empty ledger.

    Between SQLite and PostgreSQL either way; every row is compared.

    The gateway must be stopped. Bodies go beyond this machine only if their label is any; the others are counted.
    """
    from ownward.config import resolve_secret

    if (target is None) == (target_env is None):
        raise UsageError("no place to copy to is named", allowed="one of --to PATH and --to-env VAR")
    to = target if target is not None else resolve_secret(str(target_env))
    with open_ledger(ledger_target, is_read_only=True) as source, leaving_no_trace(to), open_ledger(to) as emptied:
        if source.name == emptied.name:
            raise UsageError("a ledger cannot be copied into itself", where=source.name)
        tables = source.copy_to(emptied)
        names = {"from": source.name, "to": emptied.name}
    payload = {"schema": "ownward.ledger_copy/1", **names, "tables": to_jsonable(tables)}
    emit(payload, as_json=as_json, render=lambda _: _copied(tables))


def _copied(tables: list[CopiedTable]) -> Any:
    from rich.table import Table

    shown = Table(box=None, caption="read back and found equal, row for row", caption_justify="left")
    for heading in ("table", "rows", "left out"):
        shown.add_column(heading, justify="left" if heading == "table" else "right")
    for table in tables:
        if table.rows or table.left_out:
            shown.add_row(table.table, f"{table.rows:,}", f"{table.left_out:,}" if table.left_out else "")
    return shown


@ledger.command(epilog=example("ownward ledger reconcile"))
@ledger_option
@json_option
def reconcile(*, ledger_target: str | None, as_json: bool) -> None:
    """Mark calls that ended processes left in flight as unsettled.

    They get bounds on their charge. Running it again changes nothing.
    """
    with open_ledger(ledger_target) as opened:
        count = opened.reconcile()
    payload = {"schema": "ownward.reconciliation/1", "unsettled": count}
    emit(payload, as_json=as_json, render=lambda _: f"{count} attempts marked as unsettled")


@ledger.command(epilog=example("ownward ledger show --json"))
@ledger_option
@json_option
def show(*, ledger_target: str | None, as_json: bool) -> None:
    """Show requests, tokens and spend.

    By workload and tier, and how much is kept of what was said.
    """
    with open_ledger(ledger_target, is_read_only=True) as opened:
        spend = opened.query_spend()
        workloads = opened.query_workloads()
        kept = opened.query_kept()
    payload = {
        "schema": "ownward.ledger/1",
        "workloads": to_jsonable(workloads),
        "spend": [
            {**to_jsonable(row), "settled_usd": to_jsonable(row.spend.settled_usd),
             "high_usd": to_jsonable(row.spend.high_usd)}
            for row in spend
        ],
        "kept": to_jsonable(kept),
    }  # fmt: skip
    emit(payload, as_json=as_json, render=lambda _: render_ledger(spend, workloads, kept))
