"""A client of one dialect and an upstream of the other: what is asked, told, charged and refused."""

import asyncio
import json

import pytest

from ownward.engines import Cut, Failure, FakeOptions, FakeServer
from ownward.gateway import GatewaySettings
from ownward.plan import Match, Strategy, Upstream, Workload
from ownward.policy import ANY

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
HELLO = [{"role": "user", "content": "hello there"}]


def anthropic_tier(lab, name, url, **more):
    return lab.tier(name, url, upstreams=(Upstream(name=f"{name}-1", url=url, dialect="anthropic"),), **more)


def chat_tier(lab, name, url, **more):
    return lab.tier(name, url, **more)


def events(body):
    """Return the data of a stream's events, `[DONE]` as text."""
    found = []
    for event in body.decode().split("\n\n"):
        data = "".join(line[6:] for line in event.split("\n") if line.startswith("data: "))
        if data:
            found.append(data if data == "[DONE]" else json.loads(data))
    return found


def last_request(fake):
    return json.loads(fake.record.requests()["requests"][-1]["body"])


def test_a_chat_client_of_an_anthropic_upstream(lab, start):
    async def main():
        async with FakeServer(FakeOptions(reply="a b c", cached_fraction=0.5)) as fake:
            plan = lab.plan_of(anthropic_tier(lab, "n", fake.base_url, max_output_tokens=64))
            async with start(plan) as running:
                answer = await running.ask(
                    CHAT, lab.chat(prompt_cache_key="k"), headers={"openai-beta": "x", "anthropic-beta": "y"}
                )
                assert answer.status == 200
                assert answer.json["choices"][0]["message"]["content"] == "a b c"
                assert answer.json["object"] == "chat.completion"
                assert answer.headers["x-ownward-translated"] == "chat to messages"
                assert answer.headers["x-ownward-left-out"] == "prompt_cache_key"
                assert answer.headers["x-request-id"] == "fake-1"  # Anthropic's dialect calls it request-id
                told = fake.record.requests()["requests"][-1]
                assert told["target"] == "/v1/messages"
                heard = {name.lower(): value for name, value in told["headers"]}
                assert heard["anthropic-version"] == "2023-06-01"
                assert not {"openai-beta", "anthropic-beta"} & heard.keys()
                assert json.loads(told["body"]) == {
                    "model": "n-model", "max_tokens": 64, "messages": [{"role": "user", "content": "hello there"}],
                }  # fmt: skip
                (row,) = await running.rows()
                (call,) = fake.record.count(with_calls=True)["calls"]
                assert (row["state"], row["input_tokens"]) == ("settled", call["input_tokens"])
                assert answer.json["usage"]["prompt_tokens"] == call["input_tokens"]
                assert answer.json["usage"]["prompt_tokens_details"]["cached_tokens"] == call["cached_input_tokens"]

    asyncio.run(main())


def test_a_turn_goes_on_without_sealed_reasoning_where_the_tier_that_sealed_it_fails(lab, start):
    """Anthropic's newer models tell nothing of what they think but a signature, at each call of a tool."""
    asked = lab.chat(max_tokens=64, tools=[{"name": "f", "input_schema": {"type": "object"}}])
    asked["messages"] = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "", "signature": "s"},
            {"type": "tool_use", "id": "c", "name": "f", "input": {}},
        ]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "r"}]},
    ]  # fmt: skip

    async def main():
        async with (
            FakeServer(FakeOptions(failures=(Failure.parse("529:1"),))) as sealed,
            FakeServer(FakeOptions(reply="a")) as other,
        ):
            tiers = anthropic_tier(lab, "n", sealed.base_url), chat_tier(lab, "o", other.base_url)
            async with start(lab.plan_of(*tiers)) as running:
                answer = await running.ask(MESSAGES, asked)
                assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "o")
                assert answer.headers["x-ownward-left-out"] == "messages[1].content[0]"
                assert last_request(other)["messages"][1]["tool_calls"][0]["id"] == "c"
                alone = await running.ask(MESSAGES, asked, headers={"x-ownward-tier": "o"})
                assert (alone.status, alone.json["error"]["type"]) == (400, "invalid_request_error")
                assert "only the provider that wrote it can read this reasoning" in alone.json["error"]["message"]

    asyncio.run(main())


