from __future__ import annotations

import asyncio
import socket

import pytest

from ownward.upstreams._alarm import Alarm
from ownward.upstreams._connection import Connection
from ownward.upstreams._pool import Pool


def test_a_turn_given_to_a_call_that_was_given_up_goes_to_the_next_in_line():
    async def main():
        loop = asyncio.get_running_loop()
        pool = Pool(1, loop)
        first = asyncio.ensure_future(pool.wait_turn())
        second = asyncio.ensure_future(pool.wait_turn())
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
        pool = Pool(1, loop)
        first = asyncio.ensure_future(pool.wait_turn())
        second = asyncio.ensure_future(pool.wait_turn())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        pool.wake_one()
        await asyncio.wait_for(second, 1)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("served", "later_s", "is_taken"),
    [
        pytest.param(1, 0.0, False, id="once is no proof that a server keeps connections"),
        pytest.param(9, 0.5, False, id="long enough for it to have closed one"),
        pytest.param(9, 0.001, True, id="a server that keeps them, a moment ago"),
    ],
)
def test_an_end_that_was_not_read_yet_is_asked_for_unless_the_connection_was_in_use_a_moment_ago(
    served, later_s, is_taken
):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        _, connection = await loop.create_connection(
            lambda: Connection(header_limit=1000, on_free=lambda _: None, alarm=Alarm(loop)), sock=ours
        )
        connection.served, connection.freed_at, connection.idle_until = served, 100.0, 200.0
        theirs.close()  # the event loop has not looked since
        pool = Pool(1, loop)
        pool.idle.append(connection)
        assert (pool.take_idle(100.0 + later_s) is connection) is is_taken
        connection.abort()
        await asyncio.sleep(0)

    asyncio.run(main())
