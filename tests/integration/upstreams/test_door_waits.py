"""The door against silence and crowds: what times out, what is bounded, and who waits for a connection."""

from __future__ import annotations

import asyncio
import time

import pytest

from door_calls import call
from ownward.core import BrokenStream, UpstreamTimeout, UpstreamUnreachable
from ownward.upstreams import Door, DoorLimits, Http1Transport, Timeouts, http1
from waiting import until


def test_an_upstream_that_is_not_there_is_unreachable_and_takes_no_place_in_the_pool(unused_origin):
    async def main():
        async with Door(limits=DoorLimits(connections_per_origin=1)) as door:
            for _ in range(2):
                with pytest.raises(UpstreamUnreachable, match=r"gave no connection \(.*Nothing was sent"):
                    await call(door, unused_origin)

    asyncio.run(main())


def test_silence_before_the_head_times_out_and_closes(serve):
    async def main():
        async with serve(lambda v: None) as served, Door() as door:
            with pytest.raises(UpstreamTimeout, match=r"0\.05 s"):
                await call(door, served.origin, timeouts=Timeouts(first_byte_s=0.05))
            await until(lambda: served.closed == 1)

    asyncio.run(main())


def test_a_head_that_drips_for_ever_times_out(serve):
    """Each byte comes in time; the head as a whole does not."""

    async def main():
        async def drip(visit):
            visit.write(b"HTTP/1.1 200 OK\r\nx: ")
            while True:
                visit.write(b"y")
                await asyncio.sleep(0.005)

        async with serve(drip) as served, Door() as door:
            with pytest.raises(UpstreamTimeout):
                await call(door, served.origin, timeouts=Timeouts(first_byte_s=0.1))

    asyncio.run(main())


