"""Strategies of several calls: each call is an attempt on the ledger, and the client gets the chosen answer."""
# ruff: noqa: ASYNC110, SIM117 - a gateway stands inside its upstreams, and what happens in them is polled

import asyncio
import dataclasses
import json
from decimal import Decimal

import pytest

from ownward.core import ConfigError
from ownward.engines import Failure, FakeOptions, FakeServer
from ownward.gateway.placing.strategy import compile_strategy
from ownward.plan import Match, Strategy, Workload
from ownward.policy import ANY


def plan_with(lab, strategy, *tiers, fallback=()):
    judged = Workload(name="judged", match=Match(models=("judged",)), strategy=strategy, fallback=fallback, label=ANY)
    return lab.plan_of(*tiers, workloads=(judged,))


VOTE = Strategy(kind="vote", tiers=("a",), options={"samples": 3, "labels": ("yes", "no")})
CASCADE = Strategy(kind="cascade", tiers=("a", "b"), options={"labels": ("yes", "no")})


def test_a_vote_asks_as_often_as_it_says_and_passes_one_answer_on(lab, start):
    async def main():
        async with FakeServer(FakeOptions(reply="I say yes")) as fake:
            async with start(plan_with(lab, VOTE, lab.tier("a", fake.base_url))) as running:
                answer = await running.ask(body={**lab.chat(seed=7), "model": "judged"})
                assert answer.json["choices"][0]["message"]["content"] == "I say yes"
                assert answer.headers["x-ownward-attempts"] == "3"
                assert answer.headers["x-ownward-reason"].endswith("; vote: 3 of 3 votes in 3 calls")
                rows = await running.rows()
                assert [(row["attempt"], row["state"]) for row in rows] == [(n, "settled") for n in (1, 2, 3)]
                assert len({row["request_id"] for row in rows}) == 1
                for kind in ("input", "output"):
                    total = sum(row[f"{kind}_tokens"] for row in rows)
                    assert answer.headers[f"x-ownward-total-{kind}-tokens"] == str(total)
                assert answer.json["usage"]["completion_tokens"] == rows[0]["output_tokens"], "of the chosen call"
                sent = [json.loads(request["body"]) for request in fake.record.requests()["requests"]]
                assert all(body["seed"] == 7 and body["temperature"] == 0.7 for body in sent)

    asyncio.run(main())


def test_a_cascade_escalates_only_where_the_cheap_answer_does_not_pass(lab, start):
    async def main():
        async with FakeServer(FakeOptions(reply="yes")) as cheap, FakeServer(FakeOptions(reply="no")) as strong:
            plan = plan_with(lab, CASCADE, lab.tier("a", cheap.base_url), lab.tier("b", strong.base_url))
            async with start(plan) as running:
                passed = await running.ask(body={**lab.chat(), "model": "judged"})
                assert (passed.headers["x-ownward-tier"], passed.headers["x-ownward-attempts"]) == ("a", "1")
                assert "x-ownward-total-input-tokens" not in passed.headers
                cheap.set_options(FakeOptions(reply="perhaps"))
                escalated = await running.ask(body={**lab.chat(), "model": "judged"})
                assert (escalated.headers["x-ownward-tier"], escalated.headers["x-ownward-attempts"]) == ("b", "2")
                assert escalated.json["choices"][0]["message"]["content"] == "no"

    asyncio.run(main())


def test_a_revision_shows_the_failed_answer(lab, start):
    revise = Strategy(kind="revise", tiers=("a",), options={"revisions": 1, "number": True})

    async def main():
        async with FakeServer(FakeOptions(reply="none")) as fake:
            async with start(plan_with(lab, revise, lab.tier("a", fake.base_url))) as running:
                await running.ask(body={**lab.chat(), "model": "judged"})
                _, second = (json.loads(request["body"]) for request in fake.record.requests()["requests"])
                assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
                assert second["messages"][1]["content"] == "none"

    asyncio.run(main())


def test_a_client_that_asked_for_a_stream_gets_one(lab, start):
    async def main():
        async with FakeServer(FakeOptions(reply="yes indeed")) as fake:
            async with start(plan_with(lab, VOTE, lab.tier("a", fake.base_url))) as running:
                body = {**lab.chat(stream=True, stream_options={"include_usage": True}), "model": "judged"}
                answer = await running.ask(body=body)
                *events, done, rest = answer.body.split(b"\n\n")
                first, _, usage = (json.loads(event.removeprefix(b"data: ")) for event in events)
                assert (done, rest) == (b"data: [DONE]", b"")
                assert first["choices"][0]["delta"]["content"] == "yes indeed"
                assert usage["usage"]["completion_tokens"] == 2

    asyncio.run(main())


def test_where_every_call_fails_the_fallback_is_asked_directly(lab, start):
    async def main():
        async with FakeServer(FakeOptions(failures=(Failure.parse("500"),))) as bad, FakeServer() as good:
            plan = plan_with(lab, VOTE, lab.tier("a", bad.base_url), lab.tier("b", good.base_url), fallback=("b",))
            async with start(plan) as running:
                answer = await running.ask(body={**lab.chat(), "model": "judged"})
                assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "b")
                assert sorted(row["state"] for row in await running.rows()) == ["failed"] * 3 + ["settled"]

    asyncio.run(main())


