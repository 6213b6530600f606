"""What llama.cpp is told of tools, of what its own messages leave out, and of thinking; what it then calls."""

import asyncio
import json
from contextlib import asynccontextmanager

import anthropic
import openai
import pytest
from benchmarks.tool_template import TEMPLATE, with_template, with_tools

from ownward.engines import EMBEDDED_MODEL, EmbeddedEngine, EngineOptions, FakeOptions, FakeServer, fetch
from ownward.gateway import EngineAddress

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
OLD = "/v1/completions"
HELLO = [{"role": "user", "content": "hello there"}]


def last_request(fake):
    return json.loads(fake.record.requests()["requests"][-1]["body"])


def functions(*names):
    return [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in names]


OF_CHAT = {"messages": HELLO, "tools": functions("a", "b")}
OF_RESPONSES = {"input": "hi", "tools": [{"type": "function", "name": name, "parameters": {}} for name in "ab"]}
OF_MESSAGES = {
    "messages": HELLO,
    "max_tokens": 9,
    "tools": [{"name": name, "input_schema": {"type": "object"}} for name in "ab"],
}
OF = {CHAT: OF_CHAT, RESPONSES: OF_RESPONSES, MESSAGES: OF_MESSAGES}
ONE = {"tool_choice": "required", "parallel_tool_calls": False, "tools": ["b"]}


@pytest.mark.parametrize(
    ("asked", "choice", "told"),
    [
        (OF_CHAT, {"type": "function", "function": {"name": "b"}}, ONE),
        (
            OF_CHAT,
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": functions("a")}},
            {"tool_choice": "auto", "tools": ["a"]},
        ),
        (OF_CHAT, "required", {"tool_choice": "required", "tools": ["a", "b"]}),
        (OF_RESPONSES, {"type": "function", "name": "b"}, ONE),
        (OF_MESSAGES, {"type": "tool", "name": "b"}, ONE),
        (OF_MESSAGES, {"type": "none"}, {"tool_choice": "none", "tools": ["a", "b"]}),
        (
            OF_MESSAGES,
            {"type": "any", "disable_parallel_tool_use": True},
            {"tool_choice": "required", "parallel_tool_calls": False, "tools": ["a", "b"]},
        ),
    ],
)
def test_a_choice_of_tools_reaches_llama_cpp_as_the_one_word_it_reads(lab, start, asked, choice, told):
    """It goes by `auto` where a tool is named, and its messages know none of `none`, a name and one call at a time."""

    async def main():
        async with FakeServer(FakeOptions()) as fake:
            tier = lab.tier("l", fake.base_url, kind="owned", engine="llama-server")
            async with start(lab.plan_of(tier)) as running:
                path = next(path for path, members in OF.items() if members is asked)
                answer = await running.ask(path, {"model": "chat", **asked, "tool_choice": choice})
                assert answer.status == 200
                heard = last_request(fake)
                assert fake.record.requests()["requests"][-1]["target"] == CHAT
                names = [tool["function"]["name"] for tool in heard["tools"]]
                stated = {name: heard[name] for name in ("tool_choice", "parallel_tool_calls") if name in heard}
                assert {**stated, "tools": names} == told

    asyncio.run(main())


_FORM = {"type": "object", "properties": {"city": {"type": "string"}}}
FORMS = {
    CHAT: {"response_format": {"type": "json_schema", "json_schema": {"name": "f", "schema": _FORM}}},
    RESPONSES: {"text": {"format": {"type": "json_schema", "name": "f", "schema": _FORM}}},
    MESSAGES: {"output_config": {"format": {"type": "json_schema", "schema": _FORM}}},
}


