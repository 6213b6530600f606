"""Servers that begin a stream, or answer 200, before they look at the request: their refusal is one all the same."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import json

import anthropic
import openai
import pytest

from ownward.engines import FakeOptions, FakeServer
from ownward.gateway import GatewaySettings
from ownward.plan import Upstream

MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
WORDS = "The input (9000 tokens) is longer than the model's context length (4096 tokens)."
SGLANG = {"error": {"object": "error", "message": WORDS, "type": "BadRequestError", "param": None, "code": 400}}
PERPLEXITY = {"error": {"message": "invalid request", "type": "invalid_request", "code": 400}}
FLAT = {"object": "error", "message": WORDS, "type": "BadRequestError", "param": None, "code": 400}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
OPENROUTER = {"error": {"code": 429, "message": "Rate limited upstream"}}
LATE = {"error": {"code": 502, "message": "Provider returned error"}}
ASKED = {"model": "chat", "max_tokens": 16, "messages": [{"role": "user", "content": "hello there"}]}


def streamed(lab, *events):
    """Return an upstream's script: a stream of these events, with the status of a success."""

    async def script(_request, _reader, writer):
        writer.write(lab.STREAM_HEAD)
        for event in events:
            kind = f"event: {event['type']}\n" if "type" in event else ""
            writer.write(lab.chunk(f"{kind}data: {json.dumps(event)}\n\n".encode()))
        writer.write(b"0\r\n\r\n")

    return script


def of_dialect(lab, upstream, path):
    dialect = "anthropic" if path == MESSAGES else "openai"
    return lab.plan_of(
        lab.tier("a", "", upstreams=(Upstream(name="a-1", url=upstream.base_url, dialect=dialect),)),
    )


async def told(lab, start, script, path, body):
    async with lab.Scripted(script) as upstream:
        async with start(of_dialect(lab, upstream, path)) as running:
            return await running.ask(path, body), await running.rows(), upstream.heard


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "case",
    [
        (SGLANG, None, 400),
        (PERPLEXITY, None, 400),
        (FLAT, None, 400),
        (OPENROUTER, None, 429),
        (OVERLOADED, MESSAGES, 529),
    ],
)
def test_a_refusal_with_a_status_of_success_has_the_status_that_it_tells(lab, start, case, stream):
    said, path, status = case

    async def main():
        script = streamed(lab, said) if stream else lab.whole(json.dumps(said).encode())
        body = {**ASKED, "stream": stream}
        answer, (row,), heard = await told(lab, start, script, path or lab.CHAT, body)
        assert (answer.status, answer.json, len(heard)) == (status, said, 1)
        assert answer.headers["content-type"] == "application/json"
        assert (row["state"], row["status"], row["charge_usd"]) == ("failed", status, "0.000000")

    asyncio.run(main())


def test_requests_that_are_refused_so_shut_no_upstream_out(lab, start):
    """A client whose conversation is too long asks again and again; others are served meanwhile."""

    async def main():
        async with FakeServer(FakeOptions(reply="as you like it")) as fake:

            async def script(body, reader, writer):
                if b"too long" in body:
                    await streamed(lab, SGLANG)(body, reader, writer)
                else:
                    answer = await lab.ask(fake.base_url, lab.CHAT, body)
                    await lab.whole(answer.body)(body, reader, writer)

            async with lab.Scripted(script) as upstream:
                async with start(of_dialect(lab, upstream, None), settings=GatewaySettings(port=0)) as running:
                    long = [{"role": "user", "content": "too long"}]
                    for _ in range(8):
                        assert (await running.ask(body=lab.chat(stream=True, messages=long))).status == 400
                    assert (await running.ask(body=lab.chat())).status == 200

    asyncio.run(main())


def test_a_response_that_fails_at_once_as_the_request_is_too_long_says_so(lab, start):
    """The code by which agents shorten a conversation comes behind `response.created`."""

    async def main():
        error = {"code": "context_length_exceeded", "message": "Your input exceeds the context window of this model."}
        begun = {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}
        failed = {"type": "response.failed", "response": {"id": "resp_1", "status": "failed", "error": error}}
        body = {"model": "chat", "input": "x", "stream": True}
        answer, _, _ = await told(lab, start, streamed(lab, begun, failed), RESPONSES, body)
        assert (answer.status, answer.json) == (400, {"error": error})

    asyncio.run(main())


def test_libraries_raise_it_as_what_it_is(lab, start):
    async def main():
        async with lab.Scripted(streamed(lab, SGLANG)) as chats, lab.Scripted(streamed(lab, OVERLOADED)) as messages:
            async with start(of_dialect(lab, chats, None)) as running:
                ours = openai.AsyncOpenAI(base_url=f"{running.base_url}/v1", api_key="none")
                theirs = anthropic.AsyncAnthropic(base_url=running.base_url, api_key="none")
                async with ours, theirs:
                    with pytest.raises(openai.BadRequestError):
                        await ours.chat.completions.create(model="chat", messages=ASKED["messages"], stream=True)
                    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
                        await theirs.messages.create(**ASKED, stream=True)
                assert len(chats.heard) == 2, "nobody asks again"
            async with start(of_dialect(lab, messages, MESSAGES)) as running:
                theirs = anthropic.AsyncAnthropic(base_url=running.base_url, api_key="none", max_retries=0)
                async with theirs:
                    with pytest.raises(anthropic.APIStatusError) as raised:
                        await theirs.messages.create(**ASKED, stream=True)
                assert raised.value.status_code == 529

    asyncio.run(main())


@pytest.mark.parametrize("stream", [True, False])
def test_what_may_have_been_computed_stays_open(lab, start, stream):
    async def main():
        script = streamed(lab, LATE) if stream else lab.whole(json.dumps(LATE).encode())
        answer, rows, _ = await told(lab, start, script, lab.CHAT, {**ASKED, "stream": stream})
        assert (answer.status, rows[-1]["state"]) == (502, "unsettled")
        begun = {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 9, "output_tokens": 1}}}
        script = streamed(lab, begun, OVERLOADED)
        answer, rows, _ = await told(lab, start, script, MESSAGES, {**ASKED, "stream": True})
        assert (answer.status, rows[-1]["state"]) == (502, "unsettled")

    asyncio.run(main())
