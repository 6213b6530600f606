"""Slots and their queue."""

import asyncio

import pytest

from ownward.gateway.errors import Overloaded
from ownward.gateway.holding.admission import Slots


def test_slots_are_handed_over_first_in_first_out():
    async def main():
        slots = Slots("t", limit=1, queue_limit=5)
        order = []

        async def use(name):
            await slots.acquire(timeout_s=5)
            order.append(name)
            slots.release()

        await slots.acquire(timeout_s=5)
        waiting = [asyncio.create_task(use(name)) for name in "abc"]
        await asyncio.sleep(0)
        slots.release()
        await asyncio.gather(*waiting)
        assert order == ["a", "b", "c"]
        assert (slots.in_use, slots.waiting) == (0, 0)

    asyncio.run(main())


def test_above_the_queue_it_refuses_at_once():
    async def main():
        slots = Slots("t", limit=1, queue_limit=0)
        await slots.acquire(timeout_s=5)
        assert slots.is_full
        with pytest.raises(Overloaded, match="1 requests run and 0 wait"):
            await slots.acquire(timeout_s=5)

    asyncio.run(main())


@pytest.mark.parametrize("yields", [0, 1, 2])
def test_a_cancelled_wait_loses_no_slot(yields):
    async def main():
        slots = Slots("t", limit=1, queue_limit=5)
        await slots.acquire(timeout_s=5)
        waiting = asyncio.create_task(slots.acquire(timeout_s=5))
        await asyncio.sleep(0)
        slots.release()
        for _ in range(yields):
            await asyncio.sleep(0)
        was_there = waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (slots.in_use, slots.waiting) == (1 if was_there else 0, 0)

    asyncio.run(main())


def test_who_comes_later_does_not_overtake():
    async def main():
        slots = Slots("t", limit=1, queue_limit=5)
        await slots.acquire(timeout_s=5)
        waiting = asyncio.create_task(slots.acquire(timeout_s=5))
        await asyncio.sleep(0)
        assert not slots.try_acquire()
        slots.release()
        assert not slots.try_acquire()
        await waiting

    asyncio.run(main())


def test_a_raised_limit_serves_who_waits():
    async def main():
        slots = Slots("t", limit=1, queue_limit=5)
        await slots.acquire(timeout_s=5)
        waiting = asyncio.create_task(slots.acquire(timeout_s=5))
        await asyncio.sleep(0)
        slots.resize(limit=2, queue_limit=5)
        await waiting
        assert slots.in_use == 2

    asyncio.run(main())


def test_without_a_limit_nobody_waits():
    slots = Slots("t", limit=None, queue_limit=0)
    assert all(slots.try_acquire() for _ in range(1000))
    assert not slots.is_full


@pytest.mark.parametrize("leaves", ["is cancelled", "has waited too long"])
def test_who_gave_up_waiting_is_counted_no_more(leaves):
    async def main():
        slots = Slots("t", limit=1, queue_limit=1)
        await slots.acquire(timeout_s=5)
        waiting = asyncio.create_task(slots.acquire(timeout_s=5 if leaves == "is cancelled" else 0.0))
        await asyncio.sleep(0)
        assert slots.is_full
        if leaves == "is cancelled":
            waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (slots.waiting, slots.is_full) == (0, False)
        slots.release()
        assert slots.in_use == 0

    asyncio.run(main())
