"""The door against servers that behave, break, stall and lie."""

from __future__ import annotations

import asyncio
import gc

import pytest

from ownward.core import BadInput, BrokenStream, PolicyRefusal, UpstreamTimeout, UpstreamUnreachable, UsageError
from ownward.policy import ANY, LOCAL_ONLY, Label, Permit, Place, issue_permit
from ownward.upstreams import Door, DoorLimits, Http1Transport, Response, Timeouts

HERE = Place(is_local=True)
QUICK = Timeouts(connect_s=2, first_byte_s=2, stall_s=2)


def permit_for(origin: str, body: bytes = b"", *, label: Label = LOCAL_ONLY, place: Place = HERE) -> Permit:
    return issue_permit(label=label, place=place, upstream="u", origin=origin, body=body)


async def call(
    door: Door, origin: str, body: bytes = b"{}", *, method: str = "POST", timeouts: Timeouts = QUICK, headers=()
) -> Response:
    return await door.send(
        permit_for(origin, body), method=method, target="/v1/x", headers=headers, body=body, timeouts=timeouts
    )


def test_a_request_arrives_as_sent_and_its_answer_comes_back(serve):
    async def main():
        async with serve(lambda v: v.answer(b"fine", b"X-One: 1")) as served, Door() as door:
            response = await call(
                door, served.origin, b'{"a": 1}', headers=[(b"x-api-key", b"k"), (b"Connection", b"x")]
            )
            assert response.status == 200
            assert response.header(b"x-one") == b"1"
            assert response.header(b"x-two") is None
            assert await response.read(100) == b"fine"
            assert await response.next_chunk() == b""
            visit = served.visits[0]
            host = served.origin.removeprefix("http://").encode()
            assert visit.body == b'{"a": 1}'
            assert visit.head.split(b"\r\n") == [
                b"POST /v1/x HTTP/1.1",
                b"host: " + host,
                b"x-api-key: k",
                b"content-length: 8",
                b"accept-encoding: identity",
            ]

    asyncio.run(main())


def test_a_connection_is_used_again_and_in_parallel_calls_are_not_mixed(serve):
    async def main():
        async def echo(visit):
            await asyncio.sleep(0.01)
            visit.answer(visit.body)

        async with serve(echo) as served, Door() as door:
            for number in range(5):
                assert await (await call(door, served.origin, b"%d" % number)).read(99) == b"%d" % number
            assert served.connections == 1

            async def one(number):
                return await (await call(door, served.origin, b"%d" % number)).read(99)

            answers = await asyncio.gather(*(one(number) for number in range(50)))
            assert answers == [b"%d" % number for number in range(50)]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx-trailer: 1\r\n\r\n",
            b"abcde",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
    ],
)
def test_answers_of_each_framing_are_whole_and_keep_the_connection(serve, answer, body):
    async def main():
        async with serve(lambda v: v.write(answer)) as served, Door() as door:
            for number in range(4):
                await asyncio.sleep(0.3 if number == 1 and b"chunked" in answer else 0)
                response = await call(door, served.origin)
                assert await response.read(100) == body
                assert response.header(b"x-trailer") is None
                assert response.header(b"link") is None
            assert served.connections == 1

    asyncio.run(main())


def test_an_answer_in_single_bytes_is_the_same_answer(serve):
    async def main():
        async def drip(visit):
            for byte in b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
                visit.write(bytes([byte]))
                await asyncio.sleep(0.001)

        async with serve(drip) as served, Door() as door:
            for _ in range(2):
                assert await (await call(door, served.origin)).read(100) == b"abc"

    asyncio.run(main())


def test_a_body_without_length_runs_to_the_end_of_the_connection(serve):
    async def main():
        async def until_end(visit):
            visit.write(b"HTTP/1.1 200 OK\r\n\r\nab")
            await asyncio.sleep(0.01)
            visit.write(b"cd")
            visit.transport.close()

        async with serve(until_end) as served, Door() as door:
            response = await call(door, served.origin)
            assert await response.read(100) == b"abcd"
            assert response.is_complete
            await (await call(door, served.origin)).read(100)
            assert served.connections == 2

    asyncio.run(main())


def test_a_head_request_has_no_body_and_its_connection_is_not_kept(serve):
    async def main():
        script = lambda v: v.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789")  # noqa: E731
        async with serve(script) as served, Door() as door:
            response = await call(door, served.origin, b"", method="HEAD")
            assert response.header(b"content-length") == b"10"
            assert await response.read(100) == b""
            response = await call(door, served.origin, b"", method="GET")
            assert await response.read(100) == b"0123456789"
            assert served.connections == 2

    asyncio.run(main())


