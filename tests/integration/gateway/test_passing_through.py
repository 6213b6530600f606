"""What a client sends reaches the upstream, and what the upstream says reaches the client."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import json

import pytest

from ownward import __version__
from ownward.engines import FakeOptions, FakeServer
from ownward.plan import Upstream


def test_streamed_bytes_are_the_upstreams_bytes(lab, start):
    events = (
        b'data: {"id":"a", "choices":[{"index":0,"delta":{"content":"h\\u00e9"}}]}\n\n'
        b": a comment\n\n"
        b'data:  {"id":"a","unknown":[1,2.50,1e3],"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\r\n\r\n'
        b'data: {"id":"a","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}\n\n'
        b"data: [DONE]\n\n"
    )

    async def script(body, reader, writer):
        writer.write(lab.STREAM_HEAD + b"".join(lab.chunk(events[at : at + 7]) for at in range(0, len(events), 7)))
        writer.write(b"0\r\n\r\n")

    async def main():
        async with lab.Scripted(script) as upstream:
            plan = lab.plan_of(lab.tier("a", upstream.base_url))
            async with start(plan) as running:
                body = lab.chat(stream=True, stream_options={"include_usage": True})
                answer = await running.ask(body=body)
                assert answer.body == events
                assert answer.headers["content-type"] == "text/event-stream"

    asyncio.run(main())


def test_a_piece_is_passed_on_before_the_next_one_exists(lab, start):
    async def main():
        gate = asyncio.Event()

        async def script(body, reader, writer):
            writer.write(lab.STREAM_HEAD + lab.chunk(b'data: {"choices":[{"delta":{"content":"one"}}]}\n\n'))
            await gate.wait()
            writer.write(lab.chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

        async with lab.Scripted(script) as upstream, start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
            async with lab.Client(running.base_url) as client:
                body = lab.chat(stream=True, stream_options={"include_usage": True})
                await client.send(lab.CHAT, body)
                await asyncio.wait_for(client.head(), 2)
                assert b"one" in await asyncio.wait_for(client.piece(), 2)
                gate.set()
                assert b"[DONE]" in await asyncio.wait_for(client.piece(), 2)

    asyncio.run(main())


def test_unknown_fields_reach_the_upstream_and_only_the_model_changes(lab, start):
    sent = b'{"model" :  "chat", "messages":[], "a_field_of_tomorrow": {"x": 1.50, "y": [null]} , "seed":7}'

    async def main():
        async with lab.Scripted(lab.whole(b'{"id":"1","choices":[]}')) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=sent)
                assert answer.body == b'{"id":"1","choices":[]}'
            ((line, _, body),) = upstream.heard
            assert line == "POST /v1/chat/completions HTTP/1.1"
            assert body == sent.replace(b'"chat"', b'"a-model"')

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_thought_signatures_pass_both_ways_as_they_are(lab, start, stream):
    """Gemini's OpenAI-compatible answers hold `extra_content`, and want it back."""
    extra = b'"extra_content": {"google":{"thought_signature":"EjQKMg/+=="}}'
    call = b'{%b,"function":{"arguments":"{}","name":"f"},"id":"x","type":"function"}' % extra
    said = b'{"role":"assistant","content":"a",%b,"tool_calls":[%b]}' % (extra, call)
    place = (
        b'{"id":"1","model":"gemini-3-flash-preview","choices":[{"index":0,"%b":%b,"finish_reason":"stop"}],"usage":%b}'
    )
    usage = b'{"prompt_tokens":3,"completion_tokens":1,"total_tokens":9}'
    answered = place % (b"delta" if stream else b"message", said, usage)
    if stream:
        answered = b"data: %b\n\ndata: [DONE]\n\n" % answered

    async def script(body, reader, writer):
        head = lab.STREAM_HEAD if stream else b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answered)
        writer.write(head + (lab.chunk(answered) + lab.chunk(b"") if stream else answered))

    async def main():
        async with lab.Scripted(script) as upstream, start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
            result = b'{"role":"tool","tool_call_id":"x","content":"r"}'
            sent = b'{"model":"a-model","stream":%b,"stream_options":{"include_usage":true},"messages":[%b,%b]}'
            sent %= b"true" if stream else b"false", said, result
            answer = await running.ask(body=sent, headers={"x-ownward-tier": "a"})
            assert answer.body == answered
            assert upstream.heard[0][2] == sent
            (row,) = await running.rows()
            assert row["output_tokens"] == 6  # its thinking stands in the total alone

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "query", "heard"),
    [
        ("/v1/messages", "?beta=true", "/v1/messages?beta=true"),
        ("/v1/messages/count_tokens", "?beta=true", "/v1/messages/count_tokens?beta=true"),
        ("/v1/messages", "?beta=true&key=secret", "/v1/messages?beta=true"),
        ("/v1/messages", "?timeout=9&beta=true", "/v1/messages?beta=true"),
        ("/v1/messages", "?key=secret", "/v1/messages"),
        ("/v1/messages", "?alphabeta=true&beta=false&beta=truer", "/v1/messages"),
    ],
)
def test_anthropics_beta_address_reaches_its_upstream_and_no_other_query_does(lab, start, path, query, heard):
    async def main():
        said = lab.whole(b'{"type":"message","content":[],"input_tokens":1}')
        async with lab.Scripted(said) as upstream:
            speaks = Upstream(name="n", url=upstream.base_url, dialect="anthropic")
            async with start(lab.plan_of(lab.tier("a", "", upstreams=(speaks,)))) as running:
                assert (await running.ask(path + query, lab.chat())).status == 200
            ((line, _, _),) = upstream.heard
            assert line == f"POST {heard} HTTP/1.1"

    asyncio.run(main())


