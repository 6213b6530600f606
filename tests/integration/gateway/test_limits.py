"""Everything is bounded, and what is over a bound is told so at once."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import dataclasses
import json
import re
import time

import pytest

from ownward.core import UpstreamUnreachable
from ownward.engines import Failure, FakeOptions, FakeServer
from ownward.gateway import GatewaySettings
from ownward.policy import LOCAL_ONLY


def test_above_slots_and_queue_the_answer_is_503_at_once_and_nothing_is_sent(lab, start):
    settings = GatewaySettings(port=0, queue_per_tier_requests=2, drain_s=2)

    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.2)) as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url, max_concurrency=2))
            async with start(plan, settings=settings) as running:
                answers = await asyncio.gather(*(running.ask(body=lab.chat()) for _ in range(7)))
                statuses = sorted(answer.status for answer in answers)
                assert statuses == [200] * 4 + [503] * 3
                assert all("retry-after" in answer.headers for answer in answers if answer.status == 503)
                assert fake.record.count(with_calls=False)["accepted"] == 4
                assert sorted(row["state"] for row in await running.rows()) == ["refused"] * 3 + ["settled"] * 4

    asyncio.run(main())


def test_a_full_tier_gives_way_to_the_next_one(lab, start):
    settings = GatewaySettings(port=0, queue_per_tier_requests=0, drain_s=2)

    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.2)) as small, FakeServer() as other:
            plan = lab.plan_of(lab.tier("a", small.base_url, max_concurrency=1), lab.tier("b", other.base_url))
            async with start(plan, settings=settings) as running:
                answers = await asyncio.gather(*(running.ask(body=lab.chat()) for _ in range(3)))
                assert sorted(answer.headers["x-ownward-tier"] for answer in answers) == ["a", "b", "b"]

    asyncio.run(main())


def spilling(lab, small, other, after_s, **more):
    plan = lab.plan_of(lab.tier("a", small.base_url, max_concurrency=1), lab.tier("b", other.base_url, **more))
    chat = dataclasses.replace(plan.workloads["chat"], spill_after_s=after_s)
    return dataclasses.replace(plan, workloads={"chat": chat})


@pytest.mark.parametrize(
    ("after_s", "tiers"), [(None, ["a", "a", "a"]), (0.0, ["a", "b", "b"]), (0.1, ["a", "b", "b"]), (9.0, ["a"] * 3)]
)
def test_a_request_waits_for_its_first_tier_unless_its_workload_says_for_how_long(lab, start, after_s, tiers):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.4)) as small, FakeServer() as other:
            async with start(spilling(lab, small, other, after_s)) as running:
                began_s = time.monotonic()
                answers = await asyncio.gather(*(running.ask(body=lab.chat()) for _ in range(3)))
                assert sorted(answer.headers["x-ownward-tier"] for answer in answers) == tiers
                spilled = [one for one in answers if one.headers["x-ownward-tier"] == "b"]
                assert len(spilled) == 2 or time.monotonic() - began_s > 1.1
                await running.ledger.flush()
                reasons = dict(
                    running.ledger._writer.run(
                        lambda connection: connection.rows("SELECT upstream, reason FROM attempts ORDER BY attempt")
                    )
                )
                for one in spilled:
                    assert re.search(r"; a had no place for 0\.\d s, spilled to b$", one.headers["x-ownward-reason"])
                assert (" spilled to b" in reasons.get("b-1", "")) == bool(spilled)
                assert "spilled" not in reasons["a-1"]
                slots = running.server.gateway.slots
                assert [(slots[name].in_use, slots[name].waiting) for name in "ab"] == [(0, 0), (0, 0)]

    asyncio.run(main())


def test_no_more_leave_a_full_tier_than_have_a_place_in_another(lab, start):
    """All of a burst have waited as long in the same moment; the others keep their turns."""

    async def main():
        slow = FakeOptions(ttft_s=0.8)
        async with FakeServer(slow) as small, FakeServer(slow) as other:
            async with start(spilling(lab, small, other, 0.1, max_concurrency=2)) as running:
                asked = [asyncio.create_task(running.ask(body=lab.chat())) for _ in range(7)]
                await asyncio.sleep(0.4)
                slots = running.server.gateway.slots
                assert [(slots[name].in_use, slots[name].waiting) for name in "ab"] == [(1, 4), (2, 0)]
                assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
                assert [(slots[name].in_use, slots[name].waiting) for name in "ab"] == [(0, 0), (0, 0)]

    asyncio.run(main())


def test_a_request_that_fails_where_it_spilled_to_comes_back(lab, start):
    async def main():
        failing = FakeOptions(failures=(Failure.parse("500"),))
        async with FakeServer(FakeOptions(ttft_s=0.3)) as small, FakeServer(failing) as other:
            async with start(spilling(lab, small, other, 0.0)) as running:
                answers = await asyncio.gather(*(running.ask(body=lab.chat()) for _ in range(2)))
                assert [answer.headers["x-ownward-tier"] for answer in answers] == ["a", "a"]
                assert sorted(answer.headers["x-ownward-attempts"] for answer in answers) == ["1", "2"]

    asyncio.run(main())


def test_a_request_spills_only_to_where_its_data_may_go_and_that_is_up(lab, start):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.2)) as small, FakeServer() as other:
            plan = spilling(lab, small, other, 0.0)
            async with start(plan) as running:
                gateway = running.server.gateway
                for _ in range(gateway.settings.breaker_failures):
                    gateway.health.note_failure("b/b-1", UpstreamUnreachable("no route"))
                answers = await asyncio.gather(*(running.ask(body=lab.chat()) for _ in range(2)))
                assert [answer.headers["x-ownward-tier"] for answer in answers] == ["a", "a"]
                assert other.record.count(with_calls=False)["accepted"] == 0
            own = dataclasses.replace(plan.tiers["a"], kind="owned", provider=None, region=None, engine="adopted")
            chat = dataclasses.replace(plan.workloads["chat"], label=LOCAL_ONLY)
            kept_in = dataclasses.replace(plan, tiers={**plan.tiers, "a": own}, workloads={"chat": chat})
            async with start(kept_in) as running:
                answers = await asyncio.gather(*(running.ask(body=lab.chat()) for _ in range(2)))
                assert [answer.headers["x-ownward-tier"] for answer in answers] == ["a", "a"]
                assert other.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


def test_a_client_that_leaves_in_the_queue_takes_no_place_elsewhere(lab, start):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.3)) as small, FakeServer() as other:
            async with start(spilling(lab, small, other, 0.1)) as running:
                first = asyncio.create_task(running.ask(body=lab.chat()))
                await asyncio.sleep(0.05)
                second = asyncio.create_task(running.ask(body=lab.chat()))
                await asyncio.sleep(0.05)
                second.cancel()
                assert (await first).status == 200
                slots = running.server.gateway.slots
                assert [(slots[name].in_use, slots[name].waiting) for name in "ab"] == [(0, 0), (0, 0)]
                assert other.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


def test_the_queue_is_first_in_first_out_and_has_a_time(lab, start):
    settings = GatewaySettings(port=0, queue_timeout_s=0.1, drain_s=2)

    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.5)) as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url, max_concurrency=1))
            async with start(plan, settings=settings) as running:
                first, second = await asyncio.gather(*(running.ask(body=lab.chat()) for _ in range(2)))
                assert sorted((first.status, second.status)) == [200, 503]
                assert fake.record.count(with_calls=False)["accepted"] == 1

    asyncio.run(main())


def test_a_body_above_the_limit_is_413_stated_or_not(lab, start):
    settings = GatewaySettings(port=0, max_body_bytes=1000, drain_s=1)

    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
            assert (await running.ask(body=b"x" * 1001)).status == 413
            async with lab.Client(running.base_url) as client:
                client.writer.write(
                    b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                for _ in range(3):
                    client.writer.write(lab.chunk(b"x" * 500))
                assert (await client.head()).status == 413

    asyncio.run(main())


def test_headers_above_the_limit_are_431(lab, start):
    settings = GatewaySettings(port=0, max_header_bytes=4096, drain_s=1)

    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
            async with lab.Client(running.base_url) as client:
                client.writer.write(b"GET /healthz HTTP/1.1\r\n")
                client.writer.write(b"".join(b"x-%d: %b\r\n" % (index, b"y" * 100) for index in range(50)))
                told = await client.rest(await client.head())
                assert (told.status, "max_header_bytes" in told.json["error"]["message"]) == (431, True)

    asyncio.run(main())


def test_a_head_that_never_ends_is_cut(lab, start):
    settings = GatewaySettings(port=0, header_timeout_s=0.1, drain_s=1)

    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
            async with lab.Client(running.base_url) as silent, lab.Client(running.base_url) as slow:
                slow.writer.write(b"GET /healthz HTTP/1.1\r\nx: ")
                assert (await asyncio.wait_for(slow.head(), 2)).status == 408
                # One that was opened ahead of its first request hears nothing that it would take for the answer to it.
                assert await asyncio.wait_for(silent.reader.read(), 2) == b""

    asyncio.run(main())


def test_a_kept_connection_serves_many_requests_beyond_the_head_timeout(lab, start):
    settings = GatewaySettings(port=0, header_timeout_s=0.1, drain_s=1)

    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
            async with lab.Client(running.base_url) as client:
                for _ in range(3):
                    assert (await client.ask(lab.CHAT, lab.chat())).status == 200
                    await asyncio.sleep(0.08)

    asyncio.run(main())


def test_too_many_requests_in_flight_are_turned_away(lab, start):
    settings = GatewaySettings(port=0, max_in_flight_requests=2, drain_s=2)

    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.2)) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
                answers = await asyncio.gather(*(running.ask(body=lab.chat()) for _ in range(5)))
                assert sorted(answer.status for answer in answers) == [200, 200, 503, 503, 503]

    asyncio.run(main())


@pytest.mark.parametrize("is_chunked", [False, True], ids=["with its length", "in chunks"])
@pytest.mark.parametrize("size", [1000, 100_000], ids=["small", "large"])
def test_bodies_that_are_too_many_bytes_together_are_turned_away_as_they_come(lab, start, size, is_chunked):
    """One key's pictures must not take the memory of the machine."""
    settings = GatewaySettings(port=0, max_bodies_bytes=3 * size, drain_s=2)
    body = json.dumps(lab.chat(user="u" * size)).encode()

    async def ask(running):
        async with lab.Client(running.base_url) as client:
            if not is_chunked:
                return await client.ask(lab.CHAT, body)
            client.writer.write(b"POST %b HTTP/1.1\r\nhost: g\r\n" % lab.CHAT.encode())
            client.writer.write(b"transfer-encoding: chunked\r\n\r\n" + lab.chunk(body) + b"0\r\n\r\n")
            return await client.rest(await client.head())

    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.2)) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
                answers = await asyncio.gather(*(ask(running) for _ in range(5)))
                assert sorted(answer.status for answer in answers) == [200, 200, 503, 503, 503]
                refused = next(answer for answer in answers if answer.status == 503)
                assert (refused.json["error"]["ownward_kind"], refused.headers["retry-after"]) == (
                    "too_many_in_flight",
                    "1",
                )
                assert "max_bodies_bytes" in refused.json["error"]["next"]
                assert running.server.gateway.body_bytes == 0
                assert (await ask(running)).status == 200

    asyncio.run(main())


