"""`ownward import`: logs and traces into the ledger."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from ownward.cli._context import leaving_no_trace, open_ledger
from ownward.cli._lengths import read_lengths
from ownward.cli._output import emit, example, json_option, ledger_option, open_input, say, writing_whole
from ownward.core import BadInput, format_counted, is_name, to_json

if TYPE_CHECKING:
    from ownward.ledger import TrafficRow
    from ownward.traffic import DiscoveredWorkload, TrafficRecord

_BAD_SHOWN = 20
_TOLD = 3


@click.command(name="import", epilog=example("ownward import spend_logs.jsonl --ledger ledger.db"))
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--format", "format_name", default=None, help="Read as this format; recognised by content unless given.")
@click.option("--workload", default=None, help="Put every request under this workload.")
@click.option("--lengths", "lengths_file", default=None, metavar="FILE", help="Lengths for ServeGen's arrivals.")
@click.option("--assignments", default=None, metavar="OUT.jsonl", help="Write {row, workload} for each row read.")
@ledger_option
@json_option
def import_(
    *,
    files: tuple[str, ...],
    format_name: str | None,
    workload: str | None,
    lengths_file: str | None,
    assignments: str | None,
    ledger_target: str | None,
    as_json: bool,
) -> None:
    """Read FILEs (logs of gateways and providers, public traces; gzip too) into the ledger.

    The format is recognised by content, and so are workloads that the log does not name: requests with the same
    tools and system prompt or template are one. No prompt text is kept. A file is imported whole or not at all; rows
    that cannot be read are listed, and a second import of the same file adds nothing. If no row can be read, nothing
    is imported, and the exit code is 2.
    """
    from ownward import traffic

    totals = {"read": 0, "imported": 0, "duplicates": 0, "bad_total": 0}
    bad: list[dict[str, Any]] = []
    found: dict[str, dict[str, Any]] = {}
    if len(files) > 1:
        _require_readable(files, format_name, lengths_file)
    with (
        leaving_no_trace(ledger_target),
        contextlib.nullcontext() if assignments is None else writing_whole(Path(assignments)) as assigned,
        open_ledger(ledger_target) as opened,
    ):
        with_estimates = {row.workload for row in opened.query_workloads() if row.details.get("has_estimated_tokens")}
        for name in files:
            lengths = read_lengths(name, lengths_file)
            with open_input(name) as stream:
                reading = traffic.read(stream, name=name, format=format_name, lengths=lengths)
                discovery = traffic.discover(_named(reading, workload), default=_default_name(name))
                estimated, modes = Counter[str | None](), Counter[str]()
                rows = _rows(discovery, assigned, estimated, modes)
                count = opened.import_traffic(rows, source=Path(name).name)
            if estimated:
                why = (
                    "drawn from its statistics, and so are their tokens"
                    if reading.count.format == "servegen"
                    else "without usage: tokens estimated, those of answers that are not there as 0"
                )
                say(f"{name}: {format_counted(estimated.total(), 'request')} of {reading.count.read:,} {why}")
            for mode, requests in modes.most_common(_TOLD):
                say(
                    f"{name}: {format_counted(requests, 'request')} of {reading.count.read:,} served as {mode}, at a"
                    " price of its own; plan takes the standard price"
                )
            if reading.count.format.startswith("openai-batch"):
                say(
                    f"{name}: sent as a batch, at a price and within a day of its own;"
                    " plan takes the price and the service level of single requests"
                )
            for item in discovery.workloads:
                _add(found, item)
                with_estimates |= {item.id} & estimated.keys()
                opened.record_workload(
                    item.id,
                    {
                        "name": item.name,
                        "basis": item.basis,
                        "fingerprints": list(item.fingerprints),
                        "has_estimated_tokens": item.id in with_estimates,
                    },
                )
            totals["read"] += reading.count.read + reading.count.duplicates
            totals["imported"] += count.imported
            totals["duplicates"] += count.duplicates + reading.count.duplicates
            totals["bad_total"] += reading.count.bad_total
            bad.extend({"file": name, "line": row.line, "why": row.why} for row in reading.count.bad)
        if bad and not totals["read"]:
            raise _nothing_read(bad, totals["bad_total"])
    payload = {
        "schema": "ownward.import/1",
        **totals,
        "bad": bad[:_BAD_SHOWN],
        "workloads": list(found.values()),
    }
    emit(payload, as_json=as_json, render=_render)


def _require_readable(files: tuple[str, ...], format_name: str | None, lengths_file: str | None) -> None:
    """Begin to read each file before the first is imported, so that none is where another one is no log.

    Raises: BadInput, UnknownName, MissingExtra, as reading does.
    """
    from ownward import traffic

    for name in files:
        if Path(name).is_file():  # a pipe can be read once
            with open_input(name) as stream:
                traffic.read(stream, name=name, format=format_name, lengths=read_lengths(name, lengths_file))


def _nothing_read(bad: list[dict[str, Any]], bad_total: int) -> BadInput:
    """Return the error of files of which no row could be read: an empty import would pass for a quiet month."""
    told = "; ".join(f"{row['file']}:{row['line']}: {row['why']}" for row in bad[:_TOLD])
    return BadInput(
        f"nothing is imported: none of {format_counted(bad_total, 'row')} can be read. {told}",
        next_step="Correct the rows or, if the log is of another format than it seems to be, name it with --format",
    )


def _default_name(file: str) -> str:
    """Return what requests are called that nothing tells apart: a file's name without endings, `default` of a pipe."""
    return (Path(file).name.partition(".")[0] if Path(file).is_file() else "") or "default"


