from __future__ import annotations

import asyncio

from ownward.upstreams import Response


class Channel:
    """Counts what an answer asks of its connection."""

    def __init__(self) -> None:
        self.paused = self.aborted = 0

    def pause(self) -> None:
        self.paused += 1

    def resume(self) -> None:
        pass

    def abort(self) -> None:
        self.aborted += 1


def test_a_reader_that_keeps_up_never_makes_the_upstream_wait():
    async def main():
        loop = asyncio.get_running_loop()
        response = Response(upstream="u", origin="o", loop=loop, stall_s=1, buffer_bytes=100)
        channel = Channel()
        response.attach(channel)
        for _ in range(20):
            response.feed(b"x" * 60)
            assert await response.next_chunk() == b"x" * 60
        assert channel.paused == 0
        response.feed(b"x" * 60)
        response.feed(b"x" * 60)
        assert channel.paused == 1
        response.finish()
        assert len(await response.next_chunk()) == 120
        assert await response.next_chunk() == b""
        response.abort()
        assert channel.aborted == 0

    asyncio.run(main())
