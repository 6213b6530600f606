"""The real clients of each dialect against upstreams of the other: streams, tools, thinking, forms, errors, leaving."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import openai
import pydantic
import pytest

from ownward.engines import Cut, Failure, FakeOptions, FakeServer, Stall
from ownward.plan import Upstream

anthropic = pytest.importorskip("anthropic")

MESSAGES = [{"role": "user", "content": "hello there"}]
SCHEMA = {
    "type": "object",
    "properties": {"query": {"type": "string"}},
    "required": ["query"],
    "additionalProperties": False,
}
OPENAI_TOOLS = [
    {"type": "function", "function": {"name": name, "description": "d", "parameters": SCHEMA}}
    for name in ("one", "two")
]
ANTHROPIC_TOOLS = [{"name": name, "description": "d", "input_schema": SCHEMA} for name in ("one", "two")]

CAPABILITIES = frozenset(
    {"chat", "messages", "tools", "json_schema", "json_mode", "vision", "logprobs", "multiple_choices"}
)


class Served:
    """A gateway in a thread of its own, and the fake behind it."""

    def __init__(self, loop, running, fake):
        self.loop, self.running, self.fake = loop, running, fake

    @property
    def base_url(self):
        return self.running.base_url

    def asked(self):
        return json.loads(self.fake.record.requests()["requests"][-1]["body"])

    def rows(self):
        return asyncio.run_coroutine_threadsafe(self.running.rows(), self.loop).result(10)


@pytest.fixture
def served(lab, start):
    """Serve a fake of the dialect and options given; return a client's way to the gateway."""
    ends = []

    def serve(dialect, options, capabilities=CAPABILITIES):
        ready, end, kept = threading.Event(), asyncio.Event(), []

        async def main():
            async with FakeServer(options) as fake:
                upstream = Upstream(name="u", url=fake.base_url, dialect=dialect)
                tier = lab.tier("a", fake.base_url, upstreams=(upstream,), capabilities=capabilities)
                async with start(lab.plan_of(tier)) as running:
                    kept.append(Served(asyncio.get_running_loop(), running, fake))
                    ready.set()
                    await end.wait()

        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        assert ready.wait(10)
        ends.append((kept[0].loop, end, thread))
        return kept[0]

    yield serve
    for loop, end, thread in ends:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)


@pytest.fixture
def openai_client(served):
    """Return a client of OpenAI's, and the fake of Anthropic's dialect that it does not know it talks to."""
    clients = []

    def make(**options):
        place = served("anthropic", FakeOptions(**options))
        clients.append(openai.OpenAI(base_url=f"{place.base_url}/v1", api_key="none", max_retries=0))
        return clients[-1], place

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def anthropic_client(served):
    """Return a client of Anthropic's, and the fake of OpenAI's dialect behind the gateway."""
    clients = []

    def make(**options):
        place = served("openai", FakeOptions(**options))
        clients.append(anthropic.Anthropic(base_url=place.base_url, api_key="none", max_retries=0))
        return clients[-1], place

    yield make
    for client in clients:
        client.close()


# OpenAI's client.


def test_chat_whole_and_streamed(openai_client):
    client, place = openai_client(reply="a b c", cached_fraction=0.5)
    whole = client.chat.completions.create(model="chat", messages=MESSAGES, max_tokens=9)
    assert whole.choices[0].message.content == "a b c"
    assert whole.usage.completion_tokens == 3
    assert whole.usage.prompt_tokens_details.cached_tokens > 0
    with client.chat.completions.stream(
        model="chat", messages=MESSAGES, max_tokens=9, stream_options={"include_usage": True}
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "a b c"
    assert final.usage == whole.usage
    assert place.asked()["stream"] is True


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_tool_loop_of_chat_keeps_the_signatures_of_thinking(openai_client, is_streamed):
    """The fake refuses thinking that comes back changed, and a running turn without it."""
    client, place = openai_client(reply="done", tool_calls="until-results", thinking="let me think")
    messages = list(MESSAGES)

    def ask():
        asked = {"model": "chat", "messages": messages, "max_tokens": 99, "tools": OPENAI_TOOLS}
        if not is_streamed:
            return client.chat.completions.create(**asked).choices[0]
        with client.chat.completions.stream(**asked) as stream:
            return stream.get_final_completion().choices[0]

    first = ask()
    assert first.finish_reason == "tool_calls"
    assert first.message.reasoning_content == "let me think"
    calls = first.message.tool_calls
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("one", {"query": "fake"}), ("two", {"query": "fake"}),
    ]  # fmt: skip
    messages.append(first.message)
    messages += [{"role": "tool", "tool_call_id": call.id, "content": f"result {call.id}"} for call in calls]
    second = ask()
    assert second.message.content == "done"
    said = place.asked()["messages"]
    assert [block["type"] for block in said[1]["content"]] == ["thinking", "tool_use", "tool_use"]
    assert [block["type"] for block in said[2]["content"]] == ["tool_result", "tool_result"]
    messages.append(second.message)
    messages.append({"role": "user", "content": "and now?"})
    assert ask().finish_reason == "tool_calls"


