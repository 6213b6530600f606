"""What Gemini and OpenRouter want back with the next turn comes back to them, whatever dialect the client speaks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownward.upstreams import WholeAnswer
from ownward.upstreams.translation import Untranslatable, translate

WRITTEN = Path(__file__).parents[2] / "contract/translation/written"
ASKED = {
    "messages": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "weather?"}]},
    "responses": {"model": "m", "input": [{"role": "user", "content": "weather?"}]},
}
SIGNED = {"google": {"thought_signature": "EjQKMgEMOdbHJChLX75QUCJjyYlm+/=="}}
CALLS = [
    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    {"id": "b", "type": "function", "function": {"name": "f", "arguments": "{}"}},
]


def asked(client, body=None):
    return translate(json.dumps(body or ASKED[client]).encode(), client=client, upstream="chat")


def said_in(client, answer):
    """Return what a client sends back of an answer: the whole of it."""
    return answer["content"] if client == "messages" else answer["output"]


def next_turn(client, said, calls):
    """Return the assistant's message that the upstream gets with the results of its calls."""
    if client == "messages":
        results = [{"type": "tool_result", "tool_use_id": call, "content": "sunny"} for call in calls]
        more = [{"role": "assistant", "content": said}, {"role": "user", "content": results or "and now?"}]
        body = ASKED[client] | {"messages": [*ASKED[client]["messages"], *more]}
    else:
        results = [{"type": "function_call_output", "call_id": call, "output": "sunny"} for call in calls]
        more = results or [{"role": "user", "content": "and now?"}]
        body = ASKED[client] | {"input": [*ASKED[client]["input"], *said, *more]}
    made = asked(client, body)
    assert made.dropped == ()
    return json.loads(made.body)["messages"][1]


def told(client, message):
    answer = {"id": "i", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    return said_in(client, json.loads(asked(client).answer(json.dumps(answer).encode(), now_s=1)))


def told_as_stream(client, data):
    """Return the items or blocks of a stream, as the SDKs put them together."""
    stream = asked(client, ASKED[client] | {"stream": True}).stream(now_s=1)
    events = [
        json.loads(event.partition("data: ")[2])
        for event in (stream.feed(data) + stream.finish()).decode().split("\n\n")
        if "data: " in event
    ]
    if client == "responses":
        return events[-1]["response"]["output"]
    blocks = []
    for event in events:
        if event["type"] == "content_block_start":
            blocks.append(dict(event["content_block"]))
        elif event["type"] == "content_block_delta":
            kind, *_ = name = event["delta"].keys() - {"type"}
            assert len(name) == 1
            into = "input" if kind == "partial_json" else kind
            blocks[-1][into] = (blocks[-1][into] or "") + event["delta"][kind]
    return [
        {**block, "input": json.loads(block["input"])} if block["type"] == "tool_use" else block for block in blocks
    ]


@pytest.mark.parametrize("client", ["messages", "responses"])
@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_a_thought_signature_comes_back_at_its_call_and_at_its_message(client, kind):
    data = (WRITTEN / f"gemini-chat-{kind}.txt").read_bytes()
    said = (
        said_in(client, json.loads(asked(client).answer(data, now_s=1)))
        if kind == "whole"
        else told_as_stream(client, data)
    )
    message = next_turn(client, said, ["jm4owj31", "x0wqk2sd"])
    assert message["content"] == "I look it up."
    assert message["extra_content"] == {"google": {"thought_signature": "CrICAdHtim827fQ="}}
    assert [call.get("extra_content") for call in message["tool_calls"]] == [SIGNED, None]
    assert message.keys() == {"role", "content", "extra_content", "tool_calls"}  # its thoughts are not given back


@pytest.mark.parametrize("client", ["messages", "responses"])
def test_thoughts_are_told_as_thoughts(client):
    said = told_as_stream(client, (WRITTEN / "gemini-chat-stream.txt").read_bytes())
    words = "**Looking it up**\nThe user wants the weather."
    if client == "messages":
        assert (said[0]["type"], said[0]["thinking"]) == ("thinking", words)
        assert said[1] == {"type": "text", "text": "I look it up."}
    else:
        assert said[0]["summary"] == [{"type": "summary_text", "text": words}]
        assert said[1]["content"][0]["text"] == "I look it up."


@pytest.mark.parametrize("client", ["messages", "responses"])
def test_a_signature_finds_its_call_where_a_client_moves_thoughts_to_the_front(client):
    said = told(client, {"content": None, "tool_calls": [CALLS[0], CALLS[1] | {"extra_content": SIGNED}]})
    said.sort(key=lambda part: part["type"] not in {"redacted_thinking", "reasoning"})
    calls = next_turn(client, said, ["a", "b"])["tool_calls"]
    assert [call.get("extra_content") for call in calls] == [None, SIGNED]


@pytest.mark.parametrize("client", ["messages", "responses"])
def test_a_signature_that_comes_behind_its_call_in_the_stream_is_kept(client):
    deltas = [
        {"tool_calls": [{"index": 0, **CALLS[0], "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "extra_content": SIGNED, "function": {"arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 0, "extra_content": {"google": {"more": 1}}, "function": {"arguments": "1}"}}]},
    ]
    data = b"".join(
        b"data: %b\n\n" % json.dumps({"id": "i", "choices": [{"index": 0, "delta": delta}]}).encode()
        for delta in deltas
    )
    call = next_turn(client, told_as_stream(client, data + b"data: [DONE]\n\n"), ["a"])["tool_calls"][0]
    assert call["function"]["arguments"] == '{"a":1}'
    assert call["extra_content"] == {"google": {**SIGNED["google"], "more": 1}}


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
extras = st.dictionaries(st.text(max_size=8), st.dictionaries(st.text(max_size=8), values, min_size=1, max_size=3))


@given(client=st.sampled_from(["messages", "responses"]), of_message=extras, of_call=extras)
def test_whatever_stands_in_it_comes_back(client, of_message, of_call):
    if any("thought" in inner for inner in [*of_message.values(), *of_call.values()]):
        return  # the flag of a thought says what the words beside it are
    calls = [CALLS[0] | {"extra_content": of_call}, CALLS[1]]
    said = told(client, {"content": "words", "extra_content": of_message, "tool_calls": calls})
    message = next_turn(client, said, ["a", "b"])
    assert message.get("extra_content", {}) == of_message
    assert message["tool_calls"][0].get("extra_content", {}) == of_call


@pytest.mark.parametrize("is_over", [False, True])
def test_a_signature_of_another_provider_is_refused_while_its_turn_runs_and_left_out_after_it(is_over):
    messages = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [CALLS[0] | {"extra_content": SIGNED}]},
        {"role": "tool", "tool_call_id": "a", "content": "sunny"},
    ]
    if is_over:
        messages += [{"role": "assistant", "content": "Sunny."}, {"role": "user", "content": "and now?"}]
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": messages}).encode()
    place = "messages[1].tool_calls[0].extra_content"
    if is_over:
        assert translate(body, client="chat", upstream="messages").dropped == (place,)
    else:
        with pytest.raises(Untranslatable) as error:
            translate(body, client="chat", upstream="messages")
        assert error.value.fields == (place,)


