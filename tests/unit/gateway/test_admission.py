"""Slots and their queue."""

import asyncio

import pytest

from ownward.gateway.errors import Overloaded
from ownward.gateway.holding.admission import Slots, Spill


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


def test_who_waits_long_enough_takes_a_place_elsewhere_and_keeps_its_turn_until_there_is_one():
    async def main():
        slots, elsewhere = Slots("t", limit=1, queue_limit=5), Slots("u", limit=1, queue_limit=0)
        spill = Spill(after_s=0.02, takes_place=elsewhere.try_acquire)
        await slots.acquire(timeout_s=5)
        first, second, third = (asyncio.create_task(slots.acquire(timeout_s=5, spill=spill)) for _ in range(3))
        await asyncio.sleep(0)
        assert not elsewhere.in_use, "not before its time"
        assert await first is False
        slots.release()
        assert await second is True, "its turn came before there was another place"
        elsewhere.release()
        assert await third is False
        assert (slots.in_use, slots.waiting, elsewhere.in_use) == (1, 0, 1)

    asyncio.run(main())


def test_without_a_time_to_wait_a_place_elsewhere_is_taken_though_the_queue_is_full():
    async def main():
        slots, elsewhere = Slots("t", limit=1, queue_limit=0), Slots("u", limit=1, queue_limit=0)
        spill = Spill(after_s=0.0, takes_place=elsewhere.try_acquire)
        assert await slots.acquire(timeout_s=5, spill=spill)
        assert not await slots.acquire(timeout_s=5, spill=spill)
        with pytest.raises(Overloaded):
            await slots.acquire(timeout_s=5, spill=spill)

    asyncio.run(main())


def test_nothing_looks_for_a_place_once_the_wait_is_over():
    async def main():
        looked = []
        spill = Spill(after_s=0.03, takes_place=lambda: bool(looked.append(1)))
        slots = Slots("t", limit=1, queue_limit=5)
        await slots.acquire(timeout_s=5)
        waiting = asyncio.create_task(slots.acquire(timeout_s=5, spill=spill))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        with pytest.raises(Overloaded):
            await slots.acquire(timeout_s=0.01, spill=spill)
        await asyncio.sleep(0.05)
        assert (looked, slots.waiting) == ([], 0)

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
