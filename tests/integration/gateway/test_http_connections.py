"""HTTP/1.1 as our own listener speaks it: kept connections, bodies, limits, and what is refused as ambiguous."""
# ruff: noqa: ASYNC110 - what is waited for is looked at from outside

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from leftovers import none_alive, resting_collector
from ownward.core import SystemClock
from ownward.gateway.listening.call import Call
from ownward.gateway.listening.connection import HttpConnection
from ownward.gateway.listening.listener import Listener
from ownward.gateway.listening.port import bind
from ownward.gateway.settings import GatewaySettings

App = Callable[[Any, Any, Any], Awaitable[None]]
Answer = Callable[[Call], Awaitable[None]]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with method, path and the body, as ASGI has it."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        parts.append(message["body"])
        if not message["more_body"]:
            break
    body = b"%b %b?%b %b" % (scope["method"].encode(), scope["path"].encode(), scope["query_string"], b"".join(parts))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def carried(app: App) -> Answer:
    """Return how an ASGI application answers a call: by its messages."""
    return lambda call: app(call.scope, call.receive, call.send)


@contextlib.asynccontextmanager
async def listening(
    app: App = echo, *, answer: Answer | None = None, **limits: Any
) -> AsyncIterator[tuple[Listener, int]]:
    listener = Listener(answer or carried(app), limits=GatewaySettings(port=0, **limits), clock=SystemClock())
    bound = bind("127.0.0.1", 0)
    await listener.start(bound)
    try:
        yield listener, bound.getsockname()[1]
    finally:
        await listener.stop(0.2)