@pytest.mark.parametrize("asks_usage", [True, False])
@pytest.mark.parametrize("split_bytes", [None, 7])
def test_a_chat_stream_from_an_anthropic_upstream(lab, start, asks_usage, split_bytes):
    async def main():
        async with (
            FakeServer(FakeOptions(reply="a b c", split_bytes=split_bytes)) as fake,
            start(lab.plan_of(anthropic_tier(lab, "n", fake.base_url))) as running,
        ):
            options = {"stream_options": {"include_usage": True}} if asks_usage else {}
            answer = await running.ask(CHAT, lab.chat(stream=True, max_tokens=9, **options))
            *chunks, done = events(answer.body)
            assert done == "[DONE]"
            if asks_usage:
                *chunks, usage = chunks
                assert usage["usage"]["completion_tokens"] == 3
            deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
            assert deltas[0]["role"] == "assistant"
            assert "".join(delta.get("content") or "" for delta in deltas) == "a b c"
            assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
            assert all(chunk.get("usage") is None for chunk in chunks)
            (row,) = await running.rows()
            assert (row["state"], row["output_tokens"]) == ("settled", 3)

    asyncio.run(main())


def test_a_messages_client_of_an_openai_upstream_streamed_and_whole(lab, start):
    async def main():
        async with (
            FakeServer(FakeOptions(reply="a b c", cached_fraction=0.5)) as fake,
            start(lab.plan_of(chat_tier(lab, "o", fake.base_url))) as running,
        ):
            asked = lab.chat(max_tokens=9, system="be brief")
            whole = await running.ask(MESSAGES, asked)
            assert whole.json["content"] == [{"type": "text", "text": "a b c"}]
            assert whole.json["stop_reason"] == "end_turn"
            streamed = await running.ask(MESSAGES, {**asked, "stream": True})
            found = events(streamed.body)
            assert [event["type"] for event in found] == [
                "message_start", "content_block_start", *["content_block_delta"] * 3,
                "content_block_stop", "message_delta", "message_stop",
            ]  # fmt: skip
            assert found[-2]["usage"] == whole.json["usage"]
            usage = whole.json["usage"]
            call = fake.record.count(with_calls=True)["calls"][-1]
            assert usage["cache_read_input_tokens"] == call["cached_input_tokens"] > 0
            assert usage["input_tokens"] + usage["cache_read_input_tokens"] == call["input_tokens"]
            assert last_request(fake)["messages"][0] == {"role": "system", "content": "be brief"}
            for row in await running.rows():
                assert (row["state"], row["input_tokens"]) == ("settled", call["input_tokens"])

    asyncio.run(main())


def test_of_many_hints_that_were_left_out_the_header_says_how_many_more_there_are(lab, start):
    async def main():
        async with FakeServer() as fake, start(lab.plan_of(chat_tier(lab, "o", fake.base_url))) as running:
            part = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
            asked = lab.chat(max_tokens=9, messages=[{"role": "user", "content": [part] * 40}])
            named = (await running.ask(MESSAGES, asked)).headers["x-ownward-left-out"]
            assert named.startswith("messages[0].content[0].cache_control, ")
            assert named.endswith(", messages[0].content[31].cache_control and 8 more")

    asyncio.run(main())


@pytest.mark.parametrize("dialect", ["anthropic", "openai"])
def test_a_responses_client_of_an_upstream_without_responses(lab, start, dialect):
    async def main():
        async with FakeServer(FakeOptions(reply="a b c")) as fake:
            upstream = Upstream(name="u", url=fake.base_url, dialect=dialect)
            tier = lab.tier("t", fake.base_url, upstreams=(upstream,), capabilities=frozenset({"chat"}))
            async with start(lab.plan_of(tier)) as running:
                asked = {"model": "chat", "input": "hello there", "max_output_tokens": 9}
                whole = await running.ask(RESPONSES, asked)
                assert whole.status == 200, whole.body
                assert whole.json["output"][0]["content"][0]["text"] == "a b c"
                assert (whole.json["status"], whole.json["store"]) == ("completed", False)
                streamed = await running.ask(RESPONSES, {**asked, "stream": True})
                found = events(streamed.body)
                assert [event["sequence_number"] for event in found] == list(range(len(found)))
                assert found[-1]["type"] == "response.completed"
                assert found[-1]["response"]["usage"] == whole.json["usage"]
                assert fake.record.requests()["requests"][-1]["target"] == (CHAT if dialect == "openai" else MESSAGES)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (CHAT, {"logprobs": True, "max_tokens": 5}, "logprobs"),
        (CHAT, {"seed": 7}, "seed"),
        (CHAT, {"max_tokens": 5, "unheard_of": 1}, "unheard_of"),
        (RESPONSES, {"input": "hi", "max_output_tokens": 5, "previous_response_id": "r"}, "previous_response_id"),
    ],
)
def test_what_an_anthropic_upstream_cannot_be_told_is_refused_by_name_and_nothing_is_sent(
    lab, start, path, body, field
):
    async def main():
        async with (
            FakeServer(FakeOptions()) as fake,
            start(lab.plan_of(anthropic_tier(lab, "n", fake.base_url))) as running,
        ):
            content = {"model": "chat", **body} if path == RESPONSES else lab.chat(**body)
            answer = await running.ask(path, content)
            assert answer.status == 400
            assert answer.json["error"]["param"] == field
            assert f"Leave out {field}" in answer.json["error"]["next"]
            assert fake.record.count(with_calls=False)["accepted"] == 0
            (row,) = await running.rows()
            assert row["state"] == "refused"

    asyncio.run(main())


