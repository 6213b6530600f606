"""Services of Anthropic's dialect that have not all of its trials are told of those that they have alone."""

import asyncio
import json

from ownward.engines import FakeOptions, FakeServer
from ownward.plan import Upstream

MESSAGES = "/v1/messages"
ASKED = {"model": "chat", "max_tokens": 16, "messages": [{"role": "user", "content": "hello there"}]}
UNKNOWN = ("advisor-tool-2026-03-01", "prompt-caching-scope-2026-01-05")
SENT = f"claude-code-20250219,{UNKNOWN[0]}, {UNKNOWN[1]},effort-2025-11-24"


def refusing(lab, upstream, fake, unknown):
    async def script(body, reader, writer):
        betas = upstream[0].heard[-1][1].get("anthropic-beta", "").split(",")
        found = [beta.strip() for beta in betas if beta.strip() in unknown]
        if found:
            named = ", ".join(f"`{beta}`" for beta in found)
            words = f"Unexpected value(s) {named} for the `anthropic-beta` header. Please consult our documentation"
            said = {"type": "error", "error": {"type": "invalid_request_error", "message": words}}
            await lab.whole(json.dumps(said).encode(), status=400)(body, reader, writer)
            return
        answer = await lab.ask(fake.base_url, MESSAGES, body)
        await lab.whole(answer.body)(body, reader, writer)

    return script


async def asked_twice(lab, start, betas, unknown):
    upstream = []
    async with FakeServer(FakeOptions(reply="as you like it")) as fake:
        async with lab.Scripted(refusing(lab, upstream, fake, unknown)) as scripted:
            upstream.append(scripted)
            place = Upstream(name="a-1", url=scripted.base_url, dialect="anthropic")
            async with start(lab.plan_of(lab.tier("a", "", upstreams=(place,)))) as running:
                answers = [await running.ask(MESSAGES, ASKED, headers={"anthropic-beta": betas}) for _ in range(2)]
        return answers, [headers.get("anthropic-beta") for _, headers, _ in scripted.heard]


def test_a_service_that_has_not_all_trials_is_asked_without_them_from_then_on(lab, start):
    async def main():
        answers, sent = await asked_twice(lab, start, SENT, UNKNOWN)
        assert [answer.status for answer in answers] == [200, 200]
        assert [answer.headers["x-ownward-attempts"] for answer in answers] == ["2", "1"]
        assert "has not all of anthropic-beta" in answers[0].headers["x-ownward-reason"]
        assert sent[1:] == ["claude-code-20250219,effort-2025-11-24"] * 2
        answers, sent = await asked_twice(lab, start, UNKNOWN[0], UNKNOWN)
        assert ([answer.status for answer in answers], sent[1:]) == ([200, 200], [None, None])

    asyncio.run(main())


def test_one_that_refuses_what_is_not_sent_any_more_has_its_words_told(lab, start):
    async def main():
        words = "Unexpected value(s) `x-1` for the `anthropic-beta` header."
        said = {"type": "error", "error": {"type": "invalid_request_error", "message": words}}
        async with lab.Scripted(lab.whole(json.dumps(said).encode(), status=400)) as scripted:
            place = Upstream(name="a-1", url=scripted.base_url, dialect="anthropic")
            async with start(lab.plan_of(lab.tier("a", "", upstreams=(place,)))) as running:
                answer = await running.ask(MESSAGES, ASKED, headers={"anthropic-beta": "x-1"})
        assert (answer.status, answer.json["error"]["message"], len(scripted.heard)) == (400, words, 2)

    asyncio.run(main())


def test_what_clients_make_up_fills_no_memory(lab, start):
    async def main():
        upstream = []
        async with FakeServer(FakeOptions(reply="as you like it")) as fake:
            names = [f"made-up-{number}" for number in range(80)]
            async with lab.Scripted(refusing(lab, upstream, fake, names)) as scripted:
                upstream.append(scripted)
                place = Upstream(name="a-1", url=scripted.base_url, dialect="anthropic")
                async with start(lab.plan_of(lab.tier("a", "", upstreams=(place,)))) as running:
                    for name in names:
                        assert (await running.ask(MESSAGES, ASKED, headers={"anthropic-beta": name})).status == 200
                    (known,) = running.server.gateway.learned.refuses_betas.values()
        assert len(known) <= 64

    asyncio.run(main())
