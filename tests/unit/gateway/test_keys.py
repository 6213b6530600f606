"""Keys that were asked of the ledger lately are known without waiting; all others are not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from ownward.core import LedgerError, ManualClock
from ownward.gateway.errors import Unauthorized
from ownward.gateway.holding.keys import KeyRing, digest_in, scope_of
from ownward.ledger import Key
from ownward.policy import LOCAL_ONLY

GOOD = {b"authorization": b"Bearer good"}
REVOKED = {b"x-api-key": b"revoked"}


def ring_of(
    clock: ManualClock,
    asked: list[str],
    is_failing: Callable[[], bool] = lambda: False,
    hold: Callable[[], None] = lambda: None,
) -> KeyRing:
    made_at = datetime(2026, 1, 1, tzinfo=UTC)
    key = Key(key_id="k", name="n", scopes={}, created_at=made_at, revoked_at=None, secret_hash="h")

    def verify(secret: str) -> Key | None:
        asked.append(secret)
        hold()
        return key if secret == "good" else None

    return KeyRing(verify, clock=clock, remember_s=10.0, is_failing=is_failing)


def test_a_key_is_recalled_until_its_time_is_over() -> None:
    async def main() -> None:
        clock, asked = ManualClock(), []
        ring = ring_of(clock, asked)
        assert ring.recall(digest_in(GOOD)) is None
        found = await ring.find(GOOD)
        assert ring.recall(digest_in(GOOD)) is found
        clock.advance(10.5)
        assert ring.recall(digest_in(GOOD)) is None
        assert asked == ["good"]

    asyncio.run(main())


@pytest.mark.parametrize("headers", [REVOKED, {}, {b"authorization": b"Basic good"}])
def test_a_key_that_permits_nothing_is_never_recalled(headers: dict[bytes, bytes]) -> None:
    async def main() -> None:
        ring = ring_of(ManualClock(), [])
        for _ in range(2):
            with pytest.raises(Unauthorized):
                await ring.find(headers)
            assert ring.recall(digest_in(headers)) is None

    asyncio.run(main())


@pytest.mark.parametrize("bearer", [b"Bearer of-another-service", b"Bearer ", b"Basic good"])
def test_a_key_counts_also_beside_an_authorization_from_elsewhere(bearer: bytes) -> None:
    """Anthropic's clients send the one of ANTHROPIC_AUTH_TOKEN and the one of ANTHROPIC_API_KEY, where both are set."""

    async def main() -> None:
        asked: list[str] = []
        ring = ring_of(ManualClock(), asked)
        for _ in range(2):
            assert (await ring.find({b"authorization": bearer, b"x-api-key": b"good"})).key_id == "k"
            assert (await ring.find({b"authorization": b"Bearer good", b"x-api-key": b"other"})).key_id == "k"
        assert len(asked) == len(set(asked)), "each is asked of the ledger once"
        with pytest.raises(Unauthorized):
            await ring.find({b"authorization": bearer.replace(b"good", b"bad"), b"x-api-key": b"other"})

    asyncio.run(main())


def test_a_key_is_asked_for_once_by_all_who_wait_for_it() -> None:
    async def main() -> None:
        asked: list[str] = []
        ring = ring_of(ManualClock(), asked)
        leaves = asyncio.create_task(ring.find(GOOD))
        others = [asyncio.create_task(ring.find(GOOD)) for _ in range(20)]
        await asyncio.sleep(0)
        leaves.cancel()
        found = await asyncio.gather(*others)
        assert {scope.key_id for scope in found} == {"k"}
        assert asked == ["good"]

    asyncio.run(main())


def test_a_ledger_that_fails_is_not_waited_for_and_a_known_key_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look-up would wait for it, and a few of them would have all threads."""
    monkeypatch.setattr("ownward.gateway.holding.keys._PATIENCE_S", 0.05)

    async def main() -> None:
        clock, asked, answers, is_failing = ManualClock(), [], threading.Event(), False

        def hold() -> None:
            if is_failing:
                answers.wait()

        ring = ring_of(clock, asked, is_failing=lambda: is_failing, hold=hold)
        found = await ring.find(GOOD)
        clock.advance(10.5)
        is_failing = True
        try:
            assert await ring.find(GOOD) is found
            strangers = ({b"x-api-key": b"k%d" % number} for number in range(50))
            told = await asyncio.gather(*(ring.find(one) for one in strangers), return_exceptions=True)
            assert {type(error) for error in told} == {LedgerError}
            assert len(asked) < 10
        finally:
            answers.set()

    asyncio.run(main())


def test_a_keys_label_that_cannot_be_read_lets_nothing_leave() -> None:
    scopes = {"label": "eu,us"}
    at = datetime(2026, 1, 1, tzinfo=UTC)
    key = Key(key_id="k", name="n", scopes=scopes, created_at=at, revoked_at=None, secret_hash="")
    assert scope_of(key).label == LOCAL_ONLY
