"""What single services take otherwise than the dialect says, where a client of messages asks them."""

from __future__ import annotations

import asyncio
import json

import pytest

from ownward.engines import FakeOptions, FakeServer
from ownward.plan import Upstream

MESSAGES = "/v1/messages"
WHOLE = {
    "id": "x1",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
}
NO_SUCH_MEMBER = "Unrecognized request argument supplied: reasoning_effort"
NO_SUCH_VALUE = "Unsupported value: 'reasoning_effort' does not support 'none' with this model."


@pytest.mark.parametrize(
    ("provider", "limit_name", "knows_who_asks"),
    [("fake", "max_tokens", True), ("openai", "max_completion_tokens", True), ("mistral", "max_tokens", False)],
)
def test_a_services_own_ways_are_known_by_its_provider(lab, start, provider, limit_name, knows_who_asks):
    async def main():
        async with FakeServer(FakeOptions()) as fake:
            tier = lab.tier("a", f"{fake.base_url}/v1", provider=provider)
            async with start(lab.plan_of(tier)) as running:
                answer = await running.ask(MESSAGES, lab.chat(max_tokens=64, metadata={"user_id": "u"}))
            assert answer.status == 200
            asked = json.loads(fake.record.requests()["requests"][-1]["body"])
            assert asked[limit_name] == 64
            assert ("user" in asked) is knows_who_asks
            left_out = answer.headers.get("x-ownward-left-out", "")
            assert ("metadata.user_id" in left_out) is not knows_who_asks

    asyncio.run(main())


def that_refuses_an_effort(words):
    async def script(body, _reader, writer):
        refuses = b"reasoning_effort" in body
        told = json.dumps({"error": {"message": words, "type": "invalid_request_error"}} if refuses else WHOLE)
        status = "400 Bad Request" if refuses else "200 OK"
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(told)}\r\n\r\n"
        writer.write((head + told).encode())
        await writer.drain()

    return script


def test_a_model_that_does_not_reason_is_told_of_no_effort_and_not_to_leave_it(lab, start):
    async def main():
        async with (
            lab.Scripted(that_refuses_an_effort(NO_SUCH_MEMBER)) as upstream,
            start(lab.plan_of(lab.tier("a", upstream.base_url))) as running,
        ):
            asked = lab.chat(max_tokens=9, thinking={"type": "disabled"})
            at_once = await asyncio.gather(*[running.ask(MESSAGES, asked) for _ in range(3)])
            assert [answer.status for answer in at_once] == [200, 200, 200]
            later = await running.ask(MESSAGES, asked)
            assert (later.status, later.headers["x-ownward-attempts"]) == (200, "1")
            assert sum(row["state"] == "settled" for row in await running.rows()) == 4
            effort = {"output_config": {"effort": "low"}}
            stated = await running.ask(MESSAGES, lab.chat(max_tokens=9, **effort))
            assert (stated.status, stated.headers["x-ownward-left-out"]) == (200, "output_config.effort")
            assert "x-ownward-left-out" not in later.headers

    asyncio.run(main())


def test_what_a_model_did_not_know_is_asked_of_the_one_that_a_new_plan_puts_in_its_place(lab, start):
    async def main():
        async with (
            lab.Scripted(that_refuses_an_effort(NO_SUCH_MEMBER)) as upstream,
            FakeServer() as fake,
            start(lab.plan_of(lab.tier("a", upstream.base_url))) as running,
        ):
            asked = lab.chat(max_tokens=9, output_config={"effort": "low"})
            left_out = []
            for plan in (None, lab.plan_of(lab.tier("a", fake.base_url))):
                if plan is not None:
                    await running.server.reload(plan)
                answer = await running.ask(MESSAGES, asked)
                left_out.append(answer.headers.get("x-ownward-left-out"))
            assert left_out == ["output_config.effort", None]
            assert json.loads(fake.record.requests()["requests"][-1]["body"])["reasoning_effort"] == "low"

    asyncio.run(main())


def test_a_model_that_cannot_leave_its_reasoning_refuses(lab, start):
    async def main():
        async with (
            lab.Scripted(that_refuses_an_effort(NO_SUCH_VALUE)) as upstream,
            start(lab.plan_of(lab.tier("a", upstream.base_url))) as running,
        ):
            answer = await running.ask(MESSAGES, lab.chat(max_tokens=9, thinking={"type": "disabled"}))
            assert (answer.status, answer.json["error"]["message"]) == (400, NO_SUCH_VALUE)
            assert len(upstream.heard) == 1

    asyncio.run(main())


