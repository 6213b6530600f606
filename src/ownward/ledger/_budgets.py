"""What may still be spent: running totals of workloads and keys, kept in the transactions that write what they sum.

An account is a subject in a span of time. Whoever writes an intent or a settlement brings the accounts it belongs
to up to date in the same transaction, so that each equals, at every commit, the sum over the rows themselves.
"""

# ruff: noqa: S608 - the names in these statements are our own; values are always parameters

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ownward.core import LedgerError
from ownward.ledger._checks import BudgetCheck, BudgetSpent, BudgetState
from ownward.ledger._connection import Connection, Row
from ownward.ledger._entries import Entry
from ownward.ledger._money import MOST_PICOUSD, money_sum, read_money_sum
from ownward.ledger._statements import (
    bound_in_intent,
    charge_in_settlement,
    clean,
    insert,
    owner_in_request,
    tier_in_intent,
)
from ownward.ledger._store import Store

_DAY_US: Final = 86_400_000_000
_HOUR_US: Final = 3_600_000_000
_CHUNK: Final = 5_000  # parameters in one statement

_Counted = tuple[int, int, int, int]
"""What one attempt counts for: picodollars spent, picodollars reserved, calls of unknown charge, and of the reserved
picodollars those of calls that are over: they may stay reserved for ever."""

_NOTHING: Final[_Counted] = (0, 0, 0, 0)

_NEWEST = (
    " LEFT JOIN settlements s ON s.settlement_id = (SELECT MAX(x.settlement_id) FROM settlements x"
    " WHERE x.request_id = i.request_id AND x.attempt = i.attempt)"
)
_FACTS: Final = (
    "SELECT r.request_id, r.workload, r.key_id, r.task_id, i.attempt, i.tier, i.started_at_us, i.charge_high_picousd,"
    " s.state, s.charge_picousd, s.charge_high_picousd"
    " FROM requests r LEFT JOIN intents i ON i.request_id = r.request_id"
) + _NEWEST
_SPENT: Final = "COALESCE(s.charge_picousd, s.charge_high_picousd, i.charge_high_picousd)"
_RESERVED: Final = "COALESCE(s.charge_high_picousd, i.charge_high_picousd)"
_SETTLED: Final = f"(CASE WHEN s.state = 'settled' THEN {_SPENT} END)"
_OPEN: Final = f"(CASE WHEN s.state IS NULL OR s.state = 'unsettled' THEN {_RESERVED} END)"
_UNSETTLED: Final = f"(CASE WHEN s.state = 'unsettled' THEN {_RESERVED} END)"
_SUM: Final = (
    f"SELECT {money_sum(_SETTLED)}, {money_sum(_OPEN)},"
    f" COUNT(CASE WHEN s.state = 'settled' AND {_SPENT} IS NULL THEN 1"
    f" WHEN (s.state IS NULL OR s.state = 'unsettled') AND {_RESERVED} IS NULL THEN 1 END),"
    f" {money_sum(_UNSETTLED)}"
    " FROM requests r JOIN intents i ON i.request_id = r.request_id"
) + _NEWEST
_LEFT: Final = (
    "SELECT r.workload, r.key_id, r.task_id, i.tier, i.started_at_us, i.charge_high_picousd"
    " FROM intents i JOIN requests r ON r.request_id = i.request_id"
    " WHERE i.request_id = ? AND i.attempt = ? AND NOT EXISTS"
    " (SELECT 1 FROM settlements s WHERE s.request_id = i.request_id AND s.attempt = i.attempt)"
)
_COLUMNS: Final = "subject, starts_at_us, ends_at_us, spent_picousd, reserved_picousd, unknown_calls, unsettled_picousd"
_ACCOUNTS: Final = f"SELECT {_COLUMNS} FROM budget_accounts"
_OPEN_ACCOUNT: Final = insert("budget_accounts", _COLUMNS)


def count(state: str | None, *, charge: int | None, high: int | None, intent_high: int | None) -> _Counted:
    """Return what an attempt counts for in its accounts, by its newest settlement (`state` None: none yet).

    >>> count(None, charge=None, high=None, intent_high=9), count("settled", charge=4, high=4, intent_high=9)
    ((0, 9, 0, 0), (4, 0, 0, 0))
    >>> count("unsettled", charge=None, high=7, intent_high=9), count("failed", charge=0, high=0, intent_high=9)
    ((0, 7, 0, 7), (0, 0, 0, 0))
    """
    if state in {"failed", "refused"}:
        return _NOTHING
    known = intent_high if high is None else high
    if state == "settled":
        known = known if charge is None else charge
        return (0, 0, 1, 0) if known is None else (known, 0, 0, 0)
    if known is None:
        return 0, 0, 1, 0
    return 0, known, 0, 0 if state is None else known


