"""The rows that the hot path writes, and the statements that write them."""

# ruff: noqa: S608 - the names in these statements are our own; values are always parameters

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Final, Literal, TypeAlias

from ownward.core import LedgerError
from ownward.ledger._connection import Connection
from ownward.ledger._process import ProcessIdentity
from ownward.ledger._records import Intent, Request, Settlement
from ownward.ledger._times import to_us

Table: TypeAlias = Literal["tasks", "requests", "refusals", "intents", "settlements", "cancellations"]
Values: TypeAlias = tuple[Any, ...]

_SETTLEMENT_COLUMNS = (
    "request_id, attempt, state, input_tokens, cached_input_tokens, cache_write_tokens, cache_write_1h_tokens,"
    " output_tokens, reasoning_tokens, usage_basis, charge_picousd, charge_low_picousd, charge_high_picousd,"
    " upstream_request_id, ttft_s, latency_s, status, error, settled_at_us"
)

_REQUEST_COLUMNS = (
    "request_id, task_id, workload, route, key_id, label, dialect, is_stream, plan_sha256, reason, started_at_us"
)

_INTENT_COLUMNS = (
    "request_id, attempt, run_id, tier, upstream, model, price_id, input_tokens_high, output_tokens_high,"
    " charge_high_picousd, body_sha256, started_at_us"
)

_REFUSAL_COLUMNS = f"{_REQUEST_COLUMNS}, refused_at_us, refusal_status, refusal_reason"

_RUN_COLUMNS = "run_id, pid, process_start, host_id, host_name, version, started_at_us, heartbeat_at_us, closed_at_us"

_ROWS_BETWEEN_RESTS: Final = 100


def insert(table: str, columns: str) -> str:
    """Return the statement that inserts a row.

    Its columns are named, so that one which a later version adds, with a default, refuses nothing to gateways that run.

    >>> insert("plans", "plan_sha256, text")
    'INSERT INTO plans (plan_sha256, text) VALUES (?, ?)'
    """
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(columns.split(', ')))})"


# In the order in which a batch writes them: each row finds what it refers to.
INSERTS: Final[dict[Table, str]] = {
    "tasks": f"{insert('tasks', 'task_id, basis, workload, started_at_us')} ON CONFLICT DO NOTHING",
    "requests": insert("requests", _REQUEST_COLUMNS),
    "refusals": insert("requests", _REFUSAL_COLUMNS),
    "intents": insert("intents", _INTENT_COLUMNS),
    "settlements": insert("settlements", _SETTLEMENT_COLUMNS),
    "cancellations": (
        f"INSERT INTO settlements ({_SETTLEMENT_COLUMNS})"
        " SELECT request_id, attempt, 'failed', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, NULL, NULL, NULL,"
        " NULL, 'cancelled before it was dispatched', started_at_us"
        " FROM intents i WHERE request_id = ? AND attempt = ? AND NOT EXISTS"
        " (SELECT 1 FROM settlements s WHERE s.request_id = i.request_id AND s.attempt = i.attempt)"
    ),
}

INSERT_RUN: Final = f"{insert('runs', _RUN_COLUMNS)} ON CONFLICT DO NOTHING"
BEAT: Final = "UPDATE runs SET heartbeat_at_us = ?, closed_at_us = NULL WHERE run_id = ?"
CLOSE_RUN: Final = "UPDATE runs SET heartbeat_at_us = ?, closed_at_us = ? WHERE run_id = ?"

RELEASE_HOLDS: Final = "DELETE FROM limit_holds WHERE run_id = ?"

# What no other process may still settle: begun by runs that ended, and without any settlement.
RECONCILE: Final = (
    f"INSERT INTO settlements ({_SETTLEMENT_COLUMNS})"
    " SELECT i.request_id, i.attempt, 'unsettled', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0,"
    " i.charge_high_picousd, NULL, NULL, NULL, NULL,"
    " 'the process that sent it ended before it was settled', CAST(? AS {int}) FROM intents i"
    " WHERE i.request_id = ? AND i.attempt = ? AND NOT EXISTS"
    " (SELECT 1 FROM settlements s WHERE s.request_id = i.request_id AND s.attempt = i.attempt)"
)


def insert_rows(
    connection: Connection, rows: Iterable[tuple[Table, Sequence[Any]]], *, rest: Callable[[], object] | None = None
) -> None:
    """Insert rows of several tables, each after those that it refers to; `rest` is called in between."""
    by_table: dict[Table, list[Sequence[Any]]] = {}
    for table, values in rows:
        by_table.setdefault(table, []).append(values)
    if "tasks" in by_table:
        by_table["tasks"].sort(key=tuple)  # writers that meet at the same tasks wait in one order, not for each other
    for table, sql in INSERTS.items():
        inserted = by_table.get(table, ())
        at_once = _ROWS_BETWEEN_RESTS if rest else max(len(inserted), 1)
        for at in range(0, len(inserted), at_once):
            connection.execute_many(sql, inserted[at : at + at_once])
            if rest:
                rest()


