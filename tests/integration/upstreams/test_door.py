"""The door against servers that behave, break and lie: what is sent, and when an answer is whole."""

from __future__ import annotations

import asyncio

import pytest

from door_calls import call
from ownward.core import BrokenStream
from ownward.upstreams import Door, DoorLimits, Http1Transport


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


@pytest.mark.parametrize("pieces", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\ncontent-length: 6\nx-a: b\n\na\r\n\nbc", b"a\r\n\nbc"),
        (b"HTTP/1.1 200 OK\ncontent-length: 2\n\n\n\n", b"\n\n"),
        (b"HTTP/1.0 200 OK\n\nab\r\n", b"ab\r\n"),
        (b"HTTP/1.1 204 No Content\n\n", b""),
        (b"HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
    ],
)
def test_a_head_of_lines_that_end_with_line_feeds_is_read_and_its_connection_not_used_again(
    serve, answer, body, pieces
):
    async def main():
        async def script(visit):
            for at in range(0, len(answer), pieces):
                visit.write(answer[at : at + pieces])
                await asyncio.sleep(0.001)
            if answer.startswith(b"HTTP/1.0"):
                visit.transport.close()

        async with serve(script) as served, Door() as door:
            for _ in range(2):
                response = await call(door, served.origin)
                assert await response.read(100) == body
            assert served.connections == 2

    asyncio.run(main())


def test_what_follows_an_answer_of_bare_line_feeds_meets_nobody(serve):
    """A server that repeats a client's words in a header may be made to send two answers; the second is dropped."""
    second = b"HTTP/1.1 200 OK\ncontent-length: 4\n\nevil"

    async def main():
        def script(visit):
            visit.write(b"HTTP/1.1 200 OK\nx-said: a\ncontent-length: 2\n\nok" + second)

        async with serve(script) as served, Door() as door:
            for _ in range(3):
                assert await (await call(door, served.origin)).read(100) == b"ok"
            assert served.connections == 3

    asyncio.run(main())


def test_the_next_answer_of_the_same_server_may_have_other_line_ends(serve):
    async def main():
        def script(visit):
            bare = b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok"
            visit.write(bare if visit.number == 2 else bare[:-2].replace(b"\n", b"\r\n") + b"ok")

        async with serve(script) as served, Door() as door:
            for _ in range(4):
                assert await (await call(door, served.origin)).read(100) == b"ok"
            assert served.connections == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\nx-a: b\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\nok",
        b"HTTP/1.1 200 OK\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\ncontent-length: 2\n\r\nok",
        b"HTTP/1.1 200 OK\nx-a: b\rcontent-length: 2\n\nok",
        b"HTTP/1.1 200 OK\ncontent-length: 1\ncontent-length: 2\n\nab",
        b"HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2\nok\n0\n\n",
        b"HTTP/1.1 200 OK\n" + b"a: b\n" * 1000 + b"\n",
        b"HTTP/1.1 200 OK\na: " + b"b" * 200_000,
        b"HTTP/1.1 200 OK\n" + b"a: bcdef\n" * 20_000,
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
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-trailer: " + b"b" * 1_000_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1;" + b"b" * 1_000_000,
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
