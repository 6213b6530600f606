"""Requests with bodies of megabytes: what is read through takes turns with what others ask for."""

import asyncio
import threading

import pytest

from ownward.engines import Failure, FakeOptions, FakeServer
from ownward.gateway import peeking
from ownward.gateway.calling import attempt, ledger_entry
from ownward.gateway.question import Question
from ownward.plan import Upstream

STAGES = (
    (peeking, "peek"),
    (Question, "choose"),
    (attempt, "splice"),
    (attempt, "issue_permit"),
    (ledger_entry, "input_tokens_upper_bound"),
)


class Turns:
    """In which turn of the event loop, and in which thread, each stage of a request was."""

    def __init__(self, monkeypatch):
        self.number = 0
        self.of = {}
        self.threads = {}
        for owner, name in STAGES:
            monkeypatch.setattr(owner, name, self._noting(name, getattr(owner, name)))

    def _noting(self, name, stage):
        def noted(*args, **more):
            self.of[name], self.threads[name] = self.number, threading.current_thread()
            return stage(*args, **more)

        return noted

    def count(self):
        self.number += 1
        asyncio.get_running_loop().call_soon(self.count)


@pytest.mark.parametrize("is_long", [True, False])
def test_others_come_first_between_the_readings_of_a_long_body_and_a_short_one_is_served_at_once(
    lab, start, monkeypatch, is_long
):
    turns = Turns(monkeypatch)
    text = "a word " * (200_000 if is_long else 2)

    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            turns.count()
            body = {**lab.chat(), "messages": [{"role": "user", "content": text}]}
            assert (await running.ask(body=body)).status == 200

    asyncio.run(main())
    passed = [turns.of[name] for _, name in STAGES if name != "issue_permit"]
    assert len(set(passed)) == (len(passed) if is_long else 1), passed
    assert passed == sorted(passed)
    assert (turns.threads["issue_permit"] is threading.main_thread()) != is_long, "its digest is made beside the loop"


@pytest.mark.parametrize("is_first", [True, False])
def test_others_are_served_between_the_messages_of_a_long_conversation_that_is_translated(
    lab, start, monkeypatch, is_first
):
    """For the first tier it is translated to see whether it can be told, for others once the first has failed."""
    turns = Turns(monkeypatch)
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2_000

    async def main():
        async with (
            FakeServer(FakeOptions(failures=(Failure.parse("529:1"),))) as failing,
            FakeServer() as fake,
        ):
            url = failing.base_url
            first = lab.tier("f", url, upstreams=(Upstream(name="f-1", url=url, dialect="anthropic"),))
            other = lab.tier("o", fake.base_url)
            async with start(lab.plan_of(*([] if is_first else [first]), other)) as running:
                turns.count()
                body = {**lab.chat(max_tokens=9), "messages": [*said, {"role": "user", "content": "c"}]}
                answer = await running.ask("/v1/messages", body)
                assert (answer.status, answer.headers["x-ownward-tier"]) == (200, "o")

    asyncio.run(main())
    passed = turns.of["splice"] - turns.of["peek" if is_first else "choose"]
    assert passed > len(said) / 64