@pytest.mark.parametrize("path", OF)
def test_a_form_of_json_does_not_keep_llama_cpp_from_calls_without_a_word(lab, start, path):
    """It holds every answer to the form, and then makes no call, demanded or not: agents would never use a tool."""
    demands = {CHAT: "required", RESPONSES: {"type": "function", "name": "b"}, MESSAGES: {"type": "any"}}[path]
    forbids = {"type": "none"} if path == MESSAGES else "none"

    async def main():
        async with FakeServer(FakeOptions()) as fake, FakeServer(FakeOptions()) as other:
            near = lab.tier("near", fake.base_url, kind="owned", engine="llama-server")
            far = lab.tier("far", other.base_url, kind="owned", engine="vllm")
            async with start(lab.plan_of(near, far)) as running:
                asked = {**OF[path], **FORMS[path], "model": "near"}
                assert (await running.ask(path, {**asked, "tool_choice": demands})).status == 200
                assert "response_format" not in last_request(fake)
                assert (await running.ask(path, {**asked, "tool_choice": forbids})).status == 200
                assert last_request(fake)["response_format"]["json_schema"]["schema"] == _FORM
                refused = await running.ask(path, asked)
                assert refused.status == 400
                assert "lacks tools beside a form of JSON, as its engine holds every answer" in refused.body.decode()
                assert (await running.ask(path, {**asked, "model": "chat"})).status == 200
                assert other.record.requests()["requests"]
                assert len(fake.record.requests()["requests"]) == 2

    asyncio.run(main())


OTHERS = {
    CHAT: {"type": "function", "function": {"name": "c"}},
    RESPONSES: {"type": "function", "name": "c"},
    MESSAGES: {"type": "tool", "name": "c"},
}


@pytest.mark.parametrize("has_tools", [True, False])
@pytest.mark.parametrize("path", OTHERS)
def test_a_choice_of_a_tool_that_is_not_there_is_refused_in_every_dialect(lab, start, path, has_tools):
    """As OpenAI and Anthropic refuse it: llama.cpp goes by `auto`, and calls another one or none."""

    async def main():
        async with FakeServer(FakeOptions()) as fake:
            tier = lab.tier("l", fake.base_url, kind="owned", engine="llama-server")
            async with start(lab.plan_of(tier)) as running:
                members = OF[path] if has_tools else {name: said for name, said in OF[path].items() if name != "tools"}
                answer = await running.ask(path, {"model": "chat", **members, "tool_choice": OTHERS[path]})
                assert answer.status == 400
                message = answer.json["error"]["message"]
                assert "tool_choice" in message
                assert "'c'" in message
                assert fake.record.requests()["requests"] == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a"}}, "documents are"),
        (
            {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "a"}]},
            "search_result",
        ),
    ],
)
def test_what_llama_cpp_would_leave_out_of_a_message_is_refused_by_name(lab, start, block, words):
    async def main():
        async with FakeServer(FakeOptions()) as fake:
            tier = lab.tier("l", fake.base_url, kind="owned", engine="llama-server")
            async with start(lab.plan_of(tier)) as running:
                said = {"role": "user", "content": [{"type": "text", "text": "hi"}, block]}
                answer = await running.ask(MESSAGES, {"model": "chat", "max_tokens": 9, "messages": [said]})
                assert answer.status == 400
                assert words in answer.json["error"]["message"]
                assert fake.record.requests()["requests"] == []

    asyncio.run(main())


def test_llama_cpp_is_told_that_a_result_is_an_error_and_how_an_answer_begins(lab, start):
    call = {"type": "tool_use", "id": "t", "name": "a", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "no such file", "is_error": True}
    said = [
        *HELLO,
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": "I could not"},
    ]

    async def main():
        async with FakeServer(FakeOptions()) as fake:
            tier = lab.tier("l", fake.base_url, kind="owned", engine="llama-server")
            async with start(lab.plan_of(tier)) as running:
                answer = await running.ask(MESSAGES, {"model": "chat", **OF_MESSAGES, "messages": said})
                assert answer.status == 200
                heard = last_request(fake)["messages"]
                assert heard[2] == {"role": "tool", "tool_call_id": "t", "content": "Error: no such file"}
                assert heard[3] == {"role": "assistant", "content": "I could not"}

    asyncio.run(main())


