"""What somebody sees who is called at night: the log, /readyz and /metrics while upstreams or the ledger fail."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import json
import logging
import sqlite3
from decimal import Decimal

import pytest

from ownward import ledger
from ownward.core import LedgerError
from ownward.engines import FakeServer
from ownward.gateway import GatewaySettings
from ownward.plan import Budget, Upstream

WORDS = b'{"error": {"message": "the words of the upstream"}}'


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.WARNING, logger="ownward.upstreams")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "ownward.upstreams"]


def test_an_upstream_that_fails_beside_one_that_serves_is_named_with_the_cause_and_again_when_it_is_back(
    lab, start, said
):
    settings = GatewaySettings(port=0, breaker_failures=3, breaker_wait_s=0.05, drain_s=1)
    status = 500

    async def answer(body, reader, writer):
        await (lab.whole(WORDS, status=500) if status == 500 else lab.whole(GOOD))(body, reader, writer)

    async def main():
        nonlocal status
        async with lab.Scripted(answer) as bad, FakeServer() as good:
            upstreams = (Upstream(name="bad", url=bad.base_url), Upstream(name="good", url=good.base_url))
            plan = lab.plan_of(lab.tier("a", "", upstreams=upstreams, balance="least_busy"))
            async with start(plan, settings=settings) as running:
                for _ in range(8):
                    assert (await running.ask(body=lab.chat())).status == 200
                metrics = (await running.ask("/metrics", method="GET")).body.decode()
                assert 'ownward_call_failures_total{tier="a",upstream="bad",kind="upstream_error"}' in metrics
                status = 200
                for _ in range(40):
                    await asyncio.sleep(0.05)
                    assert (await running.ask(body=lab.chat())).status == 200
                    if "again" in said()[-1]:
                        break
        lines = said()
        assert lines[0] == "upstream a/bad failed: upstream 'bad' answered 500"
        assert "upstream a/bad is left alone for" in lines[1]
        assert "after 3 failures in a row; the last: upstream 'bad' answered 500" in lines[1]
        assert lines[-1].startswith("upstream a/bad answers again, ")
        assert len(lines) == 3, "no more than one a minute, but for the first time and the return"
        assert "words of the upstream" not in "".join(lines)

    asyncio.run(main())


GOOD = (
    b'{"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"},'
    b' "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
)


def test_a_request_to_wait_is_said_once_a_minute(lab, start, said):
    async def main():
        async with lab.Scripted(lab.whole(WORDS, status=429, headers={"retry-after": "0"})) as busy:
            async with start(lab.plan_of(lab.tier("a", busy.base_url))) as running:
                for _ in range(5):
                    assert (await running.ask(body=lab.chat())).status == 429
        (line,) = said()
        assert line.startswith("upstream a/a-1 answered 429 and asks to wait")

    asyncio.run(main())


def test_a_ledger_that_cannot_be_written_is_told_by_readyz_metrics_and_log_until_it_can_be(
    lab, start, tmp_path, caplog
):
    caplog.set_level(logging.WARNING, logger="ownward.ledger")
    path = tmp_path / "locked.db"

    async def main():
        opened = ledger.open(path, busy_timeout_s=0.05)
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), ledger=opened) as running:
                assert (await running.ask(body=lab.chat())).status == 200
                other = sqlite3.connect(path, isolation_level=None)
                other.execute("BEGIN IMMEDIATE")
                for _ in range(3):
                    refused = await running.ask(body=lab.chat())
                    assert (refused.status, refused.headers["x-ownward-attempts"]) == (503, "0"), "nothing was sent"
                ready = await running.ask("/readyz", method="GET")
                assert (ready.status, ready.json["status"]) == (503, "not ready")
                assert ready.json["why"].startswith("the ledger cannot be written")
                assert b"ownward_ledger_failing 1" in (await running.ask("/metrics", method="GET")).body
                other.execute("ROLLBACK")
                other.close()
                assert (await running.ask(body=lab.chat())).status == 200
                assert (await running.ask("/readyz", method="GET")).status == 200
                assert b"ownward_ledger_failing 0" in (await running.ask("/metrics", method="GET")).body

    asyncio.run(main())
    lines = [record.getMessage() for record in caplog.records if record.name == "ownward.ledger"]
    assert len(lines) == 2, "once where it begins, once where it ends"
    assert "database is locked" in lines[0]
    assert lines[1].endswith("the ledger can be written again")


def test_readyz_of_a_gateway_at_rest_tells_at_once_that_the_ledger_is_gone_and_that_it_is_back(
    lab, start, tmp_path, monkeypatch
):
    monkeypatch.setattr("ownward.ledger._writing_thread._KNOWN_S", 0.0)
    path = tmp_path / "locked.db"

    async def main():
        opened = ledger.open(path, busy_timeout_s=0.05)
        async with start(lab.plan_of(lab.tier("a", "http://127.0.0.1:9")), ledger=opened) as running:

            async def ready():
                return (await running.ask("/readyz", method="GET")).status

            assert await ready() == 200
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            assert await ready() == 503
            other.close()
            assert await ready() == 200

    asyncio.run(main())


def test_why_requests_are_refused_by_a_ledger_that_cannot_be_written_is_said_with_the_first(lab, start, caplog):
    caplog.set_level(logging.WARNING)

    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:

            async def fail(*_, **__):
                raise LedgerError("the disk is full")

            running.ledger.begin, kept = fail, running.ledger.begin
            answers = [await running.ask(body=lab.chat()) for _ in range(5)]
            running.ledger.begin = kept
            return [answer.headers["x-ownward-request-id"] for answer in answers]

    asked = asyncio.run(main())
    lines = [(record.name, record.getMessage()) for record in caplog.records]
    assert [line for name, line in lines if name == "ownward.gateway" and "the disk is full" in line] == [
        f"request {asked[0]} failed: the disk is full."
    ]


def test_metrics_are_there_while_the_ledger_cannot_be_read(lab, start, monkeypatch):
    settings = GatewaySettings(port=0, requires_keys=True, key_cache_s=0.01, drain_s=1)

    def fail(*_):
        raise LedgerError("the server is gone")

    async def main():
        async with FakeServer() as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url, budget=Budget(max_usd=Decimal(5), period="day")))
            async with start(plan, settings=settings) as running:
                secret = await asyncio.to_thread(running.ledger.create_key, "prometheus")
                bearer = {"authorization": f"Bearer {secret}"}
                first = await running.ask("/metrics", method="GET", headers=bearer)
                assert b"ownward_budget_limit_usd" in first.body
                monkeypatch.setattr(running.ledger, "verify_key", fail)
                monkeypatch.setattr(running.server.gateway.keys, "_verify", fail)
                monkeypatch.setattr(running.ledger, "query_budgets", fail)
                await asyncio.sleep(0.05)
                there = await running.ask("/metrics", method="GET", headers=bearer)
                assert there.status == 200
                assert b"ownward_breaker_state" in there.body
                assert b"ownward_budget_limit_usd" not in there.body
                other = await running.ask("/metrics", method="GET", headers={"authorization": "Bearer ow-another"})
                assert other.status == 503, "who was never seen is not let in"

    asyncio.run(main())


NO_CREDIT = (
    b'{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the'
    b' Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."}}'
)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
def test_an_account_without_credit_is_left_alone_at_once_and_named_until_it_is_paid(
    lab, start, said, path, monkeypatch
):
    """Anthropic says it with 400, as if the request were wrong."""
    monkeypatch.setattr("ownward.gateway.placing.breaker.UNPAID_WAIT_S", 0.2)
    settings = GatewaySettings(port=0, breaker_longest_wait_s=0.2, drain_s=1)
    status = 400

    async def answer(body, reader, writer):
        paid = b'{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}'
        await (lab.whole(NO_CREDIT, status=400) if status == 400 else lab.whole(paid))(body, reader, writer)

    async def main():
        nonlocal status
        async with lab.Scripted(answer) as poor, FakeServer() as good:
            upstream = Upstream(name="claude", url=poor.base_url, dialect="anthropic", api_key_env="A_KEY")
            tier = lab.tier("a", "", upstreams=(upstream,))
            async with start(
                lab.plan_of(tier, lab.tier("b", good.base_url)), settings=settings, secrets={"A_KEY": "k"}
            ) as running:
                body = lab.chat(max_tokens=9)
                for _ in range(3):
                    answered = await running.ask(path, body=body)
                    assert (answered.status, answered.headers["x-ownward-tier"]) == (200, "b")
                assert len(poor.heard) == 1, "it is not asked again at once"
                assert "down: a/claude (its account has no credit)" in answered.headers["x-ownward-reason"]
                metrics = (await running.ask("/metrics", method="GET")).body.decode()
                failures = 'ownward_call_failures_total{tier="a",upstream="claude",kind="upstream_unpaid"} 1'
                assert failures in metrics
                assert 'ownward_upstream_unpaid{tier="a",upstream="claude"} 1' in metrics
                ready = await running.ask("/readyz", method="GET")
                assert (ready.status, ready.json) == (200, {"status": "ready", "unpaid_upstreams": 1})
                row = min(await running.rows(), key=lambda row: row["started_at"])
                assert (row["state"], row["charge_usd"]) == ("failed", "0.000000")
                status = 200
                await asyncio.sleep(0.25)
                answered = await running.ask(path, body=body)
                assert answered.headers["x-ownward-tier"] == "a"
                assert (await running.ask("/readyz", method="GET")).json == {"status": "ready"}
        first, last = said()
        assert first.startswith("upstream a/claude is left alone for")
        assert "has no credit left, or reached a limit on its spending: it answered 400" in first
        assert first.endswith("See to the credit of the account behind A_KEY")
        assert last.startswith("upstream a/claude answers again, ")

    asyncio.run(main())


def test_an_account_that_is_too_small_for_one_request_is_asked_for_others(lab, start):
    words = "This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, but can only"
    refusal = json.dumps({"error": {"message": f"{words} afford 4000", "code": 402}}).encode()

    async def main():
        async with lab.Scripted(lab.whole(refusal, status=402)) as small, FakeServer() as good:
            async with start(lab.plan_of(lab.tier("a", small.base_url), lab.tier("b", good.base_url))) as running:
                for _ in range(3):
                    assert (await running.ask(body=lab.chat())).headers["x-ownward-tier"] == "b"
                assert len(small.heard) == 3
            async with start(lab.plan_of(lab.tier("a", small.base_url))) as running:
                answer = await running.ask(body=lab.chat())
                assert (answer.status, answer.json["error"]["ownward_kind"]) == (502, "upstream_unpaid")
                assert "too little credit for this request" in answer.json["error"]["message"]

    asyncio.run(main())


def test_a_limit_on_spending_that_openai_tells_as_429_is_none_of_the_rate(lab, start, said):
    error = b'{"error": {"message": "m", "type": "insufficient_quota", "param": null, "code": "insufficient_quota"}}'

    async def main():
        async with lab.Scripted(lab.whole(error, status=429)) as poor, FakeServer() as good:
            async with start(lab.plan_of(lab.tier("a", poor.base_url), lab.tier("b", good.base_url))) as running:
                for _ in range(3):
                    assert (await running.ask(body=lab.chat())).headers["x-ownward-tier"] == "b"
                assert len(poor.heard) == 1
        (line,) = said()
        assert "is left alone for 60.0 s: the account at upstream 'a-1' has no credit left" in line

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_an_error_in_the_middle_of_a_stream_is_a_failure_of_its_upstream(lab, start, said, path):
    """The status was 200 and the stream has its last word: what the client is told is an error all the same."""
    events = (
        b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
        b'data: {"error":{"message":"the words of the upstream"}}\n\ndata: [DONE]\n\n'
    )

    async def script(body, reader, writer):
        writer.write(lab.STREAM_HEAD + lab.chunk(events) + lab.chunk(b""))

    async def main():
        settings = GatewaySettings(port=0, breaker_failures=3, breaker_wait_s=30, drain_s=1)
        async with lab.Scripted(script) as bad, FakeServer() as good:
            plan = lab.plan_of(lab.tier("a", bad.base_url), lab.tier("b", good.base_url))
            async with start(plan, settings=settings) as running:
                for _ in range(3):
                    answer = await running.ask(path, lab.chat(stream=True, max_tokens=9))
                    assert answer.headers["x-ownward-tier"] == "a"
                    assert b"the words of the upstream" in answer.body
                    assert b"message_stop" not in answer.body
                answer = await running.ask(path, lab.chat(stream=True, max_tokens=9))
                assert answer.headers["x-ownward-tier"] == "b"
                metrics = (await running.ask("/metrics", method="GET")).body.decode()
                assert 'outcome="broken"' in metrics
        assert "told an error in the middle of its stream" in said()[0]
        assert "words of the upstream" not in "".join(said())

    asyncio.run(main())


@pytest.mark.parametrize(
    "case", [(183.0, "183 s ahead of"), (-95.0, "95 s behind"), (4.0, None), (-4.0, None)], ids=str
)
def test_a_clock_that_is_not_the_ledgers_servers_is_told_at_the_start_with_what_to_do(
    lab, start, caplog, monkeypatch, case
):
    """Limits, budgets and signs of life of several hosts are compared by their own clocks."""
    lead_s, told = case
    monkeypatch.setattr(ledger.Ledger, "query_clock_lead_s", lambda _: lead_s)

    async def main():
        async with start(lab.plan_of(lab.tier("a", "http://127.0.0.1:9"))):
            lines = [record.getMessage() for record in caplog.records if "clock" in record.getMessage()]
            assert len(lines) == (0 if told is None else 1)
            assert all(told in line and "NTP" in line for line in lines)

    asyncio.run(main())


@pytest.mark.parametrize(("engine", "server"), [("adopted", "uvicorn"), ("llama-server", "llama.cpp")])
def test_an_adopted_server_that_is_a_llama_cpp_is_named_once(lab, start, said, engine, server):
    async def main():
        async with (
            lab.Scripted(lab.whole(GOOD, headers={"server": "llama.cpp"})) as unnamed,
            lab.Scripted(lab.whole(GOOD, headers={"server": server})) as known,
        ):
            tiers = (
                lab.tier("a", unnamed.base_url, kind="owned", engine="adopted"),
                lab.tier("b", known.base_url, kind="owned", engine=engine),
            )
            async with start(lab.plan_of(*tiers)) as running:
                for name in ("a", "b", "a"):
                    headers = {"x-ownward-tier": name}
                    assert (await running.ask(body=lab.chat(), headers=headers)).status == 200
        (line,) = said()
        assert line.startswith('upstream a/a-1 is a llama.cpp: with engine = "llama-server"')

    asyncio.run(main())