@pytest.mark.parametrize("ending", [b"connection: close", b"keep-alive: timeout=1"])
def test_a_server_that_announces_its_end_is_not_asked_again_on_that_connection(serve, ending):
    async def main():
        transport = Http1Transport()
        async with serve(lambda v: v.answer(b"ok", ending)) as served, Door(transport=transport) as door:
            for _ in range(2):
                await (await call(door, served.origin)).read(9)
                await asyncio.sleep(0)
                assert transport.open_connections == 0
            assert served.connections == 2

    asyncio.run(main())


def test_a_redirect_is_handed_back_and_not_followed(serve):
    async def main():
        async with serve(lambda v: v.answer(b"secret")) as elsewhere:
            location = b"location: " + elsewhere.origin.encode()
            script = lambda v: v.write(b"HTTP/1.1 307 Moved\r\ncontent-length: 0\r\n" + location + b"\r\n\r\n")  # noqa: E731
            async with serve(script) as served, Door() as door:
                response = await call(door, served.origin)
                assert response.status == 307
                assert await response.read(9) == b""
            assert elsewhere.visits == []

    asyncio.run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"b" * 200_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_an_answer_that_is_not_http_breaks_and_closes_and_the_next_call_is_clean(serve, answer):
    async def main():
        def script(visit):
            if visit.number == 1:
                visit.write(answer)
            else:
                visit.answer(b"ok")

        async with serve(script) as served, Door() as door:
            with pytest.raises(BrokenStream, match="may have accepted"):
                await (await call(door, served.origin)).read(100)
            assert await (await call(door, served.origin)).read(100) == b"ok"
            assert served.connections == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    "framing", [b"content-length: 10\r\n\r\nabc", b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"]
)
def test_a_server_closing_mid_body_breaks_the_stream_after_what_arrived(serve, framing):
    async def main():
        def script(visit):
            visit.write(b"HTTP/1.1 200 OK\r\n" + framing)
            visit.transport.close()

        async with serve(script) as served, Door() as door:
            response = await call(door, served.origin)
            assert await response.next_chunk() == b"abc"
            with pytest.raises(BrokenStream, match="after 3 bytes"):
                await response.next_chunk()
            assert response.bytes_received == 3
            assert not response.is_complete

    asyncio.run(main())


def test_a_reset_after_the_request_was_written_is_not_retried(serve):
    """It may have been accepted, so that it is the caller's to decide."""

    async def main():
        def script(visit):
            if visit.number == 1:
                visit.answer(b"ok")
            else:
                visit.transport.abort()

        async with serve(script) as served, Door() as door:
            await (await call(door, served.origin)).read(9)
            with pytest.raises(BrokenStream, match="may have accepted"):
                await call(door, served.origin)
            assert len(served.visits) == 2

    asyncio.run(main())


def test_a_connection_the_server_closed_while_idle_is_replaced_unseen(serve):
    async def main():
        async with serve(lambda v: v.answer(b"ok")) as served, Door() as door:
            for _ in range(5):
                await (await call(door, served.origin)).read(9)
                for transport in served.transports:
                    transport.close()
                await asyncio.sleep(0)
            assert len(served.visits) == 5
            assert served.connections == 5

    asyncio.run(main())


@pytest.mark.parametrize("delay_s", [0, 0.001])
def test_a_server_that_closes_after_each_stream_without_saying_so_loses_no_request(serve, delay_s):
    """As llama.cpp does: a request written while its close is on its way would be lost, and seem accepted."""

    async def main():
        async def stream(visit):
            if visit.body == b"whole":
                visit.answer(b"ok")
                return
            visit.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
            await asyncio.sleep(delay_s)
            visit.transport.close()

        async with serve(stream) as served, Door() as door:

            async def several():
                for number in range(20):
                    body = b"whole" if number % 3 == 0 else b"stream"
                    assert await (await call(door, served.origin, body)).read(9) == b"ok"

            await asyncio.gather(*(several() for _ in range(5)))
            assert len(served.visits) == 100
            assert served.connections < 100

    asyncio.run(main())