def test_a_named_tool_stays_as_it_came_for_other_engines(lab, start):
    async def main():
        async with FakeServer(FakeOptions()) as fake:
            tier = lab.tier("v", fake.base_url, kind="owned", engine="vllm")
            async with start(lab.plan_of(tier)) as running:
                choice = {"type": "function", "function": {"name": "b"}}
                answer = await running.ask(CHAT, {"model": "chat", **OF_CHAT, "tool_choice": choice})
                assert answer.status == 200
                assert last_request(fake)["tool_choice"] == choice
                assert last_request(fake)["tools"] == OF_CHAT["tools"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"echo": True}, "echo"),
        ({"suffix": "the end"}, "suffix"),
        ({"echo": True, "suffix": "the end"}, "echo and suffix"),
        ({"echo": False, "suffix": None}, None),
        ({"prompt": "an echo and a suffix"}, None),
    ],
)
def test_a_completion_that_llama_cpp_would_answer_without_what_it_states_goes_elsewhere_or_is_refused(
    lab, start, more, named
):
    asked = {"model": "chat", "prompt": "once upon", **more}

    async def main():
        async with FakeServer(FakeOptions()) as fake, FakeServer(FakeOptions()) as other:
            own = lab.tier("l", fake.base_url, kind="owned", engine="llama-server")
            async with start(lab.plan_of(own)) as running:
                answer = await running.ask("/v1/completions", asked)
                assert answer.status == (400 if named else 200)
                if named:
                    error = answer.json["error"]
                    assert f"passes over {named}, and would answer without" in error["message"]
                    assert error["param"] == named.split()[0]
                assert len(fake.record.requests()["requests"]) == (0 if named else 1)
            tiers = own, lab.tier("v", other.base_url, kind="owned", engine="vllm")
            async with start(lab.plan_of(*tiers)) as running:
                answer = await running.ask("/v1/completions", asked)
                assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "v" if named else "l")

    asyncio.run(main())


def test_a_llama_cpp_that_counts_no_chats_yet_counts_messages(lab, start):
    async def main():
        async with FakeServer(FakeOptions()) as fake:
            tier = lab.tier("l", fake.base_url, kind="owned", engine="llama-server")
            async with start(lab.plan_of(tier)) as running:
                for _ in range(2):
                    answer = await running.ask(MESSAGES + "/count_tokens", {"model": "chat", "messages": HELLO})
                    assert answer.status == 200
                    assert answer.json == {"input_tokens": 7}
                asked = [request["target"] for request in fake.record.requests()["requests"]]
                assert asked == [MESSAGES + "/count_tokens"] * 2
                rows = await running.rows()  # it knows no other path, and is asked for it once
                assert [row["state"] for row in rows] == ["failed", "settled", "settled"]
                assert {row["charge_usd"] for row in rows} == {"0.000000"}

    asyncio.run(main())


def test_what_a_message_cannot_be_told_with_is_not_counted_without_it(lab, start):
    async def main():
        async with FakeServer(FakeOptions()) as fake:
            tier = lab.tier("l", fake.base_url, kind="owned", engine="llama-server")
            async with start(lab.plan_of(tier)) as running:
                block = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a"}}
                said = [{"role": "user", "content": [block]}]
                answer = await running.ask(MESSAGES + "/count_tokens", {"model": "chat", "messages": said})
                assert answer.status == 400
                assert "documents are" in answer.json["error"]["message"]

    asyncio.run(main())


@pytest.mark.parametrize("capabilities", [frozenset(), frozenset({"chat", "tools"})])
def test_functions_by_their_older_name_are_refused_where_llama_cpp_would_answer_without(lab, start, capabilities):
    async def main():
        async with FakeServer(FakeOptions()) as fake:
            tier = lab.tier("l", fake.base_url, kind="owned", engine="llama-server", capabilities=capabilities)
            async with start(lab.plan_of(tier)) as running:
                answer = await running.ask(CHAT, lab.chat(functions=[{"name": "f", "parameters": {}}]))
                assert answer.status == 400
                assert "lacks functions, as its engine reads tools alone" in answer.json["error"]["message"]
                assert fake.record.requests()["requests"] == []

    asyncio.run(main())


# With real weights, whose template shows them what is then asked for (`tool_template`).

PLEASE = [{"role": "user", "content": "Please."}]
QUERY = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
OF_OPENAI = [{"type": "function", "function": {"name": name, "parameters": QUERY}} for name in ("look", "find")]
OF_ANTHROPIC = [{"name": name, "input_schema": QUERY} for name in ("look", "find")]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    pytest.importorskip("xllamacpp")
    folder = tmp_path_factory.mktemp("weights")
    return with_tools(fetch(EMBEDDED_MODEL, cache_dir=folder), folder / "tools.gguf")