LATER_SYSTEM = {"role": "system", "content": "be brief"}
TEMPLATE_REFUSES = "Error: Jinja Exception: System message must be at the beginning."


async def whose_template_takes_system_first(body, _reader, writer):
    later = [message["role"] for message in json.loads(body)["messages"]][1:]
    refuses = "system" in later
    told = json.dumps({"error": {"code": 400, "message": TEMPLATE_REFUSES}} if refuses else WHOLE)
    status = "400 Bad Request" if refuses else "200 OK"
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(told)}\r\n\r\n"
    writer.write((head + told).encode())
    await writer.drain()


@pytest.mark.parametrize("engine", ["adopted", "llama-server"])
def test_a_client_of_messages_hears_as_anthropic_says_it_that_system_messages_belong_at_the_beginning(
    lab, start, engine
):
    """Coding agents send some behind others; by these words they know to say the same in a user's message."""

    async def main():
        async with lab.Scripted(whose_template_takes_system_first) as upstream:
            tier = lab.tier("a", upstream.base_url, kind="owned", engine=engine)
            async with start(lab.plan_of(tier)) as running:
                asked = lab.chat(max_tokens=64)
                asked["messages"] = [*asked["messages"], LATER_SYSTEM]
                refused = await running.ask(MESSAGES, asked)
                as_chat = await running.ask("/v1/chat/completions", asked)
        error = refused.json
        assert (refused.status, error["type"], error["error"]["type"]) == (400, "error", "invalid_request_error")
        assert error["error"]["message"].startswith("role 'system' is not supported on this model: ")
        assert TEMPLATE_REFUSES.rstrip(".") in error["error"]["message"]
        assert (as_chat.status, as_chat.json["error"]["message"]) == (400, TEMPLATE_REFUSES)

    asyncio.run(main())


MESSAGE = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 10, "output_tokens": 2},
}


def that_takes_system_first(status, refusal, answer):
    async def script(body, _reader, writer):
        refuses = any(message["role"] == "system" for message in json.loads(body)["messages"][1:])
        told = json.dumps(refusal if refuses else answer)
        head = f"HTTP/1.1 {status if refuses else 200} Whatever\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(told)}\r\n\r\n{told}".encode())
        await writer.drain()

    return script


@pytest.mark.parametrize(
    ("dialect", "status", "refusal"),
    [
        ("openai", 400, {"error": {"code": 400, "message": TEMPLATE_REFUSES}}),
        ("openai", 500, {"error": "system message must be at the beginning"}),
        (
            "anthropic",
            400,
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "messages.1: role 'system' is not supported on this model",
                },
            },
        ),
    ],
    ids=["llama.cpp", "Ollama", "Anthropic's older models"],
)
def test_system_messages_behind_others_are_told_as_reminders_where_the_model_refused_them(
    lab, start, dialect, status, refusal
):
    """OpenAI's clients have no words for it; a user's reminder is what Anthropic documents for such models."""
    user, later = {"role": "user", "content": "hello"}, {"role": "developer", "content": "be brief"}
    is_chat = dialect == "anthropic"
    path, member = ("/v1/chat/completions", "messages") if is_chat else ("/v1/responses", "input")
    answer = MESSAGE if is_chat else WHOLE

    async def main():
        async with lab.Scripted(that_takes_system_first(status, refusal, answer)) as upstream:
            way = Upstream(name="main", url=f"{upstream.base_url}/v1", dialect=dialect)
            tier = lab.tier("a", "", upstreams=(way,), capabilities=frozenset({"chat", "messages"}))
            async with start(lab.plan_of(tier)) as running:
                asked = {"model": "chat", member: [user, later]}
                for calls in (2, 3):  # from the second request on it is known
                    told = await running.ask(path, asked)
                    assert (told.status, len(upstream.heard)) == (200, calls)
                    assert told.headers["x-ownward-left-out"] == f"{member}[1].role"
                    assert told.headers["x-ownward-tier"] == "a"
                plain = await running.ask(path, {"model": "chat", member: [later, user]})
        sent = [json.loads(body)["messages"] for _, _, body in upstream.heard]
        assert [message["role"] for message in sent[0]] == ["user", "system"]
        assert sent[1][1] == {"role": "user", "content": "<system-reminder>\nbe brief\n</system-reminder>"}
        assert sent[2] == sent[1]
        assert plain.status == 200
        assert "x-ownward-left-out" not in plain.headers

    asyncio.run(main())
