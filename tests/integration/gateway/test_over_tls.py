"""Our own TLS: what a client must be able to verify, what is refused, and certificates that change while we run."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
import uvloop

from leftovers import none_alive, resting_collector
from ownward.core import ConfigError, ManualClock
from ownward.engines import FakeOptions, FakeServer
from ownward.gateway import GatewaySettings
from ownward.gateway.listening.connection import HttpConnection
from ownward.gateway.listening.tls import ListenerTls
from ownward.plan import Upstream


class Issued:
    """A certificate authority of one test, and what it issues."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.cert, self.key = folder / "chain.pem", folder / "key.pem"
        self.issue()

    def issue(self, **times: datetime) -> None:
        leaf = self.authority.issue_cert("localhost", "127.0.0.1", **times)
        self.key.write_bytes(leaf.private_key_pem.bytes())
        self.key.chmod(0o600)
        self.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    def settings(self, **more) -> GatewaySettings:
        return GatewaySettings(port=0, drain_s=2, tls_cert_file=self.cert, tls_key_file=self.key, **more)


@pytest.fixture
def issued(tmp_path):
    return Issued(tmp_path)


def test_a_renewed_authority_of_an_upstream_that_cannot_be_used_is_logged_and_the_old_one_stays(
    lab, start, issued, tmp_path, caplog
):
    """Each file by itself: what is whole is renewed."""
    ca_file = tmp_path / "ca.pem"
    issued.authority.cert_pem.write_to_path(ca_file)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(issued.cert, issued.key)
    choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
    body = json.dumps({"object": "chat.completion", "choices": [choice]}).encode()

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    async def main():
        upstream = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server)
        url = f"https://localhost:{upstream.sockets[0].getsockname()[1]}/v1"
        stated = Upstream(name="u", url=url, ca_file=str(ca_file))
        tier = lab.tier("a", "", kind="owned", engine="adopted", upstreams=(stated,))
        async with upstream, start(lab.plan_of(tier)) as running:
            assert (await running.ask(body=lab.chat())).status == 200
            ca_file.write_text("half a")
            with caplog.at_level(logging.ERROR):
                running.server.read_certificates()
                async with asyncio.timeout(20):
                    while not caplog.records:  # noqa: ASYNC110 - what happens in the gateway is polled
                        await asyncio.sleep(0.01)
            assert f"{ca_file}: ca_file cannot be used" in caplog.text
            assert "the old ones stay" in caplog.text
            assert (await running.ask(body=lab.chat())).status == 200

    asyncio.run(main())


async def send_tls(
    base_url: str, context: ssl.SSLContext, body: dict
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = base_url.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
    content = json.dumps(body).encode()
    lines = ("POST /v1/chat/completions HTTP/1.1", "host: x", f"content-length: {len(content)}", "connection: close")
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
    return reader, writer


async def ask_tls(base_url: str, context: ssl.SSLContext, body: dict) -> tuple[int, bytes, ssl.SSLObject]:
    reader, writer = await send_tls(base_url, context, body)
    answer = await reader.read()
    session = writer.get_extra_info("ssl_object")
    writer.close()
    return int(answer.split()[1]), answer, session


def test_requests_and_streams_go_over_tls_that_a_client_verifies(lab, start, issued, tmp_path):
    async def main():
        settings = issued.settings(ready_file=tmp_path / "ready.json")
        async with FakeServer(FakeOptions(tpot_s=0.001)) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
                assert running.base_url.startswith("https://127.0.0.1:")
                assert json.loads((tmp_path / "ready.json").read_text())["base_url"] == running.base_url
                status, _, session = await ask_tls(running.base_url, issued.client(), lab.chat())
                assert status == 200
                assert session.version() in {"TLSv1.2", "TLSv1.3"}
                assert session.selected_alpn_protocol() is None  # the client offered none
                status, answer, _ = await ask_tls(running.base_url, issued.client(), lab.chat(stream=True))
                assert answer.count(b"data: ") > 10
                assert b"[DONE]" in answer
                assert [row["state"] for row in await running.rows()] == ["settled", "settled"]

    asyncio.run(main())


def test_a_client_that_trusts_others_or_speaks_no_tls_gets_nothing(lab, start, issued, tmp_path):
    async def main():
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=issued.settings()) as running:
                with pytest.raises(ssl.SSLCertVerificationError):
                    await ask_tls(running.base_url, ssl.create_default_context(), lab.chat())
                with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                    await lab.ask(running.base_url.replace("https", "http"), lab.CHAT, lab.chat())
                assert await running.rows() == []

    asyncio.run(main())


