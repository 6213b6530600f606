"""How an answer ends that its upstream gave up, and which words for an end are known besides OpenAI's."""

from __future__ import annotations

import json

import pytest

from ownward.upstreams.translation import UntranslatableAnswer, translate

ASKED = {
    "chat": {"model": "m", "stream": True, "max_tokens": 5, "messages": []},
    "messages": {"model": "m", "stream": True, "max_tokens": 5, "messages": []},
    "responses": {"model": "m", "stream": True, "max_output_tokens": 5, "input": "x"},
}
LAST_WORDS = {"chat": "[DONE]", "messages": "message_stop", "responses": "response.completed"}
GAVE_UP = ["error", "abort", "insufficient_system_resource", "function_call_filter: MALFORMED_FUNCTION_CALL"]


def made(client, upstream="chat"):
    return translate(json.dumps(ASKED[client]).encode(), client=client, upstream=upstream)


def data(event):
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def chunk(delta, finish=None, **more):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return data({"id": "c", "model": "m", "choices": [choice], **more})


def whole(finish, **more):
    choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": finish}
    return json.dumps({"id": "c", "model": "m", "choices": [choice], **more}).encode()


@pytest.mark.parametrize("client", ["messages", "responses"])
@pytest.mark.parametrize("reason", GAVE_UP)
def test_an_answer_that_its_upstream_gave_up_is_not_told_as_a_whole_one(client, reason):
    with pytest.raises(UntranslatableAnswer, match="gave up before its answer was whole"):
        made(client).answer(whole(reason), now_s=1)
    stream = made(client).stream(now_s=1)
    stream.feed(chunk({"content": "a"}))
    with pytest.raises(UntranslatableAnswer, match="gave up before its answer was whole"):
        stream.feed(chunk({}, reason))


@pytest.mark.parametrize("client", ["messages", "responses"])
def test_nothing_is_told_behind_an_error_in_a_stream(client):
    """A response would be told, and kept, as completed. What follows may be alike, and come in the same bytes."""
    stream = made(client).stream(now_s=1)
    behind = b"".join(chunk({"content": word}) for word in ("b", "c", "d"))
    told = stream.feed(chunk({"content": "a"}) + data({"error": {"message": "boom"}}) + behind)
    told += stream.feed(chunk({"content": "c"})) + stream.feed(b"data: [DONE]\n\n") + stream.finish()
    assert b"boom" in told
    assert told.rstrip().split(b"\n\n")[-1].startswith(b"event: error")
    assert LAST_WORDS[client].encode() not in told


