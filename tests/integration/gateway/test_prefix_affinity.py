"""Several upstreams of one owned tier: a conversation stays with the one that has its beginning."""

import asyncio

import pytest

from ownward.engines import FakeOptions, FakeServer
from ownward.plan import Upstream


def upstreams(*fakes):
    return tuple(Upstream(name=f"u{n}", url=fake.base_url) for n, fake in enumerate(fakes))


SYSTEM = {"role": "system", "content": "you help ada " * 200}


async def talk(running, lab, who, *, turns=5, **more):
    """Hold a conversation; return the upstream of each turn."""
    messages = [{"role": "system", "content": f"you help {who} " * 200}]
    went = []
    for turn in range(turns):
        messages.append({"role": "user", "content": f"{who} asks {turn} " * 50})
        answer = await running.ask(body=lab.chat(messages=messages, **more))
        assert answer.status == 200
        went.append(answer.headers["x-ownward-upstream"])
        messages.append({"role": "assistant", "content": f"answer {turn} " * 50})
    return went


@pytest.mark.parametrize("more", [{}, {"stream": True}], ids=["whole", "streamed"])
def test_each_conversation_stays_with_one_upstream_and_both_are_used(lab, start, more):
    async def main():
        async with FakeServer() as one, FakeServer() as two:
            tier = lab.tier("own", "", kind="owned", engine="adopted", upstreams=upstreams(one, two))
            async with start(lab.plan_of(tier)) as running:
                ada, ben = await talk(running, lab, "ada", **more), await talk(running, lab, "ben", **more)
                assert len(set(ada)) == 1
                assert len(set(ben)) == 1
                assert ada[0] != ben[0]
                prefixes = running.server.gateway.prefixes
                assert [upstream.waiting_bytes for upstream in prefixes._upstreams.values()] == [0, 0]
                again = await running.ask(body=lab.chat(messages=[SYSTEM, {"role": "user", "content": "more"}]))
                assert "prompt bytes in its cache) of 2" in again.headers["x-ownward-reason"]

    asyncio.run(main())


def test_a_conversation_leaves_an_upstream_that_is_busy_and_one_that_is_down(lab, start):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.5)) as one, FakeServer() as two:
            tier = lab.tier("own", "", kind="owned", engine="adopted", upstreams=upstreams(one, two))
            async with start(lab.plan_of(tier)) as running:
                body = lab.chat(messages=[{"role": "user", "content": "the same beginning " * 100}])
                assert (await running.ask(body=body)).headers["x-ownward-upstream"] == "u0"
                other = lab.chat(messages=[{"role": "user", "content": "another " * 5000}])
                slow = [asyncio.create_task(running.ask(body=body)) for _ in range(4)]
                await asyncio.sleep(0.1)
                assert (await running.ask(body=body)).headers["x-ownward-upstream"] == "u1", "calls wait at u0"
                await asyncio.gather(*slow)
                assert (await running.ask(body=other)).status == 200
                await one.__aexit__(None, None, None)
                for _ in range(3):
                    assert (await running.ask(body=body)).headers["x-ownward-upstream"] == "u1"

    asyncio.run(main())


def test_an_engine_that_was_gone_has_nothing_in_its_cache_when_it_is_back(lab, start):
    """Nobody tells the gateway of an adopted engine's restart; that nothing listened at its address does."""

    async def main():
        async with FakeServer() as one, FakeServer() as two:
            tier = lab.tier("own", "", kind="owned", engine="adopted", upstreams=upstreams(one, two))
            async with start(lab.plan_of(tier)) as running:
                body = lab.chat(messages=[{"role": "user", "content": "the same beginning " * 100}])
                assert (await running.ask(body=body)).headers["x-ownward-upstream"] == "u0"
                port = int(one.base_url.rsplit(":", 1)[1])
                await one.__aexit__(None, None, None)
                for _ in range(4):
                    assert (await running.ask(body=body)).headers["x-ownward-upstream"] == "u1"
                async with FakeServer(FakeOptions(port=port)):
                    answer = await running.ask(body=body)
                    assert answer.headers["x-ownward-upstream"] == "u1", "the cache of u0 is empty"
                    other = lab.chat(messages=[{"role": "user", "content": "another beginning " * 100}])
                    assert (await running.ask(body=other)).headers["x-ownward-upstream"] == "u0", "it is in use again"

    asyncio.run(main())


def test_rented_tiers_and_those_that_say_so_go_by_calls_in_flight(lab, start):
    async def main():
        async with FakeServer() as one, FakeServer() as two:
            for kind, more in (("rented", {}), ("owned", {"engine": "adopted", "balance": "least_busy"})):
                tier = lab.tier("t", "", kind=kind, upstreams=upstreams(one, two), **more)
                async with start(lab.plan_of(tier)) as running:
                    assert await talk(running, lab, "ada") == ["u0"] * 5
                    assert not running.server.gateway.prefixes._upstreams

    asyncio.run(main())
