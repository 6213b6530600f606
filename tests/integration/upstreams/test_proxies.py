"""Through a real proxy, with real certificates: what passes, what is refused, and what nobody gets to see.

The authorities and certificates are made anew for each run.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import ssl
import traceback
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trustme

from ownward.core import BadInput, BrokenStream, PolicyRefusal, UpstreamTimeout, UpstreamUnreachable
from ownward.policy import LOCAL_ONLY, Label, Permit, Place, issue_permit
from ownward.upstreams import (
    DIRECT,
    Door,
    DoorLimits,
    Http1Transport,
    Proxy,
    Response,
    Timeouts,
    Way,
    _proxied_call,
    make_transport,
)
from ownward.upstreams._alarm import Alarm
from ownward.upstreams.proxied import AiohttpTransport
from ownward.upstreams.ways import make_tls_context

EU = Label.parse("eu")
THERE = Place(is_local=False, region="eu")
HERE = Place(is_local=True)
QUICK = Timeouts(connect_s=2, first_byte_s=2, stall_s=2)
KEY = b"Bearer sk-never-to-be-seen-0123456789"
SECRETS = ("never-to-be-seen", "hunter2", base64.b64encode(b"me:hunter2").decode())


@dataclass
class Proxied:
    """What a proxy saw."""

    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    passed: bytearray = field(default_factory=bytearray)
    closed: int = 0


@asynccontextmanager
async def proxying(
    *,
    port_of_names: int = 0,
    status: bytes = b"200 Connection established",
    login: bytes | None = None,
    tls: ssl.SSLContext | None = None,
    is_silent: bool = False,
) -> AsyncIterator[Proxied]:
    """Run an HTTP proxy on loopback that notes every head and every byte sent upstream."""
    seen = Proxied()
    tasks: set[asyncio.Task] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if note is not None:
                    note += data
                writer.write(data)
                await writer.drain()
            writer.close()

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        tasks.add(task)
        try:
            await serve_one(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            seen.closed += 1
            writer.transport.abort()
            tasks.discard(task)

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.heads.append(head)
        if is_silent:
            await reader.read()
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        shown = [line for line in head.split(b"\r\n") if line.lower().startswith(b"proxy-authorization:")]
        if (
            login is not None
            and shown != [b"Proxy-Authorization: Basic " + base64.b64encode(login)]
            and shown != [b"proxy-authorization: Basic " + base64.b64encode(login)]
        ):
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            return await writer.drain()
        if not status.startswith(b"200"):
            writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 4\r\n\r\noops")
            return await writer.drain()
        address = target if method == b"CONNECT" else target.split(b"/")[2]
        port = port_of_names or int(address.rpartition(b":")[2])
        there, onward = await asyncio.open_connection("127.0.0.1", port)
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 " + status + b"\r\n\r\n")
        else:
            onward.write(head.replace(b"http://" + address, b"", 1))
        up = asyncio.create_task(pump(reader, onward, seen.passed))
        try:
            await pump(there, writer, None)
        finally:
            up.cancel()
            onward.transport.abort()

    server = await asyncio.start_server(visit, "127.0.0.1", 0, ssl=tls)
    seen.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield seen
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def tls(authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("llm.example", "127.0.0.1").configure_cert(context)
    return context


def permit_for(origin: str, body: bytes = b"{}", *, label: Label = EU, place: Place = THERE) -> Permit:
    return issue_permit(label=label, place=place, upstream="u", origin=origin, body=body)


async def call(
    door: Door, origin: str, body: bytes = b"{}", *, way: Way = DIRECT, method="POST", timeouts=QUICK, headers=()
) -> Response:
    return await door.send(
        permit_for(origin, body),
        method=method,
        target="/v1/x",
        headers=[(b"Authorization", KEY), *headers],
        body=body,
        timeouts=timeouts,
        way=way,
    )


def named(served) -> str:
    """The server's origin by a name that only the proxy knows."""
    return served.origin.replace("127.0.0.1", "llm.example")


