"""An upstream behind a proxy, by the plan: what goes through, what stays, and what the ledger says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from leftovers import none_alive, resting_collector
from ownward.engines import FakeOptions, FakeServer
from ownward.gateway.exchange import Exchange
from ownward.policy import LOCAL_ONLY
from ownward.upstreams import Response
from ownward.upstreams._proxied_call import CallRequest, ProxiedCall

LOGIN = "user:hunter2"
SHOWN = b"proxy-authorization: Basic dXNlcjpodW50ZXIy\r\n"


class Proxy:
    """An HTTP proxy on loopback that asks for user and password."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.transports: list[asyncio.WriteTransport] = []
        self.url = ""

    @property
    def url_with_login(self) -> str:
        return self.url.replace("//", f"//{LOGIN}@")

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            self.transports.append(writer.transport)
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            if SHOWN not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
                writer.close()
                return
            address = head.split(b" ")[1].split(b"/")[2]
            there, onward = await asyncio.open_connection("127.0.0.1", int(address.rpartition(b":")[2]))
            self.transports.append(onward.transport)
            length = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length")
            )
            onward.write(head.replace(b"http://" + address, b"", 1).replace(SHOWN, b""))
            onward.write(await reader.readexactly(length))
            while data := await there.read(65536):
                writer.write(data)
                await writer.drain()
            onward.close()
        writer.close()


@contextlib.asynccontextmanager
async def proxying() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    server = await asyncio.start_server(proxy.visit, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield proxy
    server.close()
    for transport in proxy.transports:
        transport.abort()
    await asyncio.sleep(0.01)


def behind(lab, url: str, name: str = "far"):
    return lab.tier(name, "", upstreams=(lab.Upstream(name=f"{name}-1", url=url, proxy_url_env="TEST_PROXY_URL"),))


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_call_goes_through_the_proxy_that_the_variable_names_and_is_settled(lab, start, is_stream):
    async def main():
        async with FakeServer() as far, proxying() as proxy:
            plan = lab.plan_of(behind(lab, far.base_url))
            async with start(plan, secrets={"TEST_PROXY_URL": proxy.url_with_login}) as running:
                answer = await running.ask(body={**lab.chat(), "stream": is_stream})
                assert answer.status == 200
                (row,) = await running.rows()
                assert (row["state"], row["usage_basis"]) == ("settled", "upstream")
                assert len(proxy.heads) == far.record.count(with_calls=False)["accepted"] == 1

    asyncio.run(main())


@pytest.mark.parametrize("answers", [None, b"", b"no http", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
def test_a_call_leaves_nothing_of_its_request_to_the_garbage_collector(lab, start, answers):
    async def script(_body, _reader, writer):
        writer.write(answers)
        await writer.drain()
        writer.close()

    async def main():
        async with FakeServer() if answers is None else lab.Scripted(script) as far, proxying() as proxy:
            plan = lab.plan_of(behind(lab, far.base_url))
            async with start(plan, secrets={"TEST_PROXY_URL": proxy.url_with_login}) as running:
                await running.ask(body=lab.chat())
                with resting_collector():
                    assert (await running.ask(body=lab.chat())).status == (200 if answers is None else 502)
                    await none_alive(ProxiedCall, CallRequest, Response, Exchange)

    asyncio.run(main())


def test_nor_does_one_whose_client_leaves(lab, start):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=5)) as far, proxying() as proxy:
            plan = lab.plan_of(behind(lab, far.base_url))
            async with start(plan, secrets={"TEST_PROXY_URL": proxy.url_with_login}) as running:
                with resting_collector():
                    async with lab.Client(running.base_url) as client:
                        await client.send(lab.CHAT, lab.chat(stream=True))
                        await asyncio.sleep(0.1)
                    await none_alive(ProxiedCall, CallRequest, Response, Exchange)

    asyncio.run(main())


def test_a_proxy_that_refuses_charges_nothing_and_the_next_tier_answers(lab, start, caplog):
    async def main():
        async with FakeServer() as far, FakeServer() as near, proxying() as proxy:
            plan = lab.plan_of(behind(lab, far.base_url), lab.tier("near", near.base_url))
            wrong = proxy.url.replace("//", "//user:hunter3@")
            async with start(plan, secrets={"TEST_PROXY_URL": wrong}) as running:
                answer = await running.ask(body=lab.chat())
                assert answer.status == 200
                first, second = await running.rows()
                assert (first["state"], second["state"], second["tier"]) == ("failed", "settled", "near")
                assert far.record.count(with_calls=False)["accepted"] == 0
                assert "hunter" not in str(answer.headers) + answer.body.decode() + str([first, second]) + caplog.text

    asyncio.run(main())


@pytest.mark.parametrize("value", [None, "not a proxy hunter2"])
def test_without_a_usable_proxy_nothing_goes_around_it(lab, start, caplog, value):
    async def main():
        async with FakeServer() as far:
            secrets = {} if value is None else {"TEST_PROXY_URL": value}
            async with start(lab.plan_of(behind(lab, far.base_url)), secrets=secrets) as running:
                answer = await running.ask(body=lab.chat())
                assert answer.status == 503
                assert "TEST_PROXY_URL" in answer.body.decode()
                assert "hunter2" not in answer.body.decode() + caplog.text
                assert far.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


def test_local_data_stays_even_where_upstream_and_proxy_are_on_this_machine(lab, start):
    async def main():
        async with FakeServer() as far, proxying() as proxy:
            upstream = lab.Upstream(name="mine-1", url=far.base_url, proxy_url=proxy.url)
            plan = lab.plan_of(lab.tier("mine", "", kind="owned", upstreams=(upstream,)), label=LOCAL_ONLY)
            async with start(plan) as running:
                answer = await running.ask(body=lab.chat())
                assert answer.status == 403
                assert proxy.heads == []

    asyncio.run(main())
