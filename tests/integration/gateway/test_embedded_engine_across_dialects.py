"""The real clients against real weights, each in the dialect that the tier is said not to speak.

llama.cpp speaks both dialects; the plan's tier states one of them alone, so that every request is translated.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import openai
import pydantic
import pytest

from ownward.engines import EMBEDDED_MODEL, EmbeddedEngine, EngineOptions, FakeOptions, FakeServer, fetch
from ownward.plan import Upstream

pytestmark = pytest.mark.engine

anthropic = pytest.importorskip("anthropic")
MESSAGES = [{"role": "user", "content": "What is 2 + 2?"}]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    pytest.importorskip("xllamacpp")
    return fetch(EMBEDDED_MODEL, cache_dir=tmp_path_factory.mktemp("weights"))


@asynccontextmanager
async def serving(lab, start, model_path, dialect, **stated):
    options = EngineOptions(model_path=model_path, alias="a-model", slots=1, context_tokens=512, threads=1)
    async with EmbeddedEngine(options) as engine:
        upstream = Upstream(name="u", url=engine.base_url, dialect=dialect)
        async with start(
            lab.plan_of(lab.tier("a", engine.base_url, kind="owned", upstreams=(upstream,), **stated))
        ) as running:
            yield running


class Sum(pydantic.BaseModel):
    answer: int


def test_anthropics_client_and_chat_completions(lab, start, model_path):
    async def main():
        async with (
            serving(lab, start, model_path, "openai") as running,
            anthropic.AsyncAnthropic(base_url=running.base_url, api_key="none", max_retries=0) as client,
        ):
            asked = {"model": "chat", "messages": MESSAGES, "extra_body": {"temperature": 0}}
            whole = await client.messages.create(max_tokens=16, **asked)
            assert whole.content[0].text
            async with client.messages.stream(max_tokens=16, **asked) as stream:
                final = await stream.get_final_message()
            assert final.content[0].text == whole.content[0].text
            counted = final.usage.input_tokens + final.usage.cache_read_input_tokens
            assert counted == whole.usage.input_tokens + whole.usage.cache_read_input_tokens
            formed = await client.messages.parse(max_tokens=64, output_format=Sum, **asked)
            assert isinstance(formed.parsed_output, Sum)  # the engine's own messages pass over the form
            rows = await running.rows()
            assert [row["state"] for row in rows] == ["settled"] * 3
            assert {row["input_tokens"] for row in rows} == {counted}

    asyncio.run(main())


def test_openais_client_and_messages(lab, start, model_path):
    async def main():
        async with (
            serving(lab, start, model_path, "anthropic") as running,
            openai.AsyncOpenAI(base_url=f"{running.base_url}/v1", api_key="none", max_retries=0) as client,
        ):
            asked = {"model": "chat", "messages": MESSAGES, "temperature": 0, "max_tokens": 16}
            whole = await client.chat.completions.create(**asked)
            pieces = [
                chunk.choices[0].delta.content or ""
                async for chunk in await client.chat.completions.create(stream=True, **asked)
            ]
            assert "".join(pieces) == whole.choices[0].message.content
            response = await client.responses.create(model="chat", input=MESSAGES, max_output_tokens=16, temperature=0)
            assert response.output_text == whole.choices[0].message.content
            rows = await running.rows()
            assert {row["input_tokens"] for row in rows} == {whole.usage.prompt_tokens}
            assert response.usage.input_tokens == whole.usage.prompt_tokens

    asyncio.run(main())


TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}}}
CALL = {"type": "tool_use", "id": "t1", "name": "f", "input": {"q": "x"}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "it is four"}
COUNTED = {
    "a question": {},
    "system words": {"system": "Be brief, and say why: \u00e4\u4e2d."},
    "a call and its result": {
        "tools": [TOOL],
        "messages": [*MESSAGES, {"role": "assistant", "content": [CALL]}, {"role": "user", "content": [RESULT]}],
    },
}


@pytest.mark.parametrize("asked", COUNTED.values(), ids=COUNTED.keys())
@pytest.mark.parametrize(
    "stated", [{"capabilities": frozenset({"chat", "tools", "count_tokens"})}, {"engine": "llama-server"}]
)
def test_tokens_counted_are_the_input_tokens_of_the_answer(lab, start, model_path, asked, stated):
    async def main():
        async with (
            serving(lab, start, model_path, "openai", **stated) as running,
            anthropic.AsyncAnthropic(base_url=running.base_url, api_key="none", max_retries=0) as client,
        ):
            sent = {"model": "chat", "messages": MESSAGES} | asked
            counted = await client.messages.count_tokens(**sent)
            usage = (await client.messages.create(max_tokens=1, **sent)).usage
            assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)
            rows = await running.rows()
            assert [row["charge_usd"] for row in rows if not row["output_tokens"]] == ["0.000000"]

    asyncio.run(main())


def test_real_weights_go_on_with_what_another_tier_was_told(lab, start, model_path):
    """The second turn's answer is the one that the whole history gives, and its input is counted as that."""

    async def main():
        options = EngineOptions(model_path=model_path, alias="a-model", slots=1, context_tokens=1024, threads=1)
        async with EmbeddedEngine(options) as engine, FakeServer(FakeOptions(reply="My name is Ada.")) as fake:
            own = lab.tier("own", engine.base_url, kind="owned", engine="llama-server")
            plan = lab.plan_of(own, lab.tier("far", fake.base_url))
            settings = lab.GatewaySettings(port=0, drain_s=2, keep_responses_s=60)
            async with (
                start(plan, settings=settings) as running,
                openai.AsyncOpenAI(base_url=f"{running.base_url}/v1", api_key="none", max_retries=0) as client,
            ):
                asked = {"model": "chat", "temperature": 0, "max_output_tokens": 12}
                first = await client.responses.create(
                    input="What is your name?", extra_headers={"x-ownward-tier": "far"}, **asked
                )
                second = await client.responses.create(input="Say it again.", previous_response_id=first.id, **asked)
                whole = [
                    {"role": "user", "content": "What is your name?"},
                    {"role": "assistant", "content": "My name is Ada."},
                    {"role": "user", "content": "Say it again."},
                ]
                alone = await client.responses.create(input=whole, store=False, **asked)
                assert second.output_text == alone.output_text
                assert second.usage.input_tokens == alone.usage.input_tokens
                third = await client.responses.create(input="And now?", previous_response_id=second.id, **asked)
                assert third.usage.input_tokens > second.usage.input_tokens + second.usage.output_tokens

    asyncio.run(main())