def _named(records: Iterable[TrafficRecord], workload: str | None) -> Iterator[TrafficRecord]:
    for record in records:
        yield record if workload is None else dataclasses.replace(record, workload=workload)


def _add(found: dict[str, dict[str, Any]], item: DiscoveredWorkload) -> None:
    row = found.setdefault(item.id, {"id": item.id, "name": item.name, "requests": 0, "basis": item.basis})
    row["requests"] += item.requests


def _rows(
    records: Iterable[TrafficRecord],
    assigned: TextIO | None,
    estimated: Counter[str | None],
    modes: Counter[str],
) -> Iterator[TrafficRow]:
    """Yield ledger rows; note each input row's workload once, also where it held several requests.

    Counts the requests of each workload whose tokens are estimated, and those of each mode that is not the usual one.
    """
    last: int | None = None
    for number, record in enumerate(records):
        row = number if record.row is None else record.row
        if assigned is not None and row != last:
            assigned.write(to_json({"row": row, "workload": record.workload}) + "\n")
        last = row
        if record.usage_basis == "estimated":
            estimated[record.workload] += 1
        if record.mode is not None:
            modes[record.mode] += 1
        yield _row(record)
    if assigned is not None:
        assigned.flush()  # what cannot be written is told before the rows are added


def _row(record: TrafficRecord) -> TrafficRow:
    from ownward.ledger import TrafficRow

    return TrafficRow(
        source_row_id=record.source_row_id,
        started_at=record.started_at,
        arrival_s=record.arrival_s,
        input_tokens=record.input_tokens,
        cached_input_tokens=record.cached_input_tokens,
        cache_write_tokens=record.cache_write_tokens,
        cache_write_1h_tokens=record.cache_write_1h_tokens,
        output_tokens=record.output_tokens,
        workload=record.workload,
        session=record.session,
        model=record.model,
        charge_usd=record.charge_usd,
        completed=record.completed,
    )


def _render(payload: dict[str, Any]) -> str:
    counts = (
        f"{format_counted(payload['read'], 'request')} read, {payload['imported']:,} new,"
        f" {payload['duplicates']:,} known already, {payload['bad_total']:,} unreadable"
    )
    lines = [counts]
    for item in payload["workloads"]:
        renamed = "" if is_name(item["name"]) else f" (called {item['id']})"
        lines.append(f"  {item['name']}{renamed}: {format_counted(item['requests'], 'request')}")
    lines += [f"  {item['file']}:{item['line']}: {item['why']}" for item in payload["bad"]]
    return "\n".join(lines)
