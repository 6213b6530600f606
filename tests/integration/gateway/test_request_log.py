"""One line a request, with what it cost and why it went there, and never with what it said."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import json
import logging

import pytest

from ownward.cli._logs import JsonLines
from ownward.engines import FakeOptions, FakeServer
from ownward.gateway import GatewaySettings, RequestLog
from ownward.plan import Match, Strategy, Workload
from ownward.policy import ANY

CANARY = "canary-8231"


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="ownward.requests")

    def read():
        form = JsonLines()
        return [json.loads(form.format(record)) for record in caplog.records if record.name == "ownward.requests"]

    return read


def test_a_request_has_a_line_with_its_tokens_charge_and_reason(lab, start, lines):
    async def main():
        async with FakeServer(FakeOptions(tpot_s=0.001)) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), watchers=(RequestLog(),)) as running:
                answer = await running.ask(body=lab.chat(stream=True), headers={"x-ownward-task": "task-1"})
                request_id = answer.headers["x-ownward-request-id"]
                reason = answer.headers["x-ownward-reason"]
        (line,) = lines()
        assert (line["request_id"], line["task_id"], line["reason"]) == (request_id, "task-1", reason)
        assert (line["workload"], line["tier"], line["upstream"]) == ("chat", "a", "a-1")
        assert (line["outcome"], line["status"], line["attempts"], line["error"]) == ("answered", 200, 1, None)
        assert (line["output_tokens"], line["charge_usd"]) == (16, "0.000261")
        assert 0 < line["ttft_s"] < line["latency_s"]
        assert line["tpot_s"] > 0
        assert f"{request_id} chat a 200 answered in" in line["message"]

    asyncio.run(main())


def test_a_sum_without_the_charge_of_one_call_is_not_told_as_the_charge(lab, start, lines):
    cascade = Strategy(kind="cascade", tiers=("a", "b"), options={"labels": ("yes", "no")})
    judged = Workload(name="judged", match=Match(models=("judged",)), strategy=cascade, label=ANY)

    async def main():
        async with FakeServer(FakeOptions(reply="perhaps")) as cheap, FakeServer(FakeOptions(reply="no")) as strong:
            tiers = lab.tier("a", cheap.base_url), lab.tier("b", strong.base_url, price=None)
            async with start(lab.plan_of(*tiers, workloads=(judged,)), watchers=(RequestLog(),)) as running:
                assert (await running.ask(body={**lab.chat(), "model": "judged"})).status == 200
                assert [row["charge_usd"] is None for row in await running.rows()] == [False, True]
        (line,) = lines()
        assert (line["attempts"], line["output_tokens"], line["charge_usd"]) == (2, 2, None)

    asyncio.run(main())


def test_what_an_upstream_failed_at_is_a_warning_without_tokens(lab, start, lines, caplog):
    async def main():
        async with lab.Scripted(lab.whole(b"{}", status=500)) as bad:
            async with start(lab.plan_of(lab.tier("a", bad.base_url)), watchers=(RequestLog(),)) as running:
                await running.ask(body=lab.chat())
        (line,) = lines()
        assert (line["outcome"], line["error"], line["status"]) == ("upstream_error", None, 500)
        assert (line["input_tokens"], line["charge_usd"]) == (None, None)
        assert line["level"] == "warning"

    asyncio.run(main())


def test_no_line_holds_a_body_a_header_or_a_key(lab, start, caplog):
    caplog.set_level(logging.DEBUG)

    async def main():
        says = json.dumps({"error": {"message": CANARY}}).encode()
        async with lab.Scripted(lab.whole(says, status=500)) as bad, FakeServer() as fake:
            plan = lab.plan_of(lab.tier("a", bad.base_url), lab.tier("b", fake.base_url))
            settings = GatewaySettings(port=0, requires_keys=True)
            async with start(plan, settings=settings, watchers=(RequestLog(),)) as running:
                secret = running.ledger.create_key("team")
                body = lab.chat(messages=[{"role": "user", "content": CANARY}], metadata={"x": CANARY}, stop=[CANARY])
                for more in ({}, {"authorization": f"Bearer {secret}"}, {"authorization": f"Bearer {CANARY}"}):
                    headers = {"cookie": CANARY, "user-agent": CANARY, **more}
                    await running.ask(body=body, headers=headers)
                    await running.ask(body=b'{"model": "' + CANARY.encode() * 10, headers=headers)
                    await running.ask(body={**body, "model": CANARY}, headers=headers)
                assert secret not in everything()
        assert CANARY not in everything()

    def everything():
        form = JsonLines()
        return "\n".join(form.format(record) for record in caplog.records)

    asyncio.run(main())
    assert '"ownward.requests"' in everything()
