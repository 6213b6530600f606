"""A second call beside one that is late: who has the client, what the other costs, and when there is none."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import dataclasses
import json
from decimal import Decimal

import pytest

from leftovers import none_alive, resting_collector
from ownward import ledger
from ownward.core import UpstreamError
from ownward.engines import Failure, FakeOptions, FakeServer, Stall
from ownward.gateway import GatewaySettings
from ownward.gateway.exchange import Exchange
from ownward.gateway.watching.request_log import fields_of
from ownward.plan import Budget, Hedge, Match, Strategy, Upstream, Workload
from ownward.policy import ANY

SLOW = FakeOptions(stalls=(Stall.parse("first:5"),))
SOON = Hedge(after_s=0.05, max_fraction=0.9)


def pair(lab, first, second, *, hedge=SOON, kind="owned", **more):
    """Return an own tier of two upstreams, the first of which is asked first."""
    named = (Upstream(name="a", url=first.base_url), Upstream(name="b", url=second.base_url))
    engine = {"engine": "adopted"} if kind == "owned" else {}
    return lab.tier("own", "", kind=kind, upstreams=named, hedge=hedge, balance="least_busy", **engine, **more)


def earn(running, tier="own", requests=20):
    """Have the tier earn second calls, as that many requests would."""
    for _ in range(requests):
        running.server.gateway.paces[tier].second_calls.deposit()


def counts(fake):
    return fake.record.count(with_calls=False)


async def until(holds, *, within_s):
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - what happens in the gateway is polled
            await asyncio.sleep(0.005)


async def rows_of(running):
    rows = sorted(await running.rows(), key=lambda row: row["attempt"])
    notes = {row.attempt: row for row in running.ledger.query_requests()}
    return rows, [notes[row["attempt"]] for row in rows]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_the_second_answer_has_the_client_and_the_first_call_is_cancelled_at_once(lab, start, stream):
    async def main():
        async with FakeServer(SLOW) as slow, FakeServer() as quick:
            async with start(lab.plan_of(pair(lab, slow, quick))) as running:
                earn(running)
                answer = await asyncio.wait_for(running.ask(body=lab.chat(stream=stream)), 3)
                assert answer.status == 200
                assert answer.headers["x-ownward-hedge"] == "won"
                assert (answer.headers["x-ownward-upstream"], answer.headers["x-ownward-attempts"]) == ("b", "2")
                assert "hedged after 0.050 s at own/b: its answer came first" in answer.headers["x-ownward-reason"]
                await until(lambda: counts(slow)["aborted"] == 1, within_s=0.2)
                (first, second), (beaten, won) = await rows_of(running)
                assert (first["state"], first["upstream"], first["charge_usd"]) == ("unsettled", "a", None)
                assert Decimal(first["charge_low_usd"]) == 0 < Decimal(first["charge_high_usd"])
                assert (second["state"], second["upstream"]) == ("settled", "b")
                assert (beaten.is_beaten, beaten.is_hedge) == (True, False)
                assert (won.is_beaten, won.is_hedge) == (False, True)
                assert beaten.error.startswith("beaten by own/b, asked 0.050 s later; it was cancelled after 0 content")
                assert won.error == "hedge: sent 0.050 s after own/a"
                assert not running.server.gateway.health.breakers, "a beaten call is no failure"
                assert set(running.server.gateway.in_flight.values()) == {0}
                assert running.server.gateway.slots["own"].in_use == 0
                metrics = (await running.ask("/metrics", method="GET")).body.decode()
                where = 'workload="chat",tier="own",upstream='
                assert f'ownward_hedges_total{{{where}"b",result="won"}} 1' in metrics
                assert f'ownward_beaten_usd_total{{{where}"a"}}' in metrics
                assert f"ownward_retries_total{{{where}" not in metrics

    asyncio.run(main())


def test_the_reason_says_that_a_request_spilled_and_then_was_hedged(lab, start):
    async def main():
        async with FakeServer(SLOW) as slow, FakeServer() as quick:
            full = lab.tier("full", quick.base_url, max_concurrency=1)
            plan = lab.plan_of(full, pair(lab, slow, quick))
            chat = dataclasses.replace(plan.workloads["chat"], spill_after_s=0.0)
            async with start(dataclasses.replace(plan, workloads={"chat": chat})) as running:
                earn(running)
                assert running.server.gateway.slots["full"].try_acquire()
                answer = await asyncio.wait_for(running.ask(body=lab.chat()), 3)
                running.server.gateway.slots["full"].release()
                said = "; full had no place for 0.0 s, spilled to own; hedged after 0.050 s at own/b: "
                assert said in answer.headers["x-ownward-reason"]

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_the_first_answer_still_counts_and_the_second_call_is_cancelled(lab, start, stream):
    async def main():
        async with FakeServer(FakeOptions(stalls=(Stall.parse("first:0.3"),))) as late, FakeServer(SLOW) as slow:
            async with start(lab.plan_of(pair(lab, late, slow))) as running:
                earn(running)
                answer = await asyncio.wait_for(running.ask(body=lab.chat(stream=stream)), 3)
                assert (answer.status, answer.headers["x-ownward-hedge"]) == (200, "lost")
                assert answer.headers["x-ownward-upstream"] == "a"
                await until(lambda: counts(slow)["aborted"] == 1, within_s=0.2)
                (first, second), (won, beaten) = await rows_of(running)
                assert (first["state"], second["state"]) == ("settled", "unsettled")
                assert beaten.is_hedge
                assert beaten.is_beaten
                assert not won.is_beaten
                assert won.error is None

    asyncio.run(main())


def test_streams_pass_whole_whoever_wins(lab, start):
    """What the client reads is the winner's stream, byte for byte, and nothing of the other's."""

    async def main():
        async with FakeServer(
            FakeOptions(ttft_s=0.1, tpot_s=0.01, stalls=(Stall.parse("first:0.2:0.5"),), seed=3)
        ) as one:
            async with FakeServer(FakeOptions(ttft_s=0.1, tpot_s=0.01, seed=4)) as other:
                async with start(lab.plan_of(pair(lab, one, other))) as running:
                    earn(running)
                    asked = (running.ask(body=lab.chat(stream=True, max_tokens=8)) for _ in range(8))
                    for answer in await asyncio.gather(*asked):
                        events = answer.body.decode().split("\n\n")
                        ids = {json.loads(event[6:])["id"] for event in events if event.startswith("data: {")}
                        assert (answer.status, len(ids)) == (200, 1)
                        assert answer.body.endswith(b"data: [DONE]\n\n")
                        assert answer.body.count(b"[DONE]") == 1

    asyncio.run(main())


def test_a_call_that_is_not_late_stays_alone(lab, start):
    async def main():
        async with FakeServer() as quick, FakeServer() as other:
            hedge = Hedge(after_s=2, max_fraction=0.9)
            async with start(lab.plan_of(pair(lab, quick, other, hedge=hedge))) as running:
                earn(running)
                answer = await running.ask(body=lab.chat())
                assert "x-ownward-hedge" not in answer.headers
                assert counts(quick)["accepted"] + counts(other)["accepted"] == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("hedge", "asked"),
    [
        (SOON, False),
        (Hedge(after_s=0.05, max_fraction=0.9, to=("api",)), True),
        (Hedge(after_s=0.05, max_fraction=0.9, to=("own",)), False),
    ],
    ids=["not stated", "named", "another named"],
)
def test_a_rented_tier_is_asked_a_second_time_only_where_the_plan_names_it(lab, start, hedge, asked):
    async def main():
        late = FakeOptions(ttft_s=0.25)
        async with FakeServer(late) as own, FakeServer() as api:
            first = lab.tier("own", own.base_url, kind="owned", engine="adopted", hedge=hedge)
            async with start(lab.plan_of(first, lab.tier("api", api.base_url))) as running:
                earn(running)
                answer = await running.ask(body=lab.chat())
                assert counts(api)["accepted"] == asked
                assert answer.headers["x-ownward-tier"] == ("api" if asked else "own")

    asyncio.run(main())


@pytest.mark.parametrize("hedge", [None, SOON], ids=["not stated", "stated"])
def test_calls_of_a_rented_tier_get_a_second_one_only_where_it_says_so_itself(lab, start, hedge):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.25)) as late, FakeServer() as quick:
            async with start(lab.plan_of(pair(lab, late, quick, hedge=hedge, kind="rented"))) as running:
                if hedge is not None:
                    earn(running)
                answer = await running.ask(body=lab.chat())
                assert answer.headers["x-ownward-upstream"] == ("a" if hedge is None else "b")
                assert counts(quick)["accepted"] == (hedge is not None)

    asyncio.run(main())


def test_no_more_than_the_stated_share_of_requests_gets_a_second_call(lab, start):
    """The upstream that is always late is not asked twice as often: 60 requests, a share of 10%."""

    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.1)) as one, FakeServer(FakeOptions(ttft_s=0.1)) as other:
            hedge = Hedge(after_s=0.02, max_fraction=0.1)
            async with start(lab.plan_of(pair(lab, one, other, hedge=hedge))) as running:
                for _ in range(6):
                    await asyncio.gather(*(running.ask(body=lab.chat()) for _ in range(10)))
                asked = counts(one)["accepted"] + counts(other)["accepted"]
                assert 60 < asked <= 66

    asyncio.run(main())


def held(usd):
    return Workload(
        name="held",
        match=Match(models=("held",)),
        strategy=Strategy(kind="direct", tiers=("own",)),
        label=ANY,
        budget=Budget(max_usd=usd, period="total"),
    )


async def bound_of(running):
    """Return the upper bound of the one call on the ledger, in dollars."""
    await running.ledger.flush()
    ((bound,),) = running.ledger._writer.run(lambda c: c.rows("SELECT charge_high_picousd FROM intents"))
    return Decimal(bound) / 10**12


@pytest.mark.parametrize(("bounds", "calls"), [(Decimal("1.5"), 1), (Decimal(2), 2)], ids=["one", "both"])
def test_a_second_call_that_would_break_a_budget_is_not_sent(lab, start, tmp_path, bounds, calls):
    async def main():
        asked = lab.chat(max_tokens=16) | {"model": "held"}
        async with FakeServer(FakeOptions(ttft_s=0.2)) as late, FakeServer() as quick:
            own = pair(lab, late, quick)
            probe = ledger.open(tmp_path / "probe.db")
            async with start(lab.plan_of(own, workloads=(held(Decimal(1)),)), ledger=probe) as running:
                await running.ask(body=asked)
                bound = await bound_of(running)
            assert counts(quick)["accepted"] == 0
            async with start(lab.plan_of(own, workloads=(held(bound * bounds),))) as running:
                earn(running)
                answer = await running.ask(body=asked)
                assert (answer.status, answer.headers["x-ownward-attempts"]) == (200, str(calls))
                assert answer.headers["x-ownward-upstream"] == ("a" if calls == 1 else "b")
                assert counts(quick)["accepted"] == calls - 1
                assert len(await running.rows()) == calls

    asyncio.run(main())


def test_a_key_is_charged_one_request_and_held_for_the_tokens_of_both(lab, start):
    async def main():
        async with FakeServer(SLOW) as slow, FakeServer() as quick:
            settings = GatewaySettings(port=0, requires_keys=True)
            async with start(lab.plan_of(pair(lab, slow, quick)), settings=settings) as running:
                earn(running)
                secret = running.ledger.create_key("k", {"requests_per_minute": 2, "tokens_per_minute": 50_000})
                headers = {"authorization": f"Bearer {secret}"}
                answer = await running.ask(body=lab.chat(max_tokens=10_000), headers=headers)
                assert answer.headers["x-ownward-hedge"] == "won"
                assert answer.headers["x-ratelimit-remaining-requests"] == "1"
                assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 50_000 - 2 * 10_000
                answer = await running.ask(body=lab.chat(max_tokens=30_000), headers=headers)
                assert counts(quick)["accepted"] == 1, "its tokens would not fit a second time"

    asyncio.run(main())


@pytest.mark.parametrize("fault", ["500", "400", "503"])
def test_a_second_call_that_fails_leaves_the_first_alone(lab, start, fault):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.25)) as late:
            async with FakeServer(FakeOptions(failures=(Failure.parse(fault),))) as bad:
                async with start(lab.plan_of(pair(lab, late, bad))) as running:
                    earn(running)
                    answer = await running.ask(body=lab.chat())
                    assert (answer.status, answer.headers["x-ownward-upstream"]) == (200, "a")
                    (first, second), (_, failed) = await rows_of(running)
                    assert (first["state"], second["state"], second["status"]) == ("settled", "failed", int(fault))
                    assert failed.error.startswith("hedge: sent 0.050 s after own/a; it answered")

    asyncio.run(main())


def test_a_first_call_that_fails_leaves_the_second_alone(lab, start):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.2, failures=(Failure.parse("500"),), stalls=SLOW.stalls)) as bad:
            async with FakeServer(FakeOptions(ttft_s=0.2)) as late:
                first_byte = (
                    Upstream(name="a", url=bad.base_url, first_byte_timeout_s=0.15),
                    Upstream(name="b", url=late.base_url),
                )
                own = dataclasses.replace(pair(lab, bad, late), upstreams=first_byte)
                async with start(lab.plan_of(own)) as running:
                    earn(running)
                    answer = await running.ask(body=lab.chat())
                    assert (answer.status, answer.headers["x-ownward-upstream"]) == (200, "b")
                    assert (answer.headers["x-ownward-attempts"], counts(late)["accepted"]) == ("2", 1)

    asyncio.run(main())


def test_when_both_fail_the_next_candidate_is_asked(lab, start):
    async def main():
        async with FakeServer(SLOW) as one, FakeServer(SLOW) as other, FakeServer() as good:
            upstreams = tuple(
                Upstream(name=name, url=fake.base_url, first_byte_timeout_s=0.2)
                for name, fake in (("a", one), ("b", other))
            )
            own = dataclasses.replace(pair(lab, one, other), upstreams=upstreams)
            async with start(lab.plan_of(own, lab.tier("last", good.base_url))) as running:
                earn(running)
                answer = await asyncio.wait_for(running.ask(body=lab.chat()), 3)
                assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "last")
                assert answer.headers["x-ownward-attempts"] == "3"
                assert "x-ownward-hedge" not in answer.headers
                assert [row["state"] for row in (await rows_of(running))[0]] == ["unsettled", "unsettled", "settled"]

    asyncio.run(main())


@pytest.mark.parametrize("what", ["breaker", "attempts", "deadline", "place"])
def test_there_is_no_second_call_where(lab, start, what):
    """The other upstream is down, the calls or the time of the request are used up, or no slot is free."""
    settings = GatewaySettings(
        port=0, max_attempts=1 if what == "attempts" else 3, deadline_s=0.04 if what == "deadline" else 600
    )

    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.2)) as late, FakeServer() as quick:
            plan = lab.plan_of(pair(lab, late, quick, max_concurrency=1 if what == "place" else None))
            async with start(plan, settings=settings) as running:
                earn(running)
                if what == "breaker":
                    for _ in range(5):
                        running.server.gateway.health.note_failure("own/b", UpstreamError("it failed"))
                answer = await running.ask(body=lab.chat())
                assert answer.status == (504 if what == "deadline" else 200)
                assert answer.headers["x-ownward-attempts"] == "1"
                assert counts(quick)["accepted"] == 0

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_client_that_leaves_ends_both_calls(lab, start, stream):
    async def main():
        async with FakeServer(SLOW) as one, FakeServer(SLOW) as other:
            async with start(lab.plan_of(pair(lab, one, other))) as running:
                earn(running)
                async with lab.Client(running.base_url) as client:
                    await client.send(lab.CHAT, lab.chat(stream=stream))
                    await until(lambda: counts(one)["accepted"] + counts(other)["accepted"] == 2, within_s=2)
                await until(lambda: counts(one)["aborted"] + counts(other)["aborted"] == 2, within_s=0.2)
                await until(lambda: not running.server.gateway.exchanges, within_s=0.2)
                rows, notes = await rows_of(running)
                assert [row["state"] for row in rows] == ["unsettled", "unsettled"]
                assert all("the client left" in note.error and not note.is_beaten for note in notes)
                assert running.server.gateway.slots["own"].in_use == 0

    asyncio.run(main())


def test_a_gateway_that_stops_settles_both_calls(lab, start):
    async def main():
        settings = GatewaySettings(port=0, drain_s=0.05)
        async with FakeServer(SLOW) as one, FakeServer(SLOW) as other:
            async with start(lab.plan_of(pair(lab, one, other)), settings=settings) as running:
                earn(running)
                asked = asyncio.create_task(running.ask(body=lab.chat()))
                await until(lambda: counts(one)["accepted"] + counts(other)["accepted"] == 2, within_s=2)
                await running.server.stop()
                assert (await asked).status == 503
                rows, notes = await rows_of(running)
                assert [row["state"] for row in rows] == ["unsettled", "unsettled"]
                assert all("the gateway stopped" in note.error for note in notes)

    asyncio.run(main())


@pytest.mark.parametrize(("store", "calls"), [({}, 1), ({"store": True}, 1), ({"store": False}, 2)])
def test_a_response_that_the_upstream_keeps_is_asked_for_once(lab, start, store, calls):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.2)) as late, FakeServer() as quick:
            async with start(lab.plan_of(pair(lab, late, quick))) as running:
                earn(running)
                answer = await running.ask("/v1/responses", {"model": "chat", "input": "hello", **store})
                assert (answer.status, answer.headers["x-ownward-attempts"]) == (200, str(calls))

    asyncio.run(main())


def test_calls_of_a_strategy_get_no_second_one(lab, start):
    """Their number is capped by the plan."""

    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.15)) as late, FakeServer() as quick:
            voted = Workload(
                name="voted",
                match=Match(models=("voted",)),
                strategy=Strategy(kind="vote", tiers=("own",), options={"samples": 2, "number": True}),
                label=ANY,
            )
            async with start(lab.plan_of(pair(lab, late, quick), workloads=(voted,))) as running:
                earn(running)
                await running.ask(body=lab.chat() | {"model": "voted"})
                assert not any(row.is_hedge for row in running.ledger.query_requests())

    asyncio.run(main())


def test_a_stream_that_is_continued_when_cut_is_hedged_before_its_first_byte(lab, start):
    async def main():
        async with FakeServer(SLOW) as slow, FakeServer() as quick:
            goes_on = Workload(
                name="long",
                match=Match(models=("long",)),
                strategy=Strategy(kind="direct", tiers=("own",)),
                label=ANY,
                continues_streams=True,
            )
            own = pair(lab, slow, quick, capabilities=frozenset({"continuation", "chat", "streaming"}))
            async with start(lab.plan_of(own, workloads=(goes_on,))) as running:
                earn(running)
                answer = await asyncio.wait_for(running.ask(body=lab.chat(stream=True) | {"model": "long"}), 3)
                assert (answer.headers["x-ownward-hedge"], answer.headers["x-ownward-upstream"]) == ("won", "b")
                assert answer.body.endswith(b"data: [DONE]\n\n")

    asyncio.run(main())


def test_the_delay_is_what_the_tier_itself_takes(lab, start):
    """Once enough calls are known: those that take longer than the percentile get a second one."""

    async def main():
        hedge = Hedge(after_percentile=90, min_observations=20, max_fraction=0.9)
        options = FakeOptions(ttft_s=0.02)
        async with FakeServer(options) as one, FakeServer(options) as other:
            async with start(lab.plan_of(pair(lab, one, other, hedge=hedge))) as running:
                pace = running.server.gateway.paces["own"]
                earn(running)
                for _ in range(19):
                    assert "x-ownward-hedge" not in (await running.ask(body=lab.chat())).headers
                assert pace.delay_s(lab.CHAT, is_stream=False) is None
                await running.ask(body=lab.chat())
                delay_s = pace.delay_s(lab.CHAT, is_stream=False)
                assert 0.02 <= delay_s < 2
                assert pace.delay_s(lab.CHAT, is_stream=True) is None, "streams have times of their own"

    asyncio.run(main())


def test_a_request_log_line_and_spans_say_which_call_was_the_second(lab, start):
    told = {}

    class Watching:
        def request_ended(self, exchange, **more):
            told.update(fields_of(exchange, **more), calls=list(exchange.calls))

    async def main():
        async with FakeServer(SLOW) as slow, FakeServer() as quick:
            async with start(lab.plan_of(pair(lab, slow, quick)), watchers=(Watching(),)) as running:
                earn(running)
                await running.ask(body=lab.chat(stream=True))
                await until(lambda: told, within_s=1)
                assert (told["hedge"], told["attempts"], told["upstream"]) == ("won", 2, "b")
                assert told["ttft_s"] is not None, "of the call that answered"
                assert [(c.number, c.is_hedge, c.is_beaten) for c in sorted(told["calls"], key=lambda c: c.number)] == [
                    (1, False, True),
                    (2, True, False),
                ]

    asyncio.run(main())


def test_nothing_of_a_request_outlives_it(lab, start):
    """With the collector off: no cycle holds an exchange, whether its call was late or not."""

    async def main():
        async with FakeServer(FakeOptions(stalls=(Stall.parse("first:0.2:0.5"),))) as one, FakeServer() as other:
            async with start(lab.plan_of(pair(lab, one, other))) as running:
                earn(running)
                with resting_collector():
                    for stream in (False, True) * 4:
                        await running.ask(body=lab.chat(stream=stream))
                    await none_alive(Exchange)
                assert sum(row.is_hedge for row in running.ledger.query_requests())

    asyncio.run(main())
