"""What a judge's pattern does with an answer holds up nobody: an answer that takes too long counts as unread."""
# ruff: noqa: ASYNC110 - a gateway stands inside its upstreams, and what happens in them is polled

import asyncio
import json
import os
import time

import psutil
import pytest

from ownward.engines import FakeOptions, FakeServer
from ownward.gateway.holding.judging import AnswerUnread, Judging
from ownward.plan import Match, Strategy, Workload
from ownward.policy import ANY

ENDLESS = "a" * 40 + "!"
"""For `(a+)+$`, of which Python's engine tries every one of 2**39 ways to share the letters out."""


def rule(**options):
    return json.dumps(options).encode()


def test_an_answer_that_a_pattern_never_ends_with_is_given_up_and_the_next_one_read():
    async def main():
        judging = Judging()
        try:
            ticks = 0

            async def tick():
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.01)
                    ticks += 1

            ticking = asyncio.create_task(tick())
            with pytest.raises(AnswerUnread, match="41 characters"):
                await judging.read(rule(regex="(a+)+$"), ENDLESS)
            ticking.cancel()
            assert ticks > 20
            assert await judging.read(rule(regex="(a+)+$"), "baa") == ("aa", 1.0)
        finally:
            judging.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "text", "read"),
    [
        ({"regex": r"(?:so|thus) (\w+)"}, "so 1, thus 2", ("2", 1.0)),
        ({"regex": r"(?<=\$)\d+"}, "none", (None, 0.0)),
        ({"json_schema": {"type": "object", "required": ["a"]}}, '{"a": 1}', ('{"a": 1}', 1.0)),
        ({"json_schema": {"type": "object", "required": ["a"]}}, '{"b": 1}', ('{"b": 1}', 0.0)),
        ({"labels": ["yes", "no"]}, "Yes. " * 20_000, ("yes", 1.0)),
        ({"regex": "(.+)"}, "\u00e9\U0001f600\x00", ("\u00e9\U0001f600\x00", 1.0)),
    ],
)
def test_answers_are_read_aside_as_they_are_read_here(options, text, read):
    async def main():
        judging = Judging()
        try:
            assert await judging.read(rule(**options), text) == read
        finally:
            judging.close()

    asyncio.run(main())


def test_few_processes_read_for_many_and_none_is_left():
    async def main():
        judging = Judging()
        found = await asyncio.gather(*(judging.read(rule(regex=r"\d+"), f"it is {n}") for n in range(20)))
        assert [key for key, _ in found] == [str(n) for n in range(20)]
        pids = [reader._process.pid for reader in judging._idle]
        assert 1 <= len(pids) <= 2
        judging.close()
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    asyncio.run(main())


def test_an_answer_behind_many_that_do_not_end_waits_no_longer_than_one_may(monkeypatch):
    monkeypatch.setattr("ownward.gateway.holding.judging._MOST_WALL_S", 1.5)

    async def main():
        judging = Judging()
        try:
            began_s = time.monotonic()
            endless = [judging.read(rule(regex="(a+)+$"), "a" * length + "!") for length in range(40, 50)]
            ended = await asyncio.gather(*endless, return_exceptions=True)
            assert time.monotonic() - began_s < 3
            assert {type(error) for error in ended} == {AnswerUnread}
            assert any("had not read in 1.5 s" in str(error) for error in ended)
            assert await judging.read(rule(regex="(a+)+$"), "baa") == ("aa", 1.0)
        finally:
            judging.close()

    asyncio.run(main())


def test_a_process_that_somebody_ended_is_replaced():
    async def main():
        judging = Judging()
        try:
            await judging.read(rule(regex="x"), "x")
            (reader,) = judging._idle
            reader._process.kill()
            reader._process.wait()
            assert await judging.read(rule(regex="x"), "x") == ("x", 1.0)
        finally:
            judging.close()

    asyncio.run(main())


def test_a_judge_without_end_escalates_and_holds_up_no_other_request(lab, start, caplog):
    strategy = Strategy(kind="cascade", tiers=("a", "b"), options={"regex": "(a+)+$"})
    judged = Workload(name="judged", match=Match(models=("judged",)), strategy=strategy, label=ANY)

    async def main():
        async with FakeServer(FakeOptions(reply=ENDLESS)) as cheap, FakeServer(FakeOptions(reply="b")) as strong:
            plan = lab.plan_of(lab.tier("a", cheap.base_url), lab.tier("b", strong.base_url), workloads=(judged,))
            async with start(plan) as running:
                asked = asyncio.create_task(running.ask(body={**lab.chat(), "model": "judged"}))
                longest_s = 0.0
                while not asked.done():
                    began_s = time.monotonic()
                    assert (await running.ask("/healthz")).status == 200
                    longest_s = max(longest_s, time.monotonic() - began_s)
                    await asyncio.sleep(0.02)
                answer = await asked
                assert longest_s < 0.8
                assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "b")
                assert "the judge took too long for 1 of the answers" in answer.headers["x-ownward-reason"]
                assert "counts as unread" in caplog.text
                assert ENDLESS not in caplog.text

    asyncio.run(main())


def test_a_client_that_leaves_while_an_answer_is_read_leaves_nothing_running(lab, start):
    strategy = Strategy(kind="cascade", tiers=("a", "b"), options={"regex": "(a+)+$"})
    judged = Workload(name="judged", match=Match(models=("judged",)), strategy=strategy, label=ANY)

    async def main():
        async with FakeServer(FakeOptions(reply=ENDLESS)) as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url), lab.tier("b", fake.base_url), workloads=(judged,))
            async with start(plan) as running:
                async with lab.Client(running.base_url) as client:
                    await client.send(lab.CHAT, {**lab.chat(), "model": "judged"})
                    while not fake.record.count(with_calls=False)["accepted"]:
                        await asyncio.sleep(0.01)
                    await asyncio.sleep(0.3)
                async with asyncio.timeout(0.3):
                    while running.server.gateway.exchanges:
                        await asyncio.sleep(0.005)
                assert [row["state"] for row in await running.rows()] == ["settled"]

    asyncio.run(main())


def test_a_process_that_is_no_longer_wanted_while_it_starts_is_gone_at_once(monkeypatch):
    async def never(**_):
        await asyncio.Event().wait()

    async def main():
        before = {child.pid for child in psutil.Process().children()}
        reading = asyncio.create_task(Judging().read(b'{"regex": "a"}', "a"))
        await asyncio.sleep(0.01)
        begun = {child.pid for child in psutil.Process().children()} - before
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert begun
        assert not any(psutil.pid_exists(pid) for pid in begun), "it was waited for, and is no zombie"

    monkeypatch.setattr(asyncio, "open_connection", never)
    asyncio.run(main())