def assert_keeps_secrets(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    told = "".join(traceback.format_exception(error)) + repr(error) + str(error) + caplog.text
    while error is not None:
        told += repr(error) + str(error)
        error = error.__cause__ or error.__context__
    for secret in SECRETS:
        assert secret not in told


def test_an_https_call_goes_through_a_tunnel_and_the_proxy_reads_none_of_it(serve, tls, ca_file):
    async def main():
        async with (
            serve(lambda v: v.answer(b"x" * 300_000, b"X-One: 1"), tls=tls) as served,
            proxying(login=b"me:hunter2") as proxy,
            Door() as door,
        ):
            way = Way(proxy=Proxy.parse(proxy.url.replace("//", "//me:hunter2@")), ca_file=ca_file)
            for _ in range(2):
                response = await call(door, named(served), b'{"text": "for upstream eyes"}', way=way)
                assert response.status == 200
                assert response.header(b"x-one") == b"1"
                assert len(await response.read(1_000_000)) == 300_000
            port = served.origin.rpartition(":")[2].encode()
            assert proxy.heads[0].startswith(b"CONNECT llm.example:" + port + b" HTTP/1.1\r\n")
            for secret in (b"upstream eyes", b"never-to-be-seen"):
                assert secret not in bytes(proxy.passed) + b"".join(proxy.heads)
            assert b"hunter2" not in b"".join(visit.head for visit in served.visits)
            assert b"proxy-authorization" not in served.visits[0].head.lower()
            assert served.connections == 2

    asyncio.run(main())


def test_an_http_call_to_a_private_address_goes_in_absolute_form_through_a_private_proxy(serve):
    async def main():
        async with serve(lambda v: v.answer(b"fine")) as served, proxying(login=b"me:hunter2") as proxy, Door() as door:
            way = Way(proxy=Proxy.parse(proxy.url.replace("//", "//me:hunter2@")))
            assert await (await call(door, served.origin, way=way)).read(10) == b"fine"
            assert proxy.heads[0].startswith(b"POST " + served.origin.encode() + b"/v1/x HTTP/1.1\r\n")
            wrong = Way(proxy=Proxy.parse(proxy.url))
            with pytest.raises(UpstreamUnreachable, match="407 and asks for user and password"):
                await call(door, served.origin, way=wrong)
            assert len(served.visits) == 1

    asyncio.run(main())


@pytest.mark.parametrize("status", [b"407 Proxy Authentication Required", b"403 Forbidden", b"502 Bad", b"504 Late"])
def test_a_proxy_that_refuses_the_tunnel_means_that_nothing_was_sent(serve, tls, ca_file, status, caplog):
    caplog.set_level(logging.DEBUG)

    async def main():
        async with (
            serve(lambda v: v.answer(b"ok"), tls=tls) as served,
            proxying(status=status) as proxy,
            Door() as door,
        ):
            way = Way(proxy=Proxy.parse(proxy.url.replace("//", "//me:hunter2@")), ca_file=ca_file)
            with pytest.raises(UpstreamUnreachable, match=status[:3].decode()) as caught:
                await call(door, named(served), way=way)
            assert proxy.url in str(caught.value)
            assert_keeps_secrets(caught.value, caplog)
            assert served.connections == 0

    asyncio.run(main())


def test_a_proxy_that_is_down_or_silent_means_that_nothing_was_sent(serve, tls, ca_file, caplog):
    caplog.set_level(logging.DEBUG)

    async def main():
        async with serve(lambda v: v.answer(b"ok"), tls=tls) as served, Door() as door:
            async with proxying() as gone:
                pass
            way = Way(proxy=Proxy.parse(gone.url.replace("//", "//me:hunter2@")), ca_file=ca_file)
            with pytest.raises(UpstreamUnreachable, match="which gave no connection") as caught:
                await call(door, named(served), way=way)
            assert_keeps_secrets(caught.value, caplog)
            async with proxying(is_silent=True) as proxy:
                way = Way(proxy=Proxy.parse(proxy.url), ca_file=ca_file)
                with pytest.raises(UpstreamUnreachable, match=r"within 0\.2 s"):
                    await call(door, named(served), way=way, timeouts=Timeouts(connect_s=0.2))
                await asyncio.sleep(0.05)
                assert proxy.closed == 1
            assert served.connections == 0

    asyncio.run(main())


def test_something_that_is_no_proxy_means_that_nothing_was_sent(serve, tls, ca_file):
    async def main():
        nonsense = serve(lambda v: v.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"))
        async with serve(lambda v: v.answer(b"ok"), tls=tls) as served, nonsense as other, Door() as door:
            way = Way(proxy=Proxy.parse(other.origin), ca_file=ca_file)
            with pytest.raises(UpstreamUnreachable):
                await call(door, named(served), way=way)
            assert served.connections == 0

    asyncio.run(main())


def transports(way: Way) -> list:
    return [AiohttpTransport(way), Http1Transport(tls=make_tls_context(way))]


@pytest.mark.parametrize("index", [0, 1], ids=["aiohttp", "ours"])
def test_an_authority_of_ones_own_is_trusted_and_no_other(serve, tls, ca_file, tmp_path, index):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)

    async def main():
        async with serve(lambda v: v.answer(b"fine"), tls=tls) as served:
            async with Door(transport=transports(Way(ca_file=ca_file))[index]) as door:
                assert await (await call(door, served.origin)).read(10) == b"fine"
            for way in (Way(ca_file=other), DIRECT):
                async with Door(transport=transports(way)[index]) as door:
                    with pytest.raises(UpstreamUnreachable, match="certificate that is not trusted"):
                        await call(door, served.origin)
            assert len(served.visits) == 1

    asyncio.run(main())


@pytest.fixture
def serve_known(serve, tls, authority):
    """Serve those alone who show a certificate of our authority."""
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(tls)
    return lambda script: serve(script, tls=tls)


@pytest.mark.parametrize("through", ["proxy", "aiohttp", "ours"])
def test_a_client_certificate_is_shown_and_without_one_nothing_is_accepted(
    serve_known, authority, ca_file, tmp_path, through
):
    cert = authority.issue_cert("client@ownward.example")
    chain, key = tmp_path / "client.pem", tmp_path / "key.pem"
    cert.cert_chain_pems[0].write_to_path(chain)
    cert.private_key_pem.write_to_path(key)

    async def main():
        async with serve_known(lambda v: v.answer(b"fine")) as served, proxying() as proxy:
            hop = Proxy.parse(proxy.url) if through == "proxy" else None
            known = Way(proxy=hop, ca_file=ca_file, client_cert_file=chain, client_key_file=key)
            unknown = Way(proxy=hop, ca_file=ca_file)
            index = 1 if through == "ours" else 0
            async with Door(transport=transports(known)[index]) as door:
                assert await (await call(door, served.origin)).read(10) == b"fine"
            async with Door(transport=transports(unknown)[index]) as door:
                # With TLS 1.3 the server refuses after our handshake is over: it may look accepted.
                with pytest.raises((UpstreamUnreachable, BrokenStream)):
                    await call(door, served.origin)
            assert len(served.visits) == 1

    asyncio.run(main())


def test_a_proxy_spoken_to_over_tls_is_verified_too(serve, tls, authority, ca_file):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def main():
        script = lambda v: v.answer(b"fine")  # noqa: E731
        async with serve(script, tls=tls) as served, proxying(tls=context) as proxy, Door() as door:
            way = Way(proxy=Proxy.parse(proxy.url), ca_file=ca_file)
            assert await (await call(door, named(served), way=way)).read(10) == b"fine"
            with pytest.raises(UpstreamUnreachable, match="certificate that is not trusted"):
                await call(door, named(served), way=Way(proxy=Proxy.parse(proxy.url)))
            assert len(served.visits) == 1

    asyncio.run(main())


def test_a_certificate_of_another_name_is_refused_through_a_proxy(serve, tls, ca_file):
    async def main():
        async with serve(lambda v: v.answer(b"ok"), tls=tls) as served, proxying() as proxy, Door() as door:
            way = Way(proxy=Proxy.parse(proxy.url), ca_file=ca_file)
            with pytest.raises(UpstreamUnreachable, match="not trusted through its proxy"):
                await call(door, served.origin.replace("127.0.0.1", "other.example"), way=way)
            assert served.visits == []

    asyncio.run(main())


# Policy.


async def addresses_of(*addresses: str):
    return list(addresses)


def test_local_data_never_goes_through_a_proxy_not_even_one_on_this_machine(serve):
    async def main():
        async with serve(lambda v: v.answer(b"ok")) as served, proxying() as proxy, Door() as door:
            permit = permit_for(served.origin, label=LOCAL_ONLY, place=HERE)
            way = Way(proxy=Proxy.parse(proxy.url))
            with pytest.raises(PolicyRefusal, match="through a proxy"):
                await door.send(permit, method="POST", target="/", headers=(), body=b"{}", way=way)
            assert (served.connections, proxy.heads) == (0, [])

    asyncio.run(main())


@pytest.mark.parametrize(
    "origin",
    [
        "https://169.254.169.254",
        "https://2852039166",
        "https://0xa9fea9fe",
        "https://169.254.43518",
        "https://[fe80::1]",
        "http://api.example",
        "http://93.184.216.34",
    ],
)
def test_addresses_that_no_upstream_may_have_and_clear_text_are_refused_before_the_proxy_hears_of_them(origin):
    async def main():
        async with proxying() as proxy, Door() as door:
            with pytest.raises(PolicyRefusal):
                await call(door, origin, way=Way(proxy=Proxy.parse(proxy.url)))
            assert proxy.heads == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("origin", "proxy", "address", "what"),
    [
        ("https://llm.example", "http://me:hunter2@proxy.example", "93.184.216.34", "password would travel"),
        ("http://10.0.0.5", "http://proxy.example", "93.184.216.34", "request would travel"),
        ("https://llm.example", "http://proxy.example", "169.254.169.254", "where none may be"),
    ],
)
def test_nothing_goes_in_the_clear_to_a_remote_proxy_nor_to_a_forbidden_address(origin, proxy, address, what, caplog):
    async def main():
        transport = AiohttpTransport(Way(proxy=Proxy.parse(proxy)), resolver=lambda host, port: addresses_of(address))
        async with Door(transport=transport) as door:
            with pytest.raises(PolicyRefusal, match=what) as caught:
                await call(door, origin)
            assert_keeps_secrets(caught.value, caplog)

    asyncio.run(main())


