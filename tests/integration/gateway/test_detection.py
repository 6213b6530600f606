"""Personal data that is found keeps a request where the plan says, in every dialect, whatever fails."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time

import pytest

from ownward.core import ConfigError
from ownward.engines import Failure, FakeOptions, FakeServer
from ownward.plan import Strategy, loads
from ownward.policy import ANY, LOCAL_ONLY

SECRET = "ada@example.org"
HIDDEN = "ada\\u0040example.org"


@contextlib.asynccontextmanager
async def two_places(lab, start, *, local=None, workload=None, **of_plan):
    """A gateway with a rented tier first and one on this machine behind it."""
    async with FakeServer(local or FakeOptions()) as here, FakeServer() as there:
        plan = lab.plan_of(
            lab.tier("theirs", there.base_url), lab.tier("mine", here.base_url, kind="owned", engine="vllm"), label=ANY
        )
        chat = dataclasses.replace(plan.workloads["chat"], **(workload or {"detect": ("email", "card")}))
        plan = dataclasses.replace(plan, workloads={"chat": chat}, **of_plan)
        async with start(plan) as running:
            yield running, here, there


def accepted(server):
    return server.record.count(with_calls=False)["accepted"]


def openai(content, **more):
    return {"model": "chat", "messages": [{"role": "user", "content": content}], **more}


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"to": SECRET})}}
BODIES = {
    "a message": ("/v1/chat/completions", openai(f"write to {SECRET}")),
    "a part of a message": ("/v1/chat/completions", openai([{"type": "text", "text": SECRET}])),
    "the system's words": (
        "/v1/chat/completions",
        {"model": "chat", "messages": [{"role": "system", "content": SECRET}, {"role": "user", "content": "hi"}]},
    ),
    "arguments of a call": (
        "/v1/chat/completions",
        {
            "model": "chat",
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c1", "content": "done"},
            ],
        },
    ),
    "a tool's result": (
        "/v1/chat/completions",
        {
            "model": "chat",
            "messages": [
                {"role": "user", "content": "hi"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "c1", "content": json.dumps({"mail": SECRET})},
            ],
        },
    ),
    "metadata": ("/v1/chat/completions", openai("hi", metadata={"who": SECRET})),
    "a completion": ("/v1/completions", {"model": "chat", "prompt": SECRET}),
    "a response": ("/v1/responses", {"model": "chat", "input": [{"role": "user", "content": SECRET}]}),
    "an embedding": ("/v1/embeddings", {"model": "chat", "input": [SECRET]}),
    "Anthropic's system": (
        "/v1/messages",
        {"model": "chat", "max_tokens": 5, "system": SECRET, "messages": [{"role": "user", "content": "hi"}]},
    ),
    "Anthropic's tool result": (
        "/v1/messages",
        {
            "model": "chat",
            "max_tokens": 5,
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": SECRET}]},
            ],
        },
    ),
}


@pytest.mark.parametrize("where", BODIES)
@pytest.mark.parametrize("is_hidden", [False, True])
def test_what_is_found_anywhere_in_a_request_keeps_it_here(lab, start, where, is_hidden):
    async def main():
        path, body = BODIES[where]
        text = json.dumps(body)
        if is_hidden:
            text = text.replace(SECRET, HIDDEN)
            assert json.loads(text)
        async with two_places(lab, start) as (running, here, there):
            answer = await running.ask(path, text.encode())
            assert answer.status == 200, answer.body
            assert answer.headers["x-ownward-tier"] == "mine"
            assert (
                "label local_only (the workload's, shrunk by email found in it)" in answer.headers["x-ownward-reason"]
            )
            assert (accepted(here), accepted(there)) == (1, 0)
            (row,) = await running.rows()
            assert row["label"] == "local_only"
            assert SECRET not in json.dumps(row, default=str)

    asyncio.run(main())


def test_what_holds_nothing_goes_where_it_went(lab, start):
    async def main():
        async with two_places(lab, start) as (running, here, there):
            answer = await running.ask(body=lab.chat())
            assert answer.headers["x-ownward-tier"] == "theirs"
            assert (accepted(here), accepted(there)) == (0, 1)

    asyncio.run(main())


def test_nothing_is_looked_for_unless_the_plan_says_so(lab, start):
    async def main():
        async with two_places(lab, start, workload={"detect": ()}) as (running, _, there):
            assert (await running.ask(body=openai(SECRET))).headers["x-ownward-tier"] == "theirs"
            assert accepted(there) == 1

    asyncio.run(main())


def test_a_retry_does_not_leave_either(lab, start):
    async def main():
        broken = FakeOptions(failures=(Failure.parse("500"),))
        async with two_places(lab, start, local=broken) as (running, _, there):
            assert (await running.ask(body=openai(SECRET))).status == 500
            assert accepted(there) == 0

    asyncio.run(main())


def test_a_strategy_does_not_leave_either(lab, start):
    async def main():
        options = {"samples": 2, "agreement_fraction": 0.9, "labels": ("yes", "no")}
        strategy = Strategy(kind="cascade", tiers=("mine", "theirs"), options=options)
        workload = {"detect": ("email",), "strategy": strategy, "fallback": ()}
        async with two_places(lab, start, workload=workload) as (running, here, there):
            await running.ask(body=openai(SECRET))
            assert accepted(here) > 0
            assert accepted(there) == 0

    asyncio.run(main())


@pytest.mark.parametrize(("header", "value"), [("x-ownward-tier", "theirs"), ("x-ownward-label", "any")])
def test_no_header_goes_round_it(lab, start, header, value):
    async def main():
        async with two_places(lab, start) as (running, _, there):
            answer = await running.ask(body=openai(SECRET), headers={header: value})
            assert answer.status == (403 if header == "x-ownward-tier" else 200)
            if answer.status == 403:
                error = answer.json["error"]
                assert "email found in it" in error["message"]
                assert "leave the personal data out" in error["next"]
                assert SECRET not in answer.body.decode()
            assert accepted(there) == 0

    asyncio.run(main())


@pytest.mark.parametrize("model", ["theirs", "theirs-model"])
def test_the_plans_own_detectors_hold_for_requests_of_no_workload_too(lab, start, model):
    async def main():
        of_plan = {"detect": ("email",), "detected_label": LOCAL_ONLY}
        async with two_places(lab, start, workload={"detect": ()}, **of_plan) as (running, _, there):
            answer = await running.ask(body={**openai(SECRET), "model": model})
            assert answer.status == 403
            assert (await running.ask(body=openai(SECRET))).headers["x-ownward-tier"] == "mine"
            assert accepted(there) == 0
            assert (await running.ask(body={**openai("hi"), "model": model})).status == 200

    asyncio.run(main())


def test_patterns_of_ones_own_hold_and_are_counted_by_their_names(lab, start):
    async def main():
        workload = {"detect_patterns": {"staff_id": r"\bEMP-\d{4,8}\b"}}
        async with two_places(lab, start, workload=workload) as (running, _, _there):
            answer = await running.ask(body=openai("who is EMP-20417?"))
            assert answer.headers["x-ownward-tier"] == "mine"
            assert "shrunk by staff_id found in it" in answer.headers["x-ownward-reason"]
            metrics = (await running.ask("/metrics")).body
            assert b'ownward_detected_total{kind="staff_id"} 1' in metrics

    asyncio.run(main())


def test_a_plan_with_an_unknown_detector_or_a_slow_pattern_is_refused_with_its_line():
    text = """schema = "ownward.plan/1"
