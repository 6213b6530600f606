"""Failing, cut, stalling and lying upstreams, clients that leave, a plan that changes: the ledger still adds up."""

# ruff: noqa: ASYNC110 - a gateway stands inside its upstreams, and what happens in them is polled
import asyncio
import random
from decimal import Decimal

import pytest

from ownward.engines import Cut, Failure, FakeOptions, FakeServer, Garbage, OutputLength, Stall
from ownward.gateway import GatewaySettings
from ownward.pricing import Usage

LENGTHS = OutputLength.parse("1-12")
BAD = FakeOptions(
    ttft_s=0.005,
    tpot_s=0.002,
    output_tokens=LENGTHS,
    failures=(Failure.parse("500:0.1"), Failure.parse("429:0.1"), Failure.parse("503:0.05")),
    cuts=(Cut.parse("first:reset:0.05"), Cut.parse("2:close:0.1"), Cut.parse("4:reset:0.1")),
    garbage=(Garbage.parse("json:0.05"), Garbage.parse("sse:0.05")),
    stalls=(Stall.parse("first:0.3:0.05"), Stall.parse("2:0.3:0.05")),
)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_ledger_adds_up(lab, start, seed):
    settings = GatewaySettings(port=0, breaker_failures=10_000, retry_fraction=1, retry_burst=1000, drain_s=2)
    rng = random.Random(seed)

    async def ask(running):
        body = lab.chat(stream=rng.random() < 0.7, max_tokens=rng.randint(1, 12))
        leaves_after_s = rng.uniform(0, 0.05) if rng.random() < 0.2 else None
        async with lab.Client(running.base_url) as client:
            if leaves_after_s is None:
                answer = await client.ask(lab.CHAT, body)
                return "ok" if answer.status == 200 else f"status {answer.status}"
            await client.send(lab.CHAT, body)
            await asyncio.sleep(leaves_after_s)
        return "left"

    async def main():
        async with FakeServer(BAD) as bad, FakeServer(FakeOptions(output_tokens=LENGTHS)) as good:
            short = lab.Upstream(name="bad", url=bad.base_url, first_byte_timeout_s=0.1, stall_timeout_s=0.1)
            plan = lab.plan_of(lab.tier("bad", "", upstreams=(short,)), lab.tier("good", good.base_url))
            async with start(plan, settings=settings) as running:
                said = []
                for _ in range(6):
                    said += await asyncio.gather(*(ask(running) for _ in range(40)))
                    await running.server.reload(plan)
                assert set(said) <= {"ok", "left"}, said
                async with asyncio.timeout(3):
                    while bad.record.serving or good.record.serving or running.server.gateway.exchanges:
                        await asyncio.sleep(0.01)
                rows = await running.rows()
                calls = [*bad.record.count(with_calls=True)["calls"], *good.record.count(with_calls=True)["calls"]]
                check(rows, calls, lab.PRICE)
                assert {"settled", "unsettled", "failed"} == {row["state"] for row in rows}
                gateway = running.server.gateway
                assert all(slots.in_use == slots.waiting == 0 for slots in gateway.slots.values())
                assert not any(gateway.in_flight.values())

    asyncio.run(main())


def check(rows, calls, price):
    by_id = {(row["request_id"], str(row["attempt"])): row for row in rows}
    assert len(by_id) == len(rows)
    served = {(call["request_id"], call["attempt"]): call for call in calls}
    assert len(served) == len(calls)
    assert served.keys() <= by_id.keys()
    for key, row in by_id.items():
        call = served.get(key)
        truth = Decimal(0)
        if call is not None and call["state"] != "refused":
            usage = Usage(input_tokens=call["input_tokens"], output_tokens=call["output_tokens"])
            truth = price.compute_charge_usd(usage)
        match row["state"]:
            case "settled":
                assert (row["input_tokens"], row["output_tokens"]) == (call["input_tokens"], call["output_tokens"])
                assert Decimal(row["charge_usd"]) == truth
            case "unsettled":
                assert Decimal(row["charge_low_usd"]) <= truth <= Decimal(row["charge_high_usd"])
            case "failed":
                assert truth == 0
            case other:
                raise AssertionError(other)