def test_pieces_of_reasoning_that_a_client_kept_as_they_came_are_joined(openai_client):
    client, _ = openai_client(reply="done", tool_calls="until-results", thinking="let me think")
    details, calls = [], {}
    for chunk in client.chat.completions.create(
        model="chat", messages=MESSAGES, max_tokens=99, tools=OPENAI_TOOLS, stream=True
    ):
        delta = chunk.choices[0].delta
        details += getattr(delta, "reasoning_details", None) or []
        for call in delta.tool_calls or []:
            known = calls.setdefault(
                call.index, {"id": call.id, "type": "function", "function": {"name": "", "arguments": ""}}
            )
            known["function"]["name"] += call.function.name or ""
            known["function"]["arguments"] += call.function.arguments or ""
    assert len(details) == 4
    said = {"role": "assistant", "content": None, "tool_calls": list(calls.values()), "reasoning_details": details}
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "r"} for call in calls.values()]
    answer = client.chat.completions.create(
        model="chat", messages=[*MESSAGES, said, *results], max_tokens=99, tools=OPENAI_TOOLS
    )
    assert answer.choices[0].message.content == "done"


def test_a_client_that_loses_the_reasoning_hears_it_from_the_upstream(openai_client):
    client, _ = openai_client(reply="done", tool_calls="until-results", thinking="let me think")
    first = client.chat.completions.create(model="chat", messages=MESSAGES, max_tokens=99, tools=OPENAI_TOOLS)
    calls = [call.model_dump() for call in first.choices[0].message.tool_calls]
    said = {"role": "assistant", "content": None, "tool_calls": calls}
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "r"} for call in calls]
    with pytest.raises(openai.BadRequestError, match="expected thinking"):
        client.chat.completions.create(
            model="chat", messages=[*MESSAGES, said, *results], max_tokens=99, tools=OPENAI_TOOLS
        )


def test_a_tool_loop_of_responses_keeps_the_signatures_of_thinking(openai_client):
    client, place = openai_client(reply="done", tool_calls="until-results", thinking="let me think")
    tools = [{"type": "function", "name": name, "parameters": SCHEMA, "strict": True} for name in ("one", "two")]
    history = [{"role": "user", "content": "hello there"}]
    asked = {"model": "chat", "tools": tools, "store": False, "max_output_tokens": 99}
    with client.responses.stream(input=history, **asked) as stream:
        kinds = [event.type for event in stream]
        first = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert [item.type for item in first.output] == ["reasoning", "function_call", "function_call"]
    assert first.output[0].summary[0].text == "let me think"
    history += first.output
    history += [
        {"type": "function_call_output", "call_id": item.call_id, "output": "r"}
        for item in first.output
        if item.type == "function_call"
    ]
    second = client.responses.create(input=history, **asked)
    assert second.output_text == "done"
    assert [block["type"] for block in place.asked()["messages"][1]["content"]] == ["thinking", "tool_use", "tool_use"]


class City(pydantic.BaseModel):
    name: str
    people: int