def test_nothing_is_told_behind_an_error_of_an_anthropic_upstream():
    stream = made("chat", "messages").stream(now_s=1)
    told = stream.feed(data({"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1}}}))
    told += stream.feed(data({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}))
    told += stream.feed(data({"type": "message_stop"})) + stream.finish()
    assert b"Overloaded" in told
    assert b"[DONE]" not in told


@pytest.mark.parametrize("client", ["chat", "responses"])
def test_a_turn_that_is_only_paused_is_not_told_as_over(client):
    message = {"type": "message", "id": "m", "model": "m", "content": [], "stop_reason": "pause_turn", "usage": {}}
    with pytest.raises(UntranslatableAnswer, match="paused"):
        made(client, "messages").answer(json.dumps(message).encode(), now_s=1)
    stream = made(client, "messages").stream(now_s=1)
    with pytest.raises(UntranslatableAnswer, match="paused"):
        stream.feed(data({"type": "message_delta", "delta": {"stop_reason": "pause_turn"}, "usage": {}}))


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("stop", "end_turn"),
        ("eos", "end_turn"),
        ("eos_token", "end_turn"),
        ("STOP", "end_turn"),
        ("length", "max_tokens"),
        ("model_length", "max_tokens"),
        ("MAX_TOKENS", "max_tokens"),
        ("stop_sequence", "stop_sequence"),
        ("end_turn", "end_turn"),
        ("content_filter", "refusal"),
        ("SAFETY", "refusal"),
        ("some_reason_of_tomorrow", None),
    ],
)
def test_other_servers_words_for_an_end_are_known(reason, stop):
    assert json.loads(made("messages").answer(whole(reason), now_s=1))["stop_reason"] == stop


@pytest.mark.parametrize("reason", ["tool_calls", "tool_use", "stop", "some_reason_of_tomorrow", "", None])
def test_an_answer_that_calls_tools_asks_for_their_results_whatever_its_end_is_called(reason):
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    choice = {"index": 0, "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": reason}
    body = json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode()
    assert json.loads(made("messages").answer(body, now_s=1))["stop_reason"] == "tool_use"
    stream = made("messages").stream(now_s=1)
    told = stream.feed(chunk({"tool_calls": [{"index": 0, **call}]}) + chunk({}, reason) + b"data: [DONE]\n\n")
    assert b'"stop_reason":"tool_use"' in told + stream.finish()


def test_results_are_not_asked_for_where_no_tool_was_called():
    assert json.loads(made("messages").answer(whole("tool_calls"), now_s=1))["stop_reason"] == "end_turn"
    stream = made("messages").stream(now_s=1)
    told = stream.feed(chunk({"content": "a"}) + chunk({}, "tool_calls") + b"data: [DONE]\n\n") + stream.finish()
    assert b'"stop_reason":"end_turn"' in told
    message = {"type": "message", "id": "m", "model": "m", "content": [], "stop_reason": "tool_use", "usage": {}}
    told = json.loads(made("chat", "messages").answer(json.dumps(message).encode(), now_s=1))
    assert told["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("reason", ["", None])
def test_a_chats_last_word_without_a_reason_is_the_end_of_the_answer(reason):
    """OpenAI's reference: streams are "terminated by a data: [DONE] message"; some servers never state a reason."""
    ends = {"messages": '"stop_reason":"end_turn"', "responses": '"status":"completed"'}
    for client, end in ends.items():
        assert end in made(client).answer(whole(reason), now_s=1).decode()
        stream = made(client).stream(now_s=1)
        told = stream.feed(chunk({"content": "a"}, reason) + b"data: [DONE]\n\n") + stream.finish()
        assert end in told.decode()
        assert LAST_WORDS[client].encode() in told


@pytest.mark.parametrize("is_called", [False, True])
def test_a_messages_last_word_without_a_reason_is_the_end_of_the_answer(is_called):
    block = {"type": "tool_use", "id": "a", "name": "f", "input": {}} if is_called else {"type": "text", "text": "a"}
    reason = "tool_calls" if is_called else "stop"
    ends = {"chat": f'"finish_reason":"{reason}"', "responses": '"status":"completed","error"'}
    message = {"type": "message", "id": "m", "model": "m", "content": [block], "stop_reason": None, "usage": {}}
    events = [
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    for client, end in ends.items():
        assert end in made(client, "messages").answer(json.dumps(message).encode(), now_s=1).decode()
        stream = made(client, "messages").stream(now_s=1)
        told = stream.feed(b"".join(map(data, events))) + stream.finish()
        assert end in told.decode()


@pytest.mark.parametrize(
    ("tier", "of_message"), [("default", "standard"), ("priority", "priority"), ("flex", None), (None, None)]
)
def test_the_tier_of_service_that_answered_is_told(tier, of_message):
    body = whole("stop", service_tier=tier)
    message = json.loads(made("messages").answer(body, now_s=1))
    assert message["usage"].get("service_tier") == of_message
    response = json.loads(made("responses").answer(body, now_s=1))
    assert response.get("service_tier") == tier
    chunks = chunk({"content": "a"}, service_tier=tier) + chunk({}, "stop") + b"data: [DONE]\n\n"
    words = {"messages": of_message, "responses": tier}
    for client, word in words.items():
        stream = made(client).stream(now_s=1)
        told = (stream.feed(chunks) + stream.finish()).decode()
        assert (f'"service_tier":"{word}"' in told) is (word is not None)


@pytest.mark.parametrize("tier", ["standard", "priority"])
def test_the_tier_of_service_of_a_message_is_told_in_openais_words(tier):
    start = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1, "service_tier": tier}}}
    word = {"standard": "default"}.get(tier, tier)
    for client in ("chat", "responses"):
        stream = made(client, "messages").stream(now_s=1)
        told = stream.feed(data(start) + data({"type": "message_stop"})) + stream.finish()
        assert b'"service_tier":"%b"' % word.encode() in told