class Account:
    """One account within a transaction."""

    __slots__ = (
        "ends_at_us",
        "is_changed",
        "is_kept",
        "reserved",
        "spent",
        "starts_at_us",
        "subject",
        "unknown",
        "unsettled",
    )

    def __init__(self, subject: str, starts_at_us: int, ends_at_us: int, *counted: Any, is_kept: bool = True) -> None:
        """Take a row; PostgreSQL's sums come as decimals. One that is not kept has no row to be written back."""
        self.is_kept = is_kept
        self.subject = subject
        self.starts_at_us, self.ends_at_us = starts_at_us, ends_at_us
        self.spent, self.reserved, self.unknown, self.unsettled = map(int, counted)
        self.is_changed = False

    def add(self, before: _Counted, after: _Counted) -> None:
        """Replace what an attempt counted for."""
        if before != after:
            self.spent = _moved(self.spent, after[0] - before[0])
            self.reserved = _moved(self.reserved, after[1] - before[1])
            self.unknown += after[2] - before[2]
            self.unsettled = _moved(self.unsettled, after[3] - before[3])
            self.is_changed = True

    @property
    def state(self) -> BudgetState:
        """What it holds."""
        return BudgetState(
            spent_picousd=self.spent,
            reserved_picousd=self.reserved,
            unknown_calls=self.unknown,
            unsettled_picousd=self.unsettled,
        )


def _moved(picousd: int, by: int) -> int:
    """Return a sum that has changed; one that its column does not hold stays the most that it does, and says too much.

    No call is begun then that is held against it, until its period is over.
    """
    return MOST_PICOUSD if picousd >= MOST_PICOUSD else min(picousd + by, MOST_PICOUSD)


@dataclass(slots=True)
class _Attempt:
    """What the books must know of an attempt."""

    tier: str
    started_at_us: int
    intent_high: int | None
    state: str | None
    counted: _Counted