def test_where_nothing_answers_the_client_is_told_the_last_failure(lab, start):
    async def main():
        async with FakeServer(FakeOptions(garbage=(lab.garbage("json"),))) as bad:
            async with start(plan_with(lab, VOTE, lab.tier("a", bad.base_url))) as running:
                answer = await running.ask(body={**lab.chat(), "model": "judged"})
                assert answer.status == 502
                assert {row["state"] for row in await running.rows()} == {"unsettled"}

    asyncio.run(main())


def test_a_client_that_leaves_ends_every_call(lab, start):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=5)) as fake:
            async with start(plan_with(lab, VOTE, lab.tier("a", fake.base_url))) as running:
                async with lab.Client(running.base_url) as client:
                    await client.send(lab.CHAT, {**lab.chat(), "model": "judged"})
                    while fake.record.serving < 2:
                        await asyncio.sleep(0.01)
                async with asyncio.timeout(0.2):
                    while fake.record.serving or running.server.gateway.exchanges:
                        await asyncio.sleep(0.005)
                assert [row["state"] for row in await running.rows()] == ["unsettled", "unsettled"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/completions", {"model": "judged", "prompt": "x"}), ("/v1/chat/completions", {"model": "judged", "n": 2})],
)
def test_what_a_strategy_cannot_work_on_is_refused_by_name(lab, start, path, body):
    async def main():
        async with FakeServer() as fake:
            async with start(plan_with(lab, VOTE, lab.tier("a", fake.base_url))) as running:
                answer = await running.ask(path, {"messages": [], **body})
                assert (answer.status, answer.json["error"]["code"]) == (400, "incapable")
                direct = await running.ask(path, {"messages": [], **body}, headers={"x-ownward-tier": "a"})
                assert direct.status == 200

    asyncio.run(main())


@pytest.mark.parametrize("first", ["answers", "states no usage", "is served otherwise"])
def test_a_cap_of_dollars_counts_what_calls_may_have_cost(lab, start, first):
    """A call without usage, and one of unknown charge, cost something: its bound, of which the cap holds no second."""
    said = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "perhaps"}, "finish_reason": "stop"}]}
    usage = {"usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}}
    body = json.dumps(
        said
        | ({} if first == "states no usage" else usage)
        | ({"service_tier": "fast"} if "otherwise" in first else {})
    ).encode()

    async def script(_body, _reader, writer):
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        writer.write(head + body)
        await writer.drain()

    async def main():
        async with lab.Scripted(script) as cheap, FakeServer(FakeOptions(reply="yes")) as strong:
            capped = Strategy(
                kind="cascade", tiers=("a", "b"), options={"labels": ("yes", "no")}, max_usd=Decimal("0.012")
            )
            plan = plan_with(lab, capped, lab.tier("a", cheap.base_url), lab.tier("b", strong.base_url))
            async with start(plan) as running:
                await running.ask(body={**lab.chat(max_tokens=500), "model": "judged"})
                tiers = {row["tier"] for row in await running.rows()}
                assert tiers == ({"a", "b"} if first == "answers" else {"a"})

    asyncio.run(main())


def by_the_call(lab):
    rates = {"input_usd_per_mtok": Decimal(0), "output_usd_per_mtok": Decimal(0)}
    return dataclasses.replace(lab.PRICE, usd_per_request=Decimal("0.0003"), **rates)


def test_a_cap_of_dollars_is_reached_where_charges_add_up_to_it_exactly(lab, start):
    """Five times 0.0003 is 0.0015, and less than that in binary fractions."""
    usage = {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60}
    said = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "perhaps"}, "finish_reason": "stop"}]}
    options = {"samples": 9, "labels": ("yes", "no")}
    capped = Strategy(kind="vote", tiers=("a",), options=options, max_usd=Decimal("0.0015"))

    async def main():
        async with lab.Scripted(lab.whole(json.dumps({**said, "usage": usage}).encode())) as upstream:
            async with start(
                plan_with(lab, capped, lab.tier("a", upstream.base_url, price=by_the_call(lab)))
            ) as running:
                answer = await running.ask(body={**lab.chat(max_tokens=20), "model": "judged"})
                assert answer.headers["x-ownward-reason"].endswith("; vote: stopped at max_usd = 0.0015 in 5 calls")
                assert [row["charge_usd"] for row in await running.rows()] == ["0.000300"] * 5

    asyncio.run(main())


