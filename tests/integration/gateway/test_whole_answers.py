"""Answers that are whole are written at once, past ASGI's `send`: what HTTP asks of it holds all the same."""

import asyncio
import json

import pytest

from ownward.engines import Cut, Failure, FakeOptions, FakeServer
from ownward.gateway.calling.ledger_entry import LedgerEntry


def test_requests_that_arrive_together_are_answered_in_their_order(lab, start):
    async def script(body, reader, writer):
        asked = json.loads(body)["messages"][0]["content"]
        await lab.whole(json.dumps({"choices": [{"message": {"content": asked}}], "usage": USAGE}).encode())(
            body, reader, writer
        )

    async def main():
        async with (
            lab.Scripted(script) as upstream,
            start(lab.plan_of(lab.tier("a", upstream.base_url))) as running,
            lab.Client(running.base_url) as client,
        ):
            for text in ("one", "two", "three"):
                await client.send(lab.CHAT, lab.chat(messages=[{"role": "user", "content": text}]))
            said = [(await client.rest(await client.head())).json for _ in range(3)]
            assert [answer["choices"][0]["message"]["content"] for answer in said] == ["one", "two", "three"]
            again = await client.ask(lab.CHAT, lab.chat(messages=[{"role": "user", "content": "four"}]))
            assert again.json["choices"][0]["message"]["content"] == "four"

    asyncio.run(main())


def test_a_connection_that_shall_close_is_closed(lab, start):
    async def main():
        async with (
            lab.Scripted(lab.whole(json.dumps({"choices": [{}], "usage": USAGE}).encode())) as upstream,
            start(lab.plan_of(lab.tier("a", upstream.base_url))) as running,
            lab.Client(running.base_url) as client,
        ):
            answer = await client.ask(lab.CHAT, lab.chat(), headers={"connection": "close"})
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert await client.reader.read() == b""

    asyncio.run(main())


@pytest.mark.parametrize(("failures", "was_answered"), [((), True), ((Failure.parse("500"),), False)])
def test_one_call_is_settled_out_of_the_clients_way_and_several_before_their_sum_is_told(
    lab, start, monkeypatch, failures, was_answered
):
    seen = []
    settle = LedgerEntry.settle_by_answer

    def settle_and_note(entry, status):
        seen.append(entry._exchange.has_begun)
        settle(entry, status)

    monkeypatch.setattr(LedgerEntry, "settle_by_answer", settle_and_note)

    async def main():
        async with FakeServer(FakeOptions(failures=failures)) as first, FakeServer(FakeOptions()) as second:
            plan = lab.plan_of(lab.tier("a", first.base_url), lab.tier("b", second.base_url))
            async with start(plan) as running:
                answer = await running.ask(body=lab.chat())
                assert answer.status == 200
                assert ("x-ownward-total-input-tokens" in answer.headers) is (not was_answered)
                assert seen == [was_answered]
                assert [row["state"] for row in await running.rows()].count("settled") == 1

    asyncio.run(main())


def test_no_total_is_told_where_a_call_before_the_answer_is_unsettled(lab, start):
    """What it used nobody knows: the tokens of the other one are not what both used together."""

    async def main():
        cut = FakeOptions(cuts=(Cut.parse("0"),))
        async with FakeServer(cut) as first, FakeServer(FakeOptions()) as second:
            plan = lab.plan_of(lab.tier("a", first.base_url), lab.tier("b", second.base_url))
            async with start(plan) as running:
                answer = await running.ask(body=lab.chat())
                assert (answer.status, answer.headers["x-ownward-attempts"]) == (200, "2")
                assert [row["state"] for row in await running.rows()] == ["unsettled", "settled"]
                assert not [name for name in answer.headers if name.startswith("x-ownward-total-")]

    asyncio.run(main())


USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
