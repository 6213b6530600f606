"""A streamed answer that is silent gets comments: before its first event, between events, never within one."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import itertools
import json

import anthropic
import openai
import pytest

from ownward.engines import FakeOptions, FakeServer, OutputLength, Stall
from ownward.gateway import GatewaySettings
from ownward.gateway.listening.keep_alive import COMMENT
from ownward.plan import Upstream

EVERY_S = 0.1
MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
ASKED = {"model": "chat", "messages": [{"role": "user", "content": "hello there"}], "max_tokens": 16, "stream": True}


def settings(every_s=EVERY_S):
    return GatewaySettings(port=0, drain_s=2, stream_keep_alive_s=every_s)


def late(*stalls, **more):
    return FakeOptions(reply="as you like it", stalls=tuple(map(Stall.parse, stalls)), **more)


def without_comments(body):
    return body.replace(COMMENT, b"")


async def streamed(lab, start, options, *, every_s=EVERY_S, path=None, body=None):
    async with FakeServer(options) as fake:
        async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings(every_s)) as running:
            answer = await running.ask(path or lab.CHAT, body or lab.chat(stream=True))
            return answer, await running.rows()


@pytest.mark.parametrize(("path", "body"), [(None, None), (MESSAGES, ASKED), (RESPONSES, None)])
def test_a_stream_whose_first_event_is_late_begins_with_comments(lab, start, path, body):
    body = {"model": "chat", "input": "hello", "stream": True} if path == RESPONSES else body

    async def main():
        answer, (row,) = await streamed(lab, start, late("first:0.8"), path=path, body=body)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-ownward-request-id"] == row["request_id"]
        assert answer.body.startswith(2 * COMMENT)
        assert b"like" in without_comments(answer.body)
        assert COMMENT not in answer.body.lstrip(COMMENT)
        assert (row["state"], row["status"], row["output_tokens"]) == ("settled", 200, 4)

    asyncio.run(main())


def test_none_is_sent_unless_stated_and_to_none_that_asked_for_no_stream(lab, start):
    async def main():
        answer, _ = await streamed(lab, start, late("first:0.6"), every_s=0)
        assert COMMENT not in answer.body
        assert "x-ownward-tier" in answer.headers
        answer, _ = await streamed(lab, start, late("first:0.6"), body=lab.chat())
        assert answer.json["choices"][0]["message"]["content"] == "as you like it"
        assert answer.headers["content-type"] == "application/json"

    asyncio.run(main())


def test_a_stream_that_falls_silent_gets_comments_between_its_events(lab, start):
    async def main():
        silent, _ = await streamed(lab, start, late("2:0.7"))
        steady, _ = await streamed(lab, start, late())
        assert silent.body.count(COMMENT) >= 2
        assert silent.body.index(COMMENT) > silent.body.index(b"you")
        assert [texts(silent.body)] == [texts(steady.body)]
        assert "x-ownward-tier" in silent.headers

    asyncio.run(main())


def texts(body):
    events = [line[6:] for line in without_comments(body).split(b"\n\n") if line.startswith(b"data: {")]
    return [choice["delta"].get("content") for event in events for choice in json.loads(event)["choices"]]


def test_none_is_sent_within_an_event(lab, start):
    """Half an event, silence, the other half: it goes on whole, with the comment before it."""
    whole = b'data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    end = b'data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}\n\ndata: [DONE]\n\n'

    async def script(_request, _reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + whole)
        for half in (whole[:40], whole[40:]):
            await asyncio.sleep(0.5)
            writer.write(half)
        writer.write(end)
        writer.close()

    async def main():
        async with lab.Scripted(script) as scripted:
            async with start(lab.plan_of(lab.tier("a", scripted.base_url)), settings=settings()) as running:
                answer = await running.ask(body=lab.chat(stream=True, stream_options={"include_usage": True}))
        assert COMMENT in answer.body
        assert without_comments(answer.body) == whole + whole + end
        assert whole[:40] + COMMENT not in answer.body

    asyncio.run(main())


def refuses_late(status, said):
    """Return an upstream's script: half a second of silence, then an answer; status None: the connection's end."""

    async def script(_request, _reader, writer):
        await asyncio.sleep(0.5)
        if status is not None:
            body = json.dumps(said, indent=2).encode()
            head = f"HTTP/1.1 {status} No\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
        writer.close()

    return script


def test_behind_a_comment_another_upstream_is_asked_as_before(lab, start):
    async def main():
        async with lab.Scripted(refuses_late(500, {})) as first, FakeServer(late()) as second:
            plan = lab.plan_of(lab.tier("a", first.base_url), lab.tier("b", second.base_url))
            async with start(plan, settings=settings()) as running:
                answer = await running.ask(body=lab.chat(stream=True))
                rows = await running.rows()
        assert answer.body.startswith(COMMENT)
        assert [text for text in texts(answer.body) if text] == ["as", " you", " like", " it"]
        assert [row["state"] for row in rows] == ["failed", "settled"]

    asyncio.run(main())


@pytest.mark.parametrize("status", [503, None])
def test_what_fails_behind_a_comment_is_told_in_the_stream_as_the_clients_library_raises_it(lab, start, status):
    async def main():
        said = {"error": {"message": "no room", "type": "overloaded_error"}}
        async with lab.Scripted(refuses_late(status, said)) as scripted:
            async with start(lab.plan_of(lab.tier("a", scripted.base_url)), settings=settings()) as running:
                ours = openai.AsyncOpenAI(base_url=f"{running.base_url}/v1", api_key="none", max_retries=0)
                theirs = anthropic.AsyncAnthropic(base_url=running.base_url, api_key="none", max_retries=0)
                async with ours, theirs:
                    chat = {"model": "chat", "messages": ASKED["messages"], "stream": True}
                    with pytest.raises(openai.APIError):
                        _ = [event async for event in await ours.chat.completions.create(**chat)]
                    with pytest.raises(openai.APIError):
                        _ = [event async for event in await ours.responses.create(model="chat", input="x", stream=True)]
                    with pytest.raises(anthropic.APIStatusError):
                        _ = [event async for event in await theirs.messages.create(**ASKED)]
                answer = await running.ask(body=lab.chat(stream=True))
                assert answer.status == 200
                assert answer.body.startswith(COMMENT)
                assert b"[DONE]" not in answer.body
                assert {row["state"] for row in await running.rows()} <= {"failed", "unsettled"}

    asyncio.run(main())


def test_a_refusal_behind_a_comment_keeps_the_upstreams_code(lab, start):
    """Clients act on `context_length_exceeded`, whether it comes with a status or in a stream."""
    said = {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}

    async def main():
        async with lab.Scripted(refuses_late(400, said)) as scripted:
            async with start(lab.plan_of(lab.tier("a", scripted.base_url)), settings=settings()) as running:
                answer = await running.ask(body=lab.chat(stream=True))
                (row,) = await running.rows()
        event = without_comments(answer.body).strip()
        assert json.loads(event.removeprefix(b"data: ")) == said
        assert row["status"] == 400

    asyncio.run(main())


def test_a_response_that_is_refused_behind_a_comment_fails_by_the_code_that_agents_go_by(lab, start):
    """Codex reads nothing but `response.failed`, and shortens a conversation by its code alone."""
    long = {"error": {"message": "This model's maximum context length is 4096 tokens", "code": 400}}
    wait = {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}

    async def main():
        for said, status, code in ((long, 400, "context_length_exceeded"), (wait, 429, "rate_limit_exceeded")):
            for more in ({}, {"capabilities": frozenset({"chat"})}):
                async with lab.Scripted(refuses_late(status, said)) as scripted:
                    plan = lab.plan_of(lab.tier("a", scripted.base_url, **more))
                    async with start(plan, settings=settings()) as running:
                        body = {"model": "chat", "input": "hello", "stream": True}
                        answer = await running.ask(RESPONSES, body)
                failed, error = (
                    json.loads(line[6:]) for line in answer.body.splitlines() if line.startswith(b"data: ")
                )
                assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
                assert failed["response"]["error"] == {"code": code, "message": error["message"]}
                assert failed["response"]["id"] == answer.headers["x-ownward-request-id"]
                assert (error["type"], error["code"]) == ("error", code)
        async with lab.Scripted(refuses_late(None, None)) as scripted:
            async with start(lab.plan_of(lab.tier("a", scripted.base_url)), settings=settings()) as running:
                answer = await running.ask(RESPONSES, {"model": "chat", "input": "hello", "stream": True})
        assert b'"type": "response.failed"' in answer.body

    asyncio.run(main())


def test_a_model_that_thought_up_to_its_limit_ends_behind_a_comment_as_it_does_without(lab, start):
    """OpenAI's chat completions refuse that, minutes later; to a client of messages it is how an answer ends."""
    words = "Could not finish the message because max_tokens or model output limit was reached. Please try again"
    said = {"error": {"message": words, "type": "invalid_request_error", "param": None, "code": None}}

    async def main():
        async with lab.Scripted(refuses_late(400, said)) as scripted:
            upstream = Upstream(name="u", url=scripted.base_url, messages_as="chat")
            plan = lab.plan_of(lab.tier("a", scripted.base_url, upstreams=(upstream,)))
            async with start(plan, settings=settings()) as running:
                theirs = anthropic.AsyncAnthropic(base_url=running.base_url, api_key="none", max_retries=0)
                asked = {name: value for name, value in ASKED.items() if name != "stream"}
                async with theirs, theirs.messages.stream(**asked) as stream:
                    answer = await stream.get_final_message()
                assert (answer.content, answer.stop_reason) == ([], "max_tokens")
                assert (await running.ask(MESSAGES, ASKED)).body.startswith(COMMENT)

    asyncio.run(main())


def test_real_clients_read_streams_with_comments_as_others(lab, start):
    async def main():
        async with FakeServer(late("first:0.4", "2:0.4", output_tokens=OutputLength.parse("4"))) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings()) as running:
                ours = openai.AsyncOpenAI(base_url=f"{running.base_url}/v1", api_key="none")
                theirs = anthropic.AsyncAnthropic(base_url=running.base_url, api_key="none")
                async with ours, theirs:
                    chat = {"model": "chat", "messages": ASKED["messages"], "stream": True}
                    chunks = [event async for event in await ours.chat.completions.create(**chat)]
                    said = "".join(c.delta.content or "" for c in itertools.chain(*(event.choices for event in chunks)))
                    assert said == "as you like it"
                    stream = await ours.responses.create(model="chat", input="x", stream=True)
                    told = "".join([e.delta async for e in stream if e.type == "response.output_text.delta"])
                    assert told == "as you like it"
                    asked = {name: value for name, value in ASKED.items() if name != "stream"}
                    async with theirs.messages.stream(**asked) as stream:
                        assert "".join([text async for text in stream.text_stream]) == "as you like it"

    asyncio.run(main())