@pytest.mark.parametrize(
    ("engine", "case"),
    [
        ("llama-server", (CHAT, {"messages": HELLO, "n": 3}, "unsettled")),
        ("llama-server", (CHAT, {"messages": HELLO, "n": 3, "stream": True}, "unsettled")),
        ("llama-server", ("/v1/completions", {"prompt": ["one", "two"]}, "unsettled")),
        ("llama-server", ("/v1/completions", {"prompt": "one"}, "settled")),
        ("vllm", (CHAT, {"messages": HELLO, "n": 3}, "settled")),
    ],
)
def test_several_answers_are_not_settled_by_the_usage_of_one_that_llama_cpp_states(lab, start, engine, case):
    path, more, state = case

    async def main():
        async with (
            FakeServer(FakeOptions()) as fake,
            start(lab.plan_of(lab.tier("l", fake.base_url, kind="owned", engine=engine))) as running,
        ):
            assert (await running.ask(path, {"model": "chat", "max_tokens": 9, **more})).status == 200
            (row,) = await running.rows()
            assert row["state"] == state

    asyncio.run(main())


TIMES = {"cache_n": 0, "prompt_n": 7, "predicted_n": 3, "predicted_ms": 1.5}
OLDER_TIMES = {"prompt_n": 7, "predicted_n": 3, "predicted_ms": 1.5}
NO_TIMES = {"total_ms": 1.5}


