"""TLS is verified, authority and name.

`localhost.pem` is a certificate for `localhost` with its key, made for this test and of no use elsewhere.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from ownward.core import UpstreamUnreachable
from ownward.policy import LOCAL_ONLY, Place, issue_permit
from ownward.upstreams import Door, Http1Transport

PEM = Path(__file__).with_name("localhost.pem")


async def loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


async def ask(door: Door, origin: str) -> bytes:
    permit = issue_permit(label=LOCAL_ONLY, place=Place(is_local=True), upstream="u", origin=origin, body=b"{}")
    return await (await door.send(permit, method="POST", target="/", headers=(), body=b"{}")).read(1_000_000)


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


def test_a_trusted_certificate_for_the_right_name_is_accepted_and_its_connection_kept(serve, tls):
    async def main():
        async with serve(lambda v: v.answer(b"x" * 300_000), tls=tls) as served:
            async with Door(transport=Http1Transport(ca_file=PEM, resolver=loopback)) as door:
                for _ in range(3):
                    assert len(await ask(door, served.origin.replace("127.0.0.1", "localhost"))) == 300_000
            assert served.connections == 1

    asyncio.run(main())


@pytest.mark.parametrize(("ca_file", "host"), [(None, "localhost"), (PEM, "other.example"), (PEM, "127.0.0.1")])
def test_a_certificate_of_no_authority_or_another_name_is_refused_before_anything_is_sent(serve, tls, ca_file, host):
    async def main():
        async with serve(lambda v: v.answer(b"ok"), tls=tls) as served:
            async with Door(transport=Http1Transport(ca_file=ca_file, resolver=loopback)) as door:
                with pytest.raises(UpstreamUnreachable, match="certificate that is not trusted"):
                    await ask(door, served.origin.replace("127.0.0.1", host))
            assert served.visits == []

    asyncio.run(main())


def test_a_server_that_speaks_no_tls_is_unreachable():
    async def main():
        class Plain(asyncio.Protocol):
            def connection_made(self, transport):
                transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        server = await asyncio.get_running_loop().create_server(Plain, "127.0.0.1", 0)
        async with Door(transport=Http1Transport(ca_file=PEM, resolver=loopback)) as door:
            with pytest.raises(UpstreamUnreachable, match="TLS"):
                await ask(door, f"https://localhost:{server.sockets[0].getsockname()[1]}")
        server.close()

    asyncio.run(main())
