"""What other rooms ask of the ledger, as SQL that both databases answer."""

# ruff: noqa: S608 - the names in these statements are our own; values are always parameters

from __future__ import annotations

import json
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, get_args

from ownward.core import LedgerError, picousd_to_usd
from ownward.ledger._connection import Row
from ownward.ledger._export import bounds_of, state_of
from ownward.ledger._money import money_sum, read_money_sum
from ownward.ledger._notes import is_of_trial_sql
from ownward.ledger._records import Key, Outcome
from ownward.ledger._rows import (
    AttemptRow,
    BodyRow,
    CertificateRow,
    Spend,
    SpendKey,
    SpendRow,
    TaskRow,
    TextColumn,
    TrafficColumns,
    WorkloadRow,
)
from ownward.ledger._store import Store
from ownward.ledger._times import from_us, from_us_or_none, to_us

_UNKNOWN_CODE: Final = -1

_ATTEMPT_COLUMNS: Final = """request_id, attempt, task_id, workload, route, key_id, label, dialect, is_stream,
  plan_sha256, reason, tier, upstream, model, price_id, state, input_tokens, cached_input_tokens, cache_write_tokens,
  output_tokens, reasoning_tokens, usage_basis, charge_picousd, charge_low_picousd, charge_high_picousd,
  upstream_request_id, ttft_s, latency_s, status, error, started_at_us, settled_at_us, run_id,
  intent_charge_high_picousd"""


# Of attempts `a`. An attempt without a settlement is bounded by zero and its intent.
_MOST: Final = (
    "COALESCE(a.charge_high_picousd, a.charge_picousd,"
    " CASE WHEN a.state IS NULL OR a.state = 'unsettled' THEN a.intent_charge_high_picousd END)"
)
_SPEND_COLUMNS: Final = f"""
  {money_sum("a.charge_picousd")},
  {money_sum("COALESCE(a.charge_low_picousd, a.charge_picousd)")},
  {money_sum(_MOST)},
  SUM(CASE WHEN a.state IS NULL OR a.state = 'unsettled' THEN 1 ELSE 0 END),
  SUM(CASE WHEN a.state = 'settled' AND a.charge_picousd IS NULL THEN 1 ELSE 0 END),
  SUM(CASE WHEN a.charge_high_picousd IS NULL AND a.charge_picousd IS NULL AND (a.state = 'settled'
    OR ((a.state IS NULL OR a.state = 'unsettled') AND a.intent_charge_high_picousd IS NULL)) THEN 1 ELSE 0 END)
"""
_SPEND_FIGURES: Final = 9

_SPEND_KEYS: Final[Mapping[SpendKey, str]] = {
    **{key: f"a.{key}" for key in get_args(SpendKey) if key != "day"},
    "day": "a.request_started_at_us / 86400000000",
}


@dataclass(slots=True)
class _Where:
    """Conditions that are there only where they are asked for."""

    conditions: list[str]
    params: list[Any]

    @classmethod
    def of(cls, *pairs: tuple[str, Any]) -> _Where:
        where = cls([], [])
        for condition, value in pairs:
            if value is not None:
                where.conditions.append(condition)
                where.params.append(to_us(value) if isinstance(value, datetime) else value)
        return where

    def __str__(self) -> str:
        return f"WHERE {' AND '.join(self.conditions)}" if self.conditions else ""


def query_attempts(
    store: Store,
    *,
    live: Collection[str],
    workload: str | None,
    task_id: str | None,
    request_id: str | None,
    key_id: str | None,
    since: datetime | None,
    until: datetime | None,
    newest_first: bool,
    limit: int | None,
) -> Iterator[AttemptRow]:
    """Yield attempts with their requests and newest settlements."""
    where = _Where.of(
        ("workload = ?", workload),
        ("task_id = ?", task_id),
        ("request_id = ?", request_id),
        ("key_id = ?", key_id),
        ("request_started_at_us >= ?", since),
        ("request_started_at_us < ?", until),
    )
    way = "DESC" if newest_first else "ASC"
    sql = (
        f"SELECT {_ATTEMPT_COLUMNS} FROM {store.attempts} a {where}"
        f" ORDER BY request_started_at_us {way}, request_id {way}, attempt {way}{_limit(limit)}"
    )
    for row in store.stream(sql, where.params):
        yield _attempt(row, live)


