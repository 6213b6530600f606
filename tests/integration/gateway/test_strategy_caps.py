"""The caps of a strategy hold before a call is sent and while it runs: none is passed, whatever runs side by side."""
# ruff: noqa: ASYNC110, SIM117 - a gateway stands inside its upstreams, and what happens in them is polled

import asyncio
import dataclasses
import json
import time
from decimal import Decimal

import pytest

from ownward.engines import FakeOptions, FakeServer
from ownward.gateway import GatewaySettings
from ownward.plan import Match, Strategy, Workload
from ownward.policy import ANY

LABELS = {"labels": ("yes", "no")}


def plan_with(lab, strategy, *tiers, fallback=()):
    judged = Workload(name="judged", match=Match(models=("judged",)), strategy=strategy, fallback=fallback, label=ANY)
    return lab.plan_of(*tiers, workloads=(judged,))


def by_the_call(lab, usd="0.0003"):
    rates = {"input_usd_per_mtok": Decimal(0), "output_usd_per_mtok": Decimal(0)}
    return dataclasses.replace(lab.PRICE, usd_per_request=Decimal(usd), **rates)


def asked(lab, **more):
    return {**lab.chat(**more), "model": "judged"}


def accepted(fake):
    return fake.record.count(with_calls=False)["accepted"]


def bodies(fake):
    return [json.loads(request["body"]) for request in fake.record.requests()["requests"]]


def test_samples_that_run_side_by_side_do_not_pass_a_cap_of_dollars_together(lab, start):
    best = Strategy(kind="best_of", tiers=("a",), options={"samples": 5, **LABELS}, max_usd=Decimal("0.001"))

    async def main():
        async with FakeServer(FakeOptions(reply="yes", ttft_s=0.1)) as fake:
            async with start(plan_with(lab, best, lab.tier("a", fake.base_url, price=by_the_call(lab)))) as running:
                answer = await running.ask(body=asked(lab, max_tokens=5))
                assert answer.status == 200
                assert answer.headers["x-ownward-reason"].endswith(
                    "with less than was wanted by max_usd = 0.001 in 3 calls"
                )
                assert accepted(fake) == 3
                assert [row["charge_usd"] for row in await running.rows()] == ["0.000300"] * 3

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["direct", "vote"])
def test_a_first_call_that_may_pass_the_cap_is_refused_and_not_sent(lab, start, kind):
    options = {} if kind == "direct" else {"samples": 3, **LABELS}
    capped = Strategy(kind=kind, tiers=("a",), options=options, max_usd=Decimal("0.0001"))

    async def main():
        async with FakeServer(FakeOptions(reply="yes")) as fake:
            async with start(plan_with(lab, capped, lab.tier("a", fake.base_url))) as running:
                answer = await running.ask(body=asked(lab, max_tokens=50))
                assert (answer.status, answer.json["error"]["ownward_kind"]) == (429, "over_budget")
                assert "the strategy of workload 'judged' has max_usd = 0.0001" in answer.json["error"]["message"]
                unknown = await running.ask(body=asked(lab))
                assert (unknown.status, unknown.json["error"]["ownward_kind"]) == (403, "unbounded_charge")
                assert accepted(fake) == 0
                assert [row["state"] for row in await running.rows()] == ["refused"] * 2

    asyncio.run(main())


def test_a_dearer_tier_that_does_not_fit_is_not_asked_and_the_answer_so_far_stands(lab, start):
    cascade = Strategy(kind="cascade", tiers=("a", "b"), options=LABELS, max_usd=Decimal("0.001"))

    async def main():
        async with FakeServer(FakeOptions(reply="perhaps")) as cheap, FakeServer(FakeOptions(reply="no")) as dear:
            tiers = (
                lab.tier("a", cheap.base_url, price=by_the_call(lab)),
                lab.tier("b", dear.base_url, price=by_the_call(lab, "0.0008")),
            )
            async with start(plan_with(lab, cascade, *tiers)) as running:
                answer = await running.ask(body=asked(lab, max_tokens=5))
                assert answer.json["choices"][0]["message"]["content"] == "perhaps"
                assert "less than was wanted by max_usd" in answer.headers["x-ownward-reason"] or (
                    "stopped at max_usd" in answer.headers["x-ownward-reason"]
                )
                assert accepted(dear) == 0

    asyncio.run(main())


