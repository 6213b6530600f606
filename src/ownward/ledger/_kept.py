"""Responses that clients may continue or fetch: kept for a time, within bounds for each owner, and deleted for good.

The newest of a conversation holds what was said since the one before; whoever continues reads them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from ownward.ledger._connection import Connection, Row
from ownward.ledger._times import from_us, from_us_or_none, to_us

_COLUMNS: Final = (
    "response_id, owner, request_id, previous_id, label, origin, items_json, answer_json, kept_at_us, expires_at_us"
)
_INSERT: Final = f"INSERT INTO kept_responses ({_COLUMNS}, bytes) VALUES ({', '.join('?' * 11)})"  # noqa: S608 - our own

# The conversation up to one response. An owner sees nobody else's, wherever `previous_id` leads.
_CHAIN: Final = """
WITH RECURSIVE chain (response_id, previous_id, expires_at_us, depth) AS (
  SELECT response_id, previous_id, expires_at_us, 0 FROM kept_responses
  WHERE response_id = ? AND owner = ? AND expires_at_us > ?
  UNION ALL
  SELECT k.response_id, k.previous_id, k.expires_at_us, c.depth + 1 FROM kept_responses k
  JOIN chain c ON k.response_id = c.previous_id WHERE k.owner = ? AND k.expires_at_us > ?
)"""
_READ_CHAIN: Final = (
    _CHAIN + f" SELECT {', '.join('k.' + name for name in _COLUMNS.split(', '))} FROM chain c"  # noqa: S608 - our own columns
    " JOIN kept_responses k ON k.response_id = c.response_id ORDER BY c.depth DESC"
)
_CHAIN_IDS: Final = _CHAIN + " SELECT response_id, expires_at_us FROM chain"  # noqa: S608 - nothing but our own words
_LONGER_US: Final = 3600 * 1_000_000
_TOUCH: Final = "UPDATE kept_responses SET expires_at_us = ? WHERE response_id = ? AND owner = ?"
_COUNT: Final = "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM kept_responses WHERE owner = ?"
_HELD: Final = (
    "SELECT response_id, bytes FROM kept_responses WHERE owner = ? AND response_id <> ?"
    " ORDER BY expires_at_us DESC, kept_at_us DESC"
)
_DELETE: Final = "DELETE FROM kept_responses WHERE response_id = ? AND owner = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResponse:
    """One response as it is kept: what was stated with it, what was answered, and what continues from it may know.

    `owner` is who may read, continue and delete it. `items_json` is the list of input items that its own request
    stated, `answer_json` the response as the client has it. `origin` names who wrote it: what is encrypted in it can be
    read there alone.
    """

    response_id: str
    owner: str
    request_id: str
    previous_id: str | None
    label: str
    origin: str
    items_json: bytes
    answer_json: bytes
    kept_at: datetime
    expires_at: datetime

    @property
    def size_bytes(self) -> int:
        """What it counts for in its owner's share."""
        return len(self.items_json) + len(self.answer_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSum:
    """How much of one kind is kept of what was said, and when the first and the last of it will be deleted."""

    kind: Literal["captured bodies", "responses"]
    count: int
    size_bytes: int
    first_expires_at: datetime | None
    last_expires_at: datetime | None


def query_sums(connection: Connection) -> tuple[KeptSum, KeptSum]:
    """Return what is kept of captured bodies, and of responses that clients continue."""
    ((bodies, body_bytes, body_first, body_last),) = connection.rows(
        "SELECT COUNT(*), COALESCE(SUM(LENGTH(content)), 0), MIN(expires_at_us), MAX(expires_at_us) FROM bodies"
    )
    ((responses, response_bytes, first, last),) = connection.rows(
        "SELECT COUNT(*), COALESCE(SUM(bytes), 0), MIN(expires_at_us), MAX(expires_at_us) FROM kept_responses"
    )
    return (
        KeptSum(
            kind="captured bodies",
            count=bodies,
            size_bytes=int(body_bytes),
            first_expires_at=from_us_or_none(body_first),
            last_expires_at=from_us_or_none(body_last),
        ),
        KeptSum(
            kind="responses",
            count=responses,
            size_bytes=int(response_bytes),
            first_expires_at=from_us_or_none(first),
            last_expires_at=from_us_or_none(last),
        ),
    )


def keep(connection: Connection, kept: KeptResponse, *, most_responses: int, most_bytes: int) -> int:
    """Add a response in the caller's transaction; return how many older ones of its owner had to go for it.

    What it continues is kept at least as long as itself: a tenth of its time longer, an hour at most, so that not every
    turn has to write all turns before it anew. Beyond either bound those go that would have expired first.
    """
    connection.execute(_INSERT, (*_values(kept), kept.size_bytes))
    if kept.previous_id is not None:
        _extend(connection, kept)
    ((held, held_bytes),) = connection.rows(_COUNT, (kept.owner,))
    if held <= most_responses and held_bytes <= most_bytes:
        return 0
    responses, size_bytes, gone = 1, kept.size_bytes, []
    for name, held_bytes in connection.rows(_HELD, (kept.owner, kept.response_id)):
        responses += 1
        size_bytes += held_bytes
        if responses > most_responses or size_bytes > most_bytes:
            gone.append((name, kept.owner))
    if gone:
        connection.execute_many(_DELETE, gone)
    return len(gone)


def _extend(connection: Connection, kept: KeptResponse) -> None:
    """Have everything that a response continues kept as long."""
    now_us, expires_at_us = to_us(kept.kept_at), to_us(kept.expires_at)
    longer_us = expires_at_us + min((expires_at_us - now_us) // 10, _LONGER_US)
    chain = (kept.previous_id, kept.owner, now_us, kept.owner, now_us)
    earlier = connection.rows(_CHAIN_IDS, chain)
    shorter = [name for name, at_us in earlier if at_us < expires_at_us]
    if shorter:
        connection.execute_many(_TOUCH, [(longer_us, name, kept.owner) for name in shorter])


def query_conversation(
    connection: Connection, response_id: str, *, owner: str, now_us: int
) -> tuple[KeptResponse, ...]:
    """Return the responses that lead to this one, the oldest first, itself last; empty where the owner has none such.

    The first one's `previous_id` is set where an earlier one is gone.
    """
    rows = connection.rows(_READ_CHAIN, (response_id, owner, now_us, owner, now_us))
    return tuple(_kept(row) for row in rows)


def delete(connection: Connection, response_id: str, *, owner: str, now_us: int) -> bool:
    """Delete a response in the caller's transaction; return whether the owner had it."""
    return connection.execute(_DELETE + " AND expires_at_us > ?", (response_id, owner, now_us)) > 0


def owner_of(key_id: str | None) -> str:
    """Return whose a response is: its key's; where no keys are demanded, everybody's on the gateway."""
    return "" if key_id is None else f"key:{key_id}"


def delete_all(connection: Connection, *, owner: str) -> None:
    """Delete everything of one owner in the caller's transaction."""
    connection.execute("DELETE FROM kept_responses WHERE owner = ?", (owner,))


def delete_expired(connection: Connection, *, now_us: int) -> int:
    """Delete the responses whose time is over in the caller's transaction; return how many."""
    return connection.execute("DELETE FROM kept_responses WHERE expires_at_us <= ?", (now_us,))


def _values(kept: KeptResponse) -> tuple[Any, ...]:
    return (
        kept.response_id,
        kept.owner,
        kept.request_id,
        kept.previous_id,
        kept.label,
        kept.origin,
        kept.items_json,
        kept.answer_json,
        to_us(kept.kept_at),
        to_us(kept.expires_at),
    )


def _kept(row: Row) -> KeptResponse:
    response_id, owner, request_id, previous_id, label, origin, items, answer, kept_at_us, expires_at_us = row
    return KeptResponse(
        response_id=response_id,
        owner=owner,
        request_id=request_id,
        previous_id=previous_id,
        label=label,
        origin=origin,
        items_json=bytes(items),
        answer_json=bytes(answer),
        kept_at=from_us(kept_at_us),
        expires_at=from_us(expires_at_us),
    )
