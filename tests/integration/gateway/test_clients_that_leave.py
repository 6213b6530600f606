"""A client that leaves takes its upstream call with it, and the ledger keeps what may be charged."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import json
import socket
import struct

import pytest

from ownward.engines import FakeOptions, FakeServer, Stall
from ownward.gateway import GatewaySettings


async def until(condition, *, within_s):
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not condition():
        assert loop.time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.002)


def reset(client):
    """Close a connection with a reset, as a killed process on another machine would."""
    raw = client.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("when", ["before the first byte", "in the stream", "while a plain answer is made"])
def test_the_upstream_call_ends_within_100_ms(lab, start, when, leave):
    options = FakeOptions(ttft_s=0.01, tpot_s=0.05) if when == "in the stream" else FakeOptions(ttft_s=5)

    async def main():
        async with FakeServer(options) as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            async with lab.Client(running.base_url) as client:
                await client.send(lab.CHAT, lab.chat(stream=when != "while a plain answer is made"))
                if when == "in the stream":
                    await client.head()
                    for _ in range(3):
                        await client.piece()
                else:
                    await until(lambda: fake.record.count(with_calls=False)["accepted"] == 1, within_s=2)
                if leave == "reset":
                    reset(client)
            await until(lambda: fake.record.count(with_calls=False)["aborted"] == 1, within_s=0.1)
            await until(lambda: not running.server.gateway.exchanges, within_s=0.1)
            (row,) = await running.rows()
            (call,) = fake.record.count(with_calls=True)["calls"]
            assert (row["state"], row["charge_usd"], row["output_tokens"]) == ("unsettled", None, None)
            truth = 3e-6 * call["input_tokens"] + 15e-6 * call["output_tokens"]
            assert float(row["charge_low_usd"]) <= truth <= float(row["charge_high_usd"])

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("says_usage", [True, False])
def test_a_client_that_leaves_at_the_finish_leaves_the_usage_that_follows(lab, start, path, says_usage):
    """Many leave their loop at `finish_reason`, an event before the usage."""
    counts = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    pieces = [({"content": "a"}, None), ({"content": "b"}, None), ({}, "stop")]
    lost = asyncio.Event()

    async def script(body, reader, writer):
        writer.write(lab.STREAM_HEAD)
        for delta, finish in pieces:
            event = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
            writer.write(lab.chunk(b"data: %b\n\n" % json.dumps(event).encode()))
        await writer.drain()
        await asyncio.sleep(0.05)
        if says_usage:
            usage = json.dumps({"id": "c", "choices": [], "usage": counts}).encode()
            writer.write(lab.chunk(b"data: %b\n\ndata: [DONE]\n\n" % usage) + b"0\r\n\r\n")
            await writer.drain()
        await reader.read(1)
        lost.set()

    async def main():
        async with lab.Scripted(script) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                async with lab.Client(running.base_url) as client:
                    await client.send(path, lab.chat(stream=True, max_tokens=50))
                    await client.head()
                    seen = b""
                    while b'"b"' not in seen:
                        seen += await client.piece()
                    await asyncio.sleep(0.01)  # in which the finish, sent with it, has come too
                await until(lambda: not running.server.gateway.exchanges, within_s=0.2)
                if not says_usage:
                    await asyncio.wait_for(lost.wait(), 0.1)
                (row,) = await running.rows()
        told = (row["state"], row["input_tokens"], row["output_tokens"], row["charge_usd"])
        assert told == (("settled", 7, 2, "0.000051") if says_usage else ("unsettled", None, None, None))

    asyncio.run(main())


def test_a_client_that_leaves_while_it_waits_for_a_slot_is_sent_nowhere(lab, start):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.3)) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url, max_concurrency=1))) as running:
                first = asyncio.create_task(running.ask(body=lab.chat()))
                slots = running.server.gateway.slots["a"]
                await until(lambda: slots.in_use == 1, within_s=2)
                async with lab.Client(running.base_url) as client:
                    await client.send(lab.CHAT, lab.chat())
                    await until(lambda: slots.waiting == 1, within_s=2)
                await until(lambda: slots.waiting == 0, within_s=0.2)
                assert (await first).status == 200
                await until(lambda: slots.in_use == 0, within_s=0.2)
                assert fake.record.count(with_calls=False)["accepted"] == 1

    asyncio.run(main())


def test_a_client_that_leaves_after_its_answer_changes_nothing(lab, start):
    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            for _ in range(20):
                async with lab.Client(running.base_url) as client:
                    await client.ask(lab.CHAT, lab.chat(stream=True))
                    reset(client)
            assert {row["state"] for row in await running.rows()} == {"settled"}

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_a_client_that_reads_nothing_is_cut_and_its_memory_is_bounded(lab, start, monkeypatch, path):
    monkeypatch.setattr("ownward.gateway.app._SWEEP_S", 0.05)
    settings = GatewaySettings(port=0, client_stall_s=0.2, drain_s=1)
    written = 0

    async def script(body, reader, writer):
        nonlocal written
        writer.write(lab.STREAM_HEAD)
        event = b'data: {"choices":[{"delta":{"content":"' + b"x" * 60_000 + b'"}}]}\n\n'
        for _ in range(1000):
            if writer.is_closing():
                break
            writer.write(lab.chunk(event))
            await writer.drain()
            written += len(event)

    async def main():
        async with lab.Scripted(script) as upstream:
            plan = lab.plan_of(lab.tier("a", upstream.base_url, capabilities=("chat",)))
            async with start(plan, settings=settings) as running:
                async with lab.Client(running.base_url) as client:
                    client.reader._limit = 1024  # the test's own buffer stays small
                    asked = {"model": "chat", "stream": True, "max_tokens": 5, "messages": []}
                    asked["messages"].append({"role": "user", "content": "x"})
                    if path == "/v1/responses":
                        asked = {"model": "chat", "stream": True, "input": "x"}
                    await client.send(path, asked)
                    await asyncio.wait_for(upstream.lost.wait(), 5)
                assert written < 30_000_000
                await until(lambda: not running.server.gateway.exchanges, within_s=1)
                (row,) = await running.rows()
                assert row["state"] == "unsettled"

    asyncio.run(main())


def test_a_client_that_reads_slowly_and_steadily_gets_all_of_a_long_answer(lab, start, monkeypatch):
    monkeypatch.setattr("ownward.gateway.app._SWEEP_S", 0.05)
    settings = GatewaySettings(port=0, client_stall_s=0.4, drain_s=1)
    message = {"role": "assistant", "content": "x" * 30_000_000}
    said = json.dumps({"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()

    async def main():
        async with lab.Scripted(lab.whole(said)) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url)), settings=settings) as running:
                async with lab.Client(running.base_url) as client:
                    await client.send(lab.CHAT, lab.chat())
                    answer = await client.head()
                    left_bytes = int(answer.headers["content-length"])
                    while left_bytes:
                        piece = await client.reader.read(500_000)
                        assert piece, f"cut {left_bytes} bytes before the end"
                        left_bytes -= len(piece)
                        await asyncio.sleep(0.02)

    asyncio.run(main())


def test_a_stream_that_stalls_is_ended_with_an_error(lab, start):
    async def main():
        async with FakeServer(FakeOptions(stalls=(Stall.parse("3:5"),))) as fake:
            stalling = lab.tier("a", "", upstreams=(lab.Upstream(name="a-1", url=fake.base_url, stall_timeout_s=0.1),))
            async with start(lab.plan_of(stalling)) as running:
                answer = await asyncio.wait_for(running.ask(body=lab.chat(stream=True)), 2)
                assert b"[DONE]" not in answer.body
                assert b'"error"' in answer.body
                (row,) = await running.rows()
                assert row["state"] == "unsettled"

    asyncio.run(main())


def test_a_client_that_leaves_at_the_last_word_leaves_a_settled_row(lab, start):
    """Clients close at `[DONE]`; an upstream may keep its stream open for a while after it."""
    events = (
        b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'
        b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}\n\n'
        b"data: [DONE]\n\n"
    )

    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + events)
        await reader.read()  # until the gateway closes
        writer.close()

    async def main():
        upstream = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with upstream:
            url = f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
            async with start(lab.plan_of(lab.tier("a", url))) as running:
                async with lab.Client(running.base_url) as client:
                    await client.send(lab.CHAT, lab.chat(stream=True))
                    await client.head()
                    received = b""
                    while b"[DONE]" not in received:
                        received += await client.piece()
                await until(lambda: not running.server.gateway.exchanges, within_s=1)
                (row,) = await running.rows()
                assert (row["state"], row["input_tokens"], row["output_tokens"]) == ("settled", 7, 3)

    asyncio.run(main())


def test_a_client_that_leaves_while_its_body_comes_is_counted_among_those_that_left(lab, start):
    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            _, writer = await asyncio.open_connection("127.0.0.1", int(running.base_url.rsplit(":", 1)[1]))
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\n{")
            await until(lambda: running.server.gateway.exchanges, within_s=2)
            writer.close()
            await until(lambda: not running.server.gateway.exchanges, within_s=0.5)
            said = (await running.ask("/metrics")).body.decode()
            assert 'ownward_client_disconnects_total{tier=""} 1' in said

    asyncio.run(main())