def query_spend(
    store: Store, *, by: Sequence[SpendKey], since: datetime | None, until: datetime | None, **equal: str | None
) -> list[SpendRow]:
    """Return one row a group."""
    for key in by:
        if key not in _SPEND_KEYS:
            raise LedgerError(f"spend cannot be grouped by {key!r}", allowed=f"One of {', '.join(_SPEND_KEYS)}")
    where = _Where.of(
        *((f"{_SPEND_KEYS[name]} = ?", value) for name, value in equal.items()),  # type: ignore[index]
        ("a.request_started_at_us >= ?", since),
        ("a.request_started_at_us < ?", until),
    )
    groups = ", ".join(_SPEND_KEYS[key] for key in by)
    sql = f"""
SELECT {f"{groups}," if groups else ""}
  COUNT(DISTINCT a.request_id),
  SUM(CASE WHEN a.attempt > 0 THEN 1 ELSE 0 END),
  SUM(CASE WHEN a.state = 'settled' THEN 1 ELSE 0 END),
  SUM(CASE WHEN a.attempt > 0 AND a.state IN ('failed', 'refused') THEN 1 ELSE 0 END),
  SUM(CASE WHEN a.attempt = 0 THEN 1 ELSE 0 END),
  {_settled_sum("input_tokens")}, {_settled_sum("cached_input_tokens")},
  {_settled_sum("cache_write_tokens")}, {_settled_sum("output_tokens")},
  {_SPEND_COLUMNS}
FROM {store.attempts} a {where}
{f"GROUP BY {groups}" if groups else ""}"""
    with store.reading() as reader:
        rows = reader.rows(sql, where.params)
    # Here, as databases order texts by their own rules and put what is unknown first or last.
    rows.sort(key=lambda row: [(value is not None, value) for value in row[: len(by)]])
    return [_spend_row(by, row) for row in rows if row[len(by)]]


def query_tasks(
    store: Store,
    *,
    workload: str | None,
    task_id: str | None,
    since: datetime | None,
    until: datetime | None,
    newest_first: bool,
    limit: int | None,
) -> Iterator[TaskRow]:
    """Yield tasks with the cost of all their attempts and the outcome that counts."""
    where = _Where.of(
        ("t.workload = ?", workload),
        ("t.task_id = ?", task_id),
        ("t.started_at_us >= ?", since),
        ("t.started_at_us < ?", until),
    )
    way = "DESC" if newest_first else "ASC"
    sql = f"""
SELECT t.task_id, t.basis, t.workload, t.started_at_us,
  COUNT(DISTINCT a.request_id), SUM(CASE WHEN a.attempt > 0 THEN 1 ELSE 0 END),
  {_SPEND_COLUMNS},
  MAX(o.outcome_id), MAX(o.completed), MAX(o.score), MAX(o.source), MAX(o.human_minutes), MAX(o.comment),
  MAX(o.recorded_at_us)
FROM (SELECT * FROM tasks t {where} ORDER BY t.started_at_us {way}, t.task_id {way}{_limit(limit)}) t
JOIN {store.attempts} a ON a.task_id = t.task_id
LEFT JOIN task_outcomes o ON o.task_id = t.task_id
GROUP BY t.task_id, t.basis, t.workload, t.started_at_us
ORDER BY t.started_at_us {way}, t.task_id {way}"""
    for row in store.stream(sql, where.params):
        outcome_id, completed, score, source, minutes, comment, recorded_at_us = row[6 + _SPEND_FIGURES :]
        outcome = None
        if outcome_id is not None:
            outcome = Outcome(
                task_id=row[0],
                completed=bool(completed),
                score=score,
                source=source,
                human_minutes=minutes,
                comment=comment,
                recorded_at=from_us(recorded_at_us),
            )
        yield TaskRow(
            task_id=row[0],
            basis=row[1],
            workload=row[2],
            started_at=from_us(row[3]),
            requests=row[4],
            attempts=row[5],
            spend=_spend(row[6 : 6 + _SPEND_FIGURES]),
            outcome=outcome,
        )


