"""A text stream that is cut goes on at another upstream where the plan says so, as one stream."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import json
from dataclasses import replace

import pytest

from ownward.ledger import Ledger

USAGE = b'data: {"id": "%b", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}\n\n'


def piece(name, **delta):
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return b"data: " + json.dumps({"id": name, "created": 1, "model": "m", "choices": [choice]}).encode() + b"\n\n"


def stream(lab, *pieces, cut=False, split=False):
    """Return an upstream that streams `pieces` and then is cut, or ends well."""

    async def script(_, reader, writer):
        writer.write(lab.STREAM_HEAD)
        for one in pieces:
            for part in (one[: len(one) // 2], one[len(one) // 2 :]) if split else (one,):
                writer.write(lab.chunk(part))
                await writer.drain()
                await asyncio.sleep(0.01)
        if not cut:
            writer.write(lab.chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    return lab.Scripted(script)


def plan_of(lab, first, second, *, continues=True, engine="vllm", **more):
    tiers = (
        lab.tier("a", first.base_url, kind="owned", engine="vllm"),
        lab.tier("b", second.base_url, kind="owned", engine=engine, **more),
    )
    plan = lab.plan_of(*tiers)
    chat = replace(plan.workloads["chat"], continues_streams=continues)
    return replace(plan, workloads={"chat": chat})


def text_of(body):
    found = ""
    for line in body.split(b"\n"):
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:]).get("choices", ()):
                found += choice["delta"].get("content") or ""
    return found


def last_piece(name):
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    return b"data: " + json.dumps({"id": name, "choices": [choice]}).encode() + b"\n\n"


def whole_rest(name="two"):
    return (piece(name, role="assistant", content=""), piece(name, content="wor"), piece(name, content="ld"),
            last_piece(name), USAGE % name.encode())  # fmt: skip


@pytest.mark.parametrize("split", [False, True], ids=["whole events", "split events"])
def test_the_client_sees_one_stream_and_the_ledger_both_calls(lab, start, split):
    async def main():
        begun = (
            piece("one", role="assistant", content=""),
            piece("one", content="hello "),
            piece("one", content="my "),
        )
        torn = b'data: {"id": "one", "choices": [{"index": 0, "delta": {"conte'
        async with (
            stream(lab, *begun, torn, cut=True, split=split) as first,
            stream(lab, *whole_rest(), split=split) as second,
        ):
            async with start(plan_of(lab, first, second)) as running:
                answer = await running.ask(body=lab.chat(stream=True, max_tokens=50))
                assert answer.status == 200
                assert text_of(answer.body) == "hello my world"
                assert answer.body.endswith(b"data: [DONE]\n\n")
                assert b"error" not in answer.body
                assert b": ownward: the stream was cut and goes on at b/b-1\n\n" in answer.body
                events = [json.loads(line[6:]) for line in answer.body.split(b"\n") if line.startswith(b"data: {")]
                assert {event["id"] for event in events} == {"one"}
                roles = [c["delta"]["role"] for event in events for c in event["choices"] if "role" in c["delta"]]
                assert roles == ["assistant"]
                sent = json.loads(second.heard[0][2])
                assert sent["messages"][-1] == {"role": "assistant", "content": "hello my "}
                assert sent["continue_final_message"] is True
                assert sent["max_tokens"] == 48
                one, two = sorted(await running.rows(), key=lambda row: row["attempt"])
                assert (one["state"], two["state"], two["tier"]) == ("unsettled", "settled", "b")
                notes = notes_of(running.ledger)
                assert notes[1] == "it went on with an answer that was cut after 9 characters"

    asyncio.run(main())


GIVEN_UP = b'data: {"id": "one", "choices": [{"index": 0, "delta": {}, "finish_reason": "abort"}]}\n\n'
TOLD = b'data: {"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}\n\n'


@pytest.mark.parametrize("end", [GIVEN_UP, TOLD], ids=["aborted", "an error"])
@pytest.mark.parametrize("is_at_once", [False, True], ids=["piece by piece", "at once"])
@pytest.mark.parametrize("is_alone", [False, True], ids=["somebody goes on", "nobody does"])
def test_a_stream_that_its_upstream_gives_up_goes_on_as_one_that_is_cut(lab, start, end, is_alone, is_at_once):
    """vLLM says so where it is stopped, or dies, while it answers."""

    async def main():
        begun = (piece("one", role="assistant", content=""), piece("one", content="hello "))
        more = {"engine": "adopted"} if is_alone else {}
        pieces = (b"".join((*begun, end)),) if is_at_once else (*begun, end)
        async with stream(lab, *pieces) as first, stream(lab, *whole_rest()) as second:
            async with start(plan_of(lab, first, second, **more)) as running:
                answer = await running.ask(body=lab.chat(stream=True))
                one, *two = sorted(await running.rows(), key=lambda row: row["attempt"])
                assert one["state"] == "unsettled"
                if is_at_once:  # nothing had been passed on, so that whoever is next begins
                    assert text_of(answer.body) == "world"
                    assert json.loads(second.heard[0][2])["messages"] == lab.chat()["messages"]
                elif is_alone:
                    assert text_of(answer.body) == "hello "
                    assert answer.body.rstrip().endswith(b"}")
                    assert (b"abort" if end is GIVEN_UP else b"EngineCore died") in answer.body.split(b"\n\n")[-2]
                else:
                    assert text_of(answer.body) == "hello world"
                if is_at_once or not is_alone:
                    assert answer.body.endswith(b"data: [DONE]\n\n")
                    assert b"EngineCore" not in answer.body
                    assert b"abort" not in answer.body
                    assert [row["state"] for row in two] == ["settled"]

    asyncio.run(main())


def notes_of(ledger: Ledger):
    rows = ledger._writer.run(lambda connection: connection.rows("SELECT error FROM settlements ORDER BY attempt"))
    return [error for (error,) in rows]


@pytest.mark.parametrize(
    "more",
    [{"continues": False}, {"engine": "adopted"}],
    ids=["it is off unless stated", "what would answer anew is not asked"],
)
def test_else_it_ends_with_an_error_event(lab, start, more):
    async def main():
        async with stream(lab, piece("one", content="hello "), cut=True) as first, stream(lab, *whole_rest()) as second:
            async with start(plan_of(lab, first, second, **more)) as running:
                answer = await running.ask(body=lab.chat(stream=True))
                assert text_of(answer.body) == "hello "
                assert b"broken_stream" in answer.body
                assert b"[DONE]" not in answer.body
                assert second.heard == []

    asyncio.run(main())


def test_an_adopted_engine_is_asked_where_the_plan_says_that_it_can(lab, start):
    async def main():
        async with stream(lab, piece("one", content="hello "), cut=True) as first, stream(lab, *whole_rest()) as second:
            capabilities = frozenset({"chat", "continuation"})
            plan = plan_of(lab, first, second, engine="adopted", capabilities=capabilities)
            async with start(plan) as running:
                answer = await running.ask(body=lab.chat(stream=True))
                assert text_of(answer.body) == "hello world"
                assert "continue_final_message" not in json.loads(second.heard[0][2])

    asyncio.run(main())


@pytest.mark.parametrize(
    ("pieces", "asked"),
    [
        ((piece("one", content="a"), piece("one", tool_calls=[{"index": 0, "id": "c"}])), {}),
        ((piece("one", reasoning_content="let me see"),), {}),
        ((piece("one", content="a"),), {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ((piece("one", content="{"),), {"response_format": {"type": "json_object"}}),
    ],
    ids=["a tool call", "reasoning", "tools asked for", "JSON asked for"],
)
def test_what_is_more_than_text_is_not_continued(lab, start, pieces, asked):
    async def main():
        async with stream(lab, *pieces, cut=True) as first, stream(lab, *whole_rest()) as second:
            async with start(plan_of(lab, first, second)) as running:
                answer = await running.ask(body=lab.chat(stream=True, **asked))
                assert b"broken_stream" in answer.body
                assert second.heard == []

    asyncio.run(main())


def test_a_stream_that_is_not_cut_is_passed_on_as_it_is(lab, start):
    async def main():
        async with stream(lab, *whole_rest("one")) as first, stream(lab) as second:
            async with start(plan_of(lab, first, second)) as running:
                answer = await running.ask(body=lab.chat(stream=True, stream_options={"include_usage": True}))
                assert answer.body == b"".join(whole_rest("one")) + b"data: [DONE]\n\n"
                assert answer.headers["x-ownward-attempts"] == "1"

    asyncio.run(main())


def test_where_the_next_one_fails_as_well_the_client_is_told(lab, start):
    async def main():
        async with stream(lab, piece("one", content="hello "), cut=True) as first:
            async with stream(lab, piece("two", content="w"), cut=True) as second:
                async with start(plan_of(lab, first, second)) as running:
                    answer = await running.ask(body=lab.chat(stream=True))
                    assert text_of(answer.body) == "hello w"
                    assert answer.body.count(b"broken_stream") + answer.body.count(b'"error"') >= 1
                    assert b"[DONE]" not in answer.body
                    assert [row["state"] for row in await running.rows()] == ["unsettled", "unsettled"]

    asyncio.run(main())


def test_a_stream_that_is_cut_between_the_halves_of_an_emoji_goes_on(lab, start):
    async def main():
        first_half = piece("one", content="\ud83d")
        async with stream(lab, first_half, cut=True) as first, stream(lab, *whole_rest()) as second:
            async with start(plan_of(lab, first, second)) as running:
                answer = await running.ask(body=lab.chat(stream=True))
                assert answer.body.endswith(b"data: [DONE]\n\n")
                assert b'"error"' not in answer.body
                sent = json.loads(second.heard[0][2])
                assert sent["messages"][-1] == {"role": "assistant", "content": "\ud83d"}

    asyncio.run(main())