def test_the_fallback_is_held_to_the_dollars_that_are_left(lab, start):
    capped = Strategy(kind="vote", tiers=("a",), options={"samples": 2, **LABELS}, max_usd=Decimal("0.0007"))

    async def main():
        async with FakeServer(FakeOptions(reply="perhaps")) as fake, FakeServer() as other:
            tiers = (
                lab.tier("a", fake.base_url, price=by_the_call(lab)),
                lab.tier("b", other.base_url, price=by_the_call(lab)),
            )
            async with start(plan_with(lab, capped, *tiers, fallback=("b",))) as running:
                answer = await running.ask(body=asked(lab, max_tokens=5))
                assert (answer.status, accepted(fake), accepted(other)) == (429, 2, 0)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("stated", "sent"),
    [({}, 60), ({"max_tokens": 500}, 60), ({"max_tokens": 40}, 40), ({"max_completion_tokens": 70}, 60)],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"])
def test_what_a_direct_answer_may_have_is_no_more_than_the_cap(lab, start, path, stated, sent):
    capped = Strategy(kind="direct", tiers=("a",), max_output_tokens=60)
    name = next(iter(stated), "max_tokens")
    if path.endswith("responses"):
        stated, name = dict.fromkeys(("max_output_tokens" for _ in stated), *stated.values()), "max_output_tokens"
    elif name == "max_completion_tokens" and not path.endswith("chat/completions"):
        return
    body = {"prompt": "x"} if path == "/v1/completions" else {"input": "x"} if path.endswith("responses") else {
        "messages": [{"role": "user", "content": "x"}]
    }  # fmt: skip
    engine = {"kind": "owned", "engine": "vllm"}

    async def main():
        async with FakeServer(FakeOptions(reply="yes")) as fake:
            async with start(plan_with(lab, capped, lab.tier("a", fake.base_url, **engine))) as running:
                answer = await running.ask(path, {"model": "judged", **body, **stated})
                assert answer.status == 200
                assert bodies(fake)[0][name] == sent

    asyncio.run(main())


def test_samples_share_the_tokens_that_are_left_and_none_is_asked_for_fewer_than_answers_take(lab, start):
    vote = Strategy(kind="vote", tiers=("a",), options={"samples": 9, **LABELS}, max_output_tokens=20)

    async def main():
        async with FakeServer(FakeOptions(reply="I say perhaps not so")) as fake:
            async with start(plan_with(lab, vote, lab.tier("a", fake.base_url))) as running:
                answer = await running.ask(body=asked(lab))
                limits = [body["max_tokens"] for body in bodies(fake)]
                made = sum(row["output_tokens"] for row in await running.rows())
                assert limits[:2] == [10, 10]
                assert made <= 20
                assert made // len(limits) > 20 - made, "another answer would have been cut off"
                assert "max_output_tokens = 20" in answer.headers["x-ownward-reason"]

    asyncio.run(main())


def test_a_round_has_as_many_samples_as_what_the_client_asks_for_leaves(lab, start):
    best = Strategy(kind="best_of", tiers=("a",), options={"samples": 5, **LABELS}, max_output_tokens=100)

    async def main():
        async with FakeServer(FakeOptions(reply="yes")) as fake:
            async with start(plan_with(lab, best, lab.tier("a", fake.base_url))) as running:
                await running.ask(body=asked(lab, max_tokens=30))
                assert [body["max_tokens"] for body in bodies(fake)] == [30, 30, 30]

    asyncio.run(main())


