from __future__ import annotations

import asyncio

from ownward.upstreams._pool import Pool


def test_a_turn_given_to_a_call_that_was_given_up_goes_to_the_next_in_line():
    async def main():
        loop = asyncio.get_running_loop()
        pool = Pool(1)
        first = asyncio.ensure_future(pool.wait_turn(loop))
        second = asyncio.ensure_future(pool.wait_turn(loop))
        await asyncio.sleep(0)
        pool.wake_one()
        first.cancel()
        await asyncio.wait([second], timeout=1)
        assert second.done()
        assert first.cancelled()

    asyncio.run(main())


def test_a_call_given_up_while_waiting_is_passed_over():
    async def main():
        loop = asyncio.get_running_loop()
        pool = Pool(1)
        first = asyncio.ensure_future(pool.wait_turn(loop))
        second = asyncio.ensure_future(pool.wait_turn(loop))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        pool.wake_one()
        await asyncio.wait_for(second, 1)

    asyncio.run(main())