def query_outcomes(store: Store, *, task_id: str | None, since: datetime | None) -> Iterator[Outcome]:
    """Yield every recorded outcome, corrections included, in the order of recording."""
    where = _Where.of(("task_id = ?", task_id), ("recorded_at_us >= ?", since))
    sql = (
        "SELECT task_id, completed, score, source, human_minutes, comment, recorded_at_us"
        f" FROM outcomes {where} ORDER BY outcome_id"
    )
    for task, completed, score, source, minutes, comment, recorded_at_us in store.stream(sql, where.params):
        yield Outcome(
            task_id=task,
            completed=bool(completed),
            score=score,
            source=source,
            human_minutes=minutes,
            comment=comment,
            recorded_at=from_us(recorded_at_us),
        )


def query_traffic(
    store: Store, *, workload: str | None, since: datetime | None, until: datetime | None
) -> TrafficColumns:
    """Return imported and own settled requests as columns, in order of arrival; those of trials are no traffic."""
    own = _Where.of(
        ("a.workload = ?", workload), ("a.request_started_at_us >= ?", since), ("a.request_started_at_us < ?", until)
    )
    # A request that was tried or asked several times arrived once: its first settled attempt stands for it. Most have
    # one attempt, so that earlier ones are looked for where there can be some, and not joined.
    own.conditions.append("""a.state = 'settled' AND (a.attempt = 1 OR NOT EXISTS (
  SELECT 1 FROM attempts e WHERE e.request_id = a.request_id AND e.attempt < a.attempt AND e.state = 'settled'))""")
    own.conditions.append(f"NOT ({is_of_trial_sql('a.task_id')})")
    imported = _Where.of(("i.workload = ?", workload), ("i.started_at_us >= ?", since), ("i.started_at_us < ?", until))
    sql = f"""
WITH both_kinds AS MATERIALIZED (
SELECT a.started_at_us AS at_us, NULL AS arrival_s, a.input_tokens, a.cached_input_tokens, a.output_tokens, a.workload,
  CASE WHEN t.basis = 'single' THEN NULL ELSE a.task_id END AS session, a.model, a.cache_write_tokens,
  a.cache_write_1h_tokens, a.charge_picousd
FROM {store.attempts} a JOIN tasks t ON t.task_id = a.task_id {own}
UNION ALL
SELECT i.started_at_us, i.arrival_s, i.input_tokens, i.cached_input_tokens, i.output_tokens, i.workload, i.session,
  i.model, w.cache_write_tokens, h.cache_write_1h_tokens, i.charge_picousd
FROM imported i LEFT JOIN imported_cache_writes w ON w.source_id = i.source_id AND w.source_row_id = i.source_row_id
LEFT JOIN imported_cache_writes_1h h ON h.source_id = w.source_id AND h.source_row_id = w.source_row_id
{imported}
), first AS MATERIALIZED (SELECT MIN(at_us) AS first_us FROM both_kinds)
SELECT CASE WHEN at_us IS NULL THEN COALESCE(arrival_s, 0)
    ELSE CAST(at_us - first_us AS DOUBLE PRECISION) / 1000000 END AS arrival,
  input_tokens, cached_input_tokens, output_tokens, workload, session, model, cache_write_tokens,
  cache_write_1h_tokens, charge_picousd, first_us
FROM both_kinds CROSS JOIN first ORDER BY arrival"""
    columns, first_us = _ColumnBuilder(), None
    for row in store.stream(sql, [*own.params, *imported.params]):
        columns.add(row)
        first_us = row[-1]
    return columns.build(from_us_or_none(first_us))


def query_workloads(store: Store) -> list[WorkloadRow]:
    """Return the workloads that are known or have traffic, by name."""
    sql = """
SELECT workload, CAST(SUM(own) AS BIGINT), CAST(SUM(imported) AS BIGINT), MAX(details)
FROM (
  SELECT workload, 0 AS own, 0 AS imported, details_json AS details FROM workloads
  UNION ALL SELECT workload, COUNT(*), 0, NULL FROM requests WHERE refused_at_us IS NULL GROUP BY workload
  UNION ALL SELECT workload, 0, COUNT(*), NULL FROM imported WHERE workload IS NOT NULL GROUP BY workload
) each_kind GROUP BY workload ORDER BY workload"""
    with store.reading() as reader:
        rows = reader.rows(sql)
    return [
        WorkloadRow(
            workload=name, own_requests=own, imported_requests=imported, details=json.loads(details) if details else {}
        )
        for name, own, imported, details in rows
    ]