def test_proxies_of_the_environment_are_not_used(serve, tls, ca_file, monkeypatch):
    async def main():
        async with serve(lambda v: v.answer(b"ok"), tls=tls) as served, proxying() as proxy:
            for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url)
            for transport in transports(Way(ca_file=ca_file)):
                async with Door(transport=transport) as door:
                    assert await (await call(door, served.origin)).read(10) == b"ok"
            assert proxy.heads == []

    asyncio.run(main())


# Answers, as the door promises them.


@asynccontextmanager
async def tunnelled(serve, script, tls, ca_file, *, limits=None):
    async with serve(script, tls=tls) as served, proxying() as proxy:
        transport = make_transport(Way(proxy=Proxy.parse(proxy.url), ca_file=ca_file), limits=limits)
        async with Door(transport=transport) as door:
            yield served, transport, door


@pytest.mark.parametrize("coding", [b"identity", b"gzip"])
def test_a_stream_arrives_piece_by_piece_as_it_was_written(serve, tls, ca_file, coding):
    pieces = [b"data: %d\n\n" % number for number in range(20)]
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)

    async def main():
        async def stream(visit):
            visit.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: %b\r\ntransfer-encoding: chunked\r\n\r\n" % coding)
            for piece in pieces:
                if coding == b"gzip":
                    piece = packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)  # noqa: PLW2901
                visit.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await asyncio.sleep(0.01)
            if coding == b"gzip":
                end = packer.flush()
                visit.write(b"%x\r\n%b\r\n" % (len(end), end))
            visit.write(b"0\r\n\r\n")

        async with tunnelled(serve, stream, tls, ca_file) as (_, transport, door):
            response = await call(door, "https://127.0.0.1:" + _.origin.rpartition(":")[2])
            got = [chunk async for chunk in response.chunks()]
            assert b"".join(got) == b"".join(pieces)
            assert len(got) > 5
            await asyncio.sleep(0.05)
            assert transport.open_connections == 0

    asyncio.run(main())