@pytest.mark.parametrize("kind", ["owned", "rented"])
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        ({"n": 2}, "llama.cpp", None, "unsettled"),
        ({"n": 2}, "nginx", TIMES, "unsettled"),  # which stands before it
        ({"n": 2}, "nginx", OLDER_TIMES, "unsettled"),
        ({"n": 2}, "nginx", NO_TIMES, "settled"),
        ({"n": 1}, "llama.cpp", TIMES, "settled"),
    ],
)
def test_several_answers_of_an_unnamed_llama_cpp_are_not_settled_by_that_usage(lab, start, kind, is_stream, case):
    """A server of which nothing is stated says what it is: by its name, or by the times that it adds to its answers."""
    asked, server, times, state = case
    usage = {"usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}
    if times is not None:
        usage["timings"] = times
    said = [{"index": index, "finish_reason": "stop"} for index in range(2)]
    whole = {"id": "c", "choices": [{**one, "message": {"role": "assistant", "content": "a"}} for one in said], **usage}
    events = [*({"id": "c", "choices": [{**one, "delta": {"content": "a"}}]} for one in said)]
    events.append({"id": "c", "choices": [], **usage})
    headers = {"server": server, **({"content-type": "text/event-stream"} if is_stream else {})}
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    body = stream.encode() if is_stream else json.dumps(whole).encode()

    async def main():
        async with lab.Scripted(lab.whole(body, headers=headers)) as upstream:
            more = {"engine": "adopted"} if kind == "owned" else {}
            async with start(lab.plan_of(lab.tier("l", upstream.base_url, kind=kind, **more))) as running:
                chat = {"messages": HELLO, "max_tokens": 9, "stream": is_stream, **asked}
                assert (await running.ask(CHAT, {"model": "chat", **chat})).status == 200
                (row,) = await running.rows()
                assert row["state"] == state

    asyncio.run(main())


@pytest.mark.engine
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("case", [(CHAT, {"messages": HELLO, "n": 2}), (OLD, {"prompt": ["one", "two"]})])
def test_llama_cpp_says_what_it_is_also_where_something_stands_before_it(lab, start, model_path, case, is_stream):
    path, asked = case
    options = EngineOptions(model_path=model_path, alias="m", slots=2, context_tokens=1024, threads=1)

    async def main():
        async with EmbeddedEngine(options) as engine:
            body = {"model": "m", "max_tokens": 4, "stream": is_stream, "stream_options": {"include_usage": True}}
            own = await lab.ask(engine.base_url, path, {**body, **asked})
            assert own.headers["server"] == "llama.cpp"
            assert b'"timings":{' in own.body
            async with lab.Scripted(lab.whole(own.body, headers={"server": "nginx"})) as upstream:
                tier = lab.tier("l", upstream.base_url, kind="owned", engine="adopted")
                async with start(lab.plan_of(tier)) as running:
                    assert (await running.ask(path, {**body, **asked, "model": "chat"})).status == 200
                    (row,) = await running.rows()
                    assert row["state"] == "unsettled"

    asyncio.run(main())


@asynccontextmanager
async def serving(lab, start, model_path):
    options = EngineOptions(model_path=model_path, alias="a-model", slots=1, context_tokens=1024, threads=1)
    async with EmbeddedEngine(options) as engine:
        tier = lab.tier("own", engine.base_url, kind="owned", engine="embedded", upstreams=(lab.Upstream(name="e"),))
        async with start(lab.plan_of(tier)) as running:
            running.server.set_address("e", EngineAddress(engine.base_url, engine.status.lacks))
            yield running


@pytest.mark.engine
def test_a_chats_tool_loop_with_the_tool_it_names(lab, start, model_path):
    choice = {"type": "function", "function": {"name": "find"}}
    asked = {"model": "chat", "tools": OF_OPENAI, "max_tokens": 60, "temperature": 0}

    async def main():
        async with (
            serving(lab, start, model_path) as running,
            openai.AsyncOpenAI(base_url=f"{running.base_url}/v1", api_key="k", max_retries=0) as client,
        ):
            first = (await client.chat.completions.create(messages=PLEASE, tool_choice=choice, **asked)).choices[0]
            assert first.finish_reason == "tool_calls"
            (call,) = first.message.tool_calls
            assert call.function.name == "find"
            assert json.loads(call.function.arguments).keys() == {"query"}
            async with client.chat.completions.stream(messages=PLEASE, tool_choice=choice, **asked) as stream:
                streamed = (await stream.get_final_completion()).choices[0]
            (again,) = streamed.message.tool_calls
            assert again.function.name == "find"
            assert again.function.arguments == call.function.arguments
            formed = await client.chat.completions.create(messages=PLEASE, tool_choice=choice, **FORMS[CHAT], **asked)
            assert [made.function.name for made in formed.choices[0].message.tool_calls] == ["find"]
            result = {"role": "tool", "tool_call_id": call.id, "content": "found"}
            second = await client.chat.completions.create(messages=[*PLEASE, first.message, result], **asked)
            assert second.choices[0].message.content

    asyncio.run(main())


@pytest.mark.engine
def test_a_message_calls_the_tool_it_names_and_none_where_it_says_so(lab, start, model_path):
    asked = {"model": "chat", "tools": OF_ANTHROPIC, "max_tokens": 60, "extra_body": {"temperature": 0}}

    async def main():
        async with (
            serving(lab, start, model_path) as running,
            anthropic.AsyncAnthropic(base_url=running.base_url, api_key="k", max_retries=0) as client,
        ):
            choice = {"type": "tool", "name": "find"}
            first = await client.messages.create(messages=PLEASE, tool_choice=choice, **asked)
            assert first.stop_reason == "tool_use"
            (call,) = [block for block in first.content if block.type == "tool_use"]
            assert (call.name, call.input.keys()) == ("find", {"query"})
            async with client.messages.stream(messages=PLEASE, tool_choice=choice, **asked) as stream:
                (streamed,) = [
                    block for block in (await stream.get_final_message()).content if block.type == "tool_use"
                ]
            assert (streamed.name, streamed.input) == (call.name, call.input)
            result = {"type": "tool_result", "tool_use_id": call.id, "content": "found"}
            said = [*PLEASE, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
            second = await client.messages.create(messages=said, **asked)
            assert [block.type for block in second.content] == ["text"]
            called = await client.messages.create(messages=PLEASE, **asked)
            assert called.stop_reason == "tool_use"
            uncalled = await client.messages.create(messages=PLEASE, tool_choice={"type": "none"}, **asked)
            assert [block.type for block in uncalled.content] == ["text"]

    asyncio.run(main())


END = """</tool_call><|im_end|>\n' }}
{{- '<|im_start|>user\n<tool_response>"""
TWICE = TEMPLATE.replace(
    END,
    """</tool_call>\n<tool_call>\n{"name": "' }}
{{- tools[0].function.name + '", "arguments": {"query": "more"}}\n"""
    + END,
)


@pytest.mark.engine
def test_one_call_is_made_where_one_is_wanted_of_a_model_that_makes_two(lab, start, model_path, tmp_path):
    """With such a template llama.cpp makes any number of calls, whatever `parallel_tool_calls` says."""
    asked = {"model": "chat", "messages": PLEASE, "max_tokens": 120}

    async def main():
        weights = with_template(model_path, tmp_path / "twice.gguf", TWICE)
        async with (
            serving(lab, start, weights) as running,
            openai.AsyncOpenAI(base_url=f"{running.base_url}/v1", api_key="k", max_retries=0) as client,
            anthropic.AsyncAnthropic(base_url=running.base_url, api_key="k", max_retries=0) as other,
        ):
            chats = {"tools": OF_OPENAI, "temperature": 0, **asked}
            several = (await client.chat.completions.create(**chats)).choices[0].message.tool_calls
            assert len(several) == 2
            whole = await client.chat.completions.create(parallel_tool_calls=False, **chats)
            (call,) = whole.choices[0].message.tool_calls
            assert call.function == several[0].function
            async with client.chat.completions.stream(parallel_tool_calls=False, **chats) as stream:
                (streamed,) = (await stream.get_final_completion()).choices[0].message.tool_calls
            assert streamed.function.arguments == call.function.arguments
            one = {"type": "auto", "disable_parallel_tool_use": True}
            sent = {"tools": OF_ANTHROPIC, "tool_choice": one, "extra_body": {"temperature": 0}, **asked}
            message = await other.messages.create(**sent)
            assert [block.type for block in message.content] == ["tool_use"]
            async with other.messages.stream(**sent) as stream:
                final = await stream.get_final_message()
            assert [block.type for block in final.content] == ["tool_use"]
            assert final.content[0].input == message.content[0].input

    asyncio.run(main())


WITH_RESULT = [
    *PLEASE,
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "find", "input": {"query": "x"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "none", "is_error": True}]},
]


