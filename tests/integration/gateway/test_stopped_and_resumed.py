"""A gateway that did not run for a while: stopped, frozen with its container, or asleep with its machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import pytest

from served_workers import PLAN, serving

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows stops no process")

LIMIT_S = 1.5
HURRIED = PLAN.replace('name = "u"', f'name = "u"\nfirst_byte_timeout_s = {LIMIT_S}\nstall_timeout_s = {LIMIT_S}')
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
WHOLE = json.dumps({"object": "chat.completion", "choices": [CHOICE]}).encode()
EVENT = b'data: {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'
LAST = b'data: {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'


def test_what_came_while_a_gateway_was_stopped_is_not_late(lab, tmp_path):
    """Answers wait in the system, and every time limit is over by the time that it runs again."""

    async def script(body, _reader, writer):
        if b"stream" in body:
            writer.write(lab.STREAM_HEAD + lab.chunk(EVENT))
            await asyncio.sleep(LIMIT_S / 2)
            writer.write(lab.chunk(EVENT + LAST + b"data: [DONE]\n\n") + b"0\r\n\r\n")
        else:
            await asyncio.sleep(LIMIT_S / 2)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(WHOLE), WHOLE))

    async def main():
        async with (
            lab.Scripted(script) as upstream,
            serving(tmp_path, upstream.base_url, plan=HURRIED, workers=1) as served,
            lab.Client(served.base_url) as whole,
            lab.Client(served.base_url) as streamed,
        ):
            await streamed.send(lab.CHAT, lab.chat(stream=True))
            await whole.send(lab.CHAT, lab.chat())
            head = await streamed.head()
            while len(upstream.heard) < 2:  # noqa: ASYNC110 - what the gateway sends is polled
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # it has nothing to do but wait
            os.kill(served.pid, signal.SIGSTOP)
            await asyncio.sleep(2 * LIMIT_S + 1)
            os.kill(served.pid, signal.SIGCONT)
            assert (await streamed.rest(head)).body.endswith(b"data: [DONE]\n\n")
            assert (await whole.rest(await whole.head())).status == 200
            assert len(upstream.heard) == 2

    asyncio.run(main())