def test_a_redirect_is_an_answer_and_not_followed(serve, tls, ca_file):
    async def main():
        script = lambda v: v.write(b"HTTP/1.1 307 X\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n")  # noqa: E731
        async with tunnelled(serve, script, tls, ca_file) as (served, _, door):
            response = await call(door, served.origin)
            assert response.status == 307
            assert len(served.visits) == 1

    asyncio.run(main())


@pytest.mark.parametrize("how", ["abort", "drop", "cancel"])
def test_giving_up_closes_the_connection_within_100_ms(serve, tls, ca_file, how):
    async def main():
        async def stream(visit):
            if how == "cancel":
                return
            visit.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            while True:
                visit.write(b"1\r\nx\r\n")
                await asyncio.sleep(0.005)

        loop = asyncio.get_running_loop()
        async with tunnelled(serve, stream, tls, ca_file) as (served, transport, door):
            if how == "cancel":
                task = asyncio.create_task(call(door, served.origin))
                while not served.visits:  # noqa: ASYNC110 - a test's server
                    await asyncio.sleep(0.01)
                at = loop.time()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                response = await call(door, served.origin)
                assert await response.next_chunk() == b"x"
                at = loop.time()
                if how == "abort":
                    response.abort()
                del response
            while not served.closed and loop.time() - at < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            assert loop.time() - at < 0.1
            assert transport.open_connections == 0

    asyncio.run(main())