name = "p"
detect = ["emial"]
[tiers.a]
kind = "owned"
model = "m"
engine = "embedded"
[workloads.w]
strategy = { tiers = ["a"] }
detect_patterns = { bad = "(a+)+" }
"""
    with pytest.raises(ConfigError) as refused:
        loads(text)
    faults = {fault.key: fault for fault in refused.value.faults}
    assert faults["detect[0]"].line == 3
    assert '"email"' in (faults["detect[0]"].allowed or "")
    assert faults["workloads.w.detect_patterns.bad"].line == 10
    assert "No groups" in (faults["workloads.w.detect_patterns.bad"].allowed or "")


def test_a_text_made_to_be_slow_is_held_to_a_bound_and_counts_as_a_find(lab, start):
    """14 MiB of digits with a blank after each take eight seconds to the end."""

    async def main():
        settings = lab.GatewaySettings(port=0, drain_s=2, detect_cpu_s=0.05)
        async with FakeServer() as here, FakeServer() as there:
            plan = lab.plan_of(
                lab.tier("theirs", there.base_url), lab.tier("mine", here.base_url, kind="owned", engine="vllm")
            )
            chat = dataclasses.replace(plan.workloads["chat"], detect=("card",))
            async with start(dataclasses.replace(plan, workloads={"chat": chat}), settings=settings) as running:
                began_s = time.thread_time()
                answer = await running.ask(body=openai("4 " * (7 << 20)))
                assert time.thread_time() - began_s < 3
                assert answer.headers["x-ownward-tier"] == "mine"
                assert "takes too long to examine" in answer.headers["x-ownward-reason"]
                brief = await running.ask(body=openai("4 " * 100))
                assert brief.headers["x-ownward-tier"] == "theirs"

    asyncio.run(main())


def test_what_is_found_within_the_bound_has_its_own_name():
    from ownward.gateway.holding.detecting import detect
    from ownward.gateway.placing.routing import Detection
    from ownward.policy import Detectors

    detections = [
        Detection(detectors=Detectors(kinds=(kind,)), label=label)
        for kind, label in (("email", LOCAL_ONLY), ("card", ANY))
    ]
    ticks = iter(range(1000))
    body = b"x " * 60_000 + SECRET.encode()

    def look(budget_s):
        return asyncio.run(detect(body, detections, budget_s=budget_s, cpu_s=lambda: float(next(ticks))))

    assert [one.name for one in look(100.0)] == ["email"]
    assert [one.name for one in look(2.0)] == ["text that takes too long to examine"] * 2
    assert [one.label for one in look(2.0)] == [LOCAL_ONLY, ANY]
