"""The end of a gateway: what came before it is served, and nobody who sent in time is cut off without an answer."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import json
import socket
import ssl
import time

import pytest
import trustme

from ownward.engines import FakeOptions, FakeServer
from ownward.gateway import GatewaySettings


def connected_to(base_url: str) -> socket.socket:
    """Return a connection that the system has taken and the gateway has not: the event loop does not run meanwhile."""
    host, port = base_url.split("//")[1].split(":")
    connection = socket.create_connection((host, int(port)))
    connection.setblocking(False)
    return connection


async def answer_over(connection: socket.socket, request: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    name = None if tls is None else "127.0.0.1"
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(sock=connection, ssl=tls, server_hostname=name)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        return answer


@pytest.fixture
def request_bytes(lab):
    body = json.dumps(lab.chat()).encode()
    return b"POST %b HTTP/1.1\r\nhost: gateway\r\ncontent-length: %d\r\n\r\n%b" % (lab.CHAT.encode(), len(body), body)


def test_who_waits_to_be_accepted_when_the_end_comes_is_served(lab, start, request_bytes):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.1)) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
                waiting = [connected_to(running.base_url) for _ in range(20)]
                for connection in waiting:
                    connection.send(request_bytes)
                stopping = asyncio.create_task(running.server.stop())
                answers = await asyncio.gather(*(answer_over(connection, b"") for connection in waiting))
                await stopping
                assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 200 OK"}
                assert all(b"\r\nconnection: close\r\n" in answer for answer in answers)

    asyncio.run(main())


def test_a_handshake_that_has_begun_when_the_end_comes_is_ended_and_its_request_served(
    lab, start, request_bytes, tmp_path
):
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "chain.pem")
    (tmp_path / "chain.pem").chmod(0o600)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def main():
        settings = GatewaySettings(port=0, tls_cert_file=tmp_path / "chain.pem")
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
                accepted, waiting = connected_to(running.base_url), connected_to(running.base_url)
                await asyncio.sleep(0.05)
                asked = [
                    asyncio.create_task(answer_over(each, request_bytes, trusting)) for each in (accepted, waiting)
                ]
                await running.server.stop()
                assert {(await each).split(b"\r\n")[0] for each in asked} == {b"HTTP/1.1 200 OK"}

    asyncio.run(main())


@pytest.mark.parametrize("is_stream", [False, True], ids=["after an answer", "behind a stream that runs"])
def test_a_request_on_its_way_over_a_kept_connection_is_served_and_told_that_it_is_the_last(
    lab, start, *, is_stream: bool
):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.05, tpot_s=0.01)) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
                async with lab.Client(running.base_url) as client:
                    await client.ask(lab.CHAT, lab.chat())
                    if is_stream:  # its head has said nothing of an end
                        await client.send(lab.CHAT, lab.chat(stream=True))
                        head = await client.head()
                    stopping = asyncio.create_task(running.server.stop())
                    await asyncio.sleep(0.1)
                    if is_stream:
                        assert (await client.rest(head)).body.endswith(b"data: [DONE]\n\n")
                    answer = await client.ask(lab.CHAT, lab.chat())
                    assert (answer.status, answer.headers["connection"]) == (200, "close")
                    assert await client.reader.read() == b""
                    await stopping

    asyncio.run(main())


def test_the_moment_that_is_left_to_a_request_on_its_way_counts_from_the_end(lab, start, request_bytes):
    """And not from when the connections were looked at last, which may be a second ago."""

    async def main():
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
                async with lab.Client(running.base_url) as begun:
                    await asyncio.sleep(0.9)
                    begun.writer.write(request_bytes[:20])
                    await asyncio.sleep(0.05)
                    stopping = asyncio.create_task(running.server.stop())
                    await asyncio.sleep(0.2)
                    begun.writer.write(request_bytes[20:])
                    assert (await begun.head()).status == 200
                await stopping

    asyncio.run(main())


def test_who_asks_whether_it_is_ready_is_told_of_the_end_and_idle_connections_hold_nothing_up(lab, start):
    async def main():
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
                async with lab.Client(running.base_url) as asking, lab.Client(running.base_url) as idle:
                    assert (await asking.ask("/readyz")).status == 200
                    began_s = time.monotonic()
                    stopping = asyncio.create_task(running.server.stop())
                    await asyncio.sleep(0.05)
                    answer = await asking.ask("/readyz")
                    assert (answer.status, answer.json["why"]) == (503, "it is stopping")
                    assert await idle.reader.read() == b""
                    await stopping
                    assert time.monotonic() - began_s < 3

    asyncio.run(main())


def test_idle_connections_are_closed_at_once_where_the_drain_is_cut_short(lab, start):
    async def main():
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
                async with lab.Client(running.base_url) as idle:
                    await idle.ask("/healthz")
                    began_s = time.monotonic()
                    running.server.hurry()
                    await running.server.stop()
                    assert await idle.reader.read() == b""
                    assert time.monotonic() - began_s < 0.4

    asyncio.run(main())
