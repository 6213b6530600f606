"""`ownward top` against gateways that run, that ask for a key, that have TLS, and that are not there."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

from __future__ import annotations

import asyncio
import json

import pytest
import trustme

from ownward.cli import run
from ownward.cli._top import make_source
from ownward.core import UpstreamUnreachable, UsageError
from ownward.engines import FakeOptions, FakeServer
from ownward.gateway import GatewaySettings


def test_a_picture_of_a_gateway_says_what_it_served(lab, start):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.02)) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
                await running.ask(body=lab.chat(stream=True))
                await running.ask(body={**lab.chat(), "model": "nobody"})
                frame = await make_source(running.base_url, key_env=None, ca_file=None).look_once(None)
                assert frame.outcomes == {"answered": 1, "refused": 1}
                assert frame.usd_total == pytest.approx(0.000261)
                (upstream,) = frame.upstreams
                assert (upstream.tier, upstream.upstream, upstream.state) == ("a", "a-1", "up")
                assert 0.01 <= upstream.ttft.p50_s <= 0.25
                assert [error.kind for error in frame.errors] == ["unknown_route"]

    asyncio.run(main())


def test_a_window_leaves_out_what_was_before(lab, start):
    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            await running.ask(body=lab.chat())
            frame = await make_source(running.base_url, key_env=None, ca_file=None).look_once(0.1)
            assert (frame.requests_per_s, frame.is_whole_life) == (0, False)
            assert frame.usd_total > 0

    asyncio.run(main())


def test_a_gateway_that_asks_for_a_key_is_shown_one(lab, start, monkeypatch):
    async def main():
        async with FakeServer() as fake:
            settings = GatewaySettings(port=0, requires_keys=True)
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
                with pytest.raises(UsageError, match="--key-env"):
                    await make_source(running.base_url, key_env=None, ca_file=None).look_once(None)
                monkeypatch.setenv("MY_GATEWAY_KEY", running.ledger.create_key("me"))
                await make_source(running.base_url, key_env="MY_GATEWAY_KEY", ca_file=None).look_once(None)
                scoped = running.ledger.create_key("team", {"workloads": ["chat"]})
                monkeypatch.setenv("MY_GATEWAY_KEY", scoped)
                with pytest.raises(UsageError, match="not scoped"):
                    await make_source(running.base_url, key_env="MY_GATEWAY_KEY", ca_file=None).look_once(None)

    asyncio.run(main())


def test_a_certificate_of_ones_own_is_trusted_where_it_is_named(lab, start, tmp_path):
    async def main():
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
        (tmp_path / "both.pem").chmod(0o600)
        settings = GatewaySettings(port=0, tls_cert_file=tmp_path / "both.pem")
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
                await make_source(running.base_url, key_env=None, ca_file=str(tmp_path / "ca.pem")).look_once(None)
                with pytest.raises(UpstreamUnreachable, match="certificate that is not trusted") as refused:
                    await make_source(running.base_url, key_env=None, ca_file=None).look_once(None)
                assert "--ca-file" in str(refused.value)
                with pytest.raises(UpstreamUnreachable, match="http or https"):
                    await make_source(f"http{running.base_url[5:]}", key_env=None, ca_file=None).look_once(None)

    asyncio.run(main())


def test_where_nothing_runs_it_says_how_to_start_it():
    source = make_source("http://127.0.0.1:9", key_env=None, ca_file=None)
    with pytest.raises(UpstreamUnreachable, match="ownward serve"):
        asyncio.run(source.look_once(None))


@pytest.mark.parametrize("url", ["http://example.com", "ftp://127.0.0.1", "8484", "https://93.184.216.34"])
def test_only_gateways_here_are_looked_at(url):
    with pytest.raises(UsageError, match="--url"):
        make_source(url, key_env=None, ca_file=None)


@pytest.mark.parametrize("words", [["--interval", "0"], ["--window", "1", "--interval", "5"]])
def test_intervals_that_cannot_be_are_refused(words, capsys):
    assert run(["top", "--url", "http://127.0.0.1:9", *words]) == 2


def test_an_error_is_json_where_json_was_asked_for(capsys):
    assert run(["top", "--url", "http://127.0.0.1:9", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "upstream_unreachable"