def test_a_server_that_starts_to_close_after_streams_is_found_out_once(serve):
    async def main():
        is_closing = False

        async def stream(visit):
            visit.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
            if is_closing:
                await asyncio.sleep(0.01)
                visit.transport.close()

        async with serve(stream) as served, Door() as door:
            await (await call(door, served.origin)).read(9)
            await asyncio.sleep(0.3)
            for _ in range(3):
                await (await call(door, served.origin)).read(9)
            assert served.connections == 1
            is_closing = True
            await (await call(door, served.origin)).read(9)
            await asyncio.sleep(0.05)
            for _ in range(3):
                await (await call(door, served.origin)).read(9)
            assert served.connections == 4

    asyncio.run(main())


@pytest.mark.parametrize("ending", ["abort", "break", "sweep", "expiry"])
def test_other_endings_do_not_make_a_server_seem_to_close_after_streams(serve, monkeypatch, ending):
    monkeypatch.setattr("ownward.upstreams.http1._CLOSED_AFTER_S", 0.1 if ending == "expiry" else 60.0)

    async def main():
        async def stream(visit):
            visit.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")
            if visit.body == b"break":
                visit.transport.close()
            elif visit.body != b"abort":
                visit.write(b"0\r\n\r\n")
            if visit.body == b"expiry":
                await asyncio.sleep(0.2)
                visit.transport.close()

        limits = DoorLimits(idle_s=0.4 if ending == "sweep" else 4)
        async with serve(stream) as served, Door(limits=limits) as door:
            await (await call(door, served.origin)).read(9)
            await asyncio.sleep(0.3)
            response = await call(door, served.origin, ending.encode())
            assert await response.next_chunk() == b"ok"
            response.abort()
            await asyncio.sleep(0.02 if ending in {"abort", "break"} else 0.25 if ending == "expiry" else 0.9)
            assert served.closed == 1
            for _ in range(3):
                await (await call(door, served.origin)).read(9)
            assert served.connections == 2

    asyncio.run(main())


def test_a_close_the_event_loop_has_not_yet_seen_is_seen_before_writing(serve):
    """The end waits in the kernel; only asking it shows that nothing can be accepted there."""

    async def main():
        async with serve(lambda v: v.answer(b"ok")) as served, Door() as door:
            await (await call(door, served.origin)).read(9)
            served.transports[0].get_extra_info("socket")._sock.shutdown(1)  # no turn of the loop in between
            assert await (await call(door, served.origin)).read(9) == b"ok"
            assert served.connections == 2

    asyncio.run(main())


def test_bytes_nobody_asked_for_never_meet_the_next_request(serve):
    async def main():
        def script(visit):
            visit.answer(b"ok" if visit.number > 1 else b"")
            if visit.number == 1:
                visit.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")

        async with serve(script) as served, Door() as door:
            assert await (await call(door, served.origin)).read(9) == b""
            assert await (await call(door, served.origin)).read(9) == b"ok"
            assert served.connections == 2

    asyncio.run(main())


def test_half_an_answer_nobody_asked_for_closes_the_connection(serve):
    async def main():
        def script(visit):
            length = 2 if visit.number > 1 else 0
            visit.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % length + b"ok"[:length])
            if visit.number == 1:
                visit.write(b"HTTP/1.1 200 OK\r\nx-evil: ")

        async with serve(script) as served, Door() as door:
            await (await call(door, served.origin)).read(9)
            response = await call(door, served.origin)
            assert await response.read(9) == b"ok"
            assert response.header(b"x-evil") is None

    asyncio.run(main())


def test_even_an_empty_line_on_an_idle_connection_closes_it(serve):
    async def main():
        async with serve(lambda v: v.answer(b"ok")) as served, Door() as door:
            await (await call(door, served.origin)).read(9)
            served.transports[0].write(b"\r\n")
            await asyncio.sleep(0.02)
            assert served.closed == 1

    asyncio.run(main())


def test_an_upstream_that_is_not_there_is_unreachable_and_takes_no_place_in_the_pool(unused_origin):
    async def main():
        async with Door(limits=DoorLimits(connections_per_origin=1)) as door:
            for _ in range(2):
                with pytest.raises(UpstreamUnreachable, match=r"gave no connection \(.*Nothing was sent"):
                    await call(door, unused_origin)

    asyncio.run(main())


