"""A plan that is loaded while a request is under way: what is sent from then on has to be permitted by both."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
from dataclasses import replace

import pytest

from ownward.engines import FakeOptions, FakeServer, Stall
from ownward.plan import Hedge, Upstream
from ownward.policy import ANY, LOCAL_ONLY, Label

LATE = FakeOptions(stalls=(Stall.parse("first:5"),))


def two(lab, first, second, *, region="eu", hedge=None, **more):
    near = lab.tier(
        "near",
        "",
        kind="owned",
        engine="adopted",
        hedge=hedge,
        upstreams=(Upstream(name="near-1", url=first.base_url, first_byte_timeout_s=0.3),),
    )
    return lab.plan_of(near, lab.tier("far", second.base_url, region=region), **more)


async def asked_while(lab, running, near, change, **more):
    """Ask, change the plan once the first call is made, and return the answer."""
    asked = asyncio.create_task(running.ask(body=lab.chat(**more)))
    async with asyncio.timeout(2):
        while not near.record.count(with_calls=False)["accepted"]:  # noqa: ASYNC110 - what happens in the gateway is polled
            await asyncio.sleep(0.005)
    await running.server.reload(change)
    return await asyncio.wait_for(asked, 3)


def detecting(plan):
    chat = replace(plan.workloads["chat"], detect=("email",), detected_label=LOCAL_ONLY)
    return replace(plan, workloads={"chat": chat})


NARROWER = {
    "the workload's label": lambda lab, near, far: two(lab, near, far, label=LOCAL_ONLY),
    "a region": lambda lab, near, far: two(lab, near, far, label=Label.parse("us")),
    "the tier's place": lambda lab, near, far: two(lab, near, far, label=Label.parse("eu"), region="us"),
    "a detector": lambda lab, near, far: detecting(two(lab, near, far)),
    "the default, of a workload that is gone": lambda lab, near, far: replace(
        two(lab, near, far), workloads={}, default_label=LOCAL_ONLY
    ),
}
SAID = [{"role": "user", "content": "write to jane.doe@example.org"}]


@pytest.mark.parametrize("narrower", NARROWER.values(), ids=NARROWER)
@pytest.mark.parametrize("hedge", [None, Hedge(after_s=0.1, max_fraction=0.9, to=("far",))], ids=["retry", "hedge"])
def test_neither_a_retry_nor_a_second_call_goes_where_the_new_plan_forbids(lab, start, narrower, hedge):
    async def main():
        async with FakeServer(LATE) as near, FakeServer() as far:
            async with start(two(lab, near, far, hedge=hedge, label=ANY)) as running:
                if hedge is not None:
                    for _ in range(5):
                        running.server.gateway.paces["near"].second_calls.deposit()
                answer = await asked_while(lab, running, near, narrower(lab, near, far), messages=SAID)
                assert far.record.count(with_calls=False)["accepted"] == 0
                assert answer.status == 504
                (row,) = await running.rows()
                assert (row["tier"], row["state"]) == ("near", "unsettled")

    asyncio.run(main())


def test_a_wider_plan_gives_a_request_under_way_nothing(lab, start):
    async def main():
        async with FakeServer(LATE) as near, FakeServer() as far:
            async with start(two(lab, near, far, label=LOCAL_ONLY)) as running:
                answer = await asked_while(lab, running, near, two(lab, near, far, label=ANY))
                assert (answer.status, far.record.count(with_calls=False)["accepted"]) == (504, 0)

    asyncio.run(main())


def test_a_plan_that_forbids_nothing_more_holds_up_no_retry(lab, start):
    async def main():
        async with FakeServer(LATE) as near, FakeServer() as far:
            async with start(two(lab, near, far, label=Label.parse("eu"))) as running:
                answer = await asked_while(lab, running, near, two(lab, near, far, label=ANY))
                assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "far")
                metrics = (await running.ask("/metrics", method="GET")).body.decode()
                assert 'ownward_retries_total{workload="chat",tier="far",upstream="far-1"} 1' in metrics

    asyncio.run(main())


def test_a_request_that_waits_for_a_slot_is_refused_where_the_new_plan_forbids_its_tier(lab, start):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.3)) as far:
            busy = lab.plan_of(lab.tier("far", far.base_url, max_concurrency=1), label=ANY)
            async with start(busy) as running:
                first = asyncio.create_task(running.ask(body=lab.chat()))
                slots = running.server.gateway.slots["far"]
                async with asyncio.timeout(2):
                    while not slots.in_use:  # noqa: ASYNC110 - what happens in the gateway is polled
                        await asyncio.sleep(0.005)
                    second = asyncio.create_task(running.ask(body=lab.chat()))
                    while not slots.waiting:  # noqa: ASYNC110
                        await asyncio.sleep(0.005)
                narrowed = lab.plan_of(lab.tier("far", far.base_url, max_concurrency=1), label=LOCAL_ONLY)
                await running.server.reload(narrowed)
                assert (await first).status == 200, "it was there already"
                answer = await second
                assert answer.status == 403
                assert "the plan was loaded anew" in answer.json["error"]["message"]
                assert answer.json["error"]["next"].startswith("Ask again")
                assert far.record.count(with_calls=False)["accepted"] == 1

    asyncio.run(main())


@pytest.mark.parametrize("other", [False, True], ids=["nowhere else", "another tier"])
def test_a_call_whose_intent_was_being_written_is_not_sent_where_the_new_plan_forbids(lab, start, monkeypatch, other):
    """Its intent stands and is settled as failed; another tier that both plans permit takes the request."""

    async def main():
        async with FakeServer() as far, FakeServer() as near:
            tiers = [lab.tier("far", far.base_url)]
            tiers += [lab.tier("near", near.base_url, kind="owned", engine="adopted")] if other else []
            async with start(lab.plan_of(*tiers, label=ANY)) as running:
                written, loaded = asyncio.Event(), asyncio.Event()
                begin = running.ledger.begin

                async def begin_and_wait(*values, **more):
                    states = await begin(*values, **more)
                    written.set()
                    await loaded.wait()
                    return states

                monkeypatch.setattr(running.ledger, "begin", begin_and_wait)
                asked = asyncio.create_task(running.ask(body=lab.chat()))
                await written.wait()
                await running.server.reload(lab.plan_of(*tiers, label=LOCAL_ONLY))
                loaded.set()
                answer = await asked
                assert far.record.count(with_calls=False)["accepted"] == 0
                assert answer.status == (200 if other else 403)
                first, *rest = sorted(await running.rows(), key=lambda row: row["attempt"])
                assert (first["state"], first["tier"], first["charge_usd"]) == ("failed", "far", "0.000000")
                assert [row["tier"] for row in rest] == (["near"] if other else [])

    asyncio.run(main())