def test_what_an_openai_upstream_cannot_be_told_is_refused_in_anthropics_words(lab, start):
    async def main():
        async with FakeServer(FakeOptions()) as fake, start(lab.plan_of(lab.tier("o", fake.base_url))) as running:
            answer = await running.ask(MESSAGES, lab.chat(max_tokens=5, container="c", mcp_servers=[{"name": "m"}]))
            assert answer.status == 400
            assert answer.json["type"] == "error"
            assert answer.json["error"]["type"] == "invalid_request_error"
            assert "container (" in answer.json["error"]["message"]
            assert "mcp_servers (" in answer.json["error"]["message"]

    asyncio.run(main())


def test_what_one_tier_cannot_be_told_another_serves(lab, start):
    async def main():
        async with FakeServer(FakeOptions(reply="from o")) as fake:
            plan = lab.plan_of(anthropic_tier(lab, "n", fake.base_url), lab.tier("o", fake.base_url))
            async with start(plan) as running:
                answer = await running.ask(CHAT, lab.chat(max_tokens=5, seed=7))
                assert answer.status == 200
                assert answer.headers["x-ownward-tier"] == "o"
                assert "x-ownward-translated" not in answer.headers
                assert "n is asked in another dialect, with no words for seed" in answer.headers["x-ownward-reason"]
                assert last_request(fake)["seed"] == 7

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_a_failing_upstream_of_one_dialect_is_followed_by_one_of_the_other(lab, start, stream):
    async def main():
        async with (
            FakeServer(FakeOptions(failures=(Failure.parse("500"),))) as bad,
            FakeServer(FakeOptions(reply="a b c")) as good,
        ):
            plan = lab.plan_of(anthropic_tier(lab, "n", bad.base_url), lab.tier("o", good.base_url))
            async with start(plan) as running:
                answer = await running.ask(MESSAGES, lab.chat(max_tokens=5, stream=stream))
                assert answer.headers["x-ownward-tier"] == "o"
                assert answer.headers["x-ownward-translated"] == "messages to chat"
                assert b"message_stop" in answer.body if stream else answer.json["stop_reason"] == "end_turn"

    asyncio.run(main())


def test_a_fallback_that_cannot_be_told_the_request_leaves_the_first_upstreams_words(lab, start):
    async def main():
        async with (
            FakeServer(FakeOptions(failures=(Failure.parse("500"),))) as bad,
            FakeServer(FakeOptions()) as other,
        ):
            plan = lab.plan_of(lab.tier("o", bad.base_url), anthropic_tier(lab, "n", other.base_url))
            async with start(plan) as running:
                answer = await running.ask(CHAT, lab.chat(max_tokens=5, seed=7))
                assert answer.status == 500
                assert "told to fail" in answer.json["error"]["message"]
                assert (answer.headers["x-ownward-attempts"], answer.headers["x-ownward-tier"]) == ("1", "o")
                assert other.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