def test_a_form_is_demanded_and_parsed(openai_client):
    client, place = openai_client(reply='{"name":"Bern","people":134000}')
    parsed = client.chat.completions.parse(model="chat", messages=MESSAGES, max_tokens=99, response_format=City)
    assert parsed.choices[0].message.parsed == City(name="Bern", people=134000)
    assert place.asked()["output_config"]["format"]["type"] == "json_schema"
    answered = client.responses.parse(model="chat", input="hello", max_output_tokens=99, text_format=City)
    assert answered.output_parsed == City(name="Bern", people=134000)
    raw = client.chat.completions.with_raw_response.create(
        model="chat", messages=MESSAGES, max_tokens=99, metadata={"team": "a"}
    )
    assert raw.headers["x-ownward-left-out"] == "metadata"


def test_errors_of_openais_client(openai_client):
    client, _ = openai_client(failures=(Failure.parse("429:1"),), retry_after_s=3)
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="chat", messages=MESSAGES, max_tokens=9, n=2, seed=1)
    assert refused.value.param == "n"
    assert "seed (" in str(refused.value)
    with pytest.raises(openai.RateLimitError, match="told to fail"):
        client.chat.completions.create(model="chat", messages=MESSAGES, max_tokens=9)


@pytest.mark.parametrize("after", ["4", "6"])
def test_openais_client_sees_a_cut_stream(openai_client, after):
    client, _ = openai_client(cuts=(Cut.parse(after),))
    with pytest.raises(openai.APIError, match="broke after"):
        list(client.chat.completions.create(model="chat", messages=MESSAGES, max_tokens=9, stream=True))


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("helps", [False, True], ids=["events", "helper"])
def test_openais_client_raises_where_the_stream_of_a_response_is_cut(served, dialect, helps):
    """Passed on or translated: it raises what stands in `error`, and what failed must have the id that began."""
    place = served(dialect, FakeOptions(cuts=(Cut.parse("6"),)), capabilities=CAPABILITIES | {"responses"})
    asked = {"model": "chat", "input": "hello", "store": False}
    seen = []

    def read(events):
        for event in events:
            seen.append(event)  # noqa: PERF402 - all that came before it raises

    with (
        openai.OpenAI(base_url=f"{place.base_url}/v1", api_key="none", max_retries=0) as client,
        client.responses.stream(**asked) if helps else client.responses.create(stream=True, **asked) as events,
        pytest.raises(openai.APIError, match="broke after") as raised,
    ):
        read(events)
    assert raised.value.code == "broken_stream"
    assert (seen[-1].type, seen[-1].response.status) == ("response.failed", "failed")
    assert seen[-1].response.id == seen[0].response.id


def test_openais_client_leaves_and_the_upstream_is_cancelled(openai_client):
    client, place = openai_client(stalls=(Stall.parse("3:30"),))
    stream = client.chat.completions.create(model="chat", messages=MESSAGES, max_tokens=9, stream=True)
    next(iter(stream))
    stream.close()
    assert wait_until(lambda: place.fake.record.count(with_calls=False)["aborted"] == 1)
    (row,) = place.rows()
    assert row["state"] == "unsettled"


def wait_until(holds, most_s=5.0):
    until = time.monotonic() + most_s
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


# Anthropic's client.


def test_messages_whole_and_streamed(anthropic_client):
    client, place = anthropic_client(reply="a b c", cached_fraction=0.5)
    whole = client.messages.create(model="chat", messages=MESSAGES, max_tokens=9, system="be brief")
    assert whole.content[0].text == "a b c"
    assert whole.stop_reason == "end_turn"
    with client.messages.stream(model="chat", messages=MESSAGES, max_tokens=9, system="be brief") as stream:
        assert "".join(stream.text_stream) == "a b c"
        final = stream.get_final_message()
    assert final.usage.model_dump() == whole.usage.model_dump()
    assert final.usage.cache_read_input_tokens > 0
    assert place.asked()["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_tool_loop_of_messages_with_thinking_of_an_openai_upstream(anthropic_client, is_streamed):
    client, place = anthropic_client(reply="done", tool_calls="until-results", thinking="let me think")
    messages = list(MESSAGES)

    def ask():
        asked = {"model": "chat", "messages": messages, "max_tokens": 99, "tools": ANTHROPIC_TOOLS}
        if not is_streamed:
            return client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            return stream.get_final_message()

    first = ask()
    assert first.stop_reason == "tool_use"
    assert [block.type for block in first.content] == ["thinking", "tool_use", "tool_use"]
    assert first.content[0].thinking == "let me think"
    assert [block.input for block in first.content[1:]] == [{"query": "fake"}] * 2
    results = [
        {"type": "tool_result", "tool_use_id": first.content[1].id, "content": "r"},
        {"type": "tool_result", "tool_use_id": first.content[2].id, "content": "no such thing", "is_error": True},
    ]
    messages += [
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]},
        {"role": "user", "content": [*results, {"type": "text", "text": "go on"}]},
    ]
    answer = client.messages.create(
        model="chat",
        messages=[*messages[:2], {"role": "user", "content": results}],
        max_tokens=99,
        tools=ANTHROPIC_TOOLS,
    )
    assert answer.content[-1].text == "done"
    said = place.asked()["messages"]
    assert [message["role"] for message in said] == ["user", "assistant", "tool", "tool"]
    assert said[1]["reasoning_content"] == "let me think"
    assert [call["function"]["name"] for call in said[1]["tool_calls"]] == ["one", "two"]
    assert said[3]["content"] == "Error: no such thing"


