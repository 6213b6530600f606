"""The ledger as the other rooms hold it: one object to write to and to ask."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from ownward import __version__
from ownward.core import Clock, LedgerError, new_id, to_json
from ownward.ledger import _kept as kept_responses
from ownward.ledger import _queries as queries
from ownward.ledger import _statements as statements
from ownward.ledger._budgets import open_accounts
from ownward.ledger._checks import BudgetCheck, LimitState, LimitTake
from ownward.ledger._connection import Connection
from ownward.ledger._copying import CopiedTable, copy_tables
from ownward.ledger._entries import Entry
from ownward.ledger._imports import import_rows
from ownward.ledger._kept import KeptResponse
from ownward.ledger._process import this_process
from ownward.ledger._reader import Reader
from ownward.ledger._records import ImportCount, Intent, Key, Outcome, Request, Settlement, TrafficRow
from ownward.ledger._runs import close_runs, ended_runs, find_left, settle_left
from ownward.ledger._store import Store
from ownward.ledger._times import to_us
from ownward.ledger._writer import Writer
from ownward.pricing import Price

_T = TypeVar("_T")

_QUEUE_ROWS: Final = 16_384
_SECRET_BYTES: Final = 32


def hash_secret(secret: str) -> str:
    """Return the only form of a client key's secret that is stored: blake2b-256, hexadecimal."""
    return hashlib.blake2b(secret.encode("utf-8", "replace"), digest_size=32).hexdigest()