@pytest.mark.parametrize(("client", "path"), [("chat", CHAT), ("responses", RESPONSES), ("messages", MESSAGES)])
@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_stream_that_is_cut_stays_cut_in_the_clients_dialect(lab, start, client, path, after):
    async def main():
        async with FakeServer(FakeOptions(reply="a b c d e f", cuts=(Cut.parse(str(after)),))) as fake:
            tier = lab.tier("t", fake.base_url) if client == "messages" else anthropic_tier(lab, "t", fake.base_url)
            async with start(lab.plan_of(tier), settings=GatewaySettings(port=0, drain_s=2)) as running:
                body = {"model": "chat", "max_output_tokens": 9, "input": "hi", "stream": True}
                answer = await running.ask(path, body if client == "responses" else lab.chat(max_tokens=9, stream=True))
                found = events(answer.body)
                assert "broke after" in json.dumps(found[-1])
                assert b"[DONE]" not in answer.body
                assert b"message_stop" not in answer.body
                assert b"response.completed" not in answer.body
                if client == "responses":
                    assert [event["sequence_number"] for event in found] == list(range(len(found)))
                (row,) = await running.rows()
                assert row["state"] == "unsettled"

    asyncio.run(main())


@pytest.mark.parametrize("status", [400, 404, 429, 500, 529])
@pytest.mark.parametrize(("path", "is_anthropic"), [(CHAT, True), (MESSAGES, False)])
def test_an_upstreams_refusal_is_told_in_the_clients_dialect(lab, start, status, path, is_anthropic):
    async def main():
        async with FakeServer(FakeOptions(failures=(Failure.parse(str(status)),))) as fake:
            tier = anthropic_tier(lab, "t", fake.base_url) if is_anthropic else lab.tier("t", fake.base_url)
            async with start(lab.plan_of(tier)) as running:
                answer = await running.ask(path, lab.chat(max_tokens=5))
                expected = 503 if status == 529 and is_anthropic else status
                assert answer.status == expected
                assert ("type" in answer.json) is not is_anthropic
                assert "told to fail" in answer.json["error"]["message"]

    asyncio.run(main())


