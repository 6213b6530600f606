"""A budget is never passed by a picodollar, and never refuses while a call's whole upper bound still fits."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from ownward import ledger
from ownward.core import ManualClock, usd_to_picousd
from ownward.engines import FakeOptions, FakeServer
from ownward.gateway import GatewaySettings
from ownward.plan import Budget, Match, Strategy, Workload
from ownward.policy import ANY

START = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)


class Clock(ManualClock):
    """Wall time by hand, the monotonic clock of the machine."""

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()


def budgeted(usd: str, *tiers, period="day", when_spent="refuse", **more):
    first, *others = tiers
    return Workload(
        name="paid",
        match=Match(models=("paid",)),
        strategy=Strategy(kind="direct", tiers=(first,)),
        fallback=tuple(others),
        label=ANY,
        budget=Budget(max_usd=Decimal(usd), period=period, when_spent=when_spent),
        **more,
    )


def paid(lab, **more):
    return lab.chat(**{"max_tokens": 100, **more}) | {"model": "paid"}


async def spent_by(running):
    return sum(usd_to_picousd(Decimal(row["charge_usd"] or row["charge_high_usd"])) for row in await running.rows())


async def query(running):
    await running.ledger.flush()
    sql = "SELECT intent_charge_high_picousd, charge_picousd FROM attempts"
    return running.ledger._writer.run(lambda connection: connection.rows(sql))


async def bound_of(lab, start, tmp_path):
    """Learn the upper bound and the charge of the request that these tests send."""
    async with FakeServer() as fake:
        opened = ledger.open(tmp_path / "probe.db")
        async with start(
            lab.plan_of(lab.tier("a", fake.base_url), workloads=(budgeted("1", "a"),)), ledger=opened
        ) as running:
            assert (await running.ask(body=paid(lab))).status == 200
            ((high, charge),) = await query(running)
            return high, charge


def usd(picousd: int) -> str:
    return str(Decimal(picousd).scaleb(-12))


def test_a_thousand_at_once_stay_within_the_budget_and_use_it_up(lab, start, tmp_path):
    async def main():
        bound, charge = await bound_of(lab, start, tmp_path)
        assert 0 < charge < bound
        limit = 100 * bound + bound - 1
        async with FakeServer(FakeOptions(ttft_s=0.02)) as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url), workloads=(budgeted(usd(limit), "a"),))
            async with start(plan) as running:

                async def one() -> int:
                    while True:
                        answer = await running.ask(body=paid(lab))
                        if answer.status == 200 or int(answer.headers.get("retry-after", "9")) > 1:
                            return answer.status
                        assert answer.json["error"]["ownward_kind"] == "over_budget"
                        await asyncio.sleep(0.05)

                statuses = await asyncio.gather(*(one() for _ in range(1000)))
                rows = await running.rows()
                total = await spent_by(running)
                served = sum(row["state"] == "settled" for row in rows)
                assert served == statuses.count(200) == fake.record.count(with_calls=False)["accepted"]
                assert total == served * charge <= limit
                assert statuses.count(429) == 1000 - served
                if served < 1000:
                    assert total + bound > limit

    asyncio.run(main())


def test_two_gateways_on_one_ledger_share_the_budget(lab, start, tmp_path):
    async def main():
        bound, charge = await bound_of(lab, start, tmp_path)
        limit = 20 * bound
        async with FakeServer(FakeOptions(ttft_s=0.3)) as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url), workloads=(budgeted(usd(limit), "a"),))
            path = tmp_path / "shared.db"
            async with start(plan, ledger=ledger.open(path)) as one, start(plan, ledger=ledger.open(path)) as other:
                answers = await asyncio.gather(*((one, other)[n % 2].ask(body=paid(lab)) for n in range(60)))
                assert [answer.status for answer in answers].count(200) == 20
                assert {answer.status for answer in answers} == {200, 429}
                assert fake.record.count(with_calls=False)["accepted"] == 20
                await other.rows()
                assert await spent_by(one) == 20 * charge

    asyncio.run(main())


def test_a_refusal_says_why_in_four_parts_and_is_on_the_ledger(lab, start, tmp_path):
    async def main():
        bound, _ = await bound_of(lab, start, tmp_path)
        clock = Clock(START)
        async with FakeServer() as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url), workloads=(budgeted(usd(bound), "a"),))
            async with start(plan, clock=clock) as running:
                assert (await running.ask(body=paid(lab))).status == 200
                answer = await running.ask(body=paid(lab))
                assert answer.status == 429
                error = answer.json["error"]
                assert error["ownward_kind"] == "over_budget"
                assert error["code"] == "insufficient_quota"
                assert "'paid' has a budget of $" in error["message"]
                assert error["allowed"].startswith("A call whose upper bound is at most $")
                assert "2026-11-22 00:00 UTC" in error["next"]
                assert answer.headers["retry-after"] == "1800"
                assert answer.headers["x-ownward-attempts"] == "0"
                assert sorted(row["state"] for row in await running.rows()) == ["refused", "settled"]
                (refused,) = (row for row in await running.rows() if row["state"] == "refused")
                assert (refused["workload"], refused["status"], refused["attempt"]) == ("paid", 429, 0)
                metrics = (await running.ask("/metrics", method="GET")).body.decode()
                assert 'ownward_over_budget_total{kind="workload",name="paid"} 1' in metrics
                assert 'ownward_budget_reserved_usd{kind="workload",name="paid"} 0' in metrics
                assert 'ownward_budget_spent_usd{kind="workload",name="paid"} 0.00' in metrics
                assert 'ownward_budget_limit_usd{kind="workload",name="paid"}' in metrics
                clock.advance(1800)
                assert (await running.ask(body=paid(lab))).status == 200
                assert (await running.ask(body=paid(lab))).status == 429

    asyncio.run(main())


def test_what_never_fits_is_told_so_without_a_time_to_come_back(lab, start):
    async def main():
        async with FakeServer() as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url), workloads=(budgeted("0.000001", "a"),))
            async with start(plan) as running:
                answer = await running.ask(body=paid(lab))
                assert answer.status == 429
                assert "retry-after" not in answer.headers
                assert "max_tokens" in answer.json["error"]["next"]
                assert fake.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


def test_a_budget_that_is_spent_goes_on_with_owned_tiers_where_it_says_so(lab, start, tmp_path):
    async def main():
        bound, _ = await bound_of(lab, start, tmp_path)
        async with FakeServer() as rented, FakeServer() as owned:
            tiers = (lab.tier("a", rented.base_url), lab.tier("own", owned.base_url, kind="owned", price=None))
            workload = budgeted(usd(bound), "a", "own", when_spent="owned_only")
            async with start(lab.plan_of(*tiers, workloads=(workload,))) as running:
                answers = [await running.ask(body=paid(lab)) for _ in range(3)]
                assert [answer.status for answer in answers] == [200] * 3
                assert [answer.headers["x-ownward-tier"] for answer in answers] == ["a", "own", "own"]
                assert [answer.headers["x-ownward-attempts"] for answer in answers] == ["1"] * 3
                pinned = await running.ask(body=paid(lab), headers={"x-ownward-tier": "a"})
                assert pinned.status == 429
                assert [row["state"] for row in await running.rows()].count("settled") == 3

    asyncio.run(main())


def test_a_budget_refuses_where_it_cannot_know_what_a_call_may_cost(lab, start, caplog):
    async def main():
        async with FakeServer() as fake:
            free = lab.tier("unpriced", fake.base_url, price=None)
            plan = lab.plan_of(
                free, lab.tier("endless", fake.base_url), workloads=(budgeted("5", "unpriced", "endless"),)
            )
            with caplog.at_level(logging.WARNING, logger="ownward.gateway"):
                async with start(plan) as running:
                    for tier, body in (("unpriced", paid(lab)), ("endless", paid(lab, max_tokens=None))):
                        answer = await running.ask(body=body, headers={"x-ownward-tier": tier})
                        assert answer.status == 403, answer.body
                        assert answer.json["error"]["ownward_kind"] == "unbounded_charge"
                        assert f"[tiers.{tier}]" in answer.json["error"]["next"]
                    assert fake.record.count(with_calls=False)["accepted"] == 0
                    assert [row["state"] for row in await running.rows()] == ["refused"] * 2
            assert "tier 'unpriced' states no price" in caplog.text
            assert "is not carried out" not in caplog.text

    asyncio.run(main())


def test_a_failed_call_gives_its_bound_back_and_a_cut_one_keeps_it(lab, start, tmp_path):
    async def cut(_, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()

    async def main():
        bound, _ = await bound_of(lab, start, tmp_path)
        settings = GatewaySettings(port=0, max_attempts=1, drain_s=2)
        broken = b'{"error": {"message": "no"}}'
        async with lab.Scripted(lab.whole(broken, status=400)) as bad, lab.Scripted(cut) as cutting:
            plan = lab.plan_of(
                lab.tier("bad", bad.base_url),
                lab.tier("cut", cutting.base_url),
                workloads=(budgeted(usd(2 * bound - 1), "bad", "cut"),),
            )
            async with start(plan, settings=settings) as running:
                for _ in range(3):
                    assert (await running.ask(body=paid(lab))).status == 400
                through = {"x-ownward-tier": "cut"}
                assert (await running.ask(body=paid(lab), headers=through)).status == 502
                assert (await running.ask(body=paid(lab), headers=through)).status == 429
                assert len(cutting.heard) == 1

    asyncio.run(main())


def test_a_key_has_a_budget_of_its_own(lab, start, tmp_path):
    async def main():
        bound, _ = await bound_of(lab, start, tmp_path)
        opened = ledger.open(tmp_path / "keys.db")
        poor = opened.create_key("poor", {"budget": f"{usd(bound)}/day"})
        rich = opened.create_key("rich")
        torn = opened.create_key("torn", {"budget": "5 a day"})
        async with FakeServer() as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url))
            settings = GatewaySettings(port=0, requires_keys=True, drain_s=2)
            async with start(plan, ledger=opened, settings=settings) as running:

                async def ask(secret: str):
                    headers = {"authorization": f"Bearer {secret}"}
                    return await running.ask(body=lab.chat(max_tokens=100), headers=headers)

                assert [(await ask(poor)).status for _ in range(2)] == [200, 429]
                assert [(await ask(rich)).status for _ in range(3)] == [200] * 3
                refused = await ask(torn)
                assert refused.status == 429
                assert "the key 'key_" in refused.json["error"]["message"]

    asyncio.run(main())


def test_a_workload_that_takes_everything_is_held_under_its_own_name(lab, start, tmp_path):
    async def main():
        bound, _ = await bound_of(lab, start, tmp_path)
        workload = Workload(
            name="all",
            match=Match(),
            strategy=Strategy(kind="direct", tiers=("a",)),
            label=ANY,
            budget=Budget(max_usd=Decimal(usd(2 * bound - 1)), period="total"),
        )
        async with FakeServer(FakeOptions(ttft_s=0.2)) as fake:
            plan = replace(lab.plan_of(lab.tier("a", fake.base_url)), workloads={"all": workload})
            async with start(plan) as running:
                answers = await asyncio.gather(
                    *(running.ask(body=paid(lab), headers={"x-ownward-workload": f"other-{n}"}) for n in range(5))
                )
                assert sorted(answer.status for answer in answers) == [200, 429, 429, 429, 429]

    asyncio.run(main())


@pytest.mark.parametrize("max_usd", [None, "0"])
def test_calls_of_a_strategy_that_a_budget_forbids_are_answered_by_none(lab, start, tmp_path, max_usd):
    async def main():
        bound, _ = await bound_of(lab, start, tmp_path)
        limit = 3 * bound if max_usd is None else 0
        workload = Workload(
            name="paid",
            match=Match(models=("paid",)),
            label=ANY,
            strategy=Strategy(kind="vote", tiers=("a",), options={"samples": 5, "labels": ("yes", "no")}),
            budget=Budget(max_usd=Decimal(usd(limit)), period="day"),
        )
        async with FakeServer(FakeOptions(reply="yes", ttft_s=0.2)) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url), workloads=(workload,))) as running:
                answer = await running.ask(body=paid(lab))
                states = [row["state"] for row in await running.rows()]
                assert await spent_by(running) <= limit
                if max_usd is None:
                    assert answer.status == 200
                    assert states.count("settled") >= 2
                else:
                    assert answer.status == 429
                    assert states == ["refused"]

    asyncio.run(main())


def in_scope(scope, limit, fake, lab):
    """Return a plan, the headers and the model of requests that a budget of `scope` holds."""
    tier_budget = Budget(max_usd=Decimal(usd(limit)), period="day") if scope == "tier" else None
    workload = Workload(
        name="paid",
        match=Match(models=("paid",)),
        strategy=Strategy(kind="direct", tiers=("a",)),
        label=ANY,
        budget=Budget(max_usd=Decimal(usd(limit)), period="day") if scope == "workload" else None,
        task_budget_usd=Decimal(usd(limit)) if scope == "task" else None,
    )
    plan = lab.plan_of(lab.tier("a", fake.base_url, budget=tier_budget), workloads=(workload,))
    headers = {"x-ownward-task": "run-7"} if scope.startswith("task") else {}
    if scope == "task by header":
        headers["x-ownward-task-budget"] = usd(limit)
    return plan, headers


@pytest.mark.parametrize("scope", ["workload", "key", "tier", "task", "task by header"])
def test_a_thousand_at_once_stay_within_a_budget_of_every_scope(lab, start, tmp_path, scope):
    async def main():
        bound, charge = await bound_of(lab, start, tmp_path)
        limit = 40 * bound + bound - 1
        opened = ledger.open(tmp_path / "scoped.db")
        secret = opened.create_key("one", {"budget": f"{usd(limit)}/day"} if scope == "key" else {})
        async with FakeServer(FakeOptions(ttft_s=0.02)) as fake:
            plan, headers = in_scope(scope, limit, fake, lab)
            settings = GatewaySettings(port=0, requires_keys=True, drain_s=2)
            async with start(plan, ledger=opened, settings=settings) as running:
                headers["authorization"] = f"Bearer {secret}"
                answers = await asyncio.gather(*(running.ask(body=paid(lab), headers=headers) for _ in range(1000)))
                statuses = [answer.status for answer in answers]
                assert set(statuses) == {200, 429}
                rows = await running.rows()
                served = sum(row["state"] == "settled" for row in rows)
                assert served == statuses.count(200) == fake.record.count(with_calls=False)["accepted"]
                assert served >= 40
                assert await spent_by(running) == served * charge <= limit

    asyncio.run(main())


def test_a_spent_tier_gives_way_to_the_next_one_for_every_workload(lab, start, tmp_path):
    async def main():
        bound, _ = await bound_of(lab, start, tmp_path)
        async with FakeServer() as dear, FakeServer() as other:
            capped = lab.tier("a", dear.base_url, budget=Budget(max_usd=Decimal(usd(bound)), period="month"))
            async with start(lab.plan_of(capped, lab.tier("b", other.base_url))) as running:
                answers = [await running.ask(body=lab.chat(max_tokens=100)) for _ in range(3)]
                assert [answer.headers["x-ownward-tier"] for answer in answers] == ["a", "b", "b"]
                pinned = await running.ask(body=lab.chat(max_tokens=100), headers={"x-ownward-tier": "a"})
                assert pinned.status == 429
                assert "the tier 'a' has a budget" in pinned.json["error"]["message"]
                metrics = (await running.ask("/metrics", method="GET")).body.decode()
                assert 'ownward_budget_limit_usd{kind="tier",name="a"}' in metrics
                assert 'ownward_over_budget_total{kind="tier",name="a"} 3' in metrics

    asyncio.run(main())


def test_each_task_has_its_own_budget_and_a_header_only_lowers_it(lab, start, tmp_path):
    async def main():
        bound, _ = await bound_of(lab, start, tmp_path)
        async with FakeServer() as fake:
            plan, _ = in_scope("task", 2 * bound, fake, lab)
            async with start(plan) as running:

                async def ask(task, **more):
                    return (await running.ask(body=paid(lab), headers={"x-ownward-task": task, **more})).status

                assert [await ask("one") for _ in range(40)].count(429) > 0
                assert await ask("two") == 200
                lower = {"x-ownward-task-budget": "0.000000000001"}
                higher = {"x-ownward-task-budget": "1000"}
                assert await ask("three", **lower) == 429
                assert [await ask("one", **higher) for _ in range(3)] == [429] * 3
                assert await ask("four", **{"x-ownward-task-budget": "lots"}) == 400

    asyncio.run(main())
