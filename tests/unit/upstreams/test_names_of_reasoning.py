"""Reasoning that a chat upstream tells beside its text, through clients of other dialects and back."""

from __future__ import annotations

import json

import pytest

from ownward.upstreams.translation import translate

USER = {"role": "user", "content": "hello"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    ("told", "given_back"),
    [
        ({"reasoning"}, "reasoning"),
        ({"reasoning_content"}, "reasoning_content"),
        ({"reasoning", "reasoning_content"}, "reasoning"),
    ],
)
def test_words_of_reasoning_go_back_by_the_name_by_which_they_came(told, given_back, is_streamed):
    """vLLM and Groq tell them as `reasoning`: the one passes over the longer name, the other refuses it."""
    words = dict.fromkeys(told, "hm")
    call = {"index": 0, **CALL}
    whole = {"message": {**words, "tool_calls": [CALL]}, "finish_reason": "tool_calls"}
    pieces = [{"delta": words}, {"delta": words}, {"delta": {"tool_calls": [call]}}]
    events = [{"id": "i", "choices": [piece]} for piece in pieces]
    said = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events) + b"data: [DONE]\n\n"
    results = {
        "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "r"}]}],
        "responses": [{"type": "function_call_output", "call_id": "c", "output": "r"}],
    }
    for client, place in (("messages", "messages"), ("responses", "input")):
        asked = {"model": "m", place: [USER], **({"max_tokens": 9} if client == "messages" else {})}
        made = translate(json.dumps(asked).encode(), client=client, upstream="chat")
        if is_streamed:
            stream = made.stream(now_s=1)
            found = answered(client, stream.feed(said) + stream.finish())
        else:
            answer = json.dumps({"id": "i", "choices": [whole]}).encode()
            found = answered(client, made.answer(answer, now_s=1))
        asked[place] = [USER, *found, *results[client]]
        body = json.loads(translate(json.dumps(asked).encode(), client=client, upstream="chat").body)
        message = body["messages"][1]
        assert {name: message[name] for name in words.keys() | {given_back} if name in message} == {
            given_back: "hmhm" if is_streamed else "hm"
        }


def answered(client, said):
    """Return what a client keeps of an answer or of its stream, and sends back."""
    if not said.startswith(b"event: "):
        found = json.loads(said)
        return [{"role": "assistant", "content": found["content"]}] if client == "messages" else found["output"]
    events = [json.loads(line[6:]) for line in said.decode().split("\n") if line.startswith("data: ")]
    if client == "responses":
        return events[-1]["response"]["output"]
    thinking = "".join(event["delta"]["thinking"] for event in events if "thinking" in event.get("delta", {}))
    signature = next(event["delta"]["signature"] for event in events if "signature" in event.get("delta", {}))
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    return [
        {"role": "assistant", "content": [{"type": "thinking", "thinking": thinking, "signature": signature}, call]}
    ]
