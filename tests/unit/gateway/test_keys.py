"""Keys that were asked of the ledger lately are known without waiting; all others are not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from ownward.core import ManualClock
from ownward.gateway.errors import Unauthorized
from ownward.gateway.holding.keys import KeyRing
from ownward.ledger import Key

GOOD = {b"authorization": b"Bearer good"}
REVOKED = {b"x-api-key": b"revoked"}


def ring_of(clock: ManualClock, asked: list[str]) -> KeyRing:
    made_at = datetime(2026, 1, 1, tzinfo=UTC)
    key = Key(key_id="k", name="n", scopes={}, created_at=made_at, revoked_at=None, secret_hash="h")

    def verify(secret: str) -> Key | None:
        asked.append(secret)
        return key if secret == "good" else None

    return KeyRing(verify, clock=clock, remember_s=10.0)


def test_a_key_is_recalled_until_its_time_is_over() -> None:
    async def main() -> None:
        clock, asked = ManualClock(), []
        ring = ring_of(clock, asked)
        assert ring.recall(GOOD) is None
        found = await ring.find(GOOD)
        assert ring.recall(GOOD) is found
        clock.advance(10.5)
        assert ring.recall(GOOD) is None
        assert asked == ["good"]

    asyncio.run(main())


@pytest.mark.parametrize("headers", [REVOKED, {}, {b"authorization": b"Basic good"}])
def test_a_key_that_permits_nothing_is_never_recalled(headers: dict[bytes, bytes]) -> None:
    async def main() -> None:
        ring = ring_of(ManualClock(), [])
        for _ in range(2):
            with pytest.raises(Unauthorized):
                await ring.find(headers)
            assert ring.recall(headers) is None

    asyncio.run(main())