def test_an_answer_that_cannot_be_told_is_an_error_and_stands_settled(lab, start):
    body = json.dumps(
        {"id": "m", "type": "message", "role": "assistant", "model": "x", "stop_reason": "end_turn",
         "content": [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}],
         "usage": {"input_tokens": 3, "output_tokens": 4}}
    ).encode()  # fmt: skip

    async def main():
        async with (
            lab.Scripted(lab.whole(body)) as upstream,
            start(lab.plan_of(anthropic_tier(lab, "n", upstream.base_url))) as running,
        ):
            answer = await running.ask(CHAT, lab.chat(max_tokens=5))
            assert answer.status == 502
            assert "server_tool_use" in answer.json["error"]["message"]
            (row,) = await running.rows()
            assert (row["state"], row["output_tokens"]) == ("settled", 4)

    asyncio.run(main())


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
def test_an_error_with_which_an_upstream_ends_its_stream_is_told_once(lab, start, path):
    """Anthropic's streams end so: what we said behind it would stand in the place of why it failed."""
    said = [
        {"type": "message_start", "message": {"id": "m", "model": "x", "usage": {"input_tokens": 3}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    ]
    body = b"".join(b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.dumps(each).encode()) for each in said)

    async def script(_body, _reader, writer):
        writer.write(lab.STREAM_HEAD + lab.chunk(body) + b"0\r\n\r\n")
        await writer.drain()

    async def main():
        async with (
            lab.Scripted(script) as upstream,
            start(lab.plan_of(anthropic_tier(lab, "n", upstream.base_url))) as running,
        ):
            asked = {"input": "x"} if path == RESPONSES else {"messages": HELLO, "max_tokens": 5}
            answer = await running.ask(path, {"model": "chat", "stream": True, **asked})
            told = [event for event in events(answer.body) if "error" in event or event.get("type") == "error"]
            assert ["Overloaded" in json.dumps(event) for event in told] == [True]
            assert b"[DONE]" not in answer.body
            (row,) = await running.rows()
            assert (row["state"], row["input_tokens"]) == ("unsettled", None)

    asyncio.run(main())


def test_a_plan_of_one_dialect_loads_no_translation(lab, start):
    """A process of its own: in this one other tests have loaded it."""
    import subprocess
    import sys

    code = (
        "import sys, ownward.gateway; print('ownward.upstreams.translation' in sys.modules);"
        "from ownward.gateway.endpoints import CHAT;"
        "from ownward.gateway.calling.translating import RequestTranslations;"
        "RequestTranslations(CHAT, lambda _: b'{}'); print('ownward.upstreams.translation' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("path", "form"),
    [
        (MESSAGES, {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
        (RESPONSES, {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}}),
    ],
)
def test_a_form_that_llama_cpp_would_pass_over_is_demanded_in_chat_completions(lab, start, path, form):
    """Its own messages do not hold an answer to a schema."""

    async def main():
        async with FakeServer(FakeOptions(reply="{}")) as fake:
            tier = lab.tier("l", fake.base_url, kind="owned", engine="llama-server")
            async with start(lab.plan_of(tier)) as running:
                plain = {"model": "chat", "input": "hi"} if path == RESPONSES else lab.chat(max_tokens=9)
                formed = await running.ask(path, {**plain, **form})
                assert formed.status == 200
                assert "x-ownward-translated" in formed.headers
                assert fake.record.requests()["requests"][-1]["target"] == CHAT
                assert last_request(fake)["response_format"]["json_schema"]["schema"] == {"type": "object"}

    asyncio.run(main())


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
def test_a_whole_answer_where_a_stream_was_asked_for_is_told_as_one(lab, start, path):
    body = json.dumps(
        {"id": "m", "type": "message", "role": "assistant", "model": "x", "stop_reason": "end_turn",
         "content": [{"type": "text", "text": "a b c"}], "usage": {"input_tokens": 3, "output_tokens": 4}}
    ).encode()  # fmt: skip

    async def main():
        async with (
            lab.Scripted(lab.whole(body)) as upstream,
            start(lab.plan_of(anthropic_tier(lab, "n", upstream.base_url))) as running,
        ):
            asked = {"model": "chat", "max_output_tokens": 9, "input": "hi", "stream": True}
            answer = await running.ask(path, asked if path == RESPONSES else lab.chat(max_tokens=5, stream=True))
            found = events(answer.body)
            assert "a b c" in json.dumps(found)
            assert found[-1] == "[DONE]" if path == CHAT else found[-1]["type"] == "response.completed"
            (row,) = await running.rows()
            assert (row["state"], row["output_tokens"]) == ("settled", 4)

    asyncio.run(main())


def test_a_chat_stream_without_its_done_is_whole_for_a_client_of_messages(lab, start):
    async def script(_, reader, writer):
        chunks = [
            {"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}}]},
            {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        ]
        writer.write(lab.STREAM_HEAD)
        for each in chunks:
            writer.write(lab.chunk(b"data: " + json.dumps(each).encode() + b"\n\n"))
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def main():
        async with lab.Scripted(script) as upstream, start(lab.plan_of(lab.tier("o", upstream.base_url))) as running:
            answer = await running.ask(MESSAGES, lab.chat(max_tokens=5, stream=True))
            assert events(answer.body)[-1] == {"type": "message_stop"}

    asyncio.run(main())


def test_a_strategy_of_several_calls_asks_an_anthropic_upstream_too(lab, start):
    async def main():
        async with FakeServer(FakeOptions(reply="forty two")) as fake:
            tier = anthropic_tier(lab, "n", fake.base_url)
            vote = Workload(
                name="v",
                match=Match(models=("v",)),
                strategy=Strategy(
                    kind="vote", tiers=("n",), max_calls=3, options={"samples": 3, "labels": ("forty two", "none")}
                ),
                label=ANY,
            )
            async with start(lab.plan_of(tier, workloads=(vote,))) as running:
                answer = await running.ask(CHAT, lab.chat(model="v", max_tokens=9))
                assert answer.status == 200, answer.body
                assert answer.json["choices"][0]["message"]["content"] == "forty two"
                assert answer.headers["x-ownward-translated"] == "chat to messages"
                assert {request["target"] for request in fake.record.requests()["requests"]} == {MESSAGES}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("tier", "asked", "sent"), [({}, {}, 4096), ({}, {"max_tokens": 7}, 7), ({"max_output_tokens": 64}, {}, 64)]
)
def test_a_chat_client_that_states_no_limit_is_answered_by_an_anthropic_upstream(lab, start, tier, asked, sent):
    """Few clients of OpenAI's state one; Anthropic's dialect demands it."""

    async def main():
        async with FakeServer() as fake, start(lab.plan_of(anthropic_tier(lab, "n", fake.base_url, **tier))) as running:
            body = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], **asked}
            answer = await running.ask(CHAT, body)
            assert answer.status == 200
            assumed = None if tier or asked else "max_tokens=4096"
            assert answer.headers.get("x-ownward-assumed") == assumed
            (heard,) = fake.record.requests()["requests"]
            assert json.loads(heard["body"])["max_tokens"] == sent

    asyncio.run(main())