class Ledger(Reader):
    """One ledger, open for writing and reading; safe to use from any thread.

    The coroutines belong to the gateway's event loop and return after the commit.
    The other writing methods hold their thread until their commit (about a
    millisecond): from an event loop, call them through `asyncio.to_thread`.
    Reads use connections of their own and never hold up the writer.
    Not to be used after a fork: open it in the child.
    """

    def __init__(
        self, store: Store, *, clock: Clock, is_read_only: bool = False, queue_rows: int = _QUEUE_ROWS
    ) -> None:
        """Keep an opened store; `open` is the usual way to a ledger."""
        super().__init__(store, clock)
        self._is_read_only = is_read_only
        self._run_id = new_id("run_")
        run_row = statements.run_values(
            self._run_id, this_process(), version=__version__, started_at_us=to_us(clock.now())
        )
        self._writer = Writer(store, run_id=self._run_id, run_row=run_row, clock=clock, queue_rows=queue_rows)

    @property
    def run_id(self) -> str:
        """The id under which this process writes its intents."""
        return self._run_id

    @property
    def queue_depth(self) -> int:
        """How many entries wait to be written."""
        return self._writer.depth

    @property
    def commit_count(self) -> int:
        """How many transactions this ledger has committed for its queue."""
        return self._writer.commits

    async def look(self, most_s: float) -> None:
        """Return once `is_failing` says how it is now, and not how it was at the last heartbeat; after `most_s` anyway.

        Where it was found out within the last second nothing is done.
        """
        await self._writer.look(most_s)

    @property
    def is_failing(self) -> bool:
        """Whether the last rows could not be committed, and no heartbeat since: nothing can be begun until some can."""
        return self._writer.is_failing

    def __enter__(self) -> Self:
        """Return the ledger."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    # Writing, from the event loop

    def begin(
        self,
        request: Request,
        intent: Intent,
        *,
        budgets: Sequence[BudgetCheck] = (),
        limits: Sequence[LimitTake] = (),
        is_fresh: bool = False,
    ) -> Coroutine[Any, Any, tuple[LimitState, ...]]:
        """Return when the request and its first intent are committed: only then may it be dispatched.

        `is_fresh` says that the request's id was drawn by chance just now, so that no other can have it: such a call is
        noted first where that is quicker, as durably, and found by everybody who reads.

        `budgets` are checked and `limits` taken in the transaction that writes the intent, over all processes on the
        ledger: its upper bound is reserved, or nothing is written. What is left of the limits is returned; tokens that
        are held have to be released with the settlement.
        Waits while the queue is full. If it is cancelled, the attempt is settled
        as failed: nothing was dispatched.
        Raises: BudgetSpent, if the intent's upper bound would pass one of `budgets`; LimitReached, if a bucket does
        not hold enough; LedgerError, if either could not be committed; nothing may be sent then.
        """
        task, values = statements.request_values(request)
        return self._begin(
            intent,
            budgets,
            limits,
            (("tasks", task), ("requests", values), ("intents", statements.intent_values(intent, self._run_id))),
            is_fresh=is_fresh,
        )

    def begin_attempt(
        self, intent: Intent, *, budgets: Sequence[BudgetCheck] = (), limits: Sequence[LimitTake] = ()
    ) -> Coroutine[Any, Any, tuple[LimitState, ...]]:
        """Return when a further intent of a begun request is committed, with what is left of the limits.

        Raises: BudgetSpent, LimitReached and LedgerError, as `begin` does.
        """
        return self._begin(intent, budgets, limits, (("intents", statements.intent_values(intent, self._run_id)),))

    async def flush(self) -> None:
        """Return once all that was queued before is committed.

        Raises: LedgerError, if some of it could not be; settlements are kept and tried again.
        """
        await self._writer.flush()

    # Writing, from anywhere

    def settle(self, settlement: Settlement, *, releases: Sequence[tuple[LimitTake, int]] = ()) -> None:
        """Queue what became of an attempt; `flush` waits for it. A later settlement corrects an earlier one.

        `releases` are the tokens that were held for it, each with how many it used; they are told once.
        Where the queue is full, it holds the caller until there is room. If the
        commit fails, the settlement is kept and written with the next one that succeeds.
        Raises: LedgerError, if the ledger is closed or cannot be written.
        """
        self._require_writable()
        values = statements.settlement_values(settlement)
        self._writer.put_without_waiter(Entry(rows=(("settlements", values),), releases=tuple(releases)))

    def refuse(self, request: Request, *, reason: str, status: int) -> None:
        """Queue a request that was refused before any dispatch: exported as attempt 0, state refused.

        Raises: LedgerError, as `settle` does.
        """
        task, values = statements.request_values(request)
        refusal = (*values, to_us(self._clock.now()), status, statements.clean(reason))
        self._require_writable()
        self._writer.put_without_waiter(Entry(rows=(("tasks", task), ("refusals", refusal))))

    def flush_blocking(self) -> None:
        """Do as `flush`, for callers without an event loop."""
        self._writer.flush_blocking()

    def reconcile(self, *, is_thorough: bool = True, go_on: Callable[[], bool] = lambda: True) -> int:
        """Settle as unsettled, with bounds, what ended processes left in flight; return how many attempts.

        It reads through all calls, which takes seconds for each few million, and writes in between for moments alone;
        unless it is to be thorough, only where a process has ended without a word. Where `go_on` says no meanwhile, it
        ends early. Running it again, or in several processes at once, adds nothing.
        Raises: LedgerError, if it could not be committed.
        """
        self._require_writable()
        now = self._clock.now()
        with self._reading(), self._store.reading() as reader:
            ended, unclosed = ended_runs(reader, now=now)
        self._post_noted()  # what these noted last
        settled, looked_at = 0, ended if is_thorough else unclosed
        if not looked_at:
            return 0
        with self._reading():
            for left in find_left(self._store, looked_at):
                if left:
                    settled += self._run(partial(settle_left, self._store, left=left, now=now))
                if not go_on():
                    return settled
        if unclosed:
            self._run(partial(close_runs, runs=unclosed, now=now))
        return settled

    def open_budgets(self, budgets: Sequence[BudgetCheck]) -> None:
        """Sum up what was charged against `budgets` so far, so that no request has to wait for that.

        Where an account is not there yet, it takes seconds for each million requests of its span (1.2 s for 256,000),
        and other writers wait meanwhile.
        Raises: LedgerError, if it could not be committed.
        """

        def open_them(connection: Connection) -> None:
            self._store.lock_budgets(connection)
            open_accounts(self._store, connection, budgets)

        self._run(open_them)

    def record_outcome(self, outcome: Outcome) -> None:
        """Record whether a task was completed; saying the same again adds nothing.

        Raises: LedgerError, if the ledger has no such task or could not commit.
        """
        self._run(lambda connection: _add_outcome(connection, outcome))

    def snapshot_plan(self, plan_sha256: str, text: str) -> None:
        """Keep the plan behind a hash for ever.

        Raises: LedgerError, if it could not be committed.
        """
        row = (plan_sha256, statements.clean(text), self._now_us())
        sql = f"{statements.insert('plans', 'plan_sha256, text, recorded_at_us')} ON CONFLICT DO NOTHING"
        self._run(lambda c: c.execute(sql, row))

    def snapshot_price(self, price: Price) -> None:
        """Keep the price behind a price id for ever.

        Raises: LedgerError, if it could not be committed.
        """
        row = (price.price_id, to_json(price), self._now_us())
        sql = f"{statements.insert('prices', 'price_id, price_json, recorded_at_us')} ON CONFLICT DO NOTHING"
        self._run(lambda c: c.execute(sql, row))

    def record_workload(self, workload: str, details: Mapping[str, Any]) -> None:
        """Keep what is known of a workload: its fingerprint, where it was declared; the newest word counts.

        Raises: LedgerError, if it could not be committed.
        """
        row = (statements.clean(workload), to_json(details), self._now_us())
        sql = (
            f"{statements.insert('workloads', 'workload, details_json, recorded_at_us')} ON CONFLICT (workload)"
            " DO UPDATE SET details_json = excluded.details_json, recorded_at_us = excluded.recorded_at_us"
        )
        self._run(lambda c: c.execute(sql, row))

    def record_certificate(self, certificate: Mapping[str, Any]) -> None:
        """Append a certificate as JSON; its `workload`, `state` and `expires_at` can then be asked for.

        Raises: LedgerError, if it could not be committed.
        """
        expires_at_us = _expiry_us(certificate.get("expires_at"))
        workload, state = certificate.get("workload"), certificate.get("state")
        row = (workload, state, expires_at_us, to_json(certificate), self._now_us())
        sql = (
            "INSERT INTO certificates (workload, state, expires_at_us, certificate_json, recorded_at_us)"
            " VALUES (?, ?, ?, ?, ?)"
        )
        self._run(lambda c: c.execute(sql, row))

    def capture_body(
        self, *, request_id: str, attempt: int | None, kind: str, content: bytes, expires_at: datetime
    ) -> None:
        """Keep a body until `expires_at`; only for workloads whose plan asks for it.

        Raises: LedgerError, if the ledger has no such request or could not commit.
        """
        row = (request_id, attempt, kind, content, self._now_us(), to_us(expires_at))
        sql = (
            "INSERT INTO bodies (request_id, attempt, kind, content, captured_at_us, expires_at_us)"
            " VALUES (?, ?, ?, ?, ?, ?)"
        )
        self._run(lambda c: c.execute(sql, row))

    def delete_expired_bodies(self) -> int:
        """Delete captured bodies and kept responses whose time is over; return how many.

        Raises: LedgerError, if it could not be committed.
        """
        now_us = self._now_us()

        def delete(connection: Connection) -> int:
            bodies = connection.execute("DELETE FROM bodies WHERE expires_at_us <= ?", (now_us,))
            return bodies + kept_responses.delete_expired(connection, now_us=now_us)

        return self._run(delete)

    # Responses that clients continue

    def keep_response(self, kept: KeptResponse, *, most_responses: int, most_bytes: int) -> int:
        """Keep a response until it expires, and what it continues as long; return how many older ones had to go.

        Of one owner's at most `most_responses` and `most_bytes` are kept: those go that would have expired first.
        Raises: LedgerError, if the ledger has no such request or could not commit.
        """
        return self._run(lambda c: kept_responses.keep(c, kept, most_responses=most_responses, most_bytes=most_bytes))

    def delete_response(self, response_id: str, *, owner: str) -> bool:
        """Delete a kept response for good; return whether its owner had it.

        Raises: LedgerError, if it could not be committed.
        """
        now_us = self._now_us()
        return self._run(lambda c: kept_responses.delete(c, response_id, owner=owner, now_us=now_us))

    def import_traffic(self, rows: Iterable[TrafficRow], source: str) -> ImportCount:
        """Add past traffic, all of it or none; return how many rows were new and how many were there.

        `source` says where the rows are from: a row is a duplicate if the same
        source has brought it before. Rows are gathered first, so that a slow
        reader does not hold up the gateway.
        Raises: LedgerError, if it could not be committed, and whatever `rows` raises; nothing is imported then.
        """
        self._require_writable()
        return import_rows(self._store, rows, source=source, imported_at_us=self._now_us())

    # Client keys

    def create_key(self, name: str, scopes: Mapping[str, Any] | None = None) -> str:
        """Return the secret of a new client key, which is shown this once and stored only as a hash.

        Raises: LedgerError, if it could not be committed.
        """
        secret = "ow-" + secrets.token_urlsafe(_SECRET_BYTES)
        row = (new_id("key_"), statements.clean(name), hash_secret(secret), to_json(scopes or {}), self._now_us(), None)
        sql = statements.insert("keys", "key_id, name, secret_hash, scopes_json, created_at_us, revoked_at_us")
        self._run(lambda c: c.execute(sql, row))
        return secret

    def verify_key(self, secret: str) -> Key | None:
        """Return the key with this secret, unless there is none or it was revoked.

        Only the hash is looked up, so that timing tells nothing of the secret.
        """
        digest = hash_secret(secret)
        with self._reading():
            for key in queries.query_keys(self._store, secret_hash=digest):
                if hmac.compare_digest(key.secret_hash, digest) and key.revoked_at is None:
                    return key
        return None

    def revoke_key(self, key_id: str) -> None:
        """Make a key void from now on, and delete the responses kept for it; revoking it again changes nothing.

        Raises: LedgerError, if there is no such key.
        """
        row = (self._now_us(), key_id)

        def revoke(connection: Connection) -> None:
            connection.execute("UPDATE keys SET revoked_at_us = COALESCE(revoked_at_us, ?) WHERE key_id = ?", row)
            if not connection.rows("SELECT 1 FROM keys WHERE key_id = ?", (key_id,)):
                raise LedgerError(
                    f"there is no key {key_id!r}", where=self.name, next_step="List the keys with their ids"
                )
            kept_responses.delete_all(connection, owner=kept_responses.owner_of(key_id))

        self._run(revoke)

    def copy_to(self, target: Ledger) -> list[CopiedTable]:
        """Copy everything into an empty ledger, in one transaction there; return what arrived, table by table.

        Bodies that may not travel to where it is are left out, and counted. Nothing may write here meanwhile.
        Raises: LedgerError, if a process still writes here, `target` holds anything, or a row did not arrive as it was.
        """
        now, source = self._clock.now(), self._store
        with self._reading_calls():
            return target._run(lambda connection: copy_tables(source, target._store, connection, now=now))

    def hurry(self, most_s: float) -> None:
        """Have nobody wait for the database beyond `most_s` from now, nor `close`: for a process that has to end.

        What cannot be written until then is lost: calls whose settlement it is stay unsettled, with bounds.
        """
        self._store.patience.end_in(most_s)

    def close(self) -> None:
        """Write what is queued, say that this run ended, and let go of the database; again is harmless.

        Raises: LedgerError, if something could not be written.
        """
        try:
            self._writer.close()
        finally:
            self._store.close()

    async def _begin(
        self,
        intent: Intent,
        budgets: Sequence[BudgetCheck],
        limits: Sequence[LimitTake],
        rows: tuple[tuple[statements.Table, statements.Values], ...],
        *,
        is_fresh: bool = False,
    ) -> tuple[LimitState, ...]:
        self._require_writable()
        entry = Entry(rows=rows, begins=True, is_fresh=is_fresh, checks=tuple(budgets), takes=tuple(limits))
        try:
            if not self._writer.write_alone(entry):
                await self._writer.wait_for(entry)
        except (asyncio.CancelledError, LedgerError):
            if entry.error is not None or entry.waiter is None:
                raise  # nothing is written
            cancelled = Entry(
                rows=(("cancellations", (intent.request_id, intent.attempt)),),
                releases=tuple((take, 0) for take in limits),
            )
            with suppress(LedgerError):  # without it, the attempt is unsettled, with bounds
                self._writer.put(cancelled)
            raise
        if entry.error is not None:
            raise entry.error
        return entry.outcome or ()

    def _run(self, call: Callable[[Connection], _T]) -> _T:
        self._require_writable()
        return self._writer.run(call)

    def _require_writable(self) -> None:
        if self._is_read_only:
            raise LedgerError(
                "the ledger was opened for reading only", where=self.name, next_step="Open it for writing"
            )


def _expiry_us(expires_at: object) -> int | None:
    """Return when a certificate expires; a day alone is its first moment in UTC."""
    if isinstance(expires_at, date) and not isinstance(expires_at, datetime):
        expires_at = expires_at.isoformat()
    if isinstance(expires_at, str):
        expires_at = datetime.fromisoformat(expires_at)
        if expires_at.tzinfo is None:
            expires_at = expires_at.replace(tzinfo=UTC)
    return to_us(expires_at) if isinstance(expires_at, datetime) else None


def _add_outcome(connection: Connection, outcome: Outcome) -> None:
    task_id = statements.clean(outcome.task_id)
    if not connection.rows("SELECT 1 FROM tasks WHERE task_id = ?", (task_id,)):
        raise LedgerError(
            f"there is no task {outcome.task_id!r}",
            allowed="An outcome belongs to a task that the ledger has seen",
            next_step="Send the task id that the gateway returned with the request",
        )
    row = (
        int(outcome.completed),
        None if outcome.score is None else float(outcome.score),
        None if outcome.human_minutes is None else float(outcome.human_minutes),
        statements.clean(outcome.comment),
    )
    newest = connection.rows(
        "SELECT completed, score, human_minutes, comment FROM outcomes WHERE task_id = ? AND source = ?"
        " ORDER BY outcome_id DESC LIMIT 1",
        (task_id, outcome.source),
    )
    if newest == [row]:
        return
    connection.execute(
        "INSERT INTO outcomes (task_id, source, completed, score, human_minutes, comment, recorded_at_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (task_id, outcome.source, *row, to_us(outcome.recorded_at)),
    )
