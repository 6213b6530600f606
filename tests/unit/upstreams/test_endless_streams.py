"""Streams that never end: what of them has to be held is bounded, and what has not may go on."""

from __future__ import annotations

import json

import pytest

from ownward.upstreams.translation import (
    UntranslatableAnswer,
    _in_turn,
    _streams_read_chat,
    _streams_responses,
    translate,
)

ASKED = {
    "messages": {"model": "m", "stream": True, "max_tokens": 5, "messages": []},
    "responses": {"model": "m", "stream": True, "max_output_tokens": 5, "input": "x"},
}
FEW_BYTES = 1024 * 1024
LONG = 20_000


@pytest.fixture(autouse=True)
def _holding_less(monkeypatch):
    for module in (_in_turn, _streams_read_chat, _streams_responses):
        monkeypatch.setattr(module, "MOST_BYTES", FEW_BYTES)


def text(_number):
    return {"content": "words"}


def thoughts_by_turns(number):
    return {"reasoning_content": "so"} if number % 2 else {"content": "words"}


def arguments(number):
    begun = {"id": "c", "function": {"name": "f", "arguments": '{"a": "'}}
    return {"tool_calls": [{"index": 0, **(begun if number == 0 else {"function": {"arguments": "words"}})}]}


def name(number):
    return {"tool_calls": [{"index": 0, "id": "c", "function": {"name": f"f{number}"}}]}


def calls(number):
    return {"tool_calls": [{"index": number, "id": f"c{number}", "function": {"name": "f", "arguments": "{}"}}]}


def feed(client, delta_of, pieces):
    stream = translate(json.dumps(ASKED[client]).encode(), client=client, upstream="chat").stream(now_s=0)
    for number in pieces:
        chunk = {"id": "a", "model": "m", "choices": [{"index": 0, "delta": delta_of(number), "finish_reason": None}]}
        stream.feed(b"data: %b\n\n" % json.dumps(chunk).encode())


@pytest.mark.parametrize(
    ("client", "delta_of"),
    [
        ("responses", text),
        ("responses", thoughts_by_turns),
        ("responses", arguments),
        ("messages", arguments),
        ("messages", name),
        ("messages", calls),
    ],
)
def test_a_stream_of_which_ever_more_has_to_be_held_is_cut_by_name(client, delta_of):
    with pytest.raises(UntranslatableAnswer, match="has to be held until its end") as error:
        feed(client, delta_of, range(LONG))
    assert "max_tokens" in error.value.next_step


@pytest.mark.parametrize("delta_of", [text, thoughts_by_turns])
def test_a_stream_of_which_nothing_is_held_may_go_on(delta_of):
    feed("messages", delta_of, range(LONG))