def test_the_loop_of_tools_of_anthropics_client_goes_on_without_a_thread(anthropic_client):
    """It asks for one by itself, and would send what is new alone with the second request."""
    client, place = anthropic_client(reply="done", tool_calls="until-results")
    heard = []

    @anthropic.beta_tool
    def one(query: str) -> str:
        """Look something up."""
        heard.append(query)
        return "found"

    runner = client.beta.messages.tool_runner(model="chat", messages=MESSAGES, max_tokens=99, tools=[one])
    assert runner.until_done().content[0].text == "done"
    assert heard
    asked = [json.loads(request["body"]) for request in place.fake.record.requests()["requests"]]
    assert len(asked) == 2
    assert all("thread" not in body for body in asked)
    assert [message["role"] for message in asked[-1]["messages"]] == ["user", "assistant"] + ["tool"] * len(heard)
    assert [row["state"] for row in place.rows()] == ["refused", "settled", "settled"]


def test_tool_choice_and_forms_of_messages(anthropic_client):
    client, place = anthropic_client(reply='{"name":"Bern","people":134000}')
    client.messages.create(
        model="chat", messages=MESSAGES, max_tokens=9, tools=ANTHROPIC_TOOLS,
        tool_choice={"type": "tool", "name": "two", "disable_parallel_tool_use": True},
    )  # fmt: skip
    asked = place.asked()
    assert asked["tool_choice"] == {"type": "function", "function": {"name": "two"}}
    assert asked["parallel_tool_calls"] is False
    parsed = client.messages.parse(model="chat", messages=MESSAGES, max_tokens=9, output_format=City)
    assert parsed.parsed_output == City(name="Bern", people=134000)
    assert place.asked()["response_format"]["type"] == "json_schema"


def test_errors_of_anthropics_client(anthropic_client):
    client, _ = anthropic_client(failures=(Failure.parse("429:1"),))
    with pytest.raises(anthropic.BadRequestError, match="mcp_servers"):
        client.messages.create(
            model="chat", messages=MESSAGES, max_tokens=9, extra_body={"mcp_servers": [{"name": "s"}]}
        )
    with pytest.raises(anthropic.RateLimitError, match="told to fail"):
        client.messages.create(model="chat", messages=MESSAGES, max_tokens=9)
    with pytest.raises(anthropic.BadRequestError, match="speaks openai only"):
        client.messages.count_tokens(model="chat", messages=MESSAGES)


def test_anthropics_client_sees_a_cut_stream_and_may_leave_one(anthropic_client):
    client, place = anthropic_client(cuts=(Cut.parse("4:close:1"),), stalls=(Stall.parse("3:30"),))
    with (
        pytest.raises(anthropic.APIError, match="broke after"),
        client.messages.stream(model="chat", messages=MESSAGES, max_tokens=9) as stream,
    ):
        list(stream)
    with client.messages.stream(model="chat", messages=MESSAGES, max_tokens=9) as stream:
        next(iter(stream))
    assert wait_until(lambda: place.fake.record.count(with_calls=False)["aborted"] == 1)
