"""A conversation that moved takes along what another upstream thought; one that cannot read it is asked without."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import json

import pytest

from ownward.engines import FakeOptions, FakeServer
from ownward.plan import Upstream

MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
SIGNATURE = "messages.1.content.0: Invalid `signature` in `thinking` block"
BOUND = f"{SIGNATURE}. The block is bound to a different conversation. Remove the block, or set …"
MISSING = "messages.1.content.0.thinking.signature: Field required"
SEALED = {"message": "The encrypted content gAAA could not be verified.", "code": "invalid_encrypted_content"}
WORDS = {
    "message": "Invalid 'input[1].content': array too long. Expected an array with maximum length 0, but got 1",
    "code": "array_above_max_length",
}
VLLM = {"message": "Encrypted content is not supported.", "type": "BadRequestError", "code": 400}

TURN = [
    {"role": "user", "content": "list the files"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "I look.", "signature": "ownward:unsigned"},
            {"type": "redacted_thinking", "data": "xx"},
            {"type": "tool_use", "id": "toolu_1", "name": "ls", "input": {"depth": 1.0}},
        ],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "a b"}]},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "cut", "signature": "s"}]},
    {"role": "user", "content": "go on"},
]
ITEMS = [
    {"role": "user", "content": "list the files"},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
    {"type": "function_call", "call_id": "c", "name": "ls", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "a b"},
]


def asked(path, **more):
    if path == RESPONSES:
        return {"model": "chat", "input": ITEMS, "store": False, **more}
    return {"model": "chat", "max_tokens": 64, "thinking": {"type": "adaptive"}, "messages": TURN, **more}


def refusing(lab, fake, error, *marks):
    """Return an upstream's script: a refusal for what holds one of these marks, else the fake's own answer."""

    async def script(body, reader, writer):
        if any(mark in body for mark in marks):
            said = {"error": error if isinstance(error, dict) else {"type": "invalid_request_error", "message": error}}
            await lab.whole(json.dumps(said).encode(), status=400)(body, reader, writer)
            return
        path = MESSAGES if b'"messages"' in body else RESPONSES
        answer = await lab.ask(fake.base_url, path, body)
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {answer.headers['content-type']}\r\n".encode())
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(answer.body), answer.body))

    return script


def tier_of(lab, name, url, path):
    dialect = "anthropic" if path == MESSAGES else "openai"
    return lab.tier(name, url, upstreams=(Upstream(name=f"{name}-1", url=url, dialect=dialect),))


async def sent_and_answered(lab, start, path, error, *marks, **more):
    async with FakeServer(FakeOptions(reply="as you like it")) as fake:
        async with lab.Scripted(refusing(lab, fake, error, *marks)) as upstream:
            async with start(lab.plan_of(tier_of(lab, "a", upstream.base_url, path))) as running:
                answer = await running.ask(path, asked(path, **more))
                return answer, [json.loads(body) for _, _, body in upstream.heard], await running.rows()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "error"),
    [
        *((MESSAGES, error) for error in (SIGNATURE, MISSING)),
        *((RESPONSES, error) for error in (SEALED, WORDS, VLLM)),
    ],
)
def test_an_upstream_that_cannot_read_what_was_thought_elsewhere_is_asked_without_it(lab, start, path, error, stream):
    async def main():
        answer, sent, rows = await sent_and_answered(
            lab, start, path, error, b"thinking_", b'"signature"', b'"encrypted_content"', stream=stream
        )
        assert (answer.status, answer.headers["x-ownward-attempts"]) == (200, "2")
        assert b"like" in answer.body
        assert "a-1 cannot read what was thought elsewhere: asked without" in answer.headers["x-ownward-reason"]
        assert [row["state"] for row in rows] == ["failed", "settled"]
        first, second = sent
        if path == RESPONSES:
            assert second == {**first, "input": [ITEMS[0], *ITEMS[2:]]}
        else:
            call = {**TURN[1], "content": TURN[1]["content"][2:]}
            assert second == {**first, "messages": [TURN[0], call, TURN[2], TURN[4]]}

    asyncio.run(main())


def test_what_else_is_refused_is_asked_once_and_told(lab, start):
    """OpenAI's refusal of `include`, a sealed summary of the context, a block that was never thought."""

    async def main():
        said = {"message": "Encrypted content is not supported with this model.", "param": "include"}
        answer, sent, _ = await sent_and_answered(lab, start, RESPONSES, said, b"input")
        assert (answer.status, answer.json["error"], len(sent)) == (400, said, 1)
        compacted = [{"type": "compaction", "encrypted_content": "gAAA"}, ITEMS[0]]
        answer, sent, _ = await sent_and_answered(lab, start, RESPONSES, SEALED, b"input", input=compacted)
        assert (answer.status, answer.json["error"], len(sent)) == (400, SEALED, 1)
        answer, sent, _ = await sent_and_answered(lab, start, MESSAGES, SIGNATURE, b"messages", messages=TURN[:1])
        assert (answer.status, answer.json["error"]["message"], len(sent)) == (400, SIGNATURE, 1)

    asyncio.run(main())