def test_a_stalled_body_times_out_after_what_arrived(serve):
    async def main():
        async with (
            serve(lambda v: v.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")) as served,
            Door() as door,
        ):
            response = await call(door, served.origin, timeouts=Timeouts(stall_s=0.05))
            started = asyncio.get_running_loop().time()
            pieces = response.chunks()
            assert await anext(pieces) == b"abc"
            with pytest.raises(UpstreamTimeout, match="after 3 bytes"):
                await anext(pieces)
            assert asyncio.get_running_loop().time() - started < 1
            await until(lambda: served.closed == 1)

    asyncio.run(main())


def test_a_body_that_keeps_coming_does_not_time_out_however_long_it_takes(serve):
    async def main():
        async def slow(visit):
            visit.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
            for _ in range(10):
                await asyncio.sleep(0.06)
                visit.write(b"x")

        async with serve(slow) as served, Door() as door:
            response = await call(door, served.origin, timeouts=Timeouts(first_byte_s=0.5, stall_s=0.5))
            assert await response.read(99) == b"x" * 10

    asyncio.run(main())


def test_a_slow_reader_is_no_stall(serve):
    async def main():
        async with serve(lambda v: v.answer(b"x" * 3_000_000)) as served, Door() as door:
            response = await call(door, served.origin, timeouts=Timeouts(stall_s=0.1))
            await asyncio.sleep(0.3)
            assert len(await response.read(4_000_000)) == 3_000_000

    asyncio.run(main())


def test_abort_closes_the_connection_within_100_ms(serve):
    async def main():
        async def endless(visit):
            visit.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            while not visit.transport.is_closing():
                visit.write(b"1\r\nx\r\n")
                await asyncio.sleep(0.005)

        async with serve(endless) as served, Door() as door:
            taken_s = []
            for number in range(3):  # the machine may be busy for a moment, not three times
                response = await call(door, served.origin)
                await response.next_chunk()
                started = asyncio.get_running_loop().time()
                response.abort()
                response.abort()
                with pytest.raises(BrokenStream, match="given up"):
                    await response.read(10_000)
                await until(lambda count=number + 1: served.closed == count)
                taken_s.append(served.closed_at[-1] - started)
            assert min(taken_s) < 0.1

    asyncio.run(main())


@pytest.mark.parametrize("how", ["leave", "cancel", "drop"])
def test_a_call_given_up_in_any_way_closes_its_connection(serve, how):
    async def main():
        async def half(visit):
            await asyncio.sleep(0 if how != "cancel" else 60)
            visit.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")

        async with serve(half) as served, Door() as door:
            if how == "cancel":
                asked = asyncio.create_task(call(door, served.origin))
                await until(lambda: served.visits)
                asked.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asked
            elif how == "leave":
                async with await call(door, served.origin) as response:
                    assert response.status == 200
            else:
                response = await call(door, served.origin)
                await response.next_chunk()
                del response
            await until(lambda: served.closed == 1)

    asyncio.run(main())


def test_an_answer_longer_than_the_limit_is_refused_and_closed(serve):
    async def main():
        async with serve(lambda v: v.answer(b"x" * 1000)) as served, Door() as door:
            response = await call(door, served.origin)
            with pytest.raises(BrokenStream, match="more than 999 bytes"):
                await response.read(999)
            response = await call(door, served.origin)
            assert len(await response.read(1000)) == 1000

    asyncio.run(main())


def test_a_slow_reader_makes_the_upstream_wait_and_memory_stays_bounded(serve):
    async def main():
        total = 32 * 1024 * 1024
        async with (
            serve(lambda v: v.answer(b"x" * total)) as served,
            Door(limits=DoorLimits(buffer_bytes=65536)) as door,
        ):
            response = await call(door, served.origin)
            await asyncio.sleep(0.2)
            assert response.bytes_received < 65536 + 512 * 1024
            assert served.transports[0].get_write_buffer_size() > 0
            assert len(await response.read(total)) == total
            assert await (await call(door, served.origin)).next_chunk()

    asyncio.run(main())


def test_a_connection_paused_at_the_end_of_an_answer_reads_the_next_one(serve):
    async def main():
        limits = DoorLimits(buffer_bytes=1000)
        async with serve(lambda v: v.answer(b"x" * 20_000)) as served, Door(limits=limits) as door:
            for _ in range(3):
                assert len(await (await call(door, served.origin)).read(20_000)) == 20_000
            assert served.connections == 1

    asyncio.run(main())


def test_connections_to_an_origin_are_bounded_and_waiting_calls_are_served_in_turn(serve):
    async def main():
        most_at_once = at_once = 0

        async def slow(visit):
            nonlocal most_at_once, at_once
            at_once += 1
            most_at_once = max(most_at_once, at_once)
            await asyncio.sleep(0.01)
            at_once -= 1
            visit.answer(visit.body, *((b"connection: close",) if visit.number % 3 == 0 else ()))

        limits = DoorLimits(connections_per_origin=4)
        transport = Http1Transport(limits=limits)
        async with serve(slow) as served, Door(transport=transport) as door:

            async def one(number):
                if number % 7 == 0:
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.004):
                            await call(door, served.origin, b"%d" % number)
                    return None
                return await (await call(door, served.origin, b"%d" % number)).read(99)

            await asyncio.gather(*(one(number) for number in range(60)))
            assert most_at_once <= 4 + 1  # one may still be counted by the server while its connection is cut
            assert transport.open_connections <= 4

    asyncio.run(main())


def test_a_call_that_gets_no_connection_in_time_was_not_sent(serve):
    async def main():
        limits = DoorLimits(connections_per_origin=1)
        async with serve(lambda v: None) as served, Door(limits=limits) as door:
            first = asyncio.ensure_future(call(door, served.origin))
            await asyncio.sleep(0.02)
            with pytest.raises(UpstreamUnreachable, match="no connection within"):
                await call(door, served.origin, timeouts=Timeouts(connect_s=0.05))
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert len(served.visits) == 1

    asyncio.run(main())


