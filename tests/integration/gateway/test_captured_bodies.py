"""Bodies are kept where a workload's plan says so, for as long as it says, and nowhere else."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from ownward import ledger
from ownward.core import ManualClock
from ownward.engines import Cut, Failure, FakeOptions, FakeServer
from ownward.gateway.keeping.bodies import delete_expired, uncaptured_lines
from ownward.plan import Capture, Match, Strategy, Workload
from ownward.policy import ANY, LOCAL_ONLY
from ownward.traffic import Sketcher

START = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Clock(ManualClock):
    """Wall time by hand, the monotonic clock of the machine."""

    def monotonic_s(self) -> float:
        return time.monotonic()


def kept(name="kept", *, label=ANY, match=None, **more):
    stated = {"sample_fraction": 1.0, "retention_s": 3600, **more}
    return Workload(
        name=name,
        match=match or Match(models=(name,)),
        strategy=Strategy(kind="direct", tiers=("a",)),
        label=label,
        capture=Capture(**stated),
    )


async def bodies(running):
    await running.server.gateway.asides_done()  # they are written beside the answer
    await running.ledger.flush()
    return list(running.ledger.query_bodies())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_request_and_answer_are_kept_as_they_passed_and_only_of_that_workload(lab, start, stream):
    async def main():
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url), workloads=(kept(),))) as running:
                sent = lab.chat(stream=stream, x_unknown=1) | {"model": "kept"}
                answer = await running.ask(body=sent)
                await running.ask(body=lab.chat(stream=stream))
                request, response = await bodies(running)
                assert (request.kind, response.kind) == ("request", "response")
                assert json.loads(request.content) == sent
                assert response.content == answer.body
                assert request.request_id == response.request_id == answer.headers["x-ownward-request-id"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("changed", "headers"),
    [
        ({"stream": True}, {"x-ownward-tier": "cut"}),
        ({"messages": [{"role": "user", "content": "x" * 2000}]}, {}),
        ({"n": 20}, {}),
        ({}, {"x-ownward-tier": "refusing"}),
        ({}, {"x-ownward-label": "eu", "x-ownward-tier": "far"}),
    ],
    ids=["a stream that was cut", "a large request", "a large answer", "one that was refused", "what may not go there"],
)
def test_what_does_not_end_well_or_is_too_large_is_kept_in_no_part(lab, start, changed, headers):
    async def main():
        async with (
            FakeServer(FakeOptions(cuts=(Cut.parse("2"),))) as cutting,
            FakeServer(FakeOptions(failures=(Failure.parse("400:1"),))) as refusing,
            FakeServer() as fake,
        ):
            named = {"a": fake, "cut": cutting, "refusing": refusing}
            tiers = [lab.tier(name, server.base_url) for name, server in named.items()]
            plan = lab.plan_of(*tiers, workloads=(kept(max_body_bytes=1500),))
            async with start(plan) as running:
                body = lab.chat() | {"model": "kept"}
                await running.ask(body=body | changed, headers=headers)
                assert await bodies(running) == []
                await running.ask(body=body)
                assert len(await bodies(running)) == 2

    asyncio.run(main())


def test_they_are_deleted_in_their_time(lab, start, tmp_path):
    async def main():
        clock = Clock(START)
        async with FakeServer() as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url), workloads=(kept(),))
            opened = ledger.open(tmp_path / "timed.db", clock=clock)
            async with start(plan, clock=clock, ledger=opened) as running:
                await running.ask(body=lab.chat() | {"model": "kept"})
                assert len(await bodies(running)) == 2
                clock.advance(timedelta(minutes=61).total_seconds())
                await delete_expired(running.server.gateway)
                rows = running.ledger._writer.run(lambda connection: connection.rows("SELECT COUNT(*) FROM bodies"))
                assert rows == [(0,)]

    asyncio.run(main())


def test_about_the_stated_share_is_drawn(lab, start):
    async def main():
        async with FakeServer() as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url), workloads=(kept(sample_fraction=0.2),))
            async with start(plan) as running:
                await asyncio.gather(*(running.ask(body=lab.chat() | {"model": "kept"}) for _ in range(200)))
                await asyncio.sleep(0.5)
                assert 15 <= len([one for one in await bodies(running) if one.kind == "request"]) <= 70

    asyncio.run(main())


def test_a_ledger_elsewhere_gets_only_what_may_travel_anywhere(lab, start, monkeypatch):
    monkeypatch.setattr(ledger.Ledger, "is_on_this_machine", property(lambda self: False))

    async def main():
        async with FakeServer() as fake:
            here = lab.tier("a", fake.base_url, kind="owned", engine="adopted")
            plan = lab.plan_of(here, workloads=(kept("shut", label=LOCAL_ONLY), kept("open")))
            async with start(plan) as running:
                for model in ("shut", "open"):
                    assert (await running.ask(body=lab.chat() | {"model": model})).status == 200
                assert {json.loads(one.content)["model"] for one in await bodies(running) if one.kind == "request"} == {
                    "open"
                }
                (line,) = uncaptured_lines(plan, is_on_this_machine=False)
                assert "'shut'" in line

    asyncio.run(main())


def system(text, question="?"):
    return {"messages": [{"role": "system", "content": text}, {"role": "user", "content": question}]}


def test_a_workload_is_recognised_by_the_fixed_part_of_its_prompts(lab, start):
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"properties": {"id": {}}}}}]
    sketcher = Sketcher()
    named = {
        "desk": sketcher.fingerprint(system("You answer tickets of the desk. Today is 2026-11-20.")),
        "tools": sketcher.fingerprint({"tools": tools, "messages": [{"role": "user", "content": "a"}]}),
    }
    assert sketcher.fingerprint({"messages": [{"role": "user", "content": "hi"}]}) is None

    async def main():
        async with FakeServer() as fake:
            workloads = tuple(
                Workload(
                    name=name,
                    match=Match(fingerprints=(fingerprint,)),
                    strategy=Strategy(kind="direct", tiers=("a",)),
                    label=ANY,
                )
                for name, fingerprint in named.items()
            )
            async with start(lab.plan_of(lab.tier("a", fake.base_url), workloads=workloads)) as running:

                async def workload_of(**body):
                    answer = await running.ask(body={"model": "a-model", **body})
                    return answer.headers["x-ownward-workload"]

                later = system("You answer tickets of the desk. Today is 2027-01-03.", "another question")
                assert await workload_of(**later) == "desk"
                assert await workload_of(**system("You answer letters.")) == "unassigned"
                assert await workload_of(tools=tools, messages=[{"role": "user", "content": "q"}]) == "tools"
                assert await workload_of(**lab.chat() | {"model": "a-model"}) == "unassigned"
                unreadable = await running.ask(body=b'{"model": "a-model", "messages": [], "user": "\xff"}')
                assert unreadable.headers["x-ownward-workload"] == "unassigned"

    asyncio.run(main())


def test_the_gateway_does_not_load_numpy_for_it():
    import subprocess
    import sys

    code = "import sys, ownward.gateway; print([m for m in ('numpy', 'pyarrow') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
