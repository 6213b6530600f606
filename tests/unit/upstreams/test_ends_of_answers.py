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
    """A response would be told, and kept, as completed."""
    stream = made(client).stream(now_s=1)
    told = stream.feed(chunk({"content": "a"}) + data({"error": {"message": "boom"}}) + chunk({"content": "b"}))
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
        ("content_filter", "refusal"),
        ("SAFETY", "refusal"),
        ("some_reason_of_tomorrow", None),
    ],
)
def test_other_servers_words_for_an_end_are_known(reason, stop):
    assert json.loads(made("messages").answer(whole(reason), now_s=1))["stop_reason"] == stop


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