def test_what_would_take_long_to_look_at_is_refused_at_once_and_not_written_down(lab, start):
    """A model's name of megabytes was compared with every name of the plan for twenty seconds."""
    deep = b"[" * 100_000 + b"]" * 100_000
    members = b",".join(b'"k%d":1' % number for number in range(50_000))
    bodies = {
        "a long name": b'{"model": "%b", "messages": []}' % (b"m" * 3_000_000),
        "deep": b'{"model": "chat", "messages": %b}' % deep,
        "deep where nothing is read": b'{"model": "chat", "messages": [], "x": %b}' % deep,
        "many members": b'{"model": "chat", "messages": [], %b}' % members,
    }

    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            for path in (lab.CHAT, "/v1/messages", "/v1/responses"):
                for what, body in bodies.items():
                    begun_s = time.process_time()
                    answer = await running.ask(path, body)
                    assert (answer.status, len(answer.body) < 2000) == (400, True), (what, answer.body[:3000])
                    assert time.process_time() - begun_s < 1, what
            shallow = b'{"completed":' * 5000 + b"1" + b"}" * 5000
            assert (await running.ask("/v1/tasks/t/outcome", shallow[:60_000])).status == 400
            begun_s = time.process_time()
            assert (await running.ask(f"/v1/models/{'m' * 50_000}")).status == 404
            assert time.process_time() - begun_s < 1
            assert fake.record.count(with_calls=False)["accepted"] == 0
            rows = await running.rows()
            assert sum(len(str(row)) for row in rows) < 20_000

    asyncio.run(main())