def test_what_the_client_changed_since_is_its_own_to_mend(lab, start):
    """Anthropic checks what stood before a block, and lets its client say what is to become of it."""

    async def main():
        answer, sent, _ = await sent_and_answered(lab, start, MESSAGES, BOUND, b'"signature"')
        assert (answer.status, answer.json["error"]["message"], len(sent)) == (400, BOUND, 1)

    asyncio.run(main())


def test_without_it_another_refusal_is_told_and_no_third_call_is_made(lab, start):
    async def main():
        answer, sent, _ = await sent_and_answered(lab, start, MESSAGES, SIGNATURE, b"messages")
        assert (answer.status, answer.json["error"]["message"], len(sent)) == (400, SIGNATURE, 2)

    asyncio.run(main())


def test_the_tier_behind_gets_the_request_as_it_came(lab, start):
    async def main():
        async with FakeServer(FakeOptions(reply="as you like it")) as fake:
            script = refusing(lab, fake, SIGNATURE, b'"signature"')

            async def breaks_then(body, reader, writer):
                if b'"signature"' in body:
                    await script(body, reader, writer)
                else:
                    writer.close()

            async with lab.Scripted(breaks_then) as first, lab.Scripted(refusing(lab, fake, SIGNATURE)) as second:
                tiers = (tier_of(lab, n, up.base_url, MESSAGES) for n, up in (("a", first), ("b", second)))
                async with start(lab.plan_of(*tiers)) as running:
                    answer = await running.ask(MESSAGES, asked(MESSAGES))
                assert answer.status == 200
                assert json.loads(second.heard[0][2])["messages"] == TURN

    asyncio.run(main())


CALL = {"id": "c", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
TALK = [
    {"role": "user", "content": "list the files"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c", "content": "a b"},
    {"role": "assistant", "content": "two", "reasoning": "I counted."},
    {"role": "user", "content": "go on"},
    {"role": "assistant", "content": "three", "reasoning_content": "Again."},
    {"role": "user", "content": "go on"},
]


@pytest.mark.parametrize(
    "words",
    [
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
        "thinking is enabled but reasoning_content is missing in assistant tool call message at index 1",
    ],
)
@pytest.mark.parametrize("path", [None, MESSAGES])
def test_a_service_that_demands_what_was_thought_is_told_a_blank_from_then_on(lab, start, words, path):
    """What an engine said that does not think, and clients that keep no reasoning, go on at DeepSeek and Moonshot."""

    async def main():
        async with FakeServer(FakeOptions(reply="as you like it")) as fake:

            async def script(body, reader, writer):
                said = [message for message in json.loads(body)["messages"] if message["role"] == "assistant"]
                if not all(message.get("reasoning_content") for message in said):
                    refusal = {"error": {"message": words, "type": "invalid_request_error"}}
                    await lab.whole(json.dumps(refusal).encode(), status=400)(body, reader, writer)
                    return
                answer = await lab.ask(fake.base_url, lab.CHAT, body)
                await lab.whole(answer.body)(body, reader, writer)

            async with lab.Scripted(script) as upstream:
                async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                    messages = (
                        TALK if path is None else [TURN[0], {**TURN[1], "content": TURN[1]["content"][2:]}, TURN[2]]
                    )
                    for attempts in ("2", "1"):
                        answer = await running.ask(path or lab.CHAT, lab.chat(messages=messages, max_tokens=64))
                        assert (answer.status, answer.headers["x-ownward-attempts"]) == (200, attempts)
                sent = json.loads(upstream.heard[-1][2])["messages"]
                told = [message.get("reasoning_content") for message in sent if message["role"] == "assistant"]
                assert told == ([" ", "I counted.", "Again."] if path is None else [" "])
                assert len(upstream.heard) == 3

    asyncio.run(main())


def test_one_that_demands_it_all_the_same_has_its_refusal_told(lab, start):
    async def main():
        words = "thinking is enabled but reasoning_content is missing in assistant tool call message at index 1"
        refusal = {"error": {"message": words, "type": "invalid_request_error"}}
        async with lab.Scripted(lab.whole(json.dumps(refusal).encode(), status=400)) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                answer = await running.ask(body=lab.chat(messages=TALK))
        assert (answer.status, answer.json, len(upstream.heard)) == (400, refusal, 2)

    asyncio.run(main())