def test_nothing_older_than_tls_1_2_is_spoken(issued):
    assert ListenerTls(issued.cert, issued.key).context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_client_that_leaves_over_tls_is_noticed(lab, start, issued):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=5)) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=issued.settings()) as running:
                _, writer = await send_tls(running.base_url, issued.client(), lab.chat())
                while not running.server.gateway.exchanges:  # noqa: ASYNC110 - what happens in the gateway is polled
                    await asyncio.sleep(0.01)
                writer.transport.abort()
                for _ in range(100):
                    if not running.server.gateway.exchanges:
                        break
                    await asyncio.sleep(0.01)
                assert not running.server.gateway.exchanges

    asyncio.run(main())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_handshakes_that_do_not_end_count_as_connections_and_make_room_for_new_ones(lab, start, issued, loop):
    async def main():
        settings = issued.settings(max_connections=4)  # and four more are told that these are too many
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
                port = urlsplit(running.base_url).port
                silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
                await asyncio.sleep(0.1)
                assert sum(not reader.at_eof() and reader.exception() is None for reader, _ in silent) == 8
                for _ in range(3):
                    assert (await ask_tls(running.base_url, issued.client(), lab.chat()))[0] == 200
                for _, writer in silent:
                    writer.transport.abort()
                await asyncio.sleep(0.1)
                assert not running.server._listener._greeting

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


def test_a_handshake_that_fails_leaves_nothing_to_the_garbage_collector(lab, start, issued):
    async def main():
        async with start(lab.plan_of(lab.tier("a", "http://127.0.0.1:9")), settings=issued.settings()) as running:
            with resting_collector():
                for said in (b"GET / HTTP/1.1\r\n\r\n", b""):
                    _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(running.base_url).port)
                    writer.write(said)
                    await asyncio.sleep(0.05)
                    writer.transport.abort()
                await none_alive(HttpConnection)

    uvloop.run(main())  # which does not say that such a connection is lost


def test_a_new_certificate_is_shown_after_a_reload_and_a_bad_one_changes_nothing(issued):
    tls = ListenerTls(issued.cert, issued.key)
    first = issued.cert.read_bytes()
    issued.issue()
    assert issued.cert.read_bytes() != first
    tls.reload()
    issued.key.write_text("no key")
    with pytest.raises(ConfigError, match="holds no private key"):
        tls.reload()
    assert shown_by(tls, issued) == ssl.PEM_cert_to_DER_cert(first_certificate(issued.cert))


def first_certificate(path: Path) -> str:
    end = "-----END CERTIFICATE-----"
    return path.read_text().split(end)[0] + end + "\n"


