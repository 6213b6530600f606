"""How much a key may do in a minute, kept in the transactions that write what they count.

Requests are taken at once. Tokens are held back by an estimate while a call runs, and what it used is taken when it is
settled: so neither a burst of calls nor a slow one is counted wrong. Held tokens belong to the process that runs the
call, and go with it. How a minute is counted stands in `_meters`.
"""

# ruff: noqa: S608 - the names in these statements are our own; values are always parameters

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ownward.ledger._checks import LimitKind, LimitReached, LimitState, LimitTake
from ownward.ledger._connection import Connection
from ownward.ledger._entries import Entry
from ownward.ledger._meters import Bucket, Meter, Window
from ownward.ledger._runs import HEARTBEAT_LIMIT_S
from ownward.ledger._statements import insert, start_in_intent

_SILENT_US: Final = int(HEARTBEAT_LIMIT_S * 1e6)

_Name = tuple[str, LimitKind]


class Meters:
    """The windows and buckets that a batch touches; the caller holds the lock on them until its transaction ends."""

    def __init__(self, connection: Connection, entries: Iterable[Entry], *, run_id: str, now_us: int) -> None:
        """Read what stood before the batch; what a process holds that gives no sign of life does not count."""
        self._connection = connection
        self._run_id = run_id
        self._meters: dict[_Name, Meter] = {}
        for entry in entries:
            for take in (*entry.takes, *(take for take, _ in entry.releases)):
                if take.name not in self._meters:
                    self._meters[take.name] = Bucket() if take.is_bucket else Window()
        keys = sorted({key_id for key_id, _ in self._meters})
        marks = ", ".join("?" * len(keys))
        kinds = {type(meter) for meter in self._meters.values()}
        if Window in kinds:
            stored = f"SELECT key_id, kind, at_us, recent FROM limit_windows WHERE key_id IN ({marks})"
            for key_id, kind, at_us, recent in connection.rows(stored, keys):
                meter = self._meters.get((key_id, kind))
                if isinstance(meter, Window):
                    meter.at_us = at_us
                    meter.read(bytes(recent))
        if Bucket in kinds:
            stored = f"SELECT key_id, kind, at_us, used FROM limit_buckets WHERE key_id IN ({marks})"
            for key_id, kind, at_us, used in connection.rows(stored, keys):
                meter = self._meters.get((key_id, kind))
                if isinstance(meter, Bucket):
                    meter.at_us, meter.used = at_us, used
        for key_id, holder, tokens in connection.rows(
            "SELECT h.key_id, h.run_id, h.tokens FROM limit_holds h JOIN runs r ON r.run_id = h.run_id"
            f" WHERE h.key_id IN ({marks}) AND (h.run_id = ? OR (r.closed_at_us IS NULL AND r.heartbeat_at_us >= ?))",
            [*keys, run_id, now_us - _SILENT_US],
        ):
            meter = self._meters.get((key_id, "tokens"))
            if meter is not None and holder == run_id:
                meter.held = tokens
            elif meter is not None:
                meter.held_by_others += tokens

    def refuse(self, entry: Entry) -> LimitReached | None:
        """Return why an entry must not be written, if so; nothing is taken."""
        if not entry.takes:
            return None
        now_us: int = next(start_in_intent(values) for table, values in entry.rows if table == "intents")
        for take in entry.takes:
            take.is_held = False
            self._meters[take.name].pass_time(now_us, take.per_minute)
        for take in entry.takes:
            wait_s = self._meters[take.name].wait_s(take.amount, take.per_minute)
            if wait_s > 0:
                return LimitReached(take, self._states(entry.takes), wait_s=max(wait_s, 0.001))
        return None

    def enter(self, entry: Entry) -> None:
        """Take what an entry needs, and take for good what its settled call used."""
        for take in entry.takes:
            meter = self._meters[take.name]
            if take.kind == "requests":
                meter.use(take.amount, take.per_minute)
            else:
                meter.held += take.amount
                meter.is_changed = True
                take.is_held = True
        if entry.takes:
            entry.outcome = self._states(entry.takes)
        settled_at_us = next((values[-1] for table, values in entry.rows if table == "settlements"), None)
        for take, used in entry.releases:
            if take.is_held:
                meter = self._meters[take.name]
                if settled_at_us is not None:  # one that is cancelled uses nothing, and says no time
                    meter.pass_time(settled_at_us, take.per_minute)
                meter.held = max(0, meter.held - take.amount)
                meter.use(used, take.per_minute)

    def write(self) -> None:
        """Write what has changed."""
        changed = [(name, meter) for name, meter in self._meters.items() if meter.is_changed]
        windows = [(*name, meter.at_us, meter.recent) for name, meter in changed if isinstance(meter, Window)]
        buckets = [(*name, meter.used, meter.at_us) for name, meter in changed if isinstance(meter, Bucket)]
        holds = [(key_id, self._run_id, meter.held) for (key_id, kind), meter in changed if kind == "tokens"]
        if windows:
            self._connection.execute_many(_WRITE_WINDOW, windows)
        if buckets:
            self._connection.execute_many(_WRITE_BUCKET, buckets)
        if holds:
            self._connection.execute_many(_WRITE_HOLD, holds)

    def _states(self, takes: Sequence[LimitTake]) -> tuple[LimitState, ...]:
        states = []
        for take in takes:
            meter, most = self._meters[take.name], take.per_minute
            states.append(
                LimitState(
                    kind=take.kind, per_minute=most, remaining=meter.remaining(most), reset_s=meter.reset_s(most)
                )
            )
        return tuple(states)


_WRITE_WINDOW: Final = (
    f"{insert('limit_windows', 'key_id, kind, at_us, recent')} ON CONFLICT (key_id, kind)"
    " DO UPDATE SET at_us = excluded.at_us, recent = excluded.recent"
)
_WRITE_BUCKET: Final = (
    f"{insert('limit_buckets', 'key_id, kind, used, at_us')} ON CONFLICT (key_id, kind)"
    " DO UPDATE SET used = excluded.used, at_us = excluded.at_us"
)
_WRITE_HOLD: Final = (
    f"{insert('limit_holds', 'key_id, run_id, tokens')}"
    " ON CONFLICT (key_id, run_id) DO UPDATE SET tokens = excluded.tokens"
)
