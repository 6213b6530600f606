"""Who is asked next: places that are taken for a request are given back whatever becomes of it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ownward.core import ManualClock
from ownward.gateway import GatewaySettings
from ownward.gateway.calling.failover import Failover
from ownward.gateway.holding.admission import Slots
from ownward.gateway.watching.metrics import GatewayMetrics


def target(tier: str) -> Any:
    return SimpleNamespace(key=f"{tier}/u", tier=SimpleNamespace(name=tier))


def failover(slots: dict[str, Slots]) -> Failover:
    gateway = SimpleNamespace(
        slots=slots,
        settings=GatewaySettings(port=0),
        clock=ManualClock(),
        counting=SimpleNamespace(metrics=GatewayMetrics()),
        health=SimpleNamespace(breakers={}),
    )
    choice = SimpleNamespace(declared=SimpleNamespace(spill_after_s=0.01), left_alone=(), is_last_resort=False)
    exchange: Any = SimpleNamespace(
        gateway=gateway, choice=choice, queue_s=0.0, outcome="", add_reason=lambda why: None
    )
    sink: Any = SimpleNamespace(takes_hedge=True)
    return Failover(exchange, [target("b")], b"", sink)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_place_that_was_taken_for_a_request_in_the_moment_it_is_cancelled_is_given_back(is_cancelled: bool) -> None:
    async def main() -> None:
        slots = {name: Slots(name, limit=1, queue_limit=5) for name in "ab"}
        await slots["a"].acquire(timeout_s=5)
        asked = failover(slots)
        waiting = asyncio.create_task(asked._wait_for_slot(target("a"), slots["a"]))
        while not slots["b"].in_use and not waiting.done():  # noqa: ASYNC110 - each turn of the event loop is looked at
            await asyncio.sleep(0)
        assert not waiting.done(), "it is told of its place in the next turn"
        if is_cancelled:
            waiting.cancel()
        found = await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError) if is_cancelled else found == [False]
        assert (slots["a"].in_use, slots["a"].waiting) == (1, 0)
        assert slots["b"].in_use == (0 if is_cancelled else 1)

    asyncio.run(main())
