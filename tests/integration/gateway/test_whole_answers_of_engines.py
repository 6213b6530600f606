"""Whole answers of llama.cpp, which are asked for as streams: what they say, and what becomes of one nobody awaits."""

import asyncio
import json
import re
import time
from contextlib import asynccontextmanager

import anthropic
import openai
import pytest

from ownward.engines import EMBEDDED_MODEL, EmbeddedEngine, EngineOptions, fetch
from ownward.gateway import EngineAddress
from ownward.policy import LOCAL_ONLY, Place, issue_permit
from ownward.upstreams import Door

pytestmark = pytest.mark.engine

MESSAGES = [{"role": "user", "content": "What is 2 + 2?"}]
OF_THIS_CALL = {"id", "created", "created_at", "completed_at", "timings"}


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    pytest.importorskip("xllamacpp")
    return fetch(EMBEDDED_MODEL, cache_dir=tmp_path_factory.mktemp("weights"))


@asynccontextmanager
async def serving(lab, start, model_path, *, slots=2):
    options = EngineOptions(model_path=model_path, alias="a-model", slots=slots, context_tokens=1024, threads=1)
    async with EmbeddedEngine(options) as engine:
        tier = lab.tier("own", engine.base_url, kind="owned", engine="embedded", upstreams=(lab.Upstream(name="e"),))
        async with start(lab.plan_of(tier)) as running:
            running.server.set_address("e", EngineAddress(engine.base_url))
            yield running, engine


async def ask_engine(engine, path, body=None):
    data = b"" if body is None else json.dumps(body).encode()
    permit = issue_permit(label=LOCAL_ONLY, place=Place(is_local=True), upstream="e", origin=engine.base_url, body=data)
    headers = [(b"content-type", b"application/json")]
    async with Door() as door:
        answer = await door.send(permit, method="POST" if data else "GET", target=path, headers=headers, body=data)
        async with answer:
            return await answer.read(10**7)


def said(answer):
    """Return an answer without what is of one call alone: ids, times, and how much of its prompt was in the cache."""
    if isinstance(answer, dict):
        usage = {"usage"} if "output" in answer or "choices" in answer or "stop_reason" in answer else set()
        return {name: said(value) for name, value in answer.items() if name not in OF_THIS_CALL | usage}
    return [said(item) for item in answer] if isinstance(answer, list) else answer


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 12, "logprobs": True, "top_logprobs": 2}),
        ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 6, "n": 2}),
        (
            "/v1/chat/completions",
            {
                "messages": MESSAGES,
                "max_tokens": 40,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "s",
                        "schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
                    },
                },
            },
        ),
        ("/v1/completions", {"prompt": ["2 + 2 =", "3 + 3 ="], "max_tokens": 4}),
        ("/v1/completions", {"prompt": "2 + 2 =", "max_tokens": 4, "logprobs": 1}),
    ],
)
def test_a_whole_answer_says_what_the_engine_says_itself(lab, start, model_path, path, body):
    async def main():
        async with serving(lab, start, model_path) as (running, engine):
            asked = {"model": "chat", "temperature": 0, "seed": 1, **body}
            own = json.loads(await ask_engine(engine, path, {**asked, "model": "a-model"}))
            answer = await running.ask(path, body=asked)
            assert answer.headers["content-type"] == "application/json"
            found = answer.json
            assert said(found) == said(own)
            assert set(found) >= set(own) - {"completed_at", "timings"}
            (row,) = await running.rows()
            if len(own["choices"]) > 1:  # it states what one of them took
                assert (row["state"], row["output_tokens"]) == ("unsettled", None)
            else:
                assert (row["state"], row["output_tokens"]) == ("settled", own["usage"]["completion_tokens"])

    asyncio.run(main())