async def say(port: int, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """Return everything that comes back until the server closes, or says nothing for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = b""
    try:
        for piece in pieces:
            writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            if pause_s:
                await asyncio.sleep(pause_s)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(0.12):
                while part := await reader.read(65536):
                    said += part
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return said


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]


GET = b"GET /a?b=c HTTP/1.1\r\nhost: x\r\n\r\n"


def test_a_request_is_answered_and_the_connection_kept() -> None:
    async def main() -> None:
        async with listening() as (_, port):
            said = await say(port, GET, GET, pause_s=0.02)
            assert said.count(b"HTTP/1.1 200 OK") == 2
            assert said.count(b"GET /a?b=c ") == 2
            assert b"connection: close" not in said
            assert b"\r\ndate: " in said

    run(main)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_requests_arrive_in_pieces_of_any_size(size: int) -> None:
    chunked = b"POST /p HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    chunked += b"4;x=y\r\nabcd\r\n3\r\nefg\r\n0\r\nt: 1\r\n\r\n"
    whole = b"POST /q HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
    stream = chunked + whole + GET

    async def main() -> None:
        async with listening() as (_, port):
            said = await say(port, *(stream[at : at + size] for at in range(0, len(stream), size)))
            bodies = [b"POST /p? abcdefg", b"POST /q? hello", b"GET /a?b=c "]
            places = [said.find(body) for body in bodies]
            assert -1 not in places
            assert places == sorted(places)

    run(main)


def posted(body: bytes, *lines: bytes) -> bytes:
    head = b"".join(b"%b\r\n" % line for line in (b"POST /q HTTP/1.1", b"host: x", *lines))
    return head + b"content-length: %d\r\n\r\n%b" % (len(body), body)


def undated(said: bytes) -> bytes:
    return re.sub(rb"\r\ndate: [^\r]*", b"", said)


class Parsed(HttpConnection):
    """A connection that counts the heads that its parser has read."""

    heads = 0

    def on_url(self, url: bytes) -> None:
        Parsed.heads += 1
        super().on_url(url)


def test_a_head_that_comes_again_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ownward.gateway.listening.listener.HttpConnection", Parsed)
    monkeypatch.setattr(Parsed, "heads", 0)
    bodies = [b"%d" % 10**digits for digits in range(12)]

    async def main() -> None:
        async with listening() as (_, port):
            said = await say(port, *map(posted, bodies), pause_s=0.01)
            answers = [said.find(b"POST /q? %b" % body) for body in bodies]
            assert said.count(b"HTTP/1.1 200 OK") == len(bodies)
            assert answers == sorted(answers)
            assert Parsed.heads == 2  # the first of a connection may be its last

    run(main)


@pytest.mark.parametrize(
    "pieces",
    [
        [posted(b"next" * 2)],
        [posted(b"a") + posted(b"bc")],
        [posted(b"next")[:-2], b"xt"],
        [posted(b"next")[:9], posted(b"next")[9:]],
        [b"\r\n" + posted(b"next")],
        [posted(b"next", b"x-other: 1"), posted(b"next")],
        [GET, posted(b"next")],
        [b"POST /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", posted(b"b")],
        [posted(b"next").replace(b"\r\n\r\n", b"\r\ncontent-length: 4\r\n\r\n")],
        [posted(b"next").replace(b": 4", b": +4")],
        [posted(b"next").replace(b"\r\n", b"\n")],
        [posted(b"next").replace(b"host", b" host")],
        [posted(b"next", b"connection: close"), posted(b"never")],
        [posted(b"next") + b"junk"],
    ],
)
def test_a_connection_with_a_known_head_says_what_one_without_says(pieces: list[bytes]) -> None:
    async def main() -> None:
        async with listening() as (_, port):
            before = [posted(b"before")] * 3
            fresh = await say(port, *pieces, pause_s=0.01)
            kept = await say(port, *before, *pieces, pause_s=0.01)
            first = await say(port, before[0])
            assert undated(kept) == undated(first * 3 + fresh)

    run(main)


def test_requests_behind_each_other_are_answered_in_their_order() -> None:
    async def slow_first(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/0":
            await asyncio.sleep(0.05)
        await echo(scope, receive, send)

    async def main() -> None:
        async with listening(slow_first) as (_, port):
            said = await say(port, b"".join(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % number for number in range(5)))
            places = [said.find(b"GET /%d? " % number) for number in range(5)]
            assert -1 not in places
            assert places == sorted(places)

    run(main)


def test_of_requests_that_wait_behind_another_little_is_held_and_all_are_answered() -> None:
    """Bodies count towards `max_bodies_bytes` once their request is begun, and these are not."""

    async def main() -> None:
        go_on = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await go_on.wait()
            size = len((await receive())["body"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"<%d>" % size})

        async with listening(app) as (listener, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            sizes = [0, *(200_000 + number for number in range(20))]
            writer.write(b"".join(posted(b"x" * size) for size in sizes))
            await asyncio.sleep(0.2)
            (connection,) = listener.connections
            assert 0 < sum(call.unread_body_bytes for call in connection._waiting) < 1_000_000
            go_on.set()
            for size in sizes:
                async with asyncio.timeout(2):
                    await reader.readuntil(b"<%d>" % size)
            writer.close()

    run(main)


def test_too_many_requests_behind_each_other_end_the_connection() -> None:
    async def main() -> None:
        async with listening() as (listener, port):
            said = await say(port, GET * 2000)
            assert 0 < said.count(b"HTTP/1.1 200 OK") < 100
            await asyncio.sleep(0.05)
            assert not listener.connections

    run(main)


POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
MALFORMED = {
    "length and chunks": POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "one length twice": POST + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "a list of lengths": POST + b"content-length: 3, 3\r\n\r\nabc",
    "a signed length": POST + b"content-length: +3\r\n\r\nabc",
    "a negative length": POST + b"content-length: -3\r\n\r\nabc",
    "a length in hexadecimal": POST + b"content-length: 0x3\r\n\r\nabc",
    "a length without end": POST + b"content-length: 99999999999999999999999\r\n\r\nabc",
    "a chunk size that is none": CHUNKED + b"zz\r\nab\r\n0\r\n\r\n",
    "a chunk size too large": CHUNKED + b"" + b"f" * 17 + b"\r\n",
    "a chunk longer than it said": CHUNKED + b"2\r\nabc\r\n0\r\n\r\n",
    "a chunk ended by a bare line feed": CHUNKED + b"2\nab\n0\n\n",
    "another coding last": POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a packed body": POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a packed body in two lines": POST + b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks from one who knows none": b"POST / HTTP/1.0\r\nconnection: keep-alive\r\n"
    + CHUNKED.partition(b"\r\n")[2]
    + b"0\r\n\r\n",
    "a space before the colon": POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nhost: x\r\nabc\r\n\r\n",
    "a zero byte in a header": b"GET / HTTP/1.1\r\nhost: x\r\na: b\x00c\r\n\r\n",
    "a carriage return in a header": b"GET / HTTP/1.1\r\nhost: x\r\na: b\rc\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nhost: x\n\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a host with a blank": b"GET / HTTP/1.1\r\nhost: x y\r\n\r\n",
    "a host with a path": b"GET / HTTP/1.1\r\nhost: x/y\r\n\r\n",
    "a host with a user": b"GET / HTTP/1.1\r\nhost: x@y\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
    "another version": b"GET / HTTP/3.7\r\nhost: x\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "bytes in the target": b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
    "a target without a slash": b"GET abc HTTP/1.1\r\nhost: x\r\n\r\n",
    "a control character in the target": b"GET /a\x01b HTTP/1.1\r\nhost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_can_be_read_in_two_ways_is_refused_and_the_connection_closed(name: str) -> None:
    """What follows such a request on its connection could be another request to one reader and a body to the next."""

    async def main() -> None:
        async with listening() as (listener, port):
            said = await say(port, MALFORMED[name] + b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 400 ")
            assert said.count(b"HTTP/1.1 ") == 1
            assert b"connection: close" in said
            assert b"smuggled" not in said
            await asyncio.sleep(0.02)
            assert not listener.connections

    run(main)


def test_a_broken_request_behind_a_whole_one_costs_only_itself() -> None:
    async def main() -> None:
        async with listening() as (_, port):
            said = await say(port, GET + MALFORMED["two lengths"])
            assert said.count(b"HTTP/1.1 200 OK") == 1
            assert b"GET /a?b=c " in said
            assert b"POST" not in said

    run(main)


def test_a_body_that_breaks_while_it_is_read_ends_the_request() -> None:
    ended = asyncio.Event

    async def main() -> None:
        left = ended()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    left.set()
                    return

        async with listening(app) as (_, port):
            head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n"
            said = await say(port, head, b"nonsense\r\n", pause_s=0.02)
            assert said.startswith(b"HTTP/1.1 400 ")
            await asyncio.wait_for(left.wait(), 1)

    run(main)


def test_what_is_harmless_is_taken() -> None:
    """Spellings that have one reading."""

    async def main() -> None:
        async with listening() as (_, port):
            absolute = b"GET http://x/abs?q=1 HTTP/1.1\r\nHOST: x\r\nconnection: close\r\n\r\n"
            assert b"GET /abs?q=1 " in await say(port, absolute)
            escaped = b"GET /a%20b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            assert b"GET /a b? " in await say(port, escaped)
            for host in (b"", b"a_b.internal:8484", b"[::1]:80", b"xn--bcher-kva.example", b" 10.0.0.1\t"):
                asked = b"GET /host HTTP/1.1\r\nhost:%b\r\nconnection: close\r\n\r\n" % host
                assert b"GET /host? " in await say(port, asked)
            star = b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            assert b"OPTIONS *? " in await say(port, star)

    run(main)


def test_blanks_around_a_headers_value_are_no_part_of_it() -> None:
    seen = {}

    async def look(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope["headers"])
        await echo(scope, receive, send)

    async def main() -> None:
        async with listening(look) as (_, port):
            head = b"POST / HTTP/1.1\r\nhost: x \r\nx-api-key:\t a b \t\r\nx-none:  \r\nconnection: close \r\n"
            assert (await say(port, head + b"content-length: 2 \r\n\r\nhi")).startswith(b"HTTP/1.1 200")
        assert (seen[b"host"], seen[b"x-api-key"], seen[b"x-none"]) == (b"x", b"a b", b"")

    asyncio.run(main())


@pytest.mark.parametrize("size", [1, 10, 10_000])
def test_an_offer_of_another_protocol_is_passed_over_and_the_body_read(size: int) -> None:
    """Java's client offers h2c with each first request; a parser that stops there loses the body."""
    offer = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAB\r\n"
    stated = b"POST /up HTTP/1.1\r\nhost: x\r\n" + offer + b"content-length: 2\r\n\r\nhi"
    chunked = b"POST /up HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n" + offer + b"\r\n2\r\nho\r\n0\r\n\r\n"
    bare = b"GET /up HTTP/1.1\r\nhost: x\r\n" + offer + b"\r\n"
    stream = stated + chunked + bare + GET

    async def main() -> None:
        async with listening() as (_, port):
            said = await say(port, *(stream[at : at + size] for at in range(0, len(stream), size)))
            bodies = [b"POST /up? hi", b"POST /up? ho", b"GET /up? ", b"GET /a?b=c "]
            places = [said.find(body) for body in bodies]
            assert -1 not in places
            assert places == sorted(places)
            tunnel = await say(port, b"CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n" + GET)
            assert tunnel.count(b"HTTP/1.1 ") == 1
            assert b"a?b=c" not in tunnel

    run(main)


def test_continue_is_said_when_the_body_is_wanted_and_not_before() -> None:
    async def main() -> None:
        async def refuse(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})

        head = b"POST /c HTTP/1.1\r\nhost: x\r\nexpect: 100-Continue\r\ncontent-length: 2\r\n\r\n"
        async with listening() as (_, port):
            said = await say(port, head, b"ok", pause_s=0.05)
            assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
            assert b"POST /c? ok" in said
            other = await say(port, head.replace(b"100-Continue", b"the-moon"))
            assert other.startswith(b"HTTP/1.1 417 ")
        async with listening(refuse) as (_, port):
            assert (await say(port, head)).startswith(b"HTTP/1.1 403 ")

    run(main)