def test_calls_beyond_the_waiting_line_are_refused_at_once(serve):
    async def main():
        limits = DoorLimits(connections_per_origin=1, waiting_per_origin=2)
        async with serve(lambda v: None) as served, Door(limits=limits) as door:
            pending = [asyncio.ensure_future(call(door, served.origin)) for _ in range(3)]
            await asyncio.sleep(0.02)
            with pytest.raises(UpstreamUnreachable, match="2 calls waiting"):
                await call(door, served.origin)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    asyncio.run(main())


def test_idle_connections_are_closed_after_their_time(serve):
    async def main():
        transport = Http1Transport(limits=DoorLimits(idle_s=0.05))
        async with serve(lambda v: v.answer(b"ok")) as served, Door(transport=transport) as door:
            await (await call(door, served.origin)).read(9)
            await asyncio.sleep(0.2)
            assert transport.open_connections == 0
            assert served.closed == 1

    asyncio.run(main())


def test_a_connection_that_was_idle_as_the_machine_fell_asleep_is_not_used_when_it_wakes(serve, monkeypatch):
    """Its server has closed it since, or cannot be reached by it any more; the event loop's clock slept too."""
    asleep = [1000.0]
    monkeypatch.setattr(http1, "sleepless_s", lambda: time.monotonic() + asleep[0])

    async def main():
        async with serve(lambda v: v.answer(b"ok", b"keep-alive: timeout=60")) as served, Door() as door:
            for asleep[0], connections in ((1000.0, 1), (1002.0, 1), (5000.0, 2), (5000.5, 2), (9000.0, 3)):
                assert await (await call(door, served.origin)).read(9) == b"ok"
                assert served.connections == connections

    asyncio.run(main())


def test_a_call_in_flight_outlives_the_machines_sleep(serve, monkeypatch):
    asleep = [0.0]
    monkeypatch.setattr(http1, "sleepless_s", lambda: time.monotonic() + asleep[0])

    async def slow(visit):
        if visit.body == b"slow":
            await asyncio.sleep(0.1)
        visit.answer(b"ok")

    async def main():
        async with serve(slow) as served, Door() as door:
            waiting = asyncio.create_task(call(door, served.origin, b"slow"))
            await asyncio.sleep(0.02)
            asleep[0] = 5000.0
            assert await (await call(door, served.origin)).read(9) == b"ok"
            assert await (await waiting).read(9) == b"ok"

    asyncio.run(main())


def test_a_connection_past_its_time_is_not_used_even_before_it_is_swept(serve):
    async def main():
        limits = DoorLimits(idle_s=60, idle_most_s=0.05)
        async with serve(lambda v: v.answer(b"ok", b"keep-alive: timeout=30")) as served, Door(limits=limits) as door:
            await (await call(door, served.origin)).read(9)
            await (await call(door, served.origin)).read(9)
            assert served.connections == 1
            await asyncio.sleep(0.1)
            await (await call(door, served.origin)).read(9)
            assert served.connections == 2

    asyncio.run(main())


def test_an_early_answer_to_a_long_upload_is_given_and_the_connection_spent(serve):
    async def main():
        class Early(asyncio.Protocol):
            def connection_made(self, transport):
                transport.pause_reading()
                transport.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
                made.append(transport)

        made = []
        server = await asyncio.get_running_loop().create_server(Early, "127.0.0.1", 0)
        origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Door() as door:
            response = await call(door, origin, b"x" * 50_000_000)
            assert response.status == 413
            assert await response.read(9) == b"big"
            await asyncio.sleep(0.01)
            assert door._transport.open_connections == 0
        for transport in made:
            transport.abort()
        server.close()

    asyncio.run(main())


def test_a_closed_door_lets_nothing_out_and_leaves_nothing_open(serve):
    async def main():
        transport = Http1Transport()
        async with serve(lambda v: v.answer(b"ok")) as served:
            door = Door(transport=transport)
            await (await call(door, served.origin)).read(9)
            await door.close()
            assert transport.open_connections == 0
            with pytest.raises(UpstreamUnreachable, match="closed"):
                await call(door, served.origin)
            await asyncio.sleep(0.01)
            assert served.connections == 1

    asyncio.run(main())
