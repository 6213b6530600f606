"""By which id of the upstream's own the ledger knows a call, so that it can be asked about it."""

from __future__ import annotations

import asyncio

import pytest

from ownward.plan import Upstream

NAMED = b"content-type: %b\r\nx-request-id: req-7\r\ncontent-length: %d\r\n\r\n%b"
TOLD = (
    b'{%b"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1}}'
)


@pytest.mark.parametrize(
    ("answer", "state", "named"),
    [
        (b"HTTP/1.1 500 No\r\n" + NAMED % (b"application/json", 2, b"{}"), "failed", "req-7"),
        (b"HTTP/1.1 200 OK\r\n" + NAMED % (b"application/json", 900, b"{"), "unsettled", "req-7"),
        (b"HTTP/1.1 200 OK\r\n" + NAMED % (b"application/json", len(TOLD) - 2, TOLD % b""), "settled", "req-7"),
        (b"HTTP/1.1 200 OK\r\n" + NAMED % (b"application/json", len(TOLD) + 8, TOLD % b'"id":"x1",'), "settled", "x1"),
        (b"HTTP/1.1 500 No\r\nrequest-id: req_9\r\ncontent-length: 0\r\n\r\n", "failed", "req_9"),
        (b"HTTP/1.1 500 No\r\nx-request-id: what was asked?\r\ncontent-length: 0\r\n\r\n", "failed", None),
        (b"HTTP/1.1 500 No\r\nx-request-id: sk-our-key\r\ncontent-length: 0\r\n\r\n", "failed", None),
    ],
    ids=["refused", "cut", "without an id of its own", "with one", "Anthropic's", "no id", "our key"],
)
def test_a_call_is_known_by_the_id_in_its_headers_where_its_answer_has_none(lab, start, answer, state, named):
    async def script(_, reader, writer):
        writer.write(answer)
        writer.close()

    async def main():
        async with lab.Scripted(script) as upstream:
            stated = Upstream(name="n", url=upstream.base_url, api_key_env="K")
            plan = lab.plan_of(lab.tier("a", "", upstreams=(stated,)))
            async with start(plan, secrets={"K": "sk-our-key"}) as running:
                await running.ask(body=lab.chat())
                (row,) = await running.rows()
                assert (row["state"], row["upstream_request_id"]) == (state, named)

    asyncio.run(main())