@pytest.fixture
def unused_origin() -> str:
    """An origin on loopback where nothing listens."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_silence_before_the_head_times_out_and_closes(serve):
    async def main():
        async with serve(lambda v: None) as served, Door() as door:
            with pytest.raises(UpstreamTimeout, match=r"0\.05 s"):
                await call(door, served.origin, timeouts=Timeouts(first_byte_s=0.05))
            await asyncio.sleep(0.02)
            assert served.closed == 1

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
            response = await call(door, served.origin)
            started = asyncio.get_running_loop().time()
            pieces = response.chunks(0.05)
            assert await anext(pieces) == b"abc"
            with pytest.raises(UpstreamTimeout, match="after 3 bytes"):
                await anext(pieces)
            assert asyncio.get_running_loop().time() - started < 1
            await asyncio.sleep(0.02)
            assert served.closed == 1

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
                await asyncio.sleep(0.09)
                assert served.closed == number + 1
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
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await call(door, served.origin)
            elif how == "leave":
                async with await call(door, served.origin) as response:
                    assert response.status == 200
            else:
                response = await call(door, served.origin)
                await response.next_chunk()
                response._timer.cancel()
                response._timer = None
                del response
                gc.collect()
            await asyncio.sleep(0.03)
            assert served.closed == 1

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


# What the door demands.


def test_without_a_permit_nothing_goes_out(serve):
    async def main():
        async with serve(lambda v: v.answer(b"ok")) as served, Door() as door:

            class Looks:
                label, place, upstream, origin = ANY, HERE, "u", served.origin

                def covers(self, body):
                    return True

            for permit in (None, Looks(), object()):
                with pytest.raises(PolicyRefusal, match="without a permit"):
                    await door.send(permit, method="POST", target="/", headers=(), body=b"")
            assert served.connections == 0

    asyncio.run(main())


def test_a_permit_opens_the_door_for_its_own_body_only(serve):
    async def main():
        async with serve(lambda v: v.answer(b"ok")) as served, Door() as door:
            permit = permit_for(served.origin, b"mine")
            for body in (b"other", b"mine ", b""):
                with pytest.raises(PolicyRefusal, match="not the one"):
                    await door.send(permit, method="POST", target="/", headers=(), body=body)
            assert served.connections == 0
            same = bytes(bytearray(b"mine"))
            await (await door.send(permit, method="POST", target="/", headers=(), body=same)).read(9)
            assert served.visits[0].body == b"mine"

    asyncio.run(main())


def test_the_call_goes_to_the_permits_origin(serve):
    async def main():
        async with serve(lambda v: v.answer(b"a")) as one, serve(lambda v: v.answer(b"b")) as two, Door() as door:
            assert await (await call(door, one.origin)).read(9) == b"a"
            assert await (await call(door, two.origin)).read(9) == b"b"
            assert len(one.visits) == len(two.visits) == 1

    asyncio.run(main())


class FakeDns:
    """A resolver whose answers change from call to call."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.calls = list(answers), 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.calls += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    "addresses", [["8.8.8.8"], ["127.0.0.1", "8.8.8.8"], ["10.0.0.7"], ["100.64.0.1"], ["2001:db8::1"]]
)
def test_a_place_stated_local_whose_address_is_not_is_refused(addresses):
    async def main():
        transport = Http1Transport(resolver=FakeDns(addresses))
        async with Door(transport=transport) as door:
            for origin in ("http://model.internal", "https://model.internal"):
                with pytest.raises(PolicyRefusal, match="stated to be on this machine"):
                    await call(door, origin)
            assert transport.open_connections == 0

    asyncio.run(main())


@pytest.mark.parametrize("addresses", [["8.8.8.8"], ["10.0.0.7", "8.8.8.8"], ["100.64.0.1"], ["2001:db8::1"]])
def test_a_place_stated_on_site_whose_address_is_not_private_is_refused(addresses):
    async def main():
        transport = Http1Transport(resolver=FakeDns(addresses))
        async with Door(transport=transport) as door:
            permit = permit_for("https://model.internal", label=Label.parse("site"), place=Place(is_on_site=True))
            with pytest.raises(PolicyRefusal, match="stated to be on your own network"):
                await door.send(permit, method="GET", target="/", headers=())
            assert transport.open_connections == 0

    asyncio.run(main())


@pytest.mark.parametrize("address", ["169.254.169.254", "0.0.0.0", "224.0.0.1", "fe80::1%eth0", "::"])
def test_no_upstream_may_stand_at_a_forbidden_address(address):
    async def main():
        async with Door(transport=Http1Transport(resolver=FakeDns([address]))) as door:
            for place in (HERE, Place(region="eu")):
                permit = permit_for("https://x.example", label=ANY, place=place)
                with pytest.raises(PolicyRefusal, match="no upstream may be"):
                    await door.send(permit, method="GET", target="/", headers=())

    asyncio.run(main())