def test_a_slow_reader_makes_the_upstream_wait(serve, tls, ca_file):
    total = 64 * 1024 * 1024

    async def main():
        async def flood(visit):
            visit.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
            piece = b"x" * 1024 * 1024
            for _ in range(total // len(piece)):
                visit.write(piece)
                await asyncio.sleep(0)

        limits = DoorLimits(buffer_bytes=64 * 1024)
        async with tunnelled(serve, flood, tls, ca_file, limits=limits) as (served, _, door):
            response = await call(door, served.origin)
            await asyncio.sleep(0.3)
            assert response.bytes_received < 1024 * 1024
            assert len(await response.read(total)) == total

    asyncio.run(main())


def test_what_may_have_been_accepted_is_never_called_unreachable_nor_sent_twice(serve, tls, ca_file, caplog):
    caplog.set_level(logging.DEBUG)

    async def main():
        scripts = [
            (lambda v: v.transport.abort(), BrokenStream),
            (lambda v: v.transport.close(), BrokenStream),
            (lambda v: v.write(b"nonsense\r\n\r\n"), BrokenStream),
            (lambda v: v.write(b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"), BrokenStream),
            (lambda v: v.write(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 400 + b"\r\n"), BrokenStream),
            (lambda v: v.write(b"HTTP/1.1 200 OK\r\na: " + b"b" * 70_000 + b"\r\n\r\n"), BrokenStream),
            (lambda v: v.write(b"HTTP/1.1 200 OK\r\n" + (b"a: " + b"b" * 9000 + b"\r\n") * 9 + b"\r\n"), BrokenStream),
            (lambda v: None, UpstreamTimeout),
        ]
        for script, error in scripts:
            for method in ("POST", "GET"):
                async with tunnelled(serve, script, tls, ca_file) as (served, _, door):
                    with pytest.raises(error) as caught:
                        await call(door, served.origin, method=method, timeouts=Timeouts(first_byte_s=0.3))
                    assert_keeps_secrets(caught.value, caplog)
                    assert len(served.visits) == 1

    asyncio.run(main())


@pytest.mark.parametrize("framing", [b"content-length: 10\r\n\r\nab", b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n"])
def test_a_stream_that_breaks_gives_out_what_came_and_then_says_so(serve, tls, ca_file, framing):
    async def main():
        async def cut(visit):
            visit.write(b"HTTP/1.1 200 OK\r\n" + framing)
            await asyncio.sleep(0.05)
            visit.transport.close()

        async with tunnelled(serve, cut, tls, ca_file) as (served, _, door):
            response = await call(door, served.origin)
            assert await response.next_chunk() == b"ab"
            with pytest.raises(BrokenStream, match="after 2 bytes"):
                await response.next_chunk()

    asyncio.run(main())


def test_a_stream_that_stalls_is_cut(serve, tls, ca_file):
    async def main():
        script = lambda v: v.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab")  # noqa: E731
        async with tunnelled(serve, script, tls, ca_file) as (served, _, door):
            response = await call(door, served.origin, timeouts=Timeouts(stall_s=0.1))
            assert await response.next_chunk() == b"ab"
            with pytest.raises(UpstreamTimeout, match="no further byte"):
                await response.next_chunk()
            await asyncio.sleep(0.05)
            assert served.closed == 1

    asyncio.run(main())


def test_a_call_through_a_proxy_leaves_no_timer(serve, tls, ca_file, monkeypatch):
    alarms: list[Alarm] = []

    class NotedAlarm(Alarm):
        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            super().__init__(loop)
            alarms.append(self)

    monkeypatch.setattr(_proxied_call, "Alarm", NotedAlarm)

    async def main():
        async with tunnelled(serve, lambda v: v.answer(b"ok"), tls, ca_file) as (served, _, door):
            assert await (await call(door, named(served))).read(9) == b"ok"
            await asyncio.sleep(0.05)
            assert [alarm._timer for alarm in alarms] == [None]

    asyncio.run(main())


def test_a_body_of_megabytes_arrives_whole(serve, tls, ca_file):
    body = bytes(range(256)) * 12_000

    async def main():
        async with tunnelled(serve, lambda v: v.answer(b"ok"), tls, ca_file) as (served, _, door):
            assert await (await call(door, served.origin, body)).read(10) == b"ok"
            assert served.visits[0].body == body

    asyncio.run(main())


def test_calls_above_the_limit_wait_their_turn_and_the_rest_are_refused(serve, tls, ca_file):
    async def main():
        async def slow(visit):
            await asyncio.sleep(0.1)
            visit.answer(b"ok")

        limits = DoorLimits(connections_per_origin=2, waiting_per_origin=2)
        async with tunnelled(serve, slow, tls, ca_file, limits=limits) as (served, transport, door):

            async def one():
                return await (await call(door, served.origin)).read(10)

            results = await asyncio.gather(*(one() for _ in range(6)), return_exceptions=True)
            assert results.count(b"ok") == 4
            assert sum(isinstance(result, UpstreamUnreachable) for result in results) == 2
            await door.close()
            with pytest.raises(UpstreamUnreachable, match="closed"):
                await one()
            assert transport.open_connections == 0

    asyncio.run(main())


def test_a_header_that_could_end_its_line_is_refused(serve, tls, ca_file):
    async def main():
        async with tunnelled(serve, lambda v: v.answer(b"ok"), tls, ca_file) as (served, _, door):
            for value in (b"a\r\nb: c", b"a\0", b"\xff"):
                with pytest.raises(BadInput):
                    await call(door, served.origin, headers=[(b"x-a", value)])
            assert served.connections == 0

    asyncio.run(main())


def test_it_works_on_uvloop_too(serve, tls, ca_file, authority):
    uvloop = pytest.importorskip("uvloop")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def main():
        for proxy_tls in (None, context):
            script = lambda v: v.answer(b"fine")  # noqa: E731
            async with serve(script, tls=tls) as served, proxying(tls=proxy_tls) as proxy, Door() as door:
                way = Way(proxy=Proxy.parse(proxy.url), ca_file=ca_file)
                response = await call(door, named(served), way=way)
                assert await response.read(10) == b"fine"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