class Books:
    """The accounts that a batch touches; the caller holds the lock on them until its transaction ends."""

    def __init__(self, store: Store, connection: Connection, entries: Sequence[Entry]) -> None:
        """Read what stood before the batch, and open the accounts that it needs and that are not there."""
        self._connection = connection
        self._owners: dict[str, tuple[str, str | None, str]] = {}
        self._attempts: dict[tuple[str, int], _Attempt] = {}
        self._read_facts(entries)
        checks = [check for entry in entries for check in entry.checks]
        open_accounts(store, connection, checks)
        subjects = {check.subject for check in checks if check.kind != "task"}
        for owner in self._owners.values():
            subjects.update(subject for subject in _subjects(owner, None) if not subject.startswith("task:"))
        subjects.update(f"tier:{tier}" for tier in self._tiers(entries))
        self._accounts: dict[str, list[Account]] = {
            account.subject: [account] for account in _sum_tasks(connection, checks)
        }
        for part in _parts(sorted(subjects)):
            for row in connection.rows(f"{_ACCOUNTS} WHERE subject IN ({_marks(part)})", part):
                self._accounts.setdefault(row[0], []).append(Account(*row))

    def enter(self, entry: Entry) -> LedgerError | None:
        """Count an entry's rows, in the order in which they were queued; return why it must not be written, if so."""
        for table, values in entry.rows:
            if table == "intents":
                error = self._begin(entry.checks, values)
                if error is not None:
                    return error
            elif table == "settlements":
                state, charge, high = charge_in_settlement(values)
                self._settle(values[:2], state, charge=charge, high=high)
            elif table == "cancellations":
                attempt = self._attempts.get(values)
                if attempt is not None and attempt.state is None:
                    self._settle(values, "failed", charge=0, high=0)
        return None

    def write(self) -> None:
        """Write the accounts that have changed."""
        _write(self._connection, [account for accounts in self._accounts.values() for account in accounts])

    def _begin(self, checks: Sequence[BudgetCheck], values: Sequence[Any]) -> LedgerError | None:
        request_id, number, tier, high, started_at_us = bound_in_intent(values)
        accounts = self._accounts_of(request_id, tier, started_at_us)
        for check in checks:
            span = check.span_us
            account = next(
                (a for a in accounts if a.subject == check.subject and (a.starts_at_us, a.ends_at_us) == span), None
            )
            if account is None or high is None:
                return LedgerError(
                    f"attempt {number} of request {request_id!r} cannot be held against the budget of {check.subject}",
                    allowed="A call of that account, begun within the budget's span, with a known upper bound",
                )
            if account.spent + account.reserved + high > check.most_picousd:
                return BudgetSpent(check, account.state, charge_high_picousd=high)
        counted = count(None, charge=None, high=None, intent_high=high)
        for account in accounts:
            account.add(_NOTHING, counted)
        self._attempts[request_id, number] = _Attempt(tier, started_at_us, high, None, counted)
        return None

    def _settle(self, key: Any, state: str, *, charge: int | None, high: int | None) -> None:
        attempt = self._attempts.get(key)
        if attempt is None:
            return  # there is no such intent: the row will be refused
        counted = count(state, charge=charge, high=high, intent_high=attempt.intent_high)
        for account in self._accounts_of(key[0], attempt.tier, attempt.started_at_us):
            account.add(attempt.counted, counted)
        attempt.state, attempt.counted = state, counted

    def _tiers(self, entries: Sequence[Entry]) -> set[str]:
        tiers = {attempt.tier for attempt in self._attempts.values()}
        tiers.update(tier_in_intent(values) for entry in entries for table, values in entry.rows if table == "intents")
        return tiers

    def _accounts_of(self, request_id: str, tier: str, started_at_us: int) -> list[Account]:
        owner = self._owners.get(request_id)
        if owner is None:
            return []
        return [
            account
            for subject in _subjects(owner, tier)
            for account in self._accounts.get(subject, ())
            if account.starts_at_us <= started_at_us < account.ends_at_us
        ]

    def _read_facts(self, entries: Sequence[Entry]) -> None:
        asked: dict[str, None] = {}
        for entry in entries:
            for table, values in entry.rows:
                if table in {"requests", "refusals"}:
                    self._owners[values[0]] = owner_in_request(values)
                elif table != "tasks" and values[0] not in self._owners:
                    asked[values[0]] = None
        for part in _parts(list(asked)):
            rows = self._connection.rows(f"{_FACTS} WHERE r.request_id IN ({_marks(part)})", part)
            for request_id, workload, key_id, task_id, number, tier, begun_us, intent_high, state, charge, high in rows:
                self._owners[request_id] = (workload, key_id, task_id)
                if number is not None:
                    counted = count(state, charge=charge, high=high, intent_high=intent_high)
                    self._attempts[request_id, number] = _Attempt(tier, begun_us, intent_high, state, counted)


def open_accounts(store: Store, connection: Connection, checks: Iterable[BudgetCheck]) -> None:
    """Make the accounts of `checks` that are not there, with what the ledger says was charged so far.

    Runs in the caller's transaction, under the lock on the accounts. Accounts that ended a day before are deleted.
    """
    for subject, kind, name, starts_at_us, ends_at_us in dict.fromkeys(
        (check.subject, check.kind, clean(check.name), *check.span_us) for check in checks if check.kind != "task"
    ):
        account = (subject, starts_at_us, ends_at_us)
        there = "SELECT 1 FROM budget_accounts WHERE subject = ? AND starts_at_us = ? AND ends_at_us = ?"
        if connection.rows(there, account):
            continue
        store.lock_budgets(connection, for_new=True)
        # A call may begin later than its request: a day is far above every deadline. Where the subject had an account
        # before, its calls are held, and a late one makes this account itself: an hour is enough for others, and at
        # the turn of a day not all of yesterday's requests are read again for each of thousands of keys.
        held = "SELECT 1 FROM budget_accounts WHERE subject = ? AND ends_at_us <= ? LIMIT 1"
        late_us = _HOUR_US if connection.rows(held, (subject, starts_at_us)) else _DAY_US
        column = {"workload": "r.workload", "key": "r.key_id", "tier": "i.tier"}[kind]
        (summed,) = connection.rows(
            f"{_SUM} WHERE {column} = ? AND r.started_at_us >= ? AND i.started_at_us >= ? AND i.started_at_us < ?",
            (name, starts_at_us - late_us, starts_at_us, ends_at_us),
        )
        connection.execute(
            "DELETE FROM budget_accounts WHERE subject = ? AND ends_at_us <= ?", (subject, starts_at_us - _DAY_US)
        )
        connection.execute(
            _OPEN_ACCOUNT,
            (*account, *(min(value, MOST_PICOUSD) for value in _read_sum(summed))),
        )