def shown_by(tls: ListenerTls, issued: Issued) -> bytes | None:
    """Shake hands in memory and return the certificate that was shown."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = issued.client().wrap_bio(to_client, to_server, server_hostname="localhost")
    server = tls.context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(5):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.getpeercert(binary_form=True)


@pytest.mark.parametrize(
    ("spoil", "says", "file"),
    [
        (lambda i: i.cert.unlink(), "No such file", "chain.pem"),
        (lambda i: i.key.unlink(), "No such file", "key.pem"),
        (lambda i: i.cert.write_text("not PEM"), "holds no certificate", "chain.pem"),
        (lambda i: i.key.write_text("not PEM"), "holds no private key", "key.pem"),
        (lambda i: i.key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "has a passphrase", "key.pem"),
        (
            lambda i: i.key.write_bytes(trustme.CA().issue_cert("other").private_key_pem.bytes()),
            "is not the key of",
            "key.pem",
        ),
        (
            lambda i: i.cert.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "",
            "chain.pem",
        ),
    ],
)
def test_a_bad_file_is_told_by_its_name_what_is_wrong_and_what_would_do(issued, spoil, says, file):
    spoil(issued)
    with pytest.raises(ConfigError) as caught:
        ListenerTls(issued.cert, issued.key)
    (fault,) = caught.value.faults
    assert (fault.file or "").endswith(file)
    assert says in fault.message
    assert fault.allowed
    assert caught.value.next_step
    assert "PRIVATE" not in str(caught.value)


def test_nothing_listens_where_the_certificate_cannot_be_used(lab, start, issued):
    async def main():
        issued.key.unlink()
        with pytest.raises(ConfigError, match="tls_key_file"):
            async with start(lab.plan_of(lab.tier("a", "http://127.0.0.1:9")), settings=issued.settings()):
                pass

    asyncio.run(main())


def test_a_key_that_others_can_read_is_warned_of(issued, caplog):
    caplog.set_level(logging.WARNING)
    issued.key.chmod(0o644)
    ListenerTls(issued.cert, issued.key)
    assert "chmod 600" in caplog.text


def days(begins: int, ends: int) -> dict[str, datetime]:
    """A certificate's time, from so many days from now on until so many."""
    now = datetime.now(UTC)
    return {"not_before": now + timedelta(days=begins), "not_after": now + timedelta(days=ends)}


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (days(-90, -1), "ERROR the certificate CERT expired on "),
        (days(2, 90), "ERROR the certificate CERT is valid from "),
        (days(-80, 10), "WARNING the certificate CERT expires on "),
        (days(-5, 1), "WARNING the certificate CERT expires on "),
        (days(-1, 5), ""),  # short-lived ones are renewed when half of their time is over
        (days(-60, 30), ""),
    ],
)
def test_a_certificate_that_has_expired_or_soon_will_is_told_at_the_start_and_at_a_reload(
    lab, start, issued, *, caplog, times, says
):
    caplog.set_level(logging.WARNING)
    issued.issue(**times)
    says = says.replace("CERT", str(issued.cert))

    def told() -> str:
        return "".join(f"{r.levelname} {r.getMessage()}" for r in caplog.records if "certificate" in r.getMessage())

    async def main():
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=issued.settings()) as running:
                assert told().startswith(says)
                assert bool(told()) == bool(says)
                caplog.clear()
                running.server.read_certificates()
                assert told().startswith(says)
                issued.issue()
                caplog.clear()
                running.server.read_certificates()
                assert not told()

    asyncio.run(main())


def test_a_certificate_that_nobody_renews_is_told_of_while_it_is_served(issued, caplog):
    caplog.set_level(logging.WARNING)
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    issued.issue(not_before=datetime(2025, 11, 3, tzinfo=UTC), not_after=datetime(2026, 2, 1, 12, 30, tzinfo=UTC))
    tls = ListenerTls(issued.cert, issued.key)
    said = []
    for _ in range(33):
        caplog.clear()
        tls.log_expiry(clock)
        said.append(caplog.text.count("expires on 2026-02-01 12:30 UTC") - caplog.text.count("expired on 2026-02-01"))
        clock.advance(86_400)
    assert said == [0] * 18 + [1] * 14 + [-1]


def test_of_several_workers_one_tells_of_the_certificate(lab, start, issued, caplog):
    caplog.set_level(logging.WARNING)
    issued.issue(**days(-90, -1))

    async def main():
        async with FakeServer() as fake:
            settings = issued.settings(workers=2, worker=1)
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings):
                assert "expired" not in caplog.text

    asyncio.run(main())


def test_a_plan_that_names_a_certificate_which_is_not_there_is_not_loaded(lab, start, tmp_path):
    async def main():
        async with FakeServer() as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url))
            async with start(plan) as running:
                upstream = plan.tiers["a"].upstreams[0]
                bad = replace(upstream, url="https://localhost:1", ca_file=str(tmp_path / "gone.pem"))
                tier = replace(plan.tiers["a"], upstreams=(bad,))
                with pytest.raises(ConfigError, match=r"gone\.pem: ca_file cannot be used"):
                    await running.server.reload(replace(plan, tiers={"a": tier}))
                assert (await running.ask(body=lab.chat())).status == 200, "the old plan stays"

    asyncio.run(main())
