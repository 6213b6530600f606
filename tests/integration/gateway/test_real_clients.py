"""The real `openai` client against a gateway in a thread of its own, streaming and not."""

import asyncio
import threading

import openai
import pytest

from ownward.engines import Cut, FakeOptions, FakeServer


@pytest.fixture
def served(lab, start):
    """Serve an upstream with the options given, in a thread, and return a client of the gateway."""
    ends = []

    def serve(options):
        ready, end, loop_of = threading.Event(), asyncio.Event(), {}

        async def main():
            async with FakeServer(options) as fake:
                owned = lab.tier("a", fake.base_url, kind="owned", engine="llama-server")
                async with start(lab.plan_of(owned)) as running:
                    loop_of.update(loop=asyncio.get_running_loop(), running=running, fake=fake)
                    ready.set()
                    await end.wait()

        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        assert ready.wait(10)
        client = openai.OpenAI(base_url=f"{loop_of['running'].base_url}/v1", api_key="none", max_retries=0)
        ends.append((client, loop_of["loop"], end, thread))
        return client

    yield serve
    for client, loop, end, thread in ends:
        client.close()
        loop.call_soon_threadsafe(end.set)
        thread.join(10)


MESSAGES = [{"role": "user", "content": "hello there"}]


def test_openai_chat(served):
    client = served(FakeOptions(reply="a b c"))
    answer = client.chat.completions.create(model="chat", messages=MESSAGES)
    assert answer.choices[0].message.content == "a b c"
    assert answer.usage.completion_tokens == 3


def test_a_client_whose_base_url_is_the_gateways_as_it_is_told_is_served(served):
    """Anthropic's clients add `/v1` to it, OpenAI's do not."""
    client = served(FakeOptions(reply="a b c"))
    client = client.with_options(base_url=str(client.base_url).removesuffix("/v1/"))
    assert client.chat.completions.create(model="chat", messages=MESSAGES).choices[0].message.content == "a b c"
    assert client.responses.create(model="chat", input="hello there").output_text == "a b c"
    assert client.models.retrieve("chat").id in {model.id for model in client.models.list()}


def test_openai_chat_streamed_with_and_without_usage(served):
    client = served(FakeOptions(reply="a b c"))
    plain = list(client.chat.completions.create(model="chat", messages=MESSAGES, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in plain) == "a b c"
    assert all(chunk.usage is None for chunk in plain)
    asked = list(
        client.chat.completions.create(
            model="chat", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert asked[-1].usage.completion_tokens == 3


def test_openai_other_endpoints(served):
    client = served(FakeOptions(reply="a b c"))
    assert client.completions.create(model="chat", prompt="hi").choices[0].text == "a b c"
    assert client.responses.create(model="chat", input="hi").output_text == "a b c"
    assert len(client.embeddings.create(model="chat", input="hi").data) == 1
    assert {model.id for model in client.models.list()} == {"chat", "a", "a-model"}
    events = list(client.responses.create(model="chat", input="hi", stream=True))
    assert events[-1].type == "response.completed"


def test_openai_errors(served):
    client = served(FakeOptions())
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="chatt", messages=MESSAGES)
    assert unknown.value.code == "model_not_found"
    assert "'chat'" in str(unknown.value)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="chat", messages=MESSAGES, extra_headers={"x-ownward-label": "?!"})


def test_openai_sees_a_cut_stream(served):
    client = served(FakeOptions(cuts=(Cut.parse("3"),)))
    with pytest.raises(openai.APIError, match="broke after"):
        list(client.chat.completions.create(model="chat", messages=MESSAGES, stream=True))
