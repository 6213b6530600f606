"""A tool loop with a Gemini-like upstream, by clients of the other dialects: what it signed comes back to it."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import json

import pytest

from ownward.gateway import GatewaySettings

EXTRA = {"google": {"thought_signature": "EjQKMgEMOdbHJChLX75QUCJjyYlm+/=="}}
CALL = {
    "extra_content": EXTRA,
    "function": {"arguments": '{"city":"Bern"}', "name": "f"},
    "id": "c1",
    "type": "function",
}
USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 34}
TOOL_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def gemini(lab, *, stream):
    """Answer as Gemini does: a call with its signature, without an index and with `stop`; refuse a call without one."""

    async def script(body, reader, writer):
        asked = json.loads(body)
        called = [call for said in asked["messages"] for call in said.get("tool_calls", ())]
        if any("extra_content" not in call for call in called):
            refusal = b'[{"error":{"code":400,"message":"missing a thought_signature","status":"INVALID_ARGUMENT"}}]'
            await lab.whole(refusal, status=400)(body, reader, writer)
            return
        said = (
            {"role": "assistant", "content": "It is sunny."} if called else {"role": "assistant", "tool_calls": [CALL]}
        )
        frame = {"id": "Yq4", "model": "gemini-3-flash-preview", "usage": USAGE}
        choice = {"index": 0, "finish_reason": "stop"}
        if not stream:
            whole = {**frame, "object": "chat.completion", "choices": [{**choice, "message": said}]}
            await lab.whole(json.dumps(whole).encode())(body, reader, writer)
            return
        events = [{**frame, "usage": None, "choices": [{"index": 0, "delta": said}]}, {**frame, "choices": [choice]}]
        told = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)
        writer.write(lab.STREAM_HEAD + lab.chunk(told + b"data: [DONE]\n\n") + lab.chunk(b""))

    return script


def events_of(answer):
    return [json.loads(line[6:]) for line in answer.body.decode().splitlines() if line.startswith("data: {")]


def blocks_of(answer, *, stream):
    """Return the content of a message, put together as clients do."""
    if not stream:
        return answer.json["content"]
    blocks = []
    for event in events_of(answer):
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"])
        elif event["type"] == "content_block_delta" and event["delta"]["type"] == "input_json_delta":
            blocks[-1]["input"] = json.loads(event["delta"]["partial_json"])
    return blocks


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_of_messages_gives_back_what_gemini_signed(lab, start, stream):
    async def main():
        async with lab.Scripted(gemini(lab, stream=stream)) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                tools = [{"name": "f", "input_schema": TOOL_SCHEMA}]
                messages = [{"role": "user", "content": "weather?"}]
                asked = {"model": "chat", "max_tokens": 99, "stream": stream, "tools": tools}
                first = await running.ask("/v1/messages", {**asked, "messages": messages})
                content = blocks_of(first, stream=stream)
                assert [block["type"] for block in content] == ["redacted_thinking", "tool_use"]
                result = {"type": "tool_result", "tool_use_id": "c1", "content": "sunny"}
                messages += [{"role": "assistant", "content": content}, {"role": "user", "content": [result]}]
                second = await running.ask("/v1/messages", {**asked, "messages": messages})
                assert b"It is sunny." in second.body
                (call,) = json.loads(upstream.heard[-1][2])["messages"][1]["tool_calls"]
                assert call["extra_content"] == EXTRA
                rows = await running.rows()
                assert [row["output_tokens"] for row in rows] == [24, 24]  # thinking stands in the total alone

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("keeps", [False, True])
def test_a_client_of_responses_gives_back_what_gemini_signed(lab, start, stream, keeps):
    """Also where it continues by an id alone, and the gateway keeps what was said."""

    async def main():
        settings = GatewaySettings(port=0, drain_s=1, keep_responses_s=60 if keeps else 0)
        async with lab.Scripted(gemini(lab, stream=stream)) as upstream:
            tier = lab.tier("a", upstream.base_url, capabilities=("chat", "tools"))
            async with start(lab.plan_of(tier), settings=settings) as running:
                tools = [{"type": "function", "name": "f", "parameters": TOOL_SCHEMA}]
                asked = {"model": "chat", "stream": stream, "tools": tools, "store": keeps}
                told = await running.ask("/v1/responses", {**asked, "input": "weather?"})
                first = events_of(told)[-1]["response"] if stream else told.json
                assert [item["type"] for item in first["output"]] == ["reasoning", "function_call"]
                said = [] if keeps else [{"role": "user", "content": "weather?"}, *first["output"]]
                result = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}
                more = {"previous_response_id": first["id"]} if keeps else {}
                second = await running.ask("/v1/responses", {**asked, **more, "input": [*said, result]})
                assert b"It is sunny." in second.body
                (call,) = json.loads(upstream.heard[-1][2])["messages"][1]["tool_calls"]
                assert call["extra_content"] == EXTRA

    asyncio.run(main())


def test_a_refusal_that_google_lists_is_told_in_the_clients_words(lab, start):
    async def main():
        async with lab.Scripted(gemini(lab, stream=False)) as upstream:
            async with start(lab.plan_of(lab.tier("a", upstream.base_url))) as running:
                called = {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {}}]}
                result = {"type": "tool_result", "tool_use_id": "c1", "content": "sunny"}
                messages = [{"role": "user", "content": "x"}, called, {"role": "user", "content": [result]}]
                answer = await running.ask("/v1/messages", {"model": "chat", "max_tokens": 9, "messages": messages})
                assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
                assert answer.json["error"]["message"] == "missing a thought_signature"

    asyncio.run(main())
