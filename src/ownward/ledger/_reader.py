"""What is read of a ledger: rows, sums and settings, by connections of their own that never hold up who writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from ownward.core import Clock
from ownward.ledger import _kept as kept_responses
from ownward.ledger import _queries as queries
from ownward.ledger._budgets import query_states
from ownward.ledger._checks import BudgetCheck, BudgetState
from ownward.ledger._export import export_rows
from ownward.ledger._kept import KeptResponse, KeptSum
from ownward.ledger._logs import query_logs
from ownward.ledger._records import Key, Outcome
from ownward.ledger._rows import (
    AttemptRow,
    BodyRow,
    CertificateRow,
    LogRow,
    SpendKey,
    SpendRow,
    TaskRow,
    TrafficColumns,
    WorkloadRow,
)
from ownward.ledger._runs import live_runs
from ownward.ledger._served import Served, query_served
from ownward.ledger._store import Store
from ownward.ledger._times import to_us


class Reader:
    """The reading half of a ledger; safe to use from any thread."""

    def __init__(self, store: Store, clock: Clock) -> None:
        """Keep an opened store."""
        self._store = store
        self._clock = clock

    @property
    def name(self) -> str:
        """The path, or the address without its password."""
        return self._store.name

    @property
    def is_on_this_machine(self) -> bool:
        """Whether what is written here stays on this machine: a file, or a server reached over loopback or a socket."""
        return self._store.is_on_this_machine

    def export_rows(self, *, since: datetime | None = None) -> Iterator[dict[str, Any]]:
        """Yield the rows of `ownward ledger export`, one an attempt, oldest first, in constant memory.

        With `since`, those of requests that came from then on.
        """
        with self._reading_calls():
            yield from export_rows(self._store, live=self._live(), since=since)

    def query_requests(
        self,
        *,
        workload: str | None = None,
        task_id: str | None = None,
        request_id: str | None = None,
        key_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> Iterator[AttemptRow]:
        """Yield attempts with their request and newest settlement, for requests from `since` up to before `until`."""
        with self._reading_calls():
            yield from queries.query_attempts(
                self._store,
                live=self._live(),
                workload=workload,
                task_id=task_id,
                request_id=request_id,
                key_id=key_id,
                since=since,
                until=until,
                newest_first=newest_first,
                limit=limit,
            )

    def query_spend(
        self,
        *,
        by: Sequence[SpendKey] = ("workload", "tier"),
        workload: str | None = None,
        tier: str | None = None,
        key_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[SpendRow]:
        """Return sums of requests, tokens and charges for each group; `by=()` is one row, or none without traffic.

        Raises: LedgerError, naming the keys allowed.
        """
        with self._reading_calls():
            return queries.query_spend(
                self._store, by=by, since=since, until=until, workload=workload, tier=tier, key_id=key_id
            )

    def query_served(
        self,
        *,
        workload: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        input_steps: Sequence[int] = (),
    ) -> list[Served]:
        """Return what each tier did for each workload, summed up in one pass that holds no rows.

        Tokens are summed apart for calls whose input is longer than each of `input_steps`, as prices may have it.
        """
        with self._reading_calls():
            return query_served(self._store, workload=workload, since=since, until=until, input_steps=input_steps)

    def query_tasks(
        self,
        *,
        workload: str | None = None,
        task_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> Iterator[TaskRow]:
        """Yield tasks with the cost of all their attempts and the outcome that counts."""
        with self._reading_calls():
            yield from queries.query_tasks(
                self._store,
                workload=workload,
                task_id=task_id,
                since=since,
                until=until,
                newest_first=newest_first,
                limit=limit,
            )

    def query_outcomes(self, *, task_id: str | None = None, since: datetime | None = None) -> Iterator[Outcome]:
        """Yield every recorded outcome, corrections included, in the order of recording."""
        with self._reading_calls():
            yield from queries.query_outcomes(self._store, task_id=task_id, since=since)

    def query_traffic(
        self, workload: str | None = None, *, since: datetime | None = None, until: datetime | None = None
    ) -> TrafficColumns:
        """Return imported requests and own settled ones, but those of trials, as columns, in order of arrival."""
        with self._reading_calls():
            return queries.query_traffic(self._store, workload=workload, since=since, until=until)

    def query_workloads(self) -> list[WorkloadRow]:
        """Return the workloads that are known or have traffic, by name."""
        with self._reading_calls():
            return queries.query_workloads(self._store)

    def query_logs(self) -> dict[str, LogRow]:
        """Return, by workload, when the logs that hold its requests end."""
        with self._reading_calls():
            return query_logs(self._store)

    def query_budgets(self, budgets: Sequence[BudgetCheck]) -> list[BudgetState]:
        """Return what was charged and is reserved against each of `budgets`; zeros where nobody was held to it yet."""
        adds_up_tasks = any(check.kind == "task" for check in budgets)
        with self._reading_calls() if adds_up_tasks else self._reading(), self._store.reading() as reader:
            return query_states(reader, budgets)

    def query_certificates(self, workload: str | None = None) -> list[CertificateRow]:
        """Return recorded certificates, the newest first."""
        with self._reading():
            return queries.query_certificates(self._store, workload=workload)

    def query_plan(self, plan_sha256: str) -> str | None:
        """Return the text of a plan that was snapshot, or None."""
        with self._reading():
            return queries.query_text(self._store, "SELECT text FROM plans WHERE plan_sha256 = ?", plan_sha256)

    def query_price(self, price_id: str) -> Mapping[str, Any] | None:
        """Return a price that was snapshot as its JSON object, or None."""
        with self._reading():
            text = queries.query_text(self._store, "SELECT price_json FROM prices WHERE price_id = ?", price_id)
        return None if text is None else json.loads(text)

    def list_keys(self) -> list[Key]:
        """Return all keys, revoked ones included, the oldest first."""
        with self._reading():
            return queries.query_keys(self._store)

    def query_bodies(self, *, request_id: str | None = None, workload: str | None = None) -> Iterator[BodyRow]:
        """Yield captured bodies that are still kept."""
        with self._reading_calls():
            yield from queries.query_bodies(self._store, request_id=request_id, workload=workload)

    def query_kept(self) -> tuple[KeptSum, KeptSum]:
        """Return how much content is kept: captured bodies, and responses that clients continue."""
        with self._reading(), self._store.reading() as reader:
            return kept_responses.query_sums(reader)

    def query_conversation(self, response_id: str, *, owner: str) -> tuple[KeptResponse, ...]:
        """Return what leads to a response, the oldest first and itself last; empty where its owner has none such.

        Where an earlier one is gone, what is left begins with one that continues it (`previous_id`).
        """
        now_us = self._now_us()
        with self._reading(), self._store.reading() as reader:
            return kept_responses.query_conversation(reader, response_id, owner=owner, now_us=now_us)

    def query_clock_lead_s(self) -> float:
        """Return how far this machine's clock is ahead of the ledger's server's (negative: behind); 0 for a file.

        As near as the way there and back allows: what that may account for is left out.
        """
        with self._reading():
            self._store.time_us()  # which may open a connection, and take long
            before_us, there_us, after_us = self._now_us(), self._store.time_us(), self._now_us()
        if there_us is None or before_us <= there_us <= after_us:
            return 0.0
        return (before_us - there_us if there_us < before_us else after_us - there_us) / 1e6

    def _live(self) -> list[str]:
        # Asked before the snapshot is taken: whoever has ended by then has nothing more to add to it.
        with self._store.reading() as reader:
            return live_runs(reader, now=self._clock.now())

    def _now_us(self) -> int:
        return to_us(self._clock.now())

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not self._store.is_database_error(error):
                raise
            raise self._store.translate(error, "read") from error

    def _post_noted(self) -> None:
        """Put into the tables what anybody has noted, and remove the journals of processes that ended."""
        with self._reading():
            self._store.post_for_reading()

    @contextmanager
    def _reading_calls(self) -> Iterator[None]:
        """Read tables that the journal is posted to."""
        self._post_noted()
        with self._reading():
            yield
