"""TLS is verified, authority and name.

`localhost.pem` is a certificate for `localhost` with its key, made for this test and of no use elsewhere.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from ownward.core import ConfigError, UpstreamUnreachable
from ownward.policy import LOCAL_ONLY, Place, issue_permit
from ownward.upstreams import DIRECT, Door, Http1Transport, Way
from ownward.upstreams.ways import make_tls_context
from waiting import until

PEM = Path(__file__).with_name("localhost.pem")


async def loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def trusting(ca_file: Path | None) -> Http1Transport:
    return Http1Transport(tls=make_tls_context(Way(ca_file=ca_file)), resolver=loopback)


async def ask(door: Door, origin: str, way: Way = DIRECT) -> bytes:
    permit = issue_permit(label=LOCAL_ONLY, place=Place(is_local=True), upstream="u", origin=origin, body=b"{}")
    return await (await door.send(permit, method="POST", target="/", headers=(), body=b"{}", way=way)).read(1_000_000)


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


def test_a_trusted_certificate_for_the_right_name_is_accepted_and_its_connection_kept(serve, tls):
    async def main():
        async with serve(lambda v: v.answer(b"x" * 300_000), tls=tls) as served:
            async with Door(
                transport=Http1Transport(tls=make_tls_context(Way(ca_file=PEM)), resolver=loopback)
            ) as door:
                for _ in range(3):
                    assert len(await ask(door, served.origin.replace("127.0.0.1", "localhost"))) == 300_000
            assert served.connections == 1

    asyncio.run(main())


@pytest.mark.parametrize(("ca_file", "host"), [(None, "localhost"), (PEM, "other.example"), (PEM, "127.0.0.1")])
def test_a_certificate_of_no_authority_or_another_name_is_refused_before_anything_is_sent(serve, tls, ca_file, host):
    async def main():
        async with serve(lambda v: v.answer(b"ok"), tls=tls) as served:
            async with Door(
                transport=Http1Transport(tls=make_tls_context(Way(ca_file=ca_file)), resolver=loopback)
            ) as door:
                with pytest.raises(UpstreamUnreachable, match="certificate that is not trusted"):
                    await ask(door, served.origin.replace("127.0.0.1", host))
            assert served.visits == []

    asyncio.run(main())


class Company:
    """An authority whose certificate stands in a file, and what it issues to a server and to a client."""

    def __init__(self, folder: Path) -> None:
        self.ca_file, self.client_file = folder / "ca.pem", folder / "client.pem"
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.begin()

    @property
    def way(self) -> Way:
        return Way(ca_file=self.ca_file, client_cert_file=self.client_file)

    def begin(self, *, name: str = "first") -> None:
        """Issue everything under a new authority."""
        self.authority = trustme.CA()
        self.authority.issue_cert("localhost").configure_cert(self.server)
        self.authority.configure_trust(self.server)
        self.server.verify_mode = ssl.CERT_REQUIRED
        self.authority.cert_pem.write_to_path(self.ca_file)
        self.issue_to_client(name)

    def issue_to_client(self, name: str) -> None:
        leaf = self.authority.issue_cert(f"{name}.example", common_name=name)
        leaf.private_key_and_cert_chain_pem.write_to_path(self.client_file)


def shown_by(visit) -> str:
    """The common name of the certificate that the client showed."""
    subject = visit.transport.get_extra_info("peercert")["subject"]
    return next(value for part in subject for name, value in part if name == "commonName")


def test_renewed_authorities_and_client_certificates_serve_new_connections_and_old_ones_end_with_their_call(
    serve, tmp_path
):
    company = Company(tmp_path)
    release = asyncio.Event()

    async def script(visit):
        await release.wait()
        visit.answer(shown_by(visit).encode())

    async def main():
        async with serve(script, tls=company.server) as served, Door() as door:
            origin = served.origin.replace("127.0.0.1", "localhost")
            running = asyncio.create_task(ask(door, origin, company.way))
            await until(lambda: served.visits)
            company.begin(name="second")  # another authority on both sides
            await door.read_certificates({company.way})
            release.set()
            assert await running == b"first", "the call that ran ends as it began"
            assert await ask(door, origin, company.way) == b"second"
            assert await ask(door, origin, company.way) == b"second"
            assert served.connections == 2, "what was connected before is not used again, what is new is kept"
            await until(lambda: served.closed == 1)
            company.issue_to_client("third")
            await door.read_certificates({company.way})
            await until(lambda: served.closed == 2)  # an idle one at once
            assert await ask(door, origin, company.way) == b"third"

    asyncio.run(main())


@pytest.mark.parametrize("damaged", ["ca.pem", "client.pem"])
def test_a_renewed_file_that_cannot_be_used_is_named_and_the_old_one_stays(serve, tmp_path, damaged):
    company = Company(tmp_path)

    async def main():
        async with serve(lambda v: v.answer(shown_by(v).encode()), tls=company.server) as served, Door() as door:
            origin = served.origin.replace("127.0.0.1", "localhost")
            assert await ask(door, origin, company.way) == b"first"
            (tmp_path / damaged).write_text("half a")
            with pytest.raises(ConfigError, match="cannot be used") as caught:
                await door.read_certificates({company.way, DIRECT})
            assert damaged in str(caught.value)
            served.transports[0].close()
            await until(lambda: not door._others[company.way].open_connections)
            assert await ask(door, origin, company.way) == b"first", "on a new connection too"
            assert served.connections == 2

    asyncio.run(main())


def test_connections_without_tls_outlive_new_certificates(serve):
    async def main():
        async with serve(lambda v: v.answer()) as served, Door() as door:
            for _ in range(3):
                assert await ask(door, served.origin) == b"ok"
                await door.read_certificates({DIRECT})
            assert served.connections == 1

    asyncio.run(main())


def test_ways_that_are_not_named_are_not_read(serve, tmp_path):
    """As the files of upstreams that the plan has no more: they may be gone."""
    company = Company(tmp_path)

    async def main():
        async with serve(lambda v: v.answer(), tls=company.server) as served, Door() as door:
            assert await ask(door, served.origin.replace("127.0.0.1", "localhost"), company.way) == b"ok"
            company.ca_file.unlink()
            await door.read_certificates({DIRECT})

    asyncio.run(main())


def test_a_server_that_speaks_no_tls_is_unreachable():
    async def main():
        class Plain(asyncio.Protocol):
            def connection_made(self, transport):
                transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        server = await asyncio.get_running_loop().create_server(Plain, "127.0.0.1", 0)
        async with Door(transport=trusting(PEM)) as door:
            with pytest.raises(UpstreamUnreachable, match="TLS"):
                await ask(door, f"https://localhost:{server.sockets[0].getsockname()[1]}")
        server.close()

    asyncio.run(main())