def query_certificates(store: Store, *, workload: str | None) -> list[CertificateRow]:
    """Return recorded certificates, newest first."""
    where = _Where.of(("workload = ?", workload))
    sql = (
        "SELECT certificate_id, workload, state, expires_at_us, recorded_at_us, certificate_json"
        f" FROM certificates {where} ORDER BY certificate_id DESC"
    )
    with store.reading() as reader:
        rows = reader.rows(sql, where.params)
    return [
        CertificateRow(
            certificate_id=number,
            workload=name,
            state=state,
            expires_at=from_us_or_none(expires_at_us),
            recorded_at=from_us(recorded_at_us),
            certificate=json.loads(text),
        )
        for number, name, state, expires_at_us, recorded_at_us, text in rows
    ]


def query_keys(store: Store, *, secret_hash: str | None = None) -> list[Key]:
    """Return keys, the oldest first, revoked ones included."""
    where = _Where.of(("secret_hash = ?", secret_hash))
    sql = (
        "SELECT key_id, name, secret_hash, scopes_json, created_at_us, revoked_at_us FROM keys"
        f" {where} ORDER BY created_at_us, key_id"
    )
    with store.reading() as reader:
        rows = reader.rows(sql, where.params)
    return [
        Key(
            key_id=key_id,
            name=name,
            secret_hash=digest,
            scopes=json.loads(scopes),
            created_at=from_us(created_at_us),
            revoked_at=from_us_or_none(revoked_at_us),
        )
        for key_id, name, digest, scopes, created_at_us, revoked_at_us in rows
    ]


def query_bodies(store: Store, *, request_id: str | None, workload: str | None) -> Iterator[BodyRow]:
    """Yield captured bodies in the order of capture."""
    where = _Where.of(("b.request_id = ?", request_id), ("r.workload = ?", workload))
    sql = (
        "SELECT b.request_id, b.attempt, b.kind, b.content, b.captured_at_us, b.expires_at_us FROM bodies b"
        f" JOIN requests r ON r.request_id = b.request_id {where} ORDER BY b.body_id"
    )
    for request, attempt, kind, content, captured_at_us, expires_at_us in store.stream(sql, where.params):
        yield BodyRow(
            request_id=request,
            attempt=attempt,
            kind=kind,
            content=bytes(content),
            captured_at=from_us(captured_at_us),
            expires_at=from_us(expires_at_us),
        )


def query_text(store: Store, sql: str, name: str) -> str | None:
    """Return the one text that `sql` finds by `name`, or None."""
    with store.reading() as reader:
        rows = reader.rows(sql, (name,))
    return rows[0][0] if rows else None


class _ColumnBuilder:
    """Columns while they grow."""

    def __init__(self) -> None:
        self._arrival_s = array("d")
        self._input = array("q")
        self._cached = array("q")
        self._cached_is_known = array("b")
        self._cache_write, self._cache_write_1h = array("q"), array("q")
        self._output = array("q")
        self._charged_picousd = self._uncharged = 0
        self._workload, self._session, self._model = (_TextBuilder() for _ in range(3))

    def add(self, row: Row) -> None:
        arrival_s, input_tokens, cached, output_tokens, workload, session, model, written, hour, charge, _ = row
        self._arrival_s.append(arrival_s)
        self._input.append(input_tokens)
        self._cached.append(cached or 0)
        self._cached_is_known.append(cached is not None)
        self._cache_write.append(written or 0)
        self._cache_write_1h.append(hour or 0)
        self._output.append(output_tokens)
        self._charged_picousd += charge or 0
        self._uncharged += charge is None
        self._workload.add(workload)
        self._session.add(session)
        self._model.add(model)

    def build(self, first_arrival_at: datetime | None) -> TrafficColumns:
        return TrafficColumns(
            first_arrival_at=first_arrival_at,
            arrival_s=self._arrival_s,
            input_tokens=self._input,
            cached_input_tokens=self._cached,
            cached_is_known=self._cached_is_known,
            cache_write_tokens=self._cache_write,
            cache_write_1h_tokens=self._cache_write_1h,
            output_tokens=self._output,
            charge_usd=None if self._uncharged else picousd_to_usd(self._charged_picousd),
            workload=self._workload.build(),
            session=self._session.build(),
            model=self._model.build(),
        )