def _getter(columns: str, *names: str) -> Callable[[Sequence[Any]], Any]:
    """Return what takes these columns' values out of a row."""
    places = columns.split(", ")
    return itemgetter(*map(places.index, names))


# What budgets and limits look at. A refused request's row begins as a dispatched one's.
owner_in_request: Final = _getter(_REQUEST_COLUMNS, "workload", "key_id", "task_id")
bound_in_intent: Final = _getter(
    _INTENT_COLUMNS, "request_id", "attempt", "tier", "charge_high_picousd", "started_at_us"
)
tier_in_intent: Final = _getter(_INTENT_COLUMNS, "tier")
start_in_intent: Final = _getter(_INTENT_COLUMNS, "started_at_us")
charge_in_settlement: Final = _getter(_SETTLEMENT_COLUMNS, "state", "charge_picousd", "charge_high_picousd")


def clean(text: str) -> str:
    r"""Return `text` without what a database refuses: NUL and halves of surrogate pairs, which clients can send.

    >>> clean("a\x00b\ud800")
    'a\ufffdb?'
    """
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def clean_or_none(text: str | None) -> str | None:
    """Return `text` cleaned; None stays None."""
    return None if text is None else clean(text)


def _are_clean(texts: Values) -> bool:
    """Return whether none of them has what a database refuses, as nearly all have not."""
    together = "".join(texts)
    return together.isascii() and "\x00" not in together


def _cleaned(values: Values) -> Values:
    return tuple([clean(value) if isinstance(value, str) else value for value in values])


def request_values(request: Request) -> tuple[Values, Values]:
    """Return the row of the request's task, and that of a request that is dispatched."""
    started_at_us = to_us(request.started_at)
    task = (request.task_id, request.task_basis, request.workload, started_at_us)
    values = (
        request.request_id,
        request.task_id,
        request.workload,
        request.route,
        request.key_id,
        request.label,
        request.dialect,
        int(request.is_stream),
        request.plan_sha256,
        request.reason,
        started_at_us,
    )
    texts = (
        request.request_id, request.task_id, request.workload, request.route, request.key_id or "", request.label,
        request.dialect, request.reason,
    )  # fmt: skip
    return (task, values) if _are_clean(texts) else (_cleaned(task), _cleaned(values))


def intent_values(intent: Intent, run_id: str) -> Values:
    """Return the row of an intent."""
    values = (
        intent.request_id,
        intent.attempt,
        run_id,
        intent.tier,
        intent.upstream,
        intent.model,
        intent.price_id,
        intent.input_tokens_high,
        intent.output_tokens_high,
        intent.charge_high_picousd,
        intent.body_sha256,
        to_us(intent.started_at),
    )
    texts = (intent.request_id, intent.tier, intent.upstream, intent.model, intent.price_id or "")
    return values if _are_clean(texts) else _cleaned(values)


def settlement_values(settlement: Settlement) -> Values:
    """Return the row of a settlement; a failed or refused one is a charge of zero.

    Raises: LedgerError, if it is of attempt 0: a request refused before dispatch is recorded by `refuse`.
    """
    if settlement.attempt < 1:
        raise LedgerError(
            f"attempt {settlement.attempt} of request {settlement.request_id!r} cannot be settled",
            allowed="Attempts count from 1",
            next_step="Record a request that was refused before any dispatch with refuse()",
        )
    usage = settlement.usage
    charge: int | None = 0
    low: int | None = 0
    high: int | None = 0
    if settlement.state not in {"failed", "refused"}:
        charge, low, high = settlement.charge_picousd, settlement.charge_low_picousd, settlement.charge_high_picousd
    if usage is None:
        tokens: Values = (None,) * 6
    else:
        tokens = (
            usage.input_tokens,
            usage.cached_input_tokens,
            usage.cache_write_tokens,
            usage.cache_write_1h_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
        )
    values = (
        settlement.request_id,
        settlement.attempt,
        settlement.state,
        *tokens,
        settlement.usage_basis,
        charge,
        low,
        high,
        settlement.upstream_request_id,
        settlement.ttft_s,
        settlement.latency_s,
        settlement.status,
        settlement.error,
        to_us(settlement.settled_at),
    )
    texts = (settlement.request_id, settlement.upstream_request_id or "", settlement.error or "")
    return values if _are_clean(texts) else _cleaned(values)


def run_values(run_id: str, process: ProcessIdentity, *, version: str, started_at_us: int) -> Values:
    """Return the row of this process, as it starts to write."""
    return (
        run_id,
        process.pid,
        process.process_start,
        process.host_id,
        process.host_name,
        version,
        started_at_us,
        started_at_us,
        None,
    )