def test_the_beta_address_is_not_asked_of_another_dialect(lab, start):
    async def main():
        async with lab.Scripted(lab.whole(b'{"choices":[{"message":{"content":"a"}}]}')) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                assert (await running.ask("/v1/messages?beta=true", lab.chat())).status == 200
            ((line, _, _),) = upstream.heard
            assert line == "POST /v1/chat/completions HTTP/1.1"

    asyncio.run(main())


def test_usage_is_asked_for_and_stripped_when_the_client_did_not_ask(lab, start):
    async def main():
        async with FakeServer(FakeOptions()) as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            silent = await running.ask(body=lab.chat(stream=True))
            asking = await running.ask(body=lab.chat(stream=True, stream_options={"include_usage": True}))
            assert b'"usage":{' not in silent.body
            assert silent.body.endswith(b"data: [DONE]\n\n")
            assert b'"usage":{' in asking.body
            assert [json.loads(r["body"])["stream_options"] for r in fake.record.requests()["requests"]] == [
                {"include_usage": True}
            ] * 2
            rows = await running.rows()
            assert [row["state"] for row in rows] == ["settled", "settled"]
            assert {row["output_tokens"] for row in rows} == {16}

    asyncio.run(main())


def test_the_clients_credentials_and_cookies_stay_here(lab, start):
    async def main():
        async with lab.Scripted(lab.whole(b'{"id":"1","choices":[]}')) as upstream:
            priced = lab.tier(
                "a",
                "",
                upstreams=(lab.Upstream(name="a-1", url=upstream.base_url, api_key_env="FAKE_API_KEY"),),
            )
            secrets = {"FAKE_API_KEY": "ours"}
            async with start(lab.plan_of(priced), secrets=secrets) as running:
                headers = {"authorization": "Bearer theirs", "cookie": "a=b", "x-forwarded-for": "10.0.0.1"}
                answer = await running.ask(body=lab.chat(), headers=headers)
                assert answer.status == 200
            ((_, heard, _),) = upstream.heard
            assert heard["authorization"] == "bearer ours"
            assert not {"cookie", "x-forwarded-for"} & heard.keys()
            assert heard["x-ownward-request-id"].upper() == answer.headers["x-ownward-request-id"].upper()

    asyncio.run(main())


