"""Streams that rest by the kernel's low-water mark, over real sockets: what is kept there, and what is told at once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
from collections import Counter

import pytest
import trustme

from ownward.core import BrokenStream
from ownward.upstreams import Gathering, _low_water
from ownward.upstreams._alarm import Alarm
from ownward.upstreams._connection import Connection
from ownward.upstreams._low_water import LowWater
from ownward.upstreams.response import Response

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"

needs_low_water = pytest.mark.skipif(not _low_water.IS_HEEDED, reason="this system has no low-water marks that wake")


try:
    from uvloop import new_event_loop as quick_loop
except ImportError:
    quick_loop = None
LOOPS = {"asyncio": asyncio.new_event_loop} | ({"uvloop": quick_loop} if quick_loop else {})


@pytest.fixture(params=LOOPS)
def run(request):
    """Run a coroutine function on each loop that serves."""

    def on_loop(main):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main())

    return on_loop


@pytest.fixture
def trusted():
    """Return a server's TLS context and that of a client who trusts it."""
    authority, server = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


@contextlib.asynccontextmanager
async def streaming(head, *, server_tls=None, client_tls=None):
    """Yield the response, its connection, how the upstream writes, what is passed on, its task, and who was freed."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = loop.create_future()
    server = await asyncio.start_server(lambda r, w: accepted.set_result((r, w)), "127.0.0.1", 0, ssl=server_tls)
    freed: list[Connection] = []
    _, connection = await loop.create_connection(
        lambda: Connection(header_limit=10_000, on_free=freed.append, alarm=Alarm(loop)),
        *server.sockets[0].getsockname(),
        ssl=client_tls,
    )
    response = Response(upstream="u", origin="o", loop=loop, stall_s=5, buffer_bytes=10_000)
    connection.start(b"GET / HTTP/1.1\r\n\r\n", response, is_head_request=False)
    reader, writer = await accepted
    await reader.readuntil(b"\r\n\r\n")
    writer.write(head)
    while not response.status:
        await response.wait(5)
    taken: list[bytes] = []
    task = asyncio.create_task(response.pass_on(taken.append))
    await asyncio.sleep(0)
    try:
        yield response, connection, writer, taken, task, freed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        connection.abort()
        writer.close()
        server.close()
        await server.wait_closed()


@needs_low_water
def test_what_comes_during_a_rest_stays_in_the_kernel_and_comes_in_one_piece_after_it(run):
    async def main():
        async with streaming(CHUNKED) as (response, _, writer, taken, _, _):
            response.rest()
            for number in range(5):
                writer.write(chunk(b"%d" % number))
                await asyncio.sleep(0.01)
            assert taken == []
            response.end_rest()
            await asyncio.sleep(0.02)
            assert taken == [b"01234"]
            writer.write(chunk(b"5"))
            await asyncio.sleep(0.02)
            assert taken[1:] == [b"5"]

    run(main)


@needs_low_water
def test_under_tls_it_is_the_same(run, trusted):
    async def main():
        server_tls, client_tls = trusted
        async with streaming(CHUNKED, server_tls=server_tls, client_tls=client_tls) as (response, _, writer, taken, *_):
            await asyncio.sleep(0.05)  # session tickets
            response.rest()
            for number in range(5):
                writer.write(chunk(b"%d" % number))
                await asyncio.sleep(0.01)
            assert taken == []
            response.end_rest()
            await asyncio.sleep(0.05)
            assert b"".join(taken) == b"01234"

    run(main)


@needs_low_water
def test_an_upstream_that_closes_ends_the_rest_at_once(run):
    async def main():
        async with streaming(HEAD + b"\r\n") as (response, _, writer, taken, task, _):
            response.rest()
            writer.write(b"the last words")
            writer.close()
            await asyncio.wait_for(task, 1)
            assert taken == [b"the last words"]

    run(main)


@needs_low_water
def test_an_upstream_that_resets_ends_the_rest_at_once(run):
    async def main():
        async with streaming(CHUNKED) as (response, _, writer, _, task, _):
            response.rest()
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.close()
            with pytest.raises(BrokenStream):
                await asyncio.wait_for(task, 1)

    run(main)


@needs_low_water
def test_much_at_once_does_not_wait_for_the_end_of_the_rest(run):
    async def main():
        async with streaming(CHUNKED) as (response, _, writer, taken, _, _):
            response.rest()
            writer.write(chunk(b"x" * 40_000))
            await asyncio.sleep(0.05)
            assert sum(map(len, taken)) > 20_000

    run(main)


@needs_low_water
def test_a_connection_that_is_free_again_tells_of_every_byte_though_its_stream_ended_during_a_rest(run):
    async def main():
        async with streaming(CHUNKED) as (response, connection, writer, _, task, freed):
            response.rest()
            writer.write(chunk(b"x" * 40_000) + b"0\r\n\r\n")
            await asyncio.wait_for(task, 1)
            assert freed == [connection]
            writer.write(b"?")  # nobody asked for it: it closes the connection
            await asyncio.sleep(0.05)
            assert connection.is_closed

    run(main)


def test_a_mark_closes_no_socket_however_it_ends():
    first, second = socket.socketpair()
    with first, second:
        for _ in range(2):
            mark = LowWater(first.fileno())
            mark.let_go()
            assert not mark.put_at(5)
            mark = LowWater(first.fileno())
            del mark
            gc.collect()
            os.fstat(first.fileno())
        first.sendall(b"x")
        assert second.recv(1) == b"x"


def test_a_mark_on_a_socket_that_is_gone_says_so():
    first, second = socket.socketpair()
    second.close()
    mark = LowWater(first.fileno())
    first.close()
    assert not mark.put_at(5)
    mark.let_go()


def test_where_the_kernel_heeds_no_mark_the_connection_is_paused(run, monkeypatch):
    monkeypatch.setattr(_low_water, "IS_HEEDED", False)

    async def main():
        async with streaming(CHUNKED) as (response, _, writer, taken, _, _):
            response.rest()
            writer.write(chunk(b"1"))
            await asyncio.sleep(0.05)
            assert taken == []
            response.end_rest()
            await asyncio.sleep(0.05)
            assert taken == [b"1"]

    run(main)


@needs_low_water
def test_a_thousand_streams_whose_rests_end_together_are_read_a_few_in_each_turn_of_the_loop(run):
    async def main():
        loop, busy = asyncio.get_running_loop(), Gathering(0.05)
        for number in range(10):
            busy.count(10_000, loop.time() - 1 + number / 10)
        turn, reads, is_over = 0, Counter(), False

        def next_turn():
            nonlocal turn
            turn += 1
            if not is_over:
                loop.call_soon(next_turn)

        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(CHUNKED)
            writers.append(writer)

        writers, responses, passing = [], [], []
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000)
        for _ in range(1000):
            _, connection = await loop.create_connection(
                lambda: Connection(header_limit=10_000, on_free=lambda _: None, alarm=Alarm(loop)),
                *server.sockets[0].getsockname(),
            )
            response = Response(upstream="u", origin="o", loop=loop, stall_s=30, buffer_bytes=10_000)
            connection.start(b"GET / HTTP/1.1\r\n\r\n", response, is_head_request=False)
            responses.append(response)
        for response in responses:
            while not response.status:
                await response.wait(30)
            passing.append(asyncio.create_task(response.pass_on(lambda _: reads.update((turn,)))))
        await asyncio.sleep(0)
        for response in responses:
            busy.hold(response, loop, has_rested=True)
        for writer in writers:
            writer.write(chunk(b"data: {}\n\n"))
        next_turn()
        deadline_s = loop.time() + 20
        while reads.total() < len(responses) and loop.time() < deadline_s:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        is_over = True
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)
        for response in responses:
            response.abort()
        for writer in writers:
            writer.close()
        server.close()
        await asyncio.sleep(0.05)
        assert reads.total() == len(responses)
        assert max(reads.values()) <= 128  # those of one turn and what an earlier one had left

    run(main)