def count_unsettled(connection: Connection, attempts: Iterable[tuple[str, int]]) -> None:
    """Count what ended runs left in flight as what it is about to become: unsettled.

    Runs in the caller's transaction, under the lock on the accounts.
    """
    accounts = [Account(*row) for row in connection.rows(_ACCOUNTS)]
    if not accounts:
        return
    for attempt in attempts:
        for workload, key_id, task_id, tier, started_at_us, high in connection.rows(_LEFT, attempt):
            subjects = _subjects((workload, key_id, task_id), tier)
            before = count(None, charge=None, high=None, intent_high=high)
            after = count("unsettled", charge=None, high=high, intent_high=high)
            for account in accounts:
                if account.subject in subjects and account.starts_at_us <= started_at_us < account.ends_at_us:
                    account.add(before, after)
    _write(connection, accounts)


def has_accounts(connection: Connection) -> bool:
    """Return whether any account is to be kept; within a transaction, none can be made before it ends."""
    return bool(connection.rows("SELECT 1 FROM budget_accounts LIMIT 1"))


def query_states(connection: Connection, checks: Sequence[BudgetCheck]) -> list[BudgetState]:
    """Return what the accounts of `checks` hold; one that was never needed holds nothing."""
    tasks = {account.subject: account.state for account in _sum_tasks(connection, checks)}
    states = []
    for check in checks:
        if check.kind == "task":
            states.append(tasks[check.subject])
            continue
        row = (check.subject, *check.span_us)
        found = connection.rows(f"{_ACCOUNTS} WHERE subject = ? AND starts_at_us = ? AND ends_at_us = ?", row)
        states.append(Account(*found[0]).state if found else BudgetState())
    return states


def _write(connection: Connection, accounts: Iterable[Account]) -> None:
    changed = [account for account in accounts if account.is_changed and account.is_kept]
    if changed:
        connection.execute_many(
            "UPDATE budget_accounts SET spent_picousd = ?, reserved_picousd = ?, unknown_calls = ?,"
            " unsettled_picousd = ? WHERE subject = ? AND starts_at_us = ? AND ends_at_us = ?",
            [(a.spent, a.reserved, a.unknown, a.unsettled, a.subject, a.starts_at_us, a.ends_at_us) for a in changed],
        )


def _sum_tasks(connection: Connection, checks: Iterable[BudgetCheck]) -> Iterable[Account]:
    """Yield an account for each task that is checked: added up each time, since tasks are many and short."""
    for subject, name, span in dict.fromkeys(
        (check.subject, clean(check.name), check.span_us) for check in checks if check.kind == "task"
    ):
        (counted,) = connection.rows(f"{_SUM} WHERE r.task_id = ?", (name,))
        yield Account(subject, *span, *_read_sum(counted), is_kept=False)


def _read_sum(row: Row) -> _Counted:
    spent, spent_rest, reserved, reserved_rest, unknown, unsettled, unsettled_rest = row
    return (
        read_money_sum(spent, spent_rest),
        read_money_sum(reserved, reserved_rest),
        unknown,
        read_money_sum(unsettled, unsettled_rest),
    )


def _subjects(owner: tuple[str, str | None, str], tier: str | None) -> tuple[str, ...]:
    """Return whose accounts a request's calls are in; without a tier, those that all of them share."""
    workload, key_id, task_id = owner
    subjects: tuple[str, ...] = (f"workload:{workload}", f"task:{task_id}")
    if key_id is not None:
        subjects += (f"key:{key_id}",)
    return subjects if tier is None else (*subjects, f"tier:{tier}")


def _parts(values: Sequence[str]) -> Iterable[Sequence[str]]:
    """Yield `values` in parts that fit one statement."""
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def _marks(values: Sequence[str]) -> str:
    """Return a parameter's mark for each of them."""
    return ", ".join("?" * len(values))
