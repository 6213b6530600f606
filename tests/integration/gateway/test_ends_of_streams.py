"""How a stream ends where its connection says one thing and its events another."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import json
import socket
import struct
import time

import pytest

from ownward.gateway import GatewaySettings
from ownward.gateway.calling import relaying
from ownward.plan import Upstream

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


def sse(*events):
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def typed(*events):
    return b"".join(b"event: %b\n%b" % (event["type"].encode(), sse(event)) for event in events)


def chunk(delta, finish_reason=None, **more):
    return {"id": "x1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}], **more}


RESPONSE = {"id": "resp_1", "status": "completed", "output": [], "usage": {"input_tokens": 10, "output_tokens": 2}}
START = {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 10, "output_tokens": 1}}}
WORDS = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}}
SAID = {"type": "response.output_text.delta", "sequence_number": 1, "delta": "hello"}
BEGUN = {
    CHAT: sse(chunk({"content": "hello"})),
    MESSAGES: typed(START, WORDS),
    RESPONSES: typed({"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1"}}, SAID),
}
ENDED = {
    CHAT: sse(chunk({}, "stop", usage=USAGE)) + b"data: [DONE]\n\n",
    MESSAGES: typed(
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ),
    RESPONSES: typed({"type": "response.completed", "sequence_number": 2, "response": RESPONSE}),
}
EVERY_PATH = pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])


def asked(path):
    """Return a request for a stream, as it is asked for at `path`."""
    if path == RESPONSES:
        return {"model": "chat", "input": "hello there", "stream": True, "store": False}
    return {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "stream": True}


def tier(lab, name, url, path):
    """Return a tier that speaks the dialect of `path`, so that nothing is translated."""
    dialect = "anthropic" if path == MESSAGES else "openai"
    return lab.tier(name, url, upstreams=(Upstream(name=f"{name}-1", url=url, dialect=dialect),))


def streaming(lab, *pieces, then):
    """Return the script of an upstream that sends these pieces of a stream, and does `then` with its connection."""

    async def script(_body, reader, writer):
        writer.write(lab.STREAM_HEAD)
        for piece in pieces:
            writer.write(lab.chunk(piece))
            await writer.drain()
            await asyncio.sleep(0.03)
        await then(reader, writer)

    return script


async def resets(_reader, writer):
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def closes(_reader, writer):
    writer.close()


async def says_nothing_more(reader, _writer):
    await reader.read(1)


async def ends(_reader, writer):
    writer.write(b"0\r\n\r\n")
    await writer.drain()


EVERY_END = pytest.mark.parametrize("then", [resets, closes, says_nothing_more])


@pytest.fixture
def _soon(monkeypatch):
    """Have nothing waited for behind a last word."""
    monkeypatch.setattr(relaying, "_END_AWAITED_S", 0.1)


@EVERY_PATH
@EVERY_END
@pytest.mark.parametrize("at_once", [False, True], ids=["later", "at once"])
@pytest.mark.usefixtures("_soon")
def test_behind_its_last_word_nothing_can_break_a_stream(lab, start, path, then, at_once):
    """Proxies reset what they have passed on whole, and some servers keep the connection open: all was said."""
    pieces = [BEGUN[path] + ENDED[path]] if at_once else [BEGUN[path], ENDED[path]]

    async def main():
        async with lab.Scripted(streaming(lab, *pieces, then=then)) as upstream:
            async with start(lab.plan_of(tier(lab, "a", upstream.base_url, path))) as running:
                began = time.monotonic()
                answer = await running.ask(path, asked(path))
                assert time.monotonic() - began < 5  # and not the minute that a stall may last
                assert answer.body == BEGUN[path] + ENDED[path]
                (row,) = await running.rows()
                assert (row["state"], row["input_tokens"], row["output_tokens"]) == ("settled", 10, 2)

    asyncio.run(main())


@EVERY_PATH
@pytest.mark.parametrize("at_once", [False, True], ids=["later", "at once"])
def test_a_drain_that_ends_behind_the_last_word_breaks_no_stream(lab, start, path, at_once):
    pieces = [BEGUN[path] + ENDED[path]] if at_once else [BEGUN[path], ENDED[path]]
    settings = GatewaySettings(port=0, drain_s=0.1)

    async def main():
        async with lab.Scripted(streaming(lab, *pieces, then=says_nothing_more)) as upstream:
            plan = lab.plan_of(tier(lab, "a", upstream.base_url, path))
            async with start(plan, settings=settings) as running, lab.Client(running.base_url) as client:
                await client.send(path, asked(path))
                head = await client.head()
                while not head.body.endswith(ENDED[path]):
                    head.body += await client.piece()
                await running.server.stop()
                assert (await client.rest(head)).body == BEGUN[path] + ENDED[path]
                (row,) = await running.rows()
                assert (row["state"], row["output_tokens"]) == ("settled", 2)
                ended = [labels[3:] for labels in running.server.gateway.counting.metrics.requests.values]
                assert ended == [("answered", "200")]

    asyncio.run(main())


ERROR = {
    CHAT: sse({"error": {"message": "out of memory"}}),
    MESSAGES: typed({"type": "error", "error": {"type": "overloaded_error", "message": "out of memory"}}),
    RESPONSES: typed({"type": "error", "sequence_number": 2, "code": "server_error", "message": "out of memory"}),
}


@EVERY_PATH
@EVERY_END
@pytest.mark.usefixtures("_soon")
def test_an_error_is_the_last_word_of_a_stream_whatever_becomes_of_its_connection(lab, start, path, then):
    async def main():
        async with lab.Scripted(streaming(lab, BEGUN[path], ERROR[path], then=then)) as upstream:
            async with start(lab.plan_of(tier(lab, "a", upstream.base_url, path))) as running:
                answer = await running.ask(path, asked(path))
                assert answer.body == BEGUN[path] + ERROR[path]
                (row,) = await running.rows()
                assert row["state"] == "unsettled"

    asyncio.run(main())


MISSPELT = {
    CHAT: sse({"object": "error", "message": "out of memory", "type": "InternalServerError", "code": 500}),
    MESSAGES: sse({"error": {"message": "out of memory", "code": 500}}),
}
"""Errors as some servers tell them, and no client of the dialect reads: chunks without choices, events without type."""


@pytest.mark.parametrize("path", MISSPELT)
@pytest.mark.parametrize("done", [b"", b"data: [DONE]\n\n"])
@pytest.mark.parametrize("by", [CHAT, MESSAGES])
@pytest.mark.usefixtures("_soon")
def test_an_error_that_clients_would_pass_over_is_told_in_their_form(lab, start, path, done, by):
    async def main():
        async with lab.Scripted(streaming(lab, BEGUN[path], MISSPELT[path], done, then=ends)) as upstream:
            async with start(lab.plan_of(tier(lab, "a", upstream.base_url, path))) as running:
                answer = await running.ask(by, asked(by))
                *said, last = answer.body.split(b"\n\n")[:-1]
                assert b"hello" in b"".join(said)
                assert not any(b"out of memory" in event or b"_stop" in event or b"[DONE]" in event for event in said)
                error = json.loads(last.partition(b"data: ")[2])["error"]
                assert "It says: out of memory" in error["message"]
                (row,) = await running.rows()
                assert row["state"] == "unsettled"

    asyncio.run(main())


@pytest.mark.parametrize("path", MISSPELT)
def test_a_stream_that_begins_with_such_an_error_is_asked_for_elsewhere(lab, start, path):
    async def main():
        async with (
            lab.Scripted(streaming(lab, MISSPELT[path], then=ends)) as first,
            lab.Scripted(streaming(lab, BEGUN[path], ENDED[path], then=ends)) as second,
        ):
            tiers = tier(lab, "a", first.base_url, path), tier(lab, "b", second.base_url, path)
            async with start(lab.plan_of(*tiers)) as running:
                answer = await running.ask(path, asked(path))
                assert (answer.headers["x-ownward-tier"], answer.body) == ("b", BEGUN[path] + ENDED[path])

    asyncio.run(main())


@pytest.mark.parametrize("path", [MESSAGES, RESPONSES])
def test_done_is_no_last_word_of_a_stream_that_has_another(lab, start, path):
    """Their clients do not know it: to them an answer without `message_stop` or `response.completed` was cut."""

    async def main():
        async with lab.Scripted(streaming(lab, BEGUN[path], b"data: [DONE]\n\n", then=ends)) as upstream:
            async with start(lab.plan_of(tier(lab, "a", upstream.base_url, path))) as running:
                answer = await running.ask(path, asked(path))
                last = answer.body.split(b"\n\n")[-2]
                assert last.startswith(b"event: error\n")
                assert b"without its last word" in last
                (row,) = await running.rows()
                assert row["state"] == "unsettled"

    asyncio.run(main())


@EVERY_PATH
def test_done_behind_the_last_word_is_passed_on(lab, start, path):
    """vLLM ends its streams of messages so."""
    done = b"" if path == CHAT else b"data: [DONE]\n\n"

    async def main():
        async with lab.Scripted(streaming(lab, BEGUN[path], ENDED[path] + done, then=ends)) as upstream:
            async with start(lab.plan_of(tier(lab, "a", upstream.base_url, path))) as running:
                answer = await running.ask(path, asked(path))
                assert answer.body == BEGUN[path] + ENDED[path] + done
                (row,) = await running.rows()
                assert row["state"] == "settled"

    asyncio.run(main())


@EVERY_PATH
@pytest.mark.usefixtures("_soon")
def test_a_stream_ends_soon_behind_its_last_word_though_its_upstream_goes_on_with_comments(lab, start, path):
    async def goes_on(_reader, writer):
        while True:
            writer.write(lab.chunk(b": still here\n\n"))
            await writer.drain()
            await asyncio.sleep(0.03)

    async def main():
        async with lab.Scripted(streaming(lab, BEGUN[path], ENDED[path], then=goes_on)) as upstream:
            async with start(lab.plan_of(tier(lab, "a", upstream.base_url, path))) as running:
                answer = await asyncio.wait_for(running.ask(path, asked(path)), 5)
                assert answer.body.replace(b": still here\n\n", b"") == BEGUN[path] + ENDED[path]
                (row,) = await running.rows()
                assert (row["state"], row["input_tokens"], row["output_tokens"]) == ("settled", 10, 2)

    asyncio.run(main())


@EVERY_PATH
def test_a_stream_that_is_over_before_it_said_anything_is_asked_for_elsewhere(lab, start, path):
    async def main():
        nothing = streaming(lab, b"data: [DONE]\n\n", then=ends)
        fine = streaming(lab, BEGUN[path], ENDED[path], then=ends)
        async with lab.Scripted(nothing) as odd, lab.Scripted(fine) as healthy:
            plan = lab.plan_of(tier(lab, "a", odd.base_url, path), tier(lab, "b", healthy.base_url, path))
            async with start(plan) as running:
                answer = await running.ask(path, asked(path))
                assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "b")
                assert answer.body == BEGUN[path] + ENDED[path]
                rows = await running.rows()
                assert [row["state"] for row in rows] == ["unsettled", "settled"]

    asyncio.run(main())