CALL = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = {"message": {"role": "assistant", "content": None, "tool_calls": [CALL]}, "finish_reason": "tool_calls"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("strategy", [VOTE, CASCADE], ids=["vote", "cascade"])
def test_a_call_of_a_tool_which_no_judge_reads_reaches_the_client(lab, start, strategy, stream):
    said = lab.whole(json.dumps({"id": "c", "choices": [{"index": 0, **CALLED}]}).encode())

    async def main():
        async with lab.Scripted(said) as upstream:
            tiers = (lab.tier("a", upstream.base_url), lab.tier("b", upstream.base_url))
            async with start(plan_with(lab, strategy, *tiers)) as running:
                answer = await running.ask(body={**lab.chat(stream=stream), "model": "judged"})
                assert answer.status == 200
                if stream:
                    events = [json.loads(line[6:]) for line in answer.body.splitlines() if line.startswith(b"data: {")]
                    assert events[0]["choices"][0]["delta"]["tool_calls"] == [{**CALL, "index": 0}]
                    assert answer.body.endswith(b"data: [DONE]\n\n")
                else:
                    assert answer.json["choices"][0]["message"]["tool_calls"] == [CALL]

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 429, 500])
def test_what_every_call_of_a_strategy_is_refused_with_is_passed_on_as_it_is(lab, start, status, stream):
    refusal = {"error": {"message": "of the upstream", "type": "invalid_request_error", "code": "its_own"}}
    refused = lab.whole(json.dumps(refusal).encode(), status=status)

    async def main():
        async with lab.Scripted(refused) as upstream:
            tiers = (lab.tier("a", upstream.base_url), lab.tier("b", upstream.base_url))
            async with start(plan_with(lab, CASCADE, *tiers)) as running:
                answer = await running.ask(body={**lab.chat(stream=stream), "model": "judged"})
                assert (answer.status, answer.json) == (status, refusal)
                assert answer.headers["x-ownward-tier"] == "b"

    asyncio.run(main())


def test_a_strategy_without_a_judge_is_refused_when_the_plan_is_loaded():
    class Stated:
        kind, tiers, options, judge_options = "vote", ("a",), {"samples": 3}, {}
        max_calls, max_output_tokens, max_usd, max_seconds = 3, None, None, None

    with pytest.raises(ConfigError, match="needs an extractor or a verifier"):
        compile_strategy(Stated(), of="judged")


@pytest.mark.parametrize("stream", [False, True])
def test_halves_of_characters_in_request_and_answer_do_not_stop_a_strategy(lab, start, stream):
    """Both are legal JSON, and a strategy puts its calls together anew."""
    revise = Strategy(kind="revise", tiers=("a",), options={"revisions": 1, "labels": ("yes", "no")})
    said = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "\ud83d"}, "finish_reason": "stop"}]}

    async def main():
        async with lab.Scripted(lab.whole(json.dumps(said).encode())) as upstream:
            async with start(plan_with(lab, revise, lab.tier("a", upstream.base_url))) as running:
                asked = {"model": "judged", "messages": [{"role": "user", "content": "\ude00"}], "stream": stream}
                answer = await running.ask(body=json.dumps(asked).encode())
                assert answer.status == 200
                assert rb"\ud83d" in answer.body
                first, second = (json.loads(body) for _, _, body in upstream.heard)
                assert first["messages"] == asked["messages"]
                assert second["messages"][:2] == [*asked["messages"], {"role": "assistant", "content": "\ufffd"}]

    asyncio.run(main())


@pytest.mark.parametrize("name", [rb"\ud800", b"\xff"])
def test_a_member_whose_name_cannot_be_read_is_refused_where_a_strategy_writes_it_anew(lab, start, name):
    async def main():
        async with FakeServer() as fake:
            async with start(plan_with(lab, VOTE, lab.tier("a", fake.base_url))) as running:
                answer = await running.ask(body=b'{"model": "judged", "messages": [], "%b": 1}' % name)
                assert (answer.status, answer.json["error"]["code"]) == (400, "malformed_request")
                assert fake.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


@pytest.mark.parametrize("messages", [None, {}, "x", 5])
def test_messages_that_are_no_list_and_that_an_upstream_takes_are_no_fault_where_an_answer_is_revised(
    lab, start, messages
):
    revise = Strategy(kind="revise", tiers=("a",), options={"revisions": 1, "labels": ("yes", "no")})

    async def main():
        said = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "so"}, "finish_reason": "stop"}]}
        async with lab.Scripted(lab.whole(json.dumps(said).encode())) as upstream:
            async with start(plan_with(lab, revise, lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body={"model": "judged", "messages": messages})
                assert (answer.status, len(upstream.heard)) == (200, 2)
                assert [one["role"] for one in json.loads(upstream.heard[1][2])["messages"]] == ["assistant", "user"]

    asyncio.run(main())


def test_an_answer_in_parts_of_text_is_read_by_a_judge(lab, start):
    """Mistral's reasoning models answer so: what they thought, then what they say."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "no, no"}]},
        {"type": "text", "text": "It is "},
        {"type": "text", "text": "yes"},
    ]
    said = {"choices": [{"index": 0, "message": {"role": "assistant", "content": parts}, "finish_reason": "stop"}]}

    async def main():
        async with lab.Scripted(lab.whole(json.dumps(said).encode())) as upstream:
            async with start(plan_with(lab, VOTE, lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body={**lab.chat(), "model": "judged"})
                assert answer.json["choices"][0]["message"]["content"] == parts
                assert "; vote: 3 of 3 votes" in answer.headers["x-ownward-reason"]

    asyncio.run(main())
