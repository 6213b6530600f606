"""Answers that are whole are written at once, past ASGI's `send`: what HTTP asks of it holds all the same."""

import asyncio
import json


def test_requests_that_arrive_together_are_answered_in_their_order(lab, start):
    async def script(body, reader, writer):
        asked = json.loads(body)["messages"][0]["content"]
        await lab.whole(json.dumps({"choices": [{"message": {"content": asked}}], "usage": USAGE}).encode())(
            body, reader, writer
        )

    async def main():
        async with (
            lab.Scripted(script) as upstream,
            start(lab.plan_of(lab.tier("a", upstream.base_url))) as running,
            lab.Client(running.base_url) as client,
        ):
            for text in ("one", "two", "three"):
                await client.send(lab.CHAT, lab.chat(messages=[{"role": "user", "content": text}]))
            said = [(await client.rest(await client.head())).json for _ in range(3)]
            assert [answer["choices"][0]["message"]["content"] for answer in said] == ["one", "two", "three"]
            again = await client.ask(lab.CHAT, lab.chat(messages=[{"role": "user", "content": "four"}]))
            assert again.json["choices"][0]["message"]["content"] == "four"

    asyncio.run(main())


def test_a_connection_that_shall_close_is_closed(lab, start):
    async def main():
        async with (
            lab.Scripted(lab.whole(json.dumps({"choices": [{}], "usage": USAGE}).encode())) as upstream,
            start(lab.plan_of(lab.tier("a", upstream.base_url))) as running,
            lab.Client(running.base_url) as client,
        ):
            answer = await client.ask(lab.CHAT, lab.chat(), headers={"connection": "close"})
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert await client.reader.read() == b""

    asyncio.run(main())


USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