def test_a_body_in_drips_is_cut_in_time_and_nothing_is_sent(lab, start):
    """Slow-loris of a body: each drip is in time, all of them are not."""

    async def main():
        settings = GatewaySettings(port=0, drain_s=1, body_timeout_s=0.3)
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
                async with lab.Client(running.base_url) as client:
                    client.writer.write(
                        b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 1000\r\n\r\n"
                    )
                    begun_s = time.monotonic()

                    async def drip():
                        for _ in range(100):
                            client.writer.write(b" ")
                            await asyncio.sleep(0.02)

                    dripping = asyncio.create_task(drip())
                    answer = await client.rest(await client.head())
                    assert 0.25 < time.monotonic() - begun_s < 2
                    assert (answer.status, "did not arrive in time" in answer.body.decode()) == (408, True)
                    assert answer.headers["connection"] == "close"
                    dripping.cancel()
                assert fake.record.count(with_calls=False)["accepted"] == 0

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/tasks/t/outcome"])
@pytest.mark.parametrize(
    "framing", [b"content-length: 500\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n", b"content-length: 500\r\n\r\n{"]
)
def test_a_body_that_never_begins_or_never_ends_is_cut(lab, start, path, framing):
    settings = GatewaySettings(port=0, body_timeout_s=0.2, drain_s=1)

    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
            async with lab.Client(running.base_url) as client:
                client.writer.write(b"POST " + path.encode() + b" HTTP/1.1\r\nhost: a\r\n" + framing)
                if b"chunked" in framing:
                    client.writer.write(b"5;")
                    drip = asyncio.create_task(_drip(client))  # an extension of a chunk: bytes, and never one of a body
                assert (await asyncio.wait_for(client.head(), 3)).status == 408
                if b"chunked" in framing:
                    drip.cancel()

    async def _drip(client):
        while True:
            client.writer.write(b"a")
            await asyncio.sleep(0.02)

    asyncio.run(main())
