"""How much a key may do in a minute: token buckets, kept in the transactions that write what they count.

A bucket holds a minute's worth and refills evenly. Requests are taken from it at once. Tokens are held back by an
estimate while a call runs, and what it used is taken when it is settled: so neither a burst of calls nor a slow one is
counted wrong. Held tokens belong to the process that runs the call, and go with it.
"""

# ruff: noqa: S608 - the names in these statements are our own; values are always parameters

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ownward.ledger._checks import LimitKind, LimitReached, LimitState, LimitTake
from ownward.ledger._entries import Entry
from ownward.ledger._runs import HEARTBEAT_LIMIT_S
from ownward.ledger._store import Connection

_SILENT_US: Final = int(HEARTBEAT_LIMIT_S * 1e6)
_MINUTE_US: Final = 60_000_000
"""What is used is stored times this, so that a refill by microseconds is a whole number."""


@dataclass(slots=True)
class _Bucket:
    """One bucket within a transaction; `used` is times a minute's microseconds."""

    used: int = 0
    at_us: int = 0
    held_by_others: int = 0
    held: int = 0
    is_changed: bool = False

    def refill(self, now_us: int, per_minute: int) -> None:
        """Let time pass; a clock that is behind another host's lets none pass."""
        if now_us > self.at_us:
            self.used = max(0, self.used - per_minute * (now_us - self.at_us))
            self.at_us = now_us

    def missing(self, take: LimitTake) -> int:
        """Return by how much it does not fit, times a minute's microseconds."""
        in_all = self.used + (self.held_by_others + self.held + take.amount) * _MINUTE_US
        return in_all - take.per_minute * _MINUTE_US

    def state(self, take: LimitTake) -> LimitState:
        """Return what is left."""
        left = take.per_minute - self.held_by_others - self.held - -(-self.used // _MINUTE_US)
        reset_s = self.used / take.per_minute / 1e6
        return LimitState(kind=take.kind, per_minute=take.per_minute, remaining=max(0, left), reset_s=reset_s)


class Buckets:
    """The buckets that a batch touches; the caller holds the lock on them until its transaction ends."""

    def __init__(self, connection: Connection, entries: Iterable[Entry], *, run_id: str, now_us: int) -> None:
        """Read what stood before the batch; what a process holds that gives no sign of life does not count."""
        self._connection = connection
        self._run_id = run_id
        names: set[tuple[str, LimitKind]] = set()
        for entry in entries:
            names.update(take.bucket for take in entry.takes)
            names.update(take.bucket for take, _ in entry.releases)
        self._buckets = {name: _Bucket() for name in names}
        keys = sorted({key_id for key_id, _ in names})
        marks = ", ".join("?" * len(keys))
        for key_id, kind, used, at_us in connection.rows(
            f"SELECT key_id, kind, used, at_us FROM limit_buckets WHERE key_id IN ({marks})", keys
        ):
            bucket = self._buckets.get((key_id, kind))
            if bucket is not None:
                bucket.used, bucket.at_us = used, at_us
        for key_id, holder, tokens in connection.rows(
            "SELECT h.key_id, h.run_id, h.tokens FROM limit_holds h JOIN runs r ON r.run_id = h.run_id"
            f" WHERE h.key_id IN ({marks}) AND (h.run_id = ? OR (r.closed_at_us IS NULL AND r.heartbeat_at_us >= ?))",
            [*keys, run_id, now_us - _SILENT_US],
        ):
            bucket = self._buckets.get((key_id, "tokens"))
            if bucket is not None and holder == run_id:
                bucket.held = tokens
            elif bucket is not None:
                bucket.held_by_others += tokens

    def refuse(self, entry: Entry) -> LimitReached | None:
        """Return why an entry must not be written, if so; nothing is taken."""
        if not entry.takes:
            return None
        now_us: int = next(values[11] for table, values in entry.rows if table == "intents")
        for take in entry.takes:
            take.is_held = False
            self._buckets[take.bucket].refill(now_us, take.per_minute)
        for take in entry.takes:
            missing = self._buckets[take.bucket].missing(take)
            if missing > 0:
                return LimitReached(take, self._states(entry.takes), wait_s=max(missing / take.per_minute / 1e6, 0.001))
        return None

    def enter(self, entry: Entry) -> None:
        """Take what an entry needs, and take for good what its settled call used."""
        for take in entry.takes:
            bucket = self._buckets[take.bucket]
            bucket.is_changed = True
            if take.kind == "requests":
                bucket.used += take.amount * _MINUTE_US
            else:
                bucket.held += take.amount
                take.is_held = True
        if entry.takes:
            entry.outcome = self._states(entry.takes)
        settled_at_us = next((values[-1] for table, values in entry.rows if table == "settlements"), 0)
        for take, used in entry.releases:
            if take.is_held:
                bucket = self._buckets[take.bucket]
                bucket.refill(settled_at_us, take.per_minute)
                bucket.held = max(0, bucket.held - take.amount)
                bucket.used += used * _MINUTE_US
                bucket.is_changed = True

    def write(self) -> None:
        """Write the buckets that have changed."""
        changed = [(name, bucket) for name, bucket in self._buckets.items() if bucket.is_changed]
        self._connection.execute_many(
            "INSERT INTO limit_buckets VALUES (?, ?, ?, ?) ON CONFLICT (key_id, kind)"
            " DO UPDATE SET used = excluded.used, at_us = excluded.at_us",
            [(*name, bucket.used, bucket.at_us) for name, bucket in changed],
        )
        self._connection.execute_many(
            "INSERT INTO limit_holds VALUES (?, ?, ?) ON CONFLICT (key_id, run_id)"
            " DO UPDATE SET tokens = excluded.tokens",
            [(key_id, self._run_id, bucket.held) for (key_id, kind), bucket in changed if kind == "tokens"],
        )

    def _states(self, takes: Sequence[LimitTake]) -> tuple[LimitState, ...]:
        return tuple(self._buckets[take.bucket].state(take) for take in takes)
