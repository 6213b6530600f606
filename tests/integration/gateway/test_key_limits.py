"""A key's requests and tokens a minute hold exactly, however many ask at once and through however many gateways."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
from datetime import UTC, datetime

import pytest

from ownward import ledger
from ownward.core import ManualClock
from ownward.engines import FakeOptions, FakeServer
from ownward.gateway import GatewaySettings
from ownward.plan import Upstream

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEYED = GatewaySettings(port=0, requires_keys=True, drain_s=2)


class Clock(ManualClock):
    """Wall time by hand, the monotonic clock of the machine."""

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()


def bearer(secret):
    return {"authorization": f"Bearer {secret}"}


def used_tokens(rows):
    return sum((row["input_tokens"] or 0) + (row["output_tokens"] or 0) for row in rows)


@pytest.mark.parametrize("case", [("window", 59.9, 0), ("window", 60, 100), ("bucket", 15, 30)])
def test_of_a_thousand_requests_at_once_exactly_the_limit_is_served(lab, start, tmp_path, case):
    limits_by, later_s, served = case  # of a hundred, so much later

    async def main():
        path = tmp_path / "shared.db"
        clock = Clock(START)
        with ledger.open(path) as opened:
            secret = opened.create_key("k", {"requests_per_minute": 120, "limits_by": limits_by})
        async with FakeServer(FakeOptions(ttft_s=0.02)) as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url))
            more = {"settings": KEYED, "clock": clock}
            async with (
                start(plan, ledger=ledger.open(path), **more) as one,
                start(plan, ledger=ledger.open(path), **more) as other,
            ):
                gateways = (one, other)
                answers = await asyncio.gather(
                    *(gateways[n % 2].ask(body=lab.chat(), headers=bearer(secret)) for n in range(1000))
                )
                statuses = [answer.status for answer in answers]
                assert (statuses.count(200), statuses.count(429)) == (120, 880)
                assert fake.record.count(with_calls=False)["accepted"] == 120
                clock.advance(later_s)
                answers = await asyncio.gather(
                    *(gateways[n % 2].ask(body=lab.chat(), headers=bearer(secret)) for n in range(100))
                )
                assert [answer.status for answer in answers].count(200) == served
                assert {row["status"] for row in await one.rows()} >= {200, 429}

    asyncio.run(main())


def test_tokens_are_held_for_each_answer_that_a_request_asks_for(lab, start, tmp_path):
    async def main():
        opened = ledger.open(tmp_path / "answers.db")
        secret = opened.create_key("k", {"tokens_per_minute": 6000})
        async with FakeServer(FakeOptions(ttft_s=0.2)) as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url))
            async with start(plan, ledger=opened, settings=KEYED, clock=Clock(START)) as running:
                asked = lab.chat(max_tokens=1000, n=4)
                both = await asyncio.gather(*(running.ask(body=asked, headers=bearer(secret)) for _ in range(2)))
                assert sorted(answer.status for answer in both) == [200, 429]

    asyncio.run(main())


def test_tokens_that_are_used_never_pass_the_limit_and_use_it_up(lab, start, tmp_path):
    async def main():
        clock = Clock(START)
        opened = ledger.open(tmp_path / "tokens.db")
        secret = opened.create_key("k", {"tokens_per_minute": 6000})
        async with FakeServer(FakeOptions(ttft_s=0.02)) as fake:
            async with start(
                lab.plan_of(lab.tier("a", fake.base_url)), ledger=opened, settings=KEYED, clock=clock
            ) as running:

                async def ask():
                    return (await running.ask(body=lab.chat(max_tokens=200), headers=bearer(secret))).status

                statuses = await asyncio.gather(*(ask() for _ in range(1000)))
                while True:  # one by one, now that nothing is held any more
                    await running.ledger.flush()
                    statuses.append(await ask())
                    if statuses[-1] == 429:
                        break
                rows = await running.rows()
                used = used_tokens(rows)
                assert set(statuses) == {200, 429}
                assert 0 < used <= 6000
                assert 6000 - used < 250, "less is left than a call holds back"
                last = await running.ask(body=lab.chat(max_tokens=200), headers=bearer(secret))
                assert last.status == 429
                assert last.json["error"]["code"] == "rate_limit_exceeded"

    asyncio.run(main())


def test_what_a_call_did_not_use_is_given_back_and_what_failed_costs_no_token(lab, start, tmp_path):
    async def main():
        clock = Clock(START)
        opened = ledger.open(tmp_path / "back.db")
        secret = opened.create_key("k", {"tokens_per_minute": 5000, "requests_per_minute": 100})
        async with FakeServer() as fake, lab.Scripted(lab.whole(b'{"error": {}}', status=400)) as bad:
            plan = lab.plan_of(lab.tier("a", fake.base_url), lab.tier("bad", bad.base_url))
            async with start(plan, ledger=opened, settings=KEYED, clock=clock) as running:
                for _ in range(5):
                    refused = await running.ask(
                        body=lab.chat(max_tokens=4000), headers={**bearer(secret), "x-ownward-tier": "bad"}
                    )
                    assert refused.status == 400
                    await running.ledger.flush()
                first = await running.ask(body=lab.chat(max_tokens=4000), headers=bearer(secret))
                assert first.status == 200
                assert int(first.headers["x-ratelimit-remaining-tokens"]) < 1000, "4,000 are held back"
                (used,) = {used_tokens(await running.rows())}
                second = await running.ask(body=lab.chat(max_tokens=1), headers=bearer(secret))
                estimate = -(-len(fake_body(lab)) // 4) + 1
                assert int(second.headers["x-ratelimit-remaining-tokens"]) == pytest.approx(
                    5000 - used - estimate, abs=5
                )
                assert second.headers["x-ratelimit-remaining-requests"] == "93"

    asyncio.run(main())


def fake_body(lab):
    import json

    return json.dumps(lab.chat(max_tokens=1)).encode()


def test_a_refusal_says_when_to_come_back_in_each_dialect(lab, start, tmp_path):
    async def main():
        clock = Clock(START)
        opened = ledger.open(tmp_path / "said.db")
        secret = opened.create_key("k", {"requests_per_minute": 2})
        async with FakeServer() as fake:
            upstreams = (Upstream(name="x", url=fake.base_url, dialect="anthropic"),)
            tier = lab.tier("c", "", upstreams=upstreams)
            plan = lab.plan_of(lab.tier("a", fake.base_url), tier)
            async with start(plan, ledger=opened, settings=KEYED, clock=clock) as running:
                body = lab.chat(max_tokens=20)
                served = [await running.ask(body=body, headers=bearer(secret)) for _ in range(2)]
                assert [answer.headers["x-ratelimit-remaining-requests"] for answer in served] == ["1", "0"]
                assert served[1].headers["x-ratelimit-limit-requests"] == "2"
                assert served[1].headers["x-ratelimit-reset-requests"] == "60s"
                openai = await running.ask(body=body, headers=bearer(secret))
                assert openai.status == 429
                assert openai.headers["retry-after"] == "30"
                assert openai.json["error"]["type"] == "rate_limit_error"
                assert openai.headers["x-ownward-attempts"] == "0"
                anthropic = await running.ask("/v1/messages", body | {"model": "c"}, headers={"x-api-key": secret})
                assert anthropic.status == 429
                assert anthropic.json["error"]["type"] == "rate_limit_error"
                assert anthropic.headers["anthropic-ratelimit-requests-remaining"] == "0"
                assert anthropic.headers["anthropic-ratelimit-requests-reset"] == "2026-11-21T12:01:00Z"
                metrics = (await running.ask("/metrics", method="GET", headers=bearer(secret))).body.decode()
                assert 'ownward_over_limit_total{kind="requests"} 2' in metrics

    asyncio.run(main())


def test_an_upstreams_own_limits_are_not_told_to_a_client_that_has_some(lab, start, tmp_path):
    async def main():
        opened = ledger.open(tmp_path / "own.db")
        limited, free = opened.create_key("k", {"requests_per_minute": 5}), opened.create_key("f")
        answer = b'{"id": "1", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
        script = lab.whole(answer, headers={"x-ratelimit-remaining-requests": "777"})
        async with lab.Scripted(script) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url)), ledger=opened, settings=KEYED) as running:
                told = await running.ask(body=lab.chat(), headers=bearer(limited))
                assert told.headers["x-ratelimit-remaining-requests"] == "4"
                told = await running.ask(body=lab.chat(), headers=bearer(free))
                assert told.headers["x-ratelimit-remaining-requests"] == "777"

    asyncio.run(main())


def test_a_client_that_leaves_gives_back_what_was_held(lab, start, tmp_path):
    async def main():
        opened = ledger.open(tmp_path / "left.db")
        secret = opened.create_key("k", {"tokens_per_minute": 100_000})
        async with FakeServer(FakeOptions(ttft_s=5)) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), ledger=opened, settings=KEYED) as running:
                async with lab.Client(running.base_url) as client:
                    await client.send(lab.CHAT, lab.chat(max_tokens=50_000), headers=bearer(secret))
                    await asyncio.sleep(0.3)
                await asyncio.sleep(0.2)
                await running.rows()
                held = running.ledger._writer.run(
                    lambda connection: connection.rows("SELECT SUM(tokens) FROM limit_holds")
                )
                assert held == [(0,)]

    asyncio.run(main())