@pytest.mark.parametrize(("stated", "heard"), [({}, f"ownward/{__version__}"), ({"User-Agent": "mine/2"}, "mine/2")])
def test_an_upstream_is_told_who_asks_and_never_which_client(lab, start, stated, heard):
    """Services behind some networks refuse requests that name no agent."""

    async def main():
        async with lab.Scripted(lab.whole(b'{"id":"1","choices":[]}')) as upstream:
            speaks = Upstream(name="n", url=upstream.base_url, headers=stated)
            async with start(lab.plan_of(lab.tier("a", "", upstreams=(speaks,)))) as running:
                assert (await running.ask(body=lab.chat(), headers={"user-agent": "client/1"})).status == 200
            ((_, headers, _),) = upstream.heard
            assert headers["user-agent"] == heard

    asyncio.run(main())


def test_every_answer_says_where_it_went_and_why(lab, start):
    async def main():
        async with FakeServer(FakeOptions()) as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            answer = await running.ask(body=lab.chat())
            told = {name: value for name, value in answer.headers.items() if name.startswith("x-ownward-")}
            (row,) = await running.rows()
            assert told["x-ownward-request-id"] == row["request_id"]
            assert (told["x-ownward-tier"], told["x-ownward-upstream"]) == ("a", "a-1")
            assert (told["x-ownward-workload"], told["x-ownward-attempts"]) == ("chat", "1")
            assert (
                told["x-ownward-reason"]
                == "workload chat (by model name); label any (the workload's); first a/a-1 of 1"
            )

    asyncio.run(main())


def test_an_upstreams_refusal_is_passed_on_as_it_is(lab, start):
    said = b'{"error":{"message":"too long","type":"exceed_context_size_error","n_ctx":8}}'

    async def main():
        async with lab.Scripted(lab.whole(said, status=400)) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat())
                assert (answer.status, answer.body) == (400, said)
                (row,) = await running.rows()
                assert (row["state"], row["charge_usd"], row["status"]) == ("failed", "0.000000", 400)

    asyncio.run(main())


def test_each_endpoint_is_settled_with_the_upstreams_own_usage(lab, start):
    bodies = {
        "/v1/chat/completions": lab.chat(),
        "/v1/completions": {"model": "chat", "prompt": "once upon"},
        "/v1/responses": {"model": "chat", "input": "hello"},
        "/v1/embeddings": {"model": "chat", "input": "hello"},
        "/v1/messages": lab.chat(max_tokens=9),
        "/v1/messages/count_tokens": lab.chat(),
    }

    async def main():
        async with FakeServer(FakeOptions()) as fake:
            owned = lab.tier("a", fake.base_url, kind="owned", engine="vllm")
            async with start(lab.plan_of(owned)) as running:
                for path, body in bodies.items():
                    answer = await running.ask(path, body)
                    assert answer.status == 200, (path, answer.body)
                    if path not in {"/v1/embeddings", "/v1/messages/count_tokens"}:
                        streamed = await running.ask(path, {**body, "stream": True})
                        assert streamed.status == 200, (path, streamed.body)
                rows = await running.rows()
                assert [row["state"] for row in rows] == ["settled"] * len(rows)
                served = {call["request_id"]: call for call in fake.record.count(with_calls=True)["calls"]}
                for row in rows:
                    call = served[row["request_id"]]
                    if call["endpoint"].endswith("count_tokens"):
                        assert row["charge_usd"] == "0.000000"
                        continue
                    assert row["input_tokens"] == call["input_tokens"]
                    assert row["output_tokens"] == call["output_tokens"]

    asyncio.run(main())


def test_an_endpoint_that_the_other_dialect_has_not_is_refused_by_name(lab, start):
    async def main():
        async with FakeServer(FakeOptions()) as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            answer = await running.ask("/v1/messages/count_tokens", lab.chat())
            assert answer.status == 400
            assert answer.json["type"] == "error"
            assert "speaks openai only" in answer.json["error"]["message"]
            assert "capability count_tokens" in answer.json["error"]["next"]
            assert fake.record.count(with_calls=False)["accepted"] == 0
            (row,) = await running.rows()
            assert row["state"] == "refused"

    asyncio.run(main())


def test_a_large_body_arrives_whole(lab, start):
    async def main():
        async with FakeServer(FakeOptions()) as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            words = "word " * 200_000
            answer = await running.ask(body=lab.chat(messages=[{"role": "user", "content": words}]))
            assert answer.status == 200
            assert answer.json["usage"]["prompt_tokens"] >= 200_000

    asyncio.run(main())
