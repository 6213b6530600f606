"""Labels: what is not permitted is not sent, whatever a header says, and the refusal says what to write."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio

import pytest

from ownward.engines import Failure, FakeOptions, FakeServer
from ownward.gateway import GatewaySettings
from ownward.policy import LOCAL_ONLY, Label


def test_local_only_never_reaches_a_rented_tier_even_when_the_local_one_fails(lab, start):
    async def main():
        async with FakeServer(FakeOptions(failures=(Failure.parse("500"),))) as local, FakeServer() as rented:
            plan = lab.plan_of(
                lab.tier("mine", local.base_url, kind="owned"), lab.tier("theirs", rented.base_url), label=LOCAL_ONLY
            )
            async with start(plan) as running:
                answer = await running.ask(body=lab.chat())
                assert answer.status == 500
                assert answer.headers["x-ownward-reason"].endswith(
                    "left out: theirs not permitted; first mine/mine-1 of 1"
                )
                assert rented.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


def test_nothing_stated_is_this_machine_alone(lab, start):
    async def main():
        async with FakeServer() as rented:
            plan = lab.plan_of(lab.tier("theirs", rented.base_url), label=None)
            async with start(plan) as running:
                answer = await running.ask(body={**lab.chat(), "model": "theirs"})
                assert answer.status == 403
                assert answer.json["error"]["code"] == "policy_refusal"
                assert 'default_label = "eu"' in answer.json["error"]["next"]
                assert "nothing states another" in answer.json["error"]["message"]
                assert rented.record.count(with_calls=False)["accepted"] == 0
                (row,) = await running.rows()
                assert (row["state"], row["status"], row["label"]) == ("refused", 403, "local_only")

    asyncio.run(main())


@pytest.mark.parametrize("label", ["local_only", "eu", "provider:fake"])
def test_a_machine_on_the_own_network_is_not_this_machine(lab, start, label):
    async def main():
        rack = lab.tier("rack", "http://10.255.255.1:9", kind="owned", engine="adopted")
        async with start(lab.plan_of(rack, label=Label.parse(label))) as running:
            answer = await running.ask(body=lab.chat())
            assert answer.status == 403
            assert 'label = "site"' in answer.json["error"]["next"]
            assert "rack is at a machine on your own network" in answer.json["error"]["message"]

    asyncio.run(main())


@pytest.mark.parametrize("header", ["any", "eu", "provider:fake", "eu|provider:other"])
def test_a_header_cannot_widen_a_label(lab, start, header):
    async def main():
        async with FakeServer() as rented:
            plan = lab.plan_of(lab.tier("theirs", rented.base_url), label=LOCAL_ONLY)
            async with start(plan) as running:
                answer = await running.ask(body=lab.chat(), headers={"x-ownward-label": header})
                assert answer.status == 403
                assert '[workloads.chat] label = "eu"' in answer.json["error"]["next"]
                assert rented.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("header", "status"), [("local_only", 403), ("us", 403), ("eu", 200), ("any", 200), ("?!", 400)]
)
def test_a_header_shrinks_a_label(lab, start, header, status):
    async def main():
        async with FakeServer() as rented, start(lab.plan_of(lab.tier("theirs", rented.base_url))) as running:
            answer = await running.ask(body=lab.chat(), headers={"x-ownward-label": header})
            assert answer.status == status

    asyncio.run(main())


def test_a_keys_label_shrinks_too(lab, start):
    settings = GatewaySettings(port=0, requires_keys=True, drain_s=1)

    async def main():
        async with FakeServer() as rented:
            async with start(lab.plan_of(lab.tier("theirs", rented.base_url)), settings=settings) as running:
                narrow = running.ledger.create_key("narrow", {"label": "local_only"})
                wide = running.ledger.create_key("wide", {"label": "any"})
                refused = await running.ask(body=lab.chat(), headers={"authorization": f"Bearer {narrow}"})
                served = await running.ask(body=lab.chat(), headers={"x-api-key": wide})
                assert (refused.status, served.status) == (403, 200)
                assert "shrunk by the key" in refused.json["error"]["message"]

    asyncio.run(main())


def test_of_several_tiers_only_those_that_are_permitted_are_candidates(lab, start):
    async def main():
        async with FakeServer() as us, FakeServer() as eu:
            plan = lab.plan_of(
                lab.tier("us", us.base_url, region="us"), lab.tier("eu", eu.base_url), label=Label.parse("eu")
            )
            async with start(plan) as running:
                answer = await running.ask(body=lab.chat())
                assert answer.headers["x-ownward-tier"] == "eu"
                assert us.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


def test_every_refusal_is_a_row_of_the_ledger(lab, start):
    async def main():
        async with FakeServer() as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url, capabilities=frozenset({"chat"})))
            async with start(plan) as running:
                asked = [
                    ({"model": "nobody", "messages": []}, {}, 404, "unknown_route"),
                    (b"{not json", {}, 400, "malformed_request"),
                    (lab.chat(tools=[{"type": "function"}]), {}, 400, "incapable"),
                    (lab.chat(), {"x-ownward-label": "local_only"}, 403, "policy_refusal"),
                    (lab.chat(), {"x-ownward-tier": "nowhere"}, 404, "unknown_route"),
                    (lab.chat(), {"x-ownward-task": "a b"}, 400, "malformed_request"),
                ]
                for body, headers, status, kind in asked:
                    answer = await running.ask(body=body, headers=headers)
                    assert (answer.status, answer.json["error"]["ownward_kind"]) == (status, kind)
                rows = await running.rows()
                assert {row["state"] for row in rows} == {"refused"}
                assert sorted(row["status"] for row in rows) == sorted(status for _, _, status, _ in asked)
                assert {row["attempt"] for row in rows} == {0}

    asyncio.run(main())