def test_head_has_the_lengths_of_get_and_no_body() -> None:
    async def main() -> None:
        async with listening() as (_, port):
            said = await say(port, b"HEAD /h HTTP/1.1\r\nhost: x\r\n\r\n" + GET)
            first, _, rest = said.partition(b"\r\n\r\n")
            assert b"content-length: 9" in first
            assert rest.startswith(b"HTTP/1.1 200 OK")

    run(main)


def test_an_answer_without_length_goes_in_chunks_or_to_the_connections_end() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"one", b"", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with listening(app) as (_, port):
            said = await say(port, GET)
            assert said.endswith(b"transfer-encoding: chunked\r\n" + said.partition(b"chunked\r\n")[2])
            assert said.endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
            old = await say(port, b"GET / HTTP/1.0\r\n\r\n")
            assert old.endswith(b"\r\n\r\nonetwo")
            assert b"connection: close" in old

    run(main)


def test_an_old_client_that_asks_for_it_keeps_its_connection() -> None:
    async def main() -> None:
        async with listening() as (_, port):
            said = await say(port, b"GET /1 HTTP/1.0\r\nconnection: keep-alive\r\n\r\n" * 2, pause_s=0.02)
            assert said.count(b"connection: keep-alive") == 2

    run(main)


@pytest.mark.parametrize("fault", ["longer", "shorter", "header", "raises", "silent", "twice", "status"])
def test_a_faulty_application_never_makes_a_faulty_answer(fault: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if fault == "raises":
            raise RuntimeError("planned")
        if fault == "silent":
            return
        value = b"a\r\nset-cookie: b" if fault == "header" else b"a"
        headers = [(b"content-length", b"4"), (b"x", value)]
        await send({"type": "http.response.start", "status": 99 if fault == "status" else 200, "headers": headers})
        if fault == "twice":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = {"longer": b"abcde", "shorter": b"abc"}.get(fault, b"abcd")
        await send({"type": "http.response.body", "body": body})

    async def main() -> None:
        async with listening(app) as (_, port):
            said = await say(port, GET + GET)
            assert b"set-cookie" not in said
            assert said.count(b"HTTP/1.1 ") <= 1
            if b"HTTP/1.1 500" not in said:
                assert not said.endswith(b"abcd")

    run(main)


def test_a_body_that_nobody_wants_is_passed_over_and_the_connection_kept() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/early":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
        else:
            await echo(scope, receive, send)

    async def main() -> None:
        async with listening(app) as (_, port):
            head = b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n"
            said = await say(port, head, *[b"x" * 100_000] * 3, GET, pause_s=0.01)
            assert said.count(b"HTTP/1.1 200 OK") == 2
            assert said.endswith(b"GET /a?b=c ")

    run(main)


def test_a_body_that_nobody_wants_is_not_read_for_ever() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with listening(app, header_timeout_s=0.2) as (listener, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            async with asyncio.timeout(3):
                with contextlib.suppress(ConnectionError):
                    while listener.connections or not reader.at_eof():
                        writer.write(b"1\r\nx\r\n")
                        await asyncio.sleep(0.02)
                        if not listener.connections:
                            break
            writer.close()

    run(main)


def test_a_reader_of_a_large_body_holds_the_client_back() -> None:
    async def main() -> None:
        go = asyncio.Event()
        got = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await go.wait()
            while (message := await receive())["more_body"]:
                got.append(len(message["body"]))
            got.append(len(message["body"]))
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})

        async with listening(app) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.transport.set_write_buffer_limits(high=0)
            size = 64 * 1024 * 1024
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
            writer.write(b"x" * size)
            await asyncio.sleep(0.1)
            assert writer.transport.get_write_buffer_size() > size / 2  # it waits in the client
            go.set()
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            assert sum(got) == size
            assert max(got) < 8 * 1024 * 1024
            writer.close()

    run(main)