def test_what_would_travel_in_the_clear_to_a_public_address_is_refused():
    async def main():
        async with Door(transport=Http1Transport(resolver=FakeDns(["8.8.8.8"]))) as door:
            permit = permit_for("http://x.example", label=ANY, place=Place(region="eu"))
            with pytest.raises(PolicyRefusal, match="not encrypted"):
                await door.send(permit, method="GET", target="/", headers=())

    asyncio.run(main())


def test_the_address_checked_is_the_address_connected_to(serve):
    """A name that resolves to loopback when checked and elsewhere a moment later reaches loopback."""

    async def main():
        async with serve(lambda v: v.answer(b"ok")) as served:
            dns = FakeDns(["127.0.0.1"], ["8.8.8.8"])
            async with Door(transport=Http1Transport(resolver=dns)) as door:
                origin = served.origin.replace("127.0.0.1", "rebind.example")
                assert await (await call(door, origin)).read(9) == b"ok"
                assert dns.calls == 1
                assert served.visits[0].head.split(b"\r\n")[1].startswith(b"host: rebind.example:")

    asyncio.run(main())


def test_a_connection_opened_for_a_remote_place_never_serves_a_local_permit(serve, monkeypatch):
    """Pooled connections are checked too: here loopback stands for a public address."""

    async def main():
        async with serve(lambda v: v.answer(b"ok")) as served, Door() as door:
            await (await call(door, served.origin)).read(9)
            pool = next(iter(door._transport._pools.values()))
            pool.idle[0].is_peer_loopback = False
            with pytest.raises(PolicyRefusal, match="stated to be on this machine"):
                await call(door, served.origin)
            site = permit_for(served.origin, label=Label.parse("site"), place=Place(is_on_site=True))
            await (await door.send(site, method="GET", target="/", headers=())).read(9)
            pool.idle[0].is_peer_private = False
            with pytest.raises(PolicyRefusal, match="stated to be on your own network"):
                await door.send(site, method="GET", target="/", headers=())
            assert len(served.visits) == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/a\r\nx: y", ()),
        ("/a b", ()),
        ("/a\n", ()),
        ("/", [(b"x", b"a\r\nhost: evil")]),
        ("/", [(b"x", b"a\nb")]),
        ("/", [(b"x\r\n", b"a")]),
        ("/", [(b"x", b"a\0")]),
        ("/", [(b"x", b"a\r")]),
    ],
)
def test_line_breaks_in_target_or_headers_are_refused_without_showing_them(serve, target, headers):
    async def main():
        async with serve(lambda v: v.answer(b"ok")) as served, Door() as door:
            with pytest.raises(BadInput) as refused:
                await door.send(permit_for(served.origin), method="GET", target=target, headers=headers)
            assert "evil" not in str(refused.value)
            assert served.visits == []

    asyncio.run(main())


def test_keys_are_in_no_message_repr_or_log(serve, caplog, unused_origin):
    async def main():
        key = "sk-canary-4711"
        headers = [(b"authorization", f"Bearer {key}".encode())]
        body = b'{"secret":"canary-body"}'
        seen = []
        scripts = [
            lambda v: v.write(b"nonsense\r\n\r\n"),
            lambda v: v.transport.abort(),
            lambda v: None,
            lambda v: v.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"),
        ]
        quick = Timeouts(first_byte_s=0.05, stall_s=0.05)
        async with Door() as door:
            for script in scripts:
                async with serve(script) as served:
                    try:
                        response = await call(door, served.origin, body, timeouts=quick, headers=headers)
                        seen.append(repr(response))
                        await response.read(99)
                    except (BrokenStream, UpstreamTimeout) as error:
                        seen += [str(error), repr(error), repr(error.as_record())]
            with pytest.raises(UpstreamUnreachable) as unreachable:
                await call(door, unused_origin, body, headers=headers)
            seen += [str(unreachable.value), repr(door), repr(permit_for(unused_origin, body))]
            seen += [repr(connection) for connection in door._transport._connections]
        assert len(seen) > 10
        assert not any("canary" in text for text in [*seen, caplog.text])

    asyncio.run(main())


def test_timeouts_are_above_zero():
    with pytest.raises(UsageError, match="stall_s"):
        Timeouts(stall_s=0)