def test_clients_read_it_in_either_dialect(lab, start, model_path):
    async def main():
        async with (
            serving(lab, start, model_path) as (running, _),
            openai.AsyncOpenAI(base_url=f"{running.base_url}/v1", api_key="none", max_retries=0) as ours,
            anthropic.AsyncAnthropic(base_url=running.base_url, api_key="none", max_retries=0) as theirs,
        ):
            asked = {"model": "chat", "messages": MESSAGES, "max_tokens": 8}
            chat = await ours.chat.completions.create(temperature=0, **asked)
            assert chat.choices[0].message.content
            assert chat.usage.completion_tokens == 8
            message = await theirs.messages.create(extra_body={"temperature": 0}, **asked)
            assert message.content[0].text == chat.choices[0].message.content
            response = await ours.responses.create(model="chat", input=MESSAGES, max_output_tokens=8, temperature=0)
            assert response.output_text == chat.choices[0].message.content
            with pytest.raises(openai.BadRequestError, match="exceeds the available context"):
                await ours.chat.completions.create(model="chat", messages=[{"role": "user", "content": "a b " * 2000}])
            long = [{"role": "user", "content": "a b " * 2000}]
            for is_stream in (False, True):
                with pytest.raises(anthropic.BadRequestError, match="prompt is too long: request") as refused:
                    await theirs.messages.create(model="chat", messages=long, max_tokens=8, stream=is_stream)
                assert refused.value.body["error"]["type"] == "invalid_request_error"

    asyncio.run(main())


def test_the_answer_to_a_message_that_begins_it_is_what_follows(lab, start, model_path):
    """Asked for whole, llama.cpp itself begins with what it was told; in streams it does not."""
    said = [*MESSAGES, {"role": "assistant", "content": "2 + 2 ="}]

    async def main():
        async with (
            serving(lab, start, model_path) as (running, _),
            anthropic.AsyncAnthropic(base_url=running.base_url, api_key="none", max_retries=0) as client,
        ):
            asked = {"model": "chat", "messages": said, "max_tokens": 8, "extra_body": {"temperature": 0}}
            (block,) = (await client.messages.create(**asked)).content
            assert block.text
            assert not block.text.startswith("2 + 2")
            async with client.messages.stream(**asked) as stream:
                assert "".join([text async for text in stream.text_stream]) == block.text

    asyncio.run(main())


async def at_work(engine):
    text = (await ask_engine(engine, "/metrics")).decode()
    return int(float(re.search(r"^llamacpp:requests_processing ([0-9.]+)", text, re.MULTILINE)[1]))


def test_the_engine_stops_computing_a_whole_answer_whose_client_left_while_others_stream(lab, start, model_path):
    """By itself it would notice that at the end of the answer alone, minutes later."""

    async def main():
        async with (
            serving(lab, start, model_path) as (running, engine),
            openai.AsyncOpenAI(base_url=f"{running.base_url}/v1", api_key="none", max_retries=0) as client,
        ):
            asked = {"model": "chat", "messages": MESSAGES, "max_tokens": 900, "extra_body": {"ignore_eos": True}}
            stream = await client.chat.completions.create(stream=True, **asked)
            await anext(aiter(stream))
            whole = asyncio.create_task(client.chat.completions.create(**asked))
            while await at_work(engine) < 2:  # noqa: ASYNC110 - it has no other way to tell
                await asyncio.sleep(0.01)
            whole.cancel()
            left_s = time.monotonic()
            while await at_work(engine) > 1:
                assert time.monotonic() - left_s < 2.0
                await asyncio.sleep(0.01)
            await anext(aiter(stream))  # the other one goes on
            await stream.close()

    asyncio.run(main())


def test_several_prompts_are_completed_side_by_side_in_one_stream(lab, start, model_path):
    asked = {"model": "chat", "prompt": ["One two three", "Red green"], "max_tokens": 4, "temperature": 0}

    async def main():
        async with (
            serving(lab, start, model_path) as (running, _),
            openai.AsyncOpenAI(base_url=f"{running.base_url}/v1", api_key="none", max_retries=0) as client,
        ):
            whole = {choice.index: choice.text for choice in (await client.completions.create(**asked)).choices}
            streamed = {0: "", 1: ""}
            async for piece in await client.completions.create(stream=True, **asked):
                for choice in piece.choices:
                    streamed[choice.index] += choice.text
            assert streamed == whole

    asyncio.run(main())