def test_a_client_that_does_not_read_holds_the_application_back() -> None:
    async def main() -> None:
        sent = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for number in range(2000):
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                sent.append(number)
            await send({"type": "http.response.body"})

        async with listening(app) as (listener, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
            writer.write(GET)
            await asyncio.sleep(0.2)
            held = len(sent)
            assert held < 500
            await asyncio.sleep(0.05)
            assert len(sent) == held
            writer.close()
            async with asyncio.timeout(1):
                while listener.tasks or listener.connections:
                    await asyncio.sleep(0.01)

    run(main)


def test_the_application_hears_at_once_that_the_client_left() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        left_s: list[float] = []
        began = asyncio.Event()

        async def answer(call: Call) -> None:
            call.on_gone = lambda: left_s.append(loop.time())
            began.set()
            await call.receive()
            assert (await call.receive())["type"] == "http.disconnect"
            await call.send({"type": "http.response.start", "status": 200, "headers": []})  # goes nowhere
            await call.send({"type": "http.response.body"})

        async with listening(answer=answer) as (listener, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET)
            await began.wait()
            start_s = loop.time()
            writer.close()
            async with asyncio.timeout(1):
                while listener.tasks:
                    await asyncio.sleep(0.002)
            assert left_s[0] - start_s < 0.1

    run(main)


def test_a_head_in_drips_and_a_rest_without_end_are_cut_in_time() -> None:
    async def main() -> None:
        async with listening(header_timeout_s=0.2, keep_alive_s=0.3) as (listener, port):
            drips = asyncio.create_task(say(port, *(bytes([byte]) for byte in GET[:14]), pause_s=0.02))
            idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
            idle_writer.write(GET)
            assert (await idle_reader.readuntil(b"GET /a?b=c ")).startswith(b"HTTP/1.1 200")
            assert await asyncio.wait_for(idle_reader.read(), 2) == b""  # a kept connection that is not used
            assert (await drips).startswith(b"HTTP/1.1 408 ")
            await asyncio.sleep(0.3)
            assert not listener.connections
            idle_writer.close()

    run(main)


def test_heads_above_the_limits_are_refused() -> None:
    async def main() -> None:
        async with listening(max_header_bytes=4096) as (_, port):
            for head in (
                b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
                b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 5000 + b"\r\n\r\n",
                b"GET / HTTP/1.1\r\nhost: x\r\n" + b"".join(b"a%d: b\r\n" % number for number in range(300)) + b"\r\n",
                b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 5000,
            ):
                assert (await say(port, head)).startswith(b"HTTP/1.1 431 ")

    run(main)


@pytest.mark.parametrize("beside", [b"0\r\nx-trailer: ", b"0\r\nx-trailer", b"1;", b"1;a=", b"0" * 64])
def test_what_chunks_and_trailers_say_beside_a_body_is_held_no_longer_than_a_head(beside: bytes) -> None:
    async def main() -> None:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n" + beside
        endless = (b"0" if beside.isdigit() else b"b") * 1000
        async with listening(max_header_bytes=4096) as (listener, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            for _ in range(8):
                writer.write(endless)
                await asyncio.sleep(0.01)
            assert await asyncio.wait_for(reader.read(12), 2) == b"HTTP/1.1 431"
            assert all(connection.waits == "rest" for connection in listener.connections)
            writer.close()

    run(main)


def test_a_body_of_small_chunks_may_be_longer_beside_them_than_a_head() -> None:
    async def main() -> None:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        chunks = [b"1;name=value\r\na\r\n" * 100] * 20
        async with listening(max_header_bytes=4096) as (_, port):
            said = await say(port, head, *chunks, b"0\r\n" + b"x: y\r\n" * 100 + b"\r\n", pause_s=0.002)
            assert said.endswith(b"a" * 2000)

    run(main)


def test_connections_above_the_limit_are_told_so_and_when_to_come_back() -> None:
    async def main() -> None:
        async with listening(max_connections=2) as (_, port):
            kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            await asyncio.sleep(0.02)
            answer = await say(port)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nretry-after: 1\r\n" in answer
            assert b'"overloaded_error"' in answer
            for _, writer in kept:
                writer.close()

    run(main)


def test_a_drain_lets_a_request_end_and_closes_what_is_idle() -> None:
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(0.1)
            await echo(scope, receive, send)

        listener = Listener(carried(app), limits=GatewaySettings(port=0), clock=SystemClock())
        bound = bind("127.0.0.1", 0)
        await listener.start(bound)
        port = bound.getsockname()[1]
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        busy = asyncio.create_task(say(port, GET))
        await asyncio.sleep(0.03)
        stopping = asyncio.create_task(listener.stop(2))
        assert await asyncio.wait_for(idle_reader.read(), 1) == b""
        said = await busy
        assert b"GET /a?b=c " in said
        assert b"connection: close" in said
        await stopping
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        idle_writer.close()

    run(main)


@pytest.mark.parametrize("seed", range(12))
def test_damaged_requests_neither_crash_nor_hang_nor_are_answered_twice(seed: int) -> None:
    """Whole requests with bytes changed, left out, doubled, and cut into pieces at random."""
    rng = random.Random(seed)
    good = [
        GET,
        *MALFORMED.values(),
        b"POST /p HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ]

    def damage(text: bytes) -> bytes:
        damaged = bytearray(text)
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(damaged))
            match rng.randrange(4):
                case 0:
                    damaged[at] = rng.randrange(256)
                case 1:
                    del damaged[at : at + rng.randrange(1, 9)]
                case 2:
                    damaged[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 5)))
                case _:
                    damaged[at:at] = damaged[at : at + rng.randrange(1, 30)]
            damaged = damaged or bytearray(b"x")
        return bytes(damaged)

    async def one(port: int) -> None:
        stream = b"".join(damage(rng.choice(good)) for _ in range(rng.randrange(1, 5)))
        cuts = sorted(rng.randrange(len(stream)) for _ in range(rng.randrange(4)))
        pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        with socket.create_connection(("127.0.0.1", port)) as probe:
            probe.setblocking(False)
            loop = asyncio.get_running_loop()
            for piece in pieces:
                with contextlib.suppress(ConnectionError):
                    await loop.sock_sendall(probe, piece)
                await asyncio.sleep(0)
            said = b""
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(0.02):
                    while part := await loop.sock_recv(probe, 65536):
                        said += part
        assert said == b"" or said.startswith(b"HTTP/1.")
        assert b"HTTP/1.1 500" not in said

    async def main() -> None:
        async with listening(header_timeout_s=1) as (listener, port):
            for _ in range(10):
                await one(port)
            assert b"GET /a?b=c " in await say(port, GET)
            async with asyncio.timeout(5):
                while listener.connections or listener.tasks:
                    await asyncio.sleep(0.02)

    run(main)


def test_a_closed_connection_leaves_nothing_to_the_garbage_collector() -> None:
    """Clients that come with a connection for each request would else hold memory until it runs."""

    async def main() -> None:
        async with listening() as (_, port):

            async def visit() -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(GET)
                await reader.readuntil(b"GET /a?b=c ")
                writer.close()
                await writer.wait_closed()

            await visit()
            with resting_collector():
                for _ in range(50):
                    await visit()
                await none_alive(HttpConnection)

    run(main)


def test_a_request_leaves_nothing_to_the_garbage_collector() -> None:
    """What only the collector frees lives on until it runs: memory then climbs with the requests between two runs."""

    async def main() -> None:
        async with listening() as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)

            async def ask(times: int) -> None:
                for _ in range(times):
                    writer.write(GET)
                    await reader.readuntil(b"GET /a?b=c ")

            await ask(20)
            with resting_collector():
                await ask(300)
                assert gc.collect() < 100
            writer.close()

    run(main)