@pytest.mark.engine
@pytest.mark.parametrize(
    "more",
    [
        {"messages": PLEASE, "tool_choice": {"type": "tool", "name": "find"}},
        {"messages": PLEASE, "tool_choice": {"type": "any"}},
        {"messages": WITH_RESULT},
    ],
)
def test_the_tokens_of_a_message_are_counted_as_it_is_sent(lab, start, model_path, more):
    """llama.cpp's own count is that of its own messages, which leave out what they have no words for."""

    async def main():
        async with (
            serving(lab, start, model_path) as running,
            anthropic.AsyncAnthropic(base_url=running.base_url, api_key="k", max_retries=0) as client,
        ):
            asked = {"model": "chat", "tools": OF_ANTHROPIC, **more}
            counted = await client.messages.count_tokens(**asked)
            assert counted.to_dict() == {"input_tokens": read(await client.messages.create(max_tokens=1, **asked))}

    asyncio.run(main())


@pytest.mark.engine
def test_a_responses_call_of_the_tool_it_names(lab, start, model_path):
    tools = [{"type": "function", "name": name, "parameters": QUERY} for name in ("look", "find")]
    asked = {"model": "chat", "input": "Please.", "tools": tools, "max_output_tokens": 60, "temperature": 0}

    async def main():
        async with (
            serving(lab, start, model_path) as running,
            openai.AsyncOpenAI(base_url=f"{running.base_url}/v1", api_key="k", max_retries=0) as client,
        ):
            choice = {"type": "function", "name": "find"}
            whole = await client.responses.create(tool_choice=choice, **asked)
            (call,) = [item for item in whole.output if item.type == "function_call"]
            assert call.name == "find"
            assert whole.tool_choice.name == "find"
            async with client.responses.stream(tool_choice=choice, **asked) as stream:
                (streamed,) = [i for i in (await stream.get_final_response()).output if i.type == "function_call"]
            assert (streamed.name, streamed.arguments) == (call.name, call.arguments)

    asyncio.run(main())


THINKING = """\
{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\n' }}
{%- if m.reasoning_content %}{{- '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{%- endif %}
{{- m.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}
"""


@pytest.mark.engine
def test_a_message_that_switches_thinking_off_has_it_off(lab, start, model_path, tmp_path):
    """As templates of models that think have it: the prompt then ends with thoughts that are over."""
    asked = {"model": "chat", "messages": HELLO, "max_tokens": 2}

    async def main():
        weights = with_template(model_path, tmp_path / "thinks.gguf", THINKING)
        async with (
            serving(lab, start, weights) as running,
            anthropic.AsyncAnthropic(base_url=running.base_url, api_key="k", max_retries=0) as client,
        ):
            usual = await client.messages.create(**asked)
            without = await client.messages.create(thinking={"type": "disabled"}, **asked)
            assert read(without) > read(usual)

    asyncio.run(main())


def read(message):
    """Return how many tokens a prompt had."""
    return message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