def test_a_round_is_cut_at_the_cap_of_seconds_and_what_has_answered_is_chosen_from(lab, start):
    best = Strategy(kind="best_of", tiers=("a",), options={"samples": 3, **LABELS}, max_seconds=0.4)
    said = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}]}
    answered = lab.whole(json.dumps(said).encode())

    async def main():
        async def script(body, reader, writer):
            if len(upstream.heard) == 1:
                await answered(body, reader, writer)
            else:
                await asyncio.sleep(30)

        async with lab.Scripted(script) as upstream:
            async with start(plan_with(lab, best, lab.tier("a", upstream.base_url))) as running:
                began_s = time.monotonic()
                answer = await running.ask(body=asked(lab, max_tokens=5))
                assert time.monotonic() - began_s < 1
                assert (answer.status, answer.json["choices"][0]["message"]["content"]) == (200, "yes")
                assert "with less than was wanted by max_seconds = 0.4" in answer.headers["x-ownward-reason"]
                assert [row["state"] for row in await running.rows()] == ["unsettled"] * 3, "none stated its usage"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("kind", "stream"), [("direct", False), ("vote", False), ("vote", True), ("cascade", False), ("cascade", True)]
)
def test_what_runs_at_the_cap_of_seconds_is_cancelled_and_stands_unsettled(lab, start, kind, stream):
    options = {"direct": {}, "vote": {"samples": 3, **LABELS}, "cascade": LABELS}[kind]
    tiers = ("a", "b") if kind == "cascade" else ("a",)
    capped = Strategy(kind=kind, tiers=tiers, options=options, max_seconds=0.3)

    async def main():
        async with FakeServer(FakeOptions(ttft_s=30)) as fake, FakeServer() as other:
            plan = plan_with(
                lab,
                capped,
                lab.tier("a", fake.base_url),
                lab.tier("b", fake.base_url),
                lab.tier("c", other.base_url),
                fallback=("c",),
            )
            async with start(plan) as running:
                began_s = time.monotonic()
                answer = await running.ask(body=asked(lab, stream=stream))
                assert time.monotonic() - began_s < 1
                assert (answer.status, answer.json["error"]["ownward_kind"]) == (504, "upstream_timeout")
                assert "max_seconds = 0.3" in answer.json["error"]["message"]
                async with asyncio.timeout(0.1):
                    while fake.record.serving:
                        await asyncio.sleep(0.005)
                rows = await running.rows()
                assert {row["state"] for row in rows} == {"unsettled"}
                notes = [row.error for row in running.ledger.query_requests()]
                assert all("cut at max_seconds = 0.3" in note for note in notes)
                assert accepted(other) == 0

    asyncio.run(main())


def test_a_stream_that_runs_at_the_cap_of_seconds_ends_with_an_error(lab, start):
    capped = Strategy(kind="direct", tiers=("a",), max_seconds=0.4)

    async def main():
        async with FakeServer(FakeOptions(reply="word " * 200, tpot_s=0.05)) as fake:
            async with start(plan_with(lab, capped, lab.tier("a", fake.base_url))) as running:
                answer = await running.ask(body=asked(lab, stream=True))
                assert answer.status == 200
                assert b"max_seconds = 0.4" in answer.body
                assert b"[DONE]" not in answer.body
                (row,) = await running.rows()
                assert row["state"] == "unsettled"

    asyncio.run(main())


def test_a_cap_that_nothing_meets_leaves_a_request_as_it_is(lab, start):
    caps = {"max_usd": Decimal(1), "max_seconds": 30, "max_output_tokens": 1000}
    capped = Strategy(kind="direct", tiers=("a",), **caps)

    async def main():
        async with FakeServer(FakeOptions(reply="yes")) as fake:
            async with start(plan_with(lab, capped, lab.tier("a", fake.base_url, model="judged"))) as running:
                body = json.dumps(asked(lab, max_tokens=5)).encode()
                assert (await running.ask(body=body)).status == 200
                assert json.loads(body) == bodies(fake)[0]

    asyncio.run(main())


def test_no_round_is_begun_behind_the_deadline_of_the_request(lab, start):
    """Calls begun then had a thousandth of a second for their first byte, and counted against the upstream."""
    revise = Strategy(kind="revise", tiers=("a",), options={"revisions": 5, **LABELS})

    async def main():
        async with FakeServer(FakeOptions(reply="perhaps", ttft_s=0.25)) as fake:
            plan = plan_with(lab, revise, lab.tier("a", fake.base_url))
            async with start(plan, settings=GatewaySettings(port=0, deadline_s=0.4)) as running:
                answer = await running.ask(body=asked(lab))
                assert (answer.status, answer.json["choices"][0]["message"]["content"]) == (200, "perhaps")
                assert "stopped at deadline_s = 0.4" in answer.headers["x-ownward-reason"]
                assert [row["state"] for row in await running.rows()] == ["settled", "unsettled"]

    asyncio.run(main())
