"""Client keys: checked against the ledger once in a while and remembered by their hash in between."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from ownward.core import Clock, LedgerError, OwnwardError
from ownward.gateway.errors import Unauthorized
from ownward.gateway.holding.budgets import budget_in
from ownward.gateway.holding.limits import limit_in, limits_by
from ownward.gateway.placing.choice import KeyScope
from ownward.ledger import Key
from ownward.policy import LOCAL_ONLY, Label

_MOST_REMEMBERED = 10_000
_PATIENCE_S = 1.0
_MOST_ASKED_OF_FAILING = 8
_OUTAGE_S = 3600.0
"""How long a key is believed on while the ledger cannot be read: no call can be sent, but who watches must see why."""


class KeyRing:
    """The keys seen lately; a revoked key stops working within `remember_s` seconds."""

    def __init__(
        self,
        verify: Callable[[str], Key | None],
        *,
        clock: Clock,
        remember_s: float,
        is_failing: Callable[[], bool] = lambda: False,
    ) -> None:
        """`verify` asks the ledger; it may block and is called in a thread. One that fails is not waited for long."""
        self._verify = verify
        self._is_failing = is_failing
        self._asked: dict[bytes, asyncio.Future[Key | None]] = {}  # of keys that many may ask for at once
        self._clock = clock
        self._remember_s = remember_s
        self._seen: dict[bytes, tuple[float, KeyScope | None]] = {}

    def recall(self, digest: bytes) -> KeyScope | None:
        """Return what the key with a digest permits, where that was asked lately; None where it was not."""
        seen = self._seen.get(digest)
        return None if seen is None or seen[0] < self._clock.monotonic_s() else seen[1]

    async def find(self, headers: Mapping[bytes, bytes]) -> KeyScope:
        """Return what the key in a request's headers permits.

        A client that sends both headers may have one of them from elsewhere, such as a login at the provider: the first
        that holds a key of ours counts.
        Raises: Unauthorized, with the same words for a missing, unknown or revoked key.
        """
        for secret in dict.fromkeys((secret_in(headers), headers.get(b"x-api-key"))):
            scope = await self._look_up(secret) if secret else None
            if scope is not None:
                return scope
        raise Unauthorized

    async def _look_up(self, secret: bytes) -> KeyScope | None:
        digest = _digest_of(secret)
        now_s = self._clock.monotonic_s()
        seen = self._seen.get(digest)
        if seen is None or seen[0] < now_s:
            try:
                key = await self._ask(digest, secret.decode("latin-1"))
            except LedgerError:
                if seen is None or seen[0] < now_s - _OUTAGE_S:
                    raise
            else:
                seen = (now_s + self._remember_s, None if key is None else scope_of(key))
                if len(self._seen) >= _MOST_REMEMBERED:
                    self._seen.clear()
                self._seen[digest] = seen
        return seen[1]

    async def _ask(self, digest: bytes, secret: str) -> Key | None:
        """Return what the ledger knows of a key, asked once for all who wait for it."""
        asked, is_failing = self._asked.get(digest), self._is_failing()
        if asked is None:
            if is_failing and len(self._asked) >= _MOST_ASKED_OF_FAILING:
                raise _unanswered()
            asked = self._asked[digest] = asyncio.ensure_future(asyncio.to_thread(self._verify, secret))
            asked.add_done_callback(lambda done: self._forget(digest, done))
        try:
            return await asyncio.wait_for(asyncio.shield(asked), _PATIENCE_S if is_failing else None)
        except TimeoutError:
            raise _unanswered() from None

    def _forget(self, digest: bytes, done: asyncio.Future[Key | None]) -> None:
        del self._asked[digest]
        if not done.cancelled():
            done.exception()  # whoever asked may have left


def _unanswered() -> LedgerError:
    return LedgerError("the ledger does not answer, and keys are looked up there", next_step="Try again soon")


def _digest_of(secret: bytes) -> bytes:
    return hashlib.blake2b(secret, digest_size=32).digest()


def digest_in(headers: Mapping[bytes, bytes]) -> bytes:
    """Return by what the key that a request carries is remembered; empty where it has none."""
    secret = secret_in(headers)
    return b"" if secret is None else _digest_of(secret)


def secret_in(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Return the key that a request carries, as `Authorization: Bearer`, else `x-api-key`; None where it has none."""
    stated = headers.get(b"authorization")
    if stated is not None and stated[:7].lower() == b"bearer ":
        return stated[7:].strip() or None
    return headers.get(b"x-api-key") or None


def scope_of(key: Key) -> KeyScope:
    """Return what the ledger's key permits; a scope that cannot be read permits nothing."""
    scopes: Mapping[str, Any] = key.scopes
    label = scopes.get("label")
    return KeyScope(
        key_id=key.key_id,
        workloads=_names(scopes.get("workloads")),
        tiers=_names(scopes.get("tiers")),
        label=None if label is None else _label(label),
        budget=budget_in(scopes),
        requests_per_minute=limit_in(scopes, "requests_per_minute"),
        tokens_per_minute=limit_in(scopes, "tokens_per_minute"),
        limits_by=limits_by(scopes),
    )


def _names(stated: Any) -> frozenset[str] | None:
    if stated is None:
        return None
    return frozenset([stated] if isinstance(stated, str) else stated)


def _label(stated: Any) -> Label:
    try:
        return Label.parse(stated)
    except OwnwardError:
        return LOCAL_ONLY
