"""A request that fails or is refused leaves nothing that only the garbage collector would free: it may be megabytes."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import pytest
import uvloop

from leftovers import none_alive, resting_collector
from ownward import ledger
from ownward.core import LedgerError
from ownward.gateway import GatewaySettings
from ownward.gateway.calling.attempt import Attempt
from ownward.gateway.calling.failover import Failover
from ownward.gateway.calling.race import Race
from ownward.gateway.calling.refused_call import RefusedCall
from ownward.gateway.calling.relaying import Relay
from ownward.gateway.exchange import Exchange
from ownward.gateway.listening.call import Call
from ownward.plan import Budget, Hedge, Match, Strategy, Upstream, Workload
from ownward.policy import ANY
from ownward.upstreams import Response, StreamTap, WholeAnswer
from ownward.upstreams._connection import Connection

OF_A_REQUEST = (Exchange, Failover, Attempt, Race, Relay, RefusedCall, Response, StreamTap, WholeAnswer, Call)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n"
STREAM = HEAD % b"text/event-stream"
BEGUN = b'data: {"id": "x", "choices": [{"index": 0, "delta": {"content": "hello"}, "finish_reason": null}]}\n\n'
WHOLE = {
    "id": "x",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2},
}


def says(data, *, then_waits=False):
    async def script(_body, reader, writer):
        writer.write(data)
        await writer.drain()
        if then_waits:
            await reader.read(1)
        writer.close()

    return script


def sized(body, *, status=b"200 OK", content_type=b"application/json", missing=0):
    """Return an answer that says how long it is, of which so many bytes are missing."""
    head = b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    return says(head % (status, content_type, len(body) + missing) + body)


FAILURES = {
    "no answer": says(b""),
    "no http": says(b"SSH-2.0\r\n"),
    "500": sized(b'{"error": {"message": "no"}}', status=b"500 No"),
    "429": sized(b'{"error": {"message": "no"}}', status=b"429 No"),
    "400": sized(b'{"error": {"message": "no"}}', status=b"400 No"),
    "no json": sized(b"x" * 1000),
    "an error with status 200": sized(b'{"error": {"message": "no"}}'),
    "cut": sized(json.dumps(WHOLE).encode(), missing=9),
    "silence": says(b"", then_waits=True),
    "half an answer, then silence": says(HEAD % b"application/json" + b"content-length: 99\r\n\r\n{", then_waits=True),
    "a cut stream": says(STREAM + b"\r\n" + BEGUN),
    "a stream cut in its first event": says(STREAM + b"\r\n" + BEGUN[:20]),
    "a stream that stalls": says(STREAM + b"\r\n" + BEGUN, then_waits=True),
    "a stream of garbage": says(STREAM + b"\r\n" + b"data: {nope\n\n"),
    "a stream that turns into garbage": says(STREAM + b"\r\n" + BEGUN + b"data: {nope\n\n"),
    "an error in a stream": says(STREAM + b"\r\n" + BEGUN + b'data: {"error": {"message": "no"}}\n\n'),
    "a stream in a coding nobody reads": says(STREAM + b"content-encoding: br\r\n\r\n" + BEGUN),
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("has_another", [False, True], ids=["alone", "with another"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_call_leaves_nothing_to_the_garbage_collector(lab, start, failure, has_another, path):
    async def main():
        fine = sized(json.dumps(WHOLE).encode())
        async with lab.Scripted(FAILURES[failure]) as bad, lab.Scripted(fine) as good:
            upstream = lab.Upstream(name="a-1", url=bad.base_url, first_byte_timeout_s=0.05, stall_timeout_s=0.05)
            tiers = [lab.tier("a", "", upstreams=(upstream,)), lab.tier("b", good.base_url)]
            async with start(lab.plan_of(*tiers[: 1 + has_another])) as running:
                await running.ask(path, body=lab.chat(max_tokens=5))
                with resting_collector():
                    for stream in (False, True):
                        await running.ask(path, body=lab.chat(stream=stream, max_tokens=5))
                    await none_alive(*OF_A_REQUEST)

    asyncio.run(main())


@pytest.mark.parametrize("failure", ["500", "half an answer, then silence", "a stream that stalls", "silence"])
def test_nor_does_one_that_may_get_a_second_one_beside_it(lab, start, failure):
    async def main():
        fine = sized(json.dumps(WHOLE).encode())
        async with lab.Scripted(FAILURES[failure]) as bad, lab.Scripted(fine) as good:
            upstream = lab.Upstream(name="a-1", url=bad.base_url, first_byte_timeout_s=0.05, stall_timeout_s=0.05)
            hedge = Hedge(after_s=0.01, max_fraction=0.9, to=("b",))
            tiers = [lab.tier("a", "", upstreams=(upstream,), hedge=hedge), lab.tier("b", good.base_url)]
            async with start(lab.plan_of(*tiers)) as running:
                await running.ask(body=lab.chat())
                with resting_collector():
                    for stream in (False, True) * 2:
                        await running.ask(body=lab.chat(stream=stream))
                    await none_alive(*OF_A_REQUEST)

    asyncio.run(main())


@pytest.mark.parametrize("failure", ["500", None])
def test_nor_does_a_long_request_that_is_translated_in_steps(lab, start, failure):
    async def main():
        fine = sized(json.dumps(WHOLE).encode())
        async with lab.Scripted(fine if failure is None else FAILURES[failure]) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                long = {**lab.chat(max_tokens=5), "messages": [{"role": "user", "content": "a word " * 10_000}]}
                await running.ask("/v1/messages", body=long)
                with resting_collector():
                    await running.ask("/v1/messages", body=long)
                    await none_alive(*OF_A_REQUEST)

    asyncio.run(main())


@pytest.mark.parametrize("failure", ["500", "no json", "cut"])
def test_nor_do_the_calls_of_a_strategy(lab, start, failure):
    async def main():
        async with lab.Scripted(FAILURES[failure]) as bad:
            plan = lab.plan_of(lab.tier("a", bad.base_url))
            vote = Strategy(kind="vote", tiers=("a",), options={"samples": 2, "labels": ("yes", "no")})
            plan = replace(plan, workloads={"chat": replace(plan.workloads["chat"], strategy=vote)})
            async with start(plan) as running:
                await running.ask(body=lab.chat())
                with resting_collector():
                    await running.ask(body=lab.chat())
                    await none_alive(*OF_A_REQUEST)

    asyncio.run(main())


@pytest.mark.parametrize("begun", [b"", STREAM + b"\r\n" + BEGUN], ids=["before the head", "in the stream"])
@pytest.mark.parametrize("clients", [1, 3], ids=["one", "two of them in the queue"])
def test_nor_does_a_client_that_leaves(lab, start, begun, clients):
    async def main():
        async with lab.Scripted(says(begun, then_waits=True)) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url, max_concurrency=1))) as running:

                async def leave():
                    async with lab.Client(running.base_url) as client:
                        await client.send(lab.CHAT, lab.chat(stream=True))
                        await asyncio.sleep(0.1)

                await leave()
                with resting_collector():
                    await asyncio.gather(*(leave() for _ in range(clients)))
                    await none_alive(*OF_A_REQUEST)

    asyncio.run(main())


def budgeted(**more):
    return Workload(
        name="chat", match=Match(models=("chat",)), label=ANY, strategy=Strategy(kind="direct", tiers=("a",)), **more
    )


BUDGETS = {
    "of its workload": budgeted(budget=Budget(max_usd=Decimal("0.000001"), period="day")),
    "of its workload, but for owned tiers": budgeted(
        budget=Budget(max_usd=Decimal("0.000001"), period="day", when_spent="owned_only"), fallback=("b",)
    ),
    "of its task": budgeted(task_budget_usd=Decimal("0.000001")),
}


@pytest.mark.parametrize("budget", BUDGETS)
def test_nor_does_one_that_no_budget_admits(lab, start, budget):
    async def main():
        async with lab.Scripted(sized(json.dumps(WHOLE).encode())) as upstream:
            tiers = [lab.tier("a", upstream.base_url), lab.tier("b", upstream.base_url, kind="owned")]
            status = 200 if "owned" in budget else 429
            async with start(lab.plan_of(*tiers, workloads=(BUDGETS[budget],))) as running:
                assert (await running.ask(body=lab.chat(max_tokens=5))).status == status
                with resting_collector():
                    await running.ask(body=lab.chat(max_tokens=5))
                    await none_alive(*OF_A_REQUEST)

    asyncio.run(main())


def test_nor_does_one_that_its_keys_limit_does_not_admit(lab, start, tmp_path):
    async def main():
        opened = ledger.open(tmp_path / "ledger.db")
        headers = {"authorization": f"Bearer {opened.create_key('k', {'requests_per_minute': 1})}"}
        settings = GatewaySettings(port=0, requires_keys=True, drain_s=2)
        async with lab.Scripted(sized(json.dumps(WHOLE).encode())) as upstream:
            plan = lab.plan_of(lab.tier("a", upstream.base_url))
            async with start(plan, ledger=opened, settings=settings) as running:
                await running.ask(body=lab.chat(), headers=headers)
                assert (await running.ask(body=lab.chat(), headers=headers)).status == 429
                with resting_collector():
                    await running.ask(body=lab.chat(), headers=headers)
                    await none_alive(*OF_A_REQUEST)

    asyncio.run(main())


@pytest.mark.parametrize("has_another", [False, True], ids=["alone", "with another"])
def test_nor_does_one_that_cannot_be_told_in_another_dialect(lab, start, has_another):
    from ownward.upstreams.translation import Untranslatable

    async def main():
        async with lab.Scripted(sized(json.dumps(WHOLE).encode())) as good:
            other = Upstream(name="a-1", url=good.base_url, dialect="anthropic")
            tiers = [lab.tier("a", "", upstreams=(other,)), lab.tier("b", good.base_url)]
            async with start(lab.plan_of(*tiers[: 1 + has_another])) as running:
                untold = lab.chat(max_tokens=5, logit_bias={"1": 5})
                assert (await running.ask(body=untold)).status == (200 if has_another else 400)
                with resting_collector():
                    await running.ask(body=untold)
                    await none_alive(Untranslatable, *OF_A_REQUEST)

    asyncio.run(main())


@pytest.mark.parametrize("has_another", [False, True], ids=["alone", "with another"])
def test_nor_does_one_that_waits_in_vain_for_a_place(lab, start, has_another):
    async def main():
        never, fine = says(b"", then_waits=True), sized(json.dumps(WHOLE).encode())
        async with lab.Scripted(never) as full, lab.Scripted(fine) as good:
            tiers = [lab.tier("a", full.base_url, max_concurrency=1), lab.tier("b", good.base_url)]
            settings = GatewaySettings(port=0, queue_timeout_s=0.05, drain_s=0.1)
            async with start(lab.plan_of(*tiers[: 1 + has_another]), settings=settings) as running:
                async with lab.Client(running.base_url) as client:
                    await client.send(lab.CHAT, lab.chat())  # which keeps the place
                    await asyncio.sleep(0.05)
                    await running.ask(body=lab.chat())
                    with resting_collector():
                        assert (await running.ask(body=lab.chat())).status == (200 if has_another else 503)
                        await none_alive(TimeoutError, *OF_A_REQUEST)

    asyncio.run(main())


def test_nor_does_a_connection_that_does_not_come_about(lab, start, free_tcp_port):
    async def main():
        dead = lab.tier("a", f"http://127.0.0.1:{free_tcp_port}")
        async with start(lab.plan_of(dead)) as running:
            await running.ask(body=lab.chat())
            with resting_collector():
                await running.ask(body=lab.chat())
                await none_alive(Connection)

    uvloop.run(main())  # which makes a connection before it knows whether there is one


def test_nor_does_what_the_ledger_refuses_another_thread(tmp_path):
    async def main():
        with ledger.open(tmp_path / "ledger.db") as opened:

            def refuse(_connection):
                raise LedgerError("no")

            with resting_collector():
                for _ in range(5):
                    with suppress(LedgerError):
                        await asyncio.to_thread(opened._run, refuse)
                await none_alive(LedgerError, but=1)  # the writer's last

    asyncio.run(main())