class _TextBuilder:
    """One column of texts while it grows."""

    def __init__(self) -> None:
        self._codes = array("q")
        self._names: dict[str, int] = {}

    def add(self, text: str | None) -> None:
        self._codes.append(_UNKNOWN_CODE if text is None else self._names.setdefault(text, len(self._names)))

    def build(self) -> TextColumn:
        return TextColumn(codes=self._codes, names=tuple(self._names))


def _attempt(row: Row, live: Collection[str]) -> AttemptRow:
    (
        request_id, attempt, task_id, workload, route, key_id, label, dialect, is_stream,
        plan_sha256, reason, tier, upstream, model, price_id, stored_state, input_tokens, cached, cache_write,
        output_tokens, reasoning, usage_basis, charge, low, high,
        upstream_request_id, ttft_s, latency_s, status, error, started_at_us, settled_at_us, run_id, intent_high,
    ) = row  # fmt: skip
    state = state_of(stored_state, is_live=run_id in live)
    low, high = bounds_of(state, charge=charge, low=low, high=high, intent_high=intent_high)
    return AttemptRow(
        request_id=request_id,
        attempt=attempt,
        task_id=task_id,
        workload=workload,
        route=route,
        key_id=key_id,
        label=label,
        dialect=dialect,
        is_stream=bool(is_stream),
        plan_sha256=plan_sha256,
        reason=reason,
        tier=tier,
        upstream=upstream,
        model=model,
        price_id=price_id,
        state=state,
        input_tokens=input_tokens,
        cached_input_tokens=cached,
        cache_write_tokens=cache_write,
        output_tokens=output_tokens,
        reasoning_tokens=reasoning,
        usage_basis=usage_basis,
        charge_picousd=charge,
        charge_low_picousd=low,
        charge_high_picousd=high,
        upstream_request_id=upstream_request_id,
        ttft_s=ttft_s,
        latency_s=latency_s,
        status=status,
        error=error,
        started_at=from_us(started_at_us),
        settled_at=from_us_or_none(settled_at_us),
    )


def _spend(figures: Row) -> Spend:
    settled, settled_rest, low, low_rest, high, high_rest, unsettled, unpriced, unbounded = (
        int(figure or 0) for figure in figures
    )
    return Spend(
        settled_picousd=read_money_sum(settled, settled_rest),
        low_picousd=read_money_sum(low, low_rest),
        high_picousd=read_money_sum(high, high_rest),
        unsettled_attempts=unsettled,
        unpriced_attempts=unpriced,
        unbounded_attempts=unbounded,
    )


def _spend_row(by: Sequence[SpendKey], row: Row) -> SpendRow:
    group: dict[str, str | None] = {}
    for key, value in zip(by, row, strict=False):
        is_day = key == "day"
        group[key] = from_us(int(value) * 86_400_000_000).date().isoformat() if is_day else value
    counts = [int(figure or 0) for figure in row[len(by) : len(by) + 9]]
    return SpendRow(
        group=group,
        requests=counts[0],
        attempts=counts[1],
        settled_attempts=counts[2],
        failed_attempts=counts[3],
        refused_requests=counts[4],
        input_tokens=counts[5],
        cached_input_tokens=counts[6],
        cache_write_tokens=counts[7],
        output_tokens=counts[8],
        spend=_spend(row[len(by) + 9 :]),
    )


def _settled_sum(column: str) -> str:
    return f"CAST(COALESCE(SUM(CASE WHEN a.state = 'settled' THEN a.{column} END), 0) AS BIGINT)"


def _limit(limit: int | None) -> str:
    return "" if limit is None else f" LIMIT {int(limit)}"
