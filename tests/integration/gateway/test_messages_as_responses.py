"""Anthropic's own client with tools and thinking, of an upstream that is asked at OpenAI's responses."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pydantic
import pytest
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming,
    ResponseCreateParamsStreaming,
)

from ownward.engines import FakeOptions, FakeServer
from ownward.plan import Upstream

anthropic = pytest.importorskip("anthropic")

WRITTEN = Path(__file__).parents[2] / "contract/translation/written"
TAKES = {
    True: pydantic.TypeAdapter(ResponseCreateParamsStreaming),
    False: pydantic.TypeAdapter(ResponseCreateParamsNonStreaming),
}
TOOLS = [
    {"name": name, "description": "d", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    for name in ("get_weather", "shot")
]
ASKED = {
    "model": "chat",
    "max_tokens": 2048,
    "tools": TOOLS,
    "thinking": {"type": "adaptive", "display": "summarized"},
    "output_config": {"effort": "high"},
}
QUESTION = {"role": "user", "content": "How is it in Bern?"}
MESSAGES = "/v1/messages"


def responses_tier(lab, url, **more):
    upstream = Upstream(name="u", url=url, messages_as=more.pop("messages_as", "responses"))
    return lab.tier("a", url, upstreams=(upstream,), **more)


def answering(lab, name, *, cut=None):
    """Answer as one of the files says: whole or streamed, as it is asked."""

    async def script(body, reader, writer):
        if not json.loads(body).get("stream"):
            await lab.whole((WRITTEN / f"{name}-responses-whole.txt").read_bytes())(body, reader, writer)
            return
        told = (WRITTEN / f"{name}-responses-stream.txt").read_bytes()
        told = told if cut is None else told[: told.index(cut)]
        writer.write(lab.STREAM_HEAD + lab.chunk(told) + (lab.chunk(b"") if cut is None else b""))
        await writer.drain()
        if cut is not None:
            writer.close()

    return script


async def ask(client, *, is_streamed, **more):
    if not is_streamed:
        return await client.messages.create(**more)
    async with client.messages.stream(**more) as stream:
        return await stream.get_final_message()


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_tool_loop_gives_back_the_sealed_reasoning_where_it_stood(lab, start, is_streamed):
    async def main():
        async with (
            lab.Scripted(answering(lab, "agent")) as upstream,
            start(lab.plan_of(responses_tier(lab, f"{upstream.base_url}/v1"))) as running,
            anthropic.AsyncAnthropic(base_url=running.base_url, api_key="none", max_retries=0) as client,
        ):
            first = await ask(client, is_streamed=is_streamed, messages=[QUESTION], **ASKED)
            kinds = ["thinking", "text", "tool_use", "redacted_thinking", "tool_use"]
            assert ([block.type for block in first.content], first.stop_reason) == (kinds, "tool_use")
            assert first.content[0].thinking.endswith("I look both up.")
            assert [block.input for block in first.content if block.type == "tool_use"] == [{"city": "Bern"}, {}]
            assert (first.usage.input_tokens, first.usage.cache_read_input_tokens) == (40, 64)
            assert first.usage.output_tokens == 90
            results = [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"},
                {"type": "tool_result", "tool_use_id": "call_2", "content": "no camera", "is_error": True},
            ]
            said = [QUESTION, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
            await ask(client, is_streamed=is_streamed, messages=said, **ASKED)
            assert {head.split()[1] for head, _, _ in upstream.heard} == {"/v1/responses"}
            heard = [json.loads(body) for _, _, body in upstream.heard]
            for body in heard:
                TAKES[is_streamed].validate_python(body)
                assert (body["store"], body["include"]) == (False, ["reasoning.encrypted_content"])
                assert body["reasoning"] == {"effort": "high", "summary": "auto"}
            items = heard[1]["input"][1:]
            sealed = json.loads((WRITTEN / "agent-responses-whole.txt").read_bytes())["output"]
            for at in (0, 3):
                assert [items[at][name] for name in ("id", "encrypted_content")] == [
                    sealed[at][name] for name in ("id", "encrypted_content")
                ]
            assert [item["call_id"] for item in items if "call_id" in item] == ["call_1", "call_2"] * 2
            assert items[-1]["output"] == "Error: no camera"
            for row in await running.rows():
                assert (row["state"], row["input_tokens"], row["output_tokens"]) == ("settled", 120, 90)
                assert row["cached_input_tokens"] == 64
                assert row["ttft_s"] is not None

    asyncio.run(main())


@pytest.mark.parametrize("stream", [True, False])
def test_text_of_an_upstream_that_says_no_more(lab, start, stream):
    async def main():
        async with FakeServer(FakeOptions(reply="a b c", cached_fraction=0.5)) as fake:
            async with start(lab.plan_of(responses_tier(lab, fake.base_url))) as running:
                answer = await running.ask(MESSAGES, lab.chat(max_tokens=64, stream=stream))
                assert (answer.status, answer.headers["x-ownward-translated"]) == (200, "messages to responses")
                (row,) = await running.rows()
                (call,) = fake.record.count(with_calls=True)["calls"]
                for name in ("input_tokens", "output_tokens", "cached_input_tokens"):
                    assert row[name] == call[name]
                if not stream:
                    assert answer.json["content"] == [{"type": "text", "text": "a b c"}]
                    assert answer.json["usage"]["output_tokens"] == call["output_tokens"]

    asyncio.run(main())


def test_a_stream_that_is_cut_before_the_response_is_complete_stays_cut(lab, start):
    async def main():
        script = answering(lab, "limit", cut=b"event: response.incomplete")
        async with (
            lab.Scripted(script) as upstream,
            start(lab.plan_of(responses_tier(lab, upstream.base_url))) as running,
            anthropic.AsyncAnthropic(base_url=running.base_url, api_key="none", max_retries=0) as client,
        ):
            with pytest.raises(anthropic.APIError):
                await ask(client, is_streamed=True, messages=[QUESTION], **ASKED)
            (row,) = await running.rows()
            assert row["state"] == "unsettled"
            assert row["charge_high_usd"] is not None, "the limit on the answer bounds its charge"

    asyncio.run(main())


def test_a_response_that_failed_in_the_middle_is_an_error_of_the_client(lab, start):
    async def main():
        async with (
            lab.Scripted(answering(lab, "failed")) as upstream,
            start(lab.plan_of(responses_tier(lab, upstream.base_url))) as running,
            anthropic.AsyncAnthropic(base_url=running.base_url, api_key="none", max_retries=0) as client,
        ):
            with pytest.raises(anthropic.APIError, match="The model failed"):
                await ask(client, is_streamed=True, messages=[QUESTION], **ASKED)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, anthropic.BadRequestError), (401, anthropic.APIStatusError), (429, anthropic.RateLimitError)],
)
def test_what_an_upstream_refuses_is_told_in_the_clients_terms(lab, start, status, error):
    async def main():
        told = {"error": {"message": "w", "type": "invalid_request_error", "param": "input", "code": None}}
        async with (
            lab.Scripted(lab.whole(json.dumps(told).encode(), status=status)) as upstream,
            start(lab.plan_of(responses_tier(lab, upstream.base_url))) as running,
            anthropic.AsyncAnthropic(base_url=running.base_url, api_key="none", max_retries=0) as client,
        ):
            with pytest.raises(error):
                await ask(client, is_streamed=False, messages=[QUESTION], **ASKED)
            assert len(upstream.heard) == 1

    asyncio.run(main())


def test_a_model_that_does_not_reason_is_asked_again_without_what_it_does_not_know(lab, start):
    """It seals nothing and has no effort; one that the client states, as agents do to every model, is named."""
    words = {
        "include": "Encrypted content is not supported with this model.",
        "reasoning.effort": "Unsupported parameter: 'reasoning.effort' is not supported with this model.",
    }

    async def script(body, reader, writer):
        asked = json.loads(body)
        for param, message in words.items():
            if param.partition(".")[0] in asked:
                refusal = {"error": {"message": message, "type": "invalid_request_error", "param": param}}
                await lab.whole(json.dumps(refusal).encode(), status=400)(body, reader, writer)
                return
        await answering(lab, "limit")(body, reader, writer)

    async def main():
        async with lab.Scripted(script) as upstream:
            async with start(lab.plan_of(responses_tier(lab, upstream.base_url))) as running:
                asked = lab.chat(max_tokens=64, thinking={"type": "disabled"})
                assert (await running.ask(MESSAGES, asked)).status == 200
                assert len(upstream.heard) == 3
                later = await running.ask(MESSAGES, asked)
                assert (later.status, later.headers["x-ownward-attempts"]) == (200, "1")
                assert json.loads(upstream.heard[-1][2])["store"] is False
                stated = await running.ask(MESSAGES, lab.chat(max_tokens=64, output_config={"effort": "low"}))
                assert (stated.status, stated.headers["x-ownward-left-out"]) == (200, "output_config.effort")
                assert "x-ownward-left-out" not in later.headers

    asyncio.run(main())


def test_reasoning_that_was_sealed_for_another_organisation_is_left_out_and_named(lab, start):
    """A tool loop whose first upstream failed goes on at one that cannot read what that one sealed."""

    async def script(body, reader, writer):
        if b"encrypted_content" in body.replace(b"reasoning.encrypted_content", b""):
            words = "The encrypted content for item rs_1 could not be verified."
            error = {"message": words, "type": "invalid_request_error", "code": "invalid_encrypted_content"}
            await lab.whole(json.dumps({"error": error}).encode(), status=400)(body, reader, writer)
            return
        await answering(lab, "limit")(body, reader, writer)

    async def main():
        signature = "ownward:openai:openai-responses-v1|rs_1|summary:x"
        content = [
            {"type": "thinking", "thinking": "t", "signature": signature},
            {"type": "tool_use", "id": "c", "name": "shot", "input": {}},
        ]
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "r"}]}
        messages = [QUESTION, {"role": "assistant", "content": content}, result]
        async with lab.Scripted(script) as upstream:
            async with start(lab.plan_of(responses_tier(lab, upstream.base_url))) as running:
                for times in (1, 2):  # it is found out anew: what comes later it may have sealed itself
                    answer = await running.ask(MESSAGES, {**lab.chat(max_tokens=64, tools=TOOLS), "messages": messages})
                    assert (answer.status, answer.headers["x-ownward-attempts"]) == (200, "2")
                    assert answer.headers["x-ownward-left-out"] == "messages[1].content[0]"
                    assert len(upstream.heard) == 2 * times

    asyncio.run(main())


def test_what_responses_know_nothing_like_is_refused_by_name_and_nothing_is_sent(lab, start):
    async def main():
        async with lab.Scripted(answering(lab, "limit")) as upstream:
            async with start(lab.plan_of(responses_tier(lab, upstream.base_url))) as running:
                answer = await running.ask(MESSAGES, lab.chat(max_tokens=64, stop_sequences=["END"]))
                assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
                assert "stop_sequences" in answer.json["error"]["message"]
                assert upstream.heard == []

    asyncio.run(main())


def test_it_can_be_stated_off_and_clients_of_chats_pass_as_they_are(lab, start):
    async def main():
        async with FakeServer(FakeOptions(reply="a")) as fake:
            async with start(lab.plan_of(responses_tier(lab, fake.base_url, messages_as="chat"))) as running:
                answer = await running.ask(MESSAGES, lab.chat(max_tokens=64))
                assert answer.headers["x-ownward-translated"] == "messages to chat"
            async with start(lab.plan_of(responses_tier(lab, fake.base_url))) as running:
                answer = await running.ask("/v1/chat/completions", lab.chat())
                assert answer.status == 200
                assert "x-ownward-translated" not in answer.headers
                assert fake.record.requests()["requests"][-1]["target"] == "/v1/chat/completions"

    asyncio.run(main())


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_limit_that_a_model_reached_before_its_first_word_is_how_an_answer_ends(lab, start, is_streamed):
    """OpenAI's chat completions refuse it, of models that reason; coding agents try a key or a model with 1 token."""
    words = "Could not finish the message because max_tokens or model output limit was reached. Please try again with"
    told = {"error": {"message": words, "type": "invalid_request_error", "param": None, "code": None}}

    async def main():
        async with (
            lab.Scripted(lab.whole(json.dumps(told).encode(), status=400)) as upstream,
            start(lab.plan_of(responses_tier(lab, upstream.base_url, messages_as="chat"))) as running,
            anthropic.AsyncAnthropic(base_url=running.base_url, api_key="none", max_retries=0) as client,
        ):
            answer = await ask(client, is_streamed=is_streamed, messages=[QUESTION], model="chat", max_tokens=1)
            assert (answer.content, answer.stop_reason) == ([], "max_tokens")
            passed = await running.ask("/v1/chat/completions", lab.chat(max_tokens=1))
            assert (passed.status, passed.json) == (400, told)

    asyncio.run(main())