@pytest.mark.parametrize("client", ["messages", "responses"])
def test_reasoning_details_come_back_with_their_ids_and_kinds(client):
    """OpenRouter finds the call that a signature belongs to by its id, and asks for summaries as summaries."""
    said = told_as_stream(client, (WRITTEN / "openrouter-chat-stream.txt").read_bytes())
    details = next_turn(client, said, ["tool_0_get_weather"])["reasoning_details"]
    bare = [{name: value for name, value in detail.items() if name != "index"} for detail in details]
    assert bare == [
        {
            "type": "reasoning.summary",
            "summary": "**Looking it up**",
            "id": "rs_1",
            "format": "openai-responses-v1",
        },
        {"type": "reasoning.encrypted", "data": "gAAAAB==", "id": "rs_1", "format": "openai-responses-v1"},
        {"type": "reasoning.encrypted", "data": "CiQB0e2K", "id": "tool_0_get_weather", "format": "google-gemini-v1"},
    ]


@pytest.mark.parametrize(
    ("usage", "output_tokens"),
    [
        ({"prompt_tokens": 281, "completion_tokens": 31, "total_tokens": 402}, 121),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "total_tokens": 17,
                "completion_tokens_details": {"reasoning_tokens": 10},
            },
            12,
        ),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 12,
                "total_tokens": 17,
                "completion_tokens_details": {"reasoning_tokens": 10},
            },
            12,
        ),
        ({"prompt_tokens": 5, "completion_tokens": 12, "total_tokens": 0}, 12),
    ],
)
def test_thinking_that_the_total_alone_states_is_output_and_is_charged(usage, output_tokens):
    body = {"id": "i", "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}], "usage": usage}
    assert output_tokens_of({**body, "model": "models/gemini-3-flash-preview"}) == output_tokens


@pytest.mark.parametrize("model", ["gpt-5", None, 7])
def test_a_total_that_nothing_explains_is_no_charge(model):
    usage = {"prompt_tokens": 281, "completion_tokens": 31, "total_tokens": 402}
    choices = [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]
    assert output_tokens_of({"id": "i", "model": model, "choices": choices, "usage": usage}) == 31
    explained = {**usage, "completion_tokens_details": {"reasoning_tokens": 90}}
    assert output_tokens_of({"id": "i", "model": model, "choices": choices, "usage": explained}) == 121


def output_tokens_of(body):
    """Return what the tap counts, and the translation tells, which are one number."""
    tap = WholeAnswer("openai", json.dumps(body).encode())
    assert tap.usage is not None
    answer = json.loads(asked("messages").answer(json.dumps(body).encode(), now_s=1))
    assert answer["usage"]["output_tokens"] == tap.usage.output_tokens
    return tap.usage.output_tokens
