"""Events recognised by what stands around their words: when they are, when not, and that it changes nothing."""

from __future__ import annotations

import json
from unittest.mock import patch

import pytest

from ownward.upstreams import Stencil, StreamTap
from ownward.upstreams._pieces import parse_piece
from ownward.upstreams.translation import translate


def data(event: object) -> bytes:
    return b"data: " + json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def chat(words: str, **extra: object) -> bytes:
    return data({"id": "c", "choices": [{"index": 0, "delta": {"content": words}, "finish_reason": None}], **extra})


def anthropic(words: str, blanks: int = 0) -> bytes:
    delta = data({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": words}})
    return b"event: content_block_delta\n" + delta[:-3] + b" " * blanks + delta[-3:]


def said(event: bytes) -> str:
    """Return the words of one of these events."""
    found = json.loads(event.partition(b"data: ")[2])
    return found["choices"][0]["delta"]["content"] if "choices" in found else found["delta"]["text"]


def decoded(monkeypatch, tap, *events):
    """Return how many of the events a tap decodes."""
    seen = []
    monkeypatch.setattr(
        "ownward.upstreams.tap.parse_piece", lambda payload: seen.append(payload) or parse_piece(payload)
    )
    for event in events:
        assert tap.feed(event) == event
    return sum(b"ownward: " not in payload for payload in seen)


@pytest.mark.parametrize(
    "events",
    [
        [chat("a"), chat(" word"), chat("\n"), chat('"'), chat("é"), chat("\\")],
        [chat("a", obfuscation="x9"), chat("b", obfuscation=""), chat("c", obfuscation="Zz0000")],
        [chat("a", usage=None, p="x9"), chat("b", usage=None, p="abcdefgh")],
        [anthropic("a"), anthropic("b", 7), anthropic("c", 1)],
        [anthropic("a", 3), anthropic("b"), anthropic("c", 9)],
        [b"".join([anthropic("a"), anthropic("b"), anthropic("c")])],
    ],
)
def test_a_tap_decodes_only_the_first_of_events_that_are_alike(monkeypatch, events):
    tap = StreamTap("anthropic" if b"text_delta" in events[0] else "openai")
    assert decoded(monkeypatch, tap, *events) == 1
    assert tap.content_events == b"".join(events).count(b"data: ")


def response(words, number, *, at_end=False, **more):
    name = "response.output_text.delta"
    numbered = {"sequence_number": number}
    return f"event: {name}\n".encode() + data(
        {"type": name, **({} if at_end else numbered), "delta": words, **(numbered if at_end else {}), **more}
    )


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("obfuscated", [False, True])
def test_events_of_responses_are_alike_whatever_their_number(monkeypatch, at_end, obfuscated):
    numbers = (7, 8, 9, 10, 99, 100, 0, 123_456_789)
    padding = [{"obfuscation": "aB3dE"[: number % 5]} if obfuscated else {} for number in numbers]
    words = ("a", " word", '"', "\\", "é", '","sequence_number":5', "7", "}")
    events = [
        response(said, number, at_end=at_end, **more)
        for said, number, more in zip(words, numbers, padding, strict=True)
    ]
    tap = StreamTap()
    assert decoded(monkeypatch, tap, *events) == 1
    assert tap.content_events == len(numbers)


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(
    "number", [b"01", b"-1", b"1.0", b"1e9", b'"1"', b"null", b"", b" 1", b"1 ", b"1,1", b"9999999999999999"]
)
def test_what_is_no_whole_number_is_read_as_what_it_is(number, at_end):
    stencil = Stencil()
    stencil.cut(response("a", 7, at_end=at_end), "a", response_says)
    assert stencil.words_in(response("b", 8, at_end=at_end)) == "b"
    odd = response("b", 8, at_end=at_end).replace(b'"sequence_number":8', b'"sequence_number":%b' % number)
    assert stencil.words_in(odd) is None


def test_of_two_numbers_none_is_passed_over():
    stencil = Stencil()
    stencil.cut(response("a", 7, part={"sequence_number": 1}), "a", response_says)
    assert stencil.words_in(response("b", 8, part={"sequence_number": 1})) is None


def response_says(event):
    return json.loads(event.partition(b"data: ")[2])["delta"]


def call(arguments, index=0, **more):
    piece = {"index": index, "function": {"arguments": arguments}, **more}
    return data({"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [piece]}, "finish_reason": None}]})


def test_arguments_of_a_call_are_decoded_once(monkeypatch):
    tap = StreamTap()
    assert decoded(monkeypatch, tap, *[call(piece) for piece in ('{"a"', ': "', "x", "\\", '"}')]) == 1
    assert tap.content_events == 5


def test_arguments_that_are_passed_over_count_for_where_their_call_ends():
    """A second call's pieces wait until the first is whole, which the pieces that were not decoded make it."""
    asked = b'{"model": "m", "max_tokens": 5, "stream": true, "messages": []}'
    stream = translate(asked, client="messages", upstream="chat").stream(now_s=1)
    named = {"id": "x", "type": "function"}
    first = data({"choices": [{"delta": {"tool_calls": [{"index": 0, **named, "function": {"name": "f"}}]}}]})
    second = data({"choices": [{"delta": {"tool_calls": [{"index": 1, "id": "y", "function": {"name": "g"}}]}}]})
    told = [stream.feed(piece) for piece in (first, call("{"), call('"a"'), call(":"), call(" 1"), call("}"))]
    assert [b"input_json_delta" in each for each in told] == [False, True, True, True, True, True]
    assert b"content_block_stop" in stream.feed(second)
    assert b'"name":"g"' in stream.feed(call("{", index=1))


@pytest.mark.parametrize(
    "other",
    [
        chat(""),
        chat("b")[:-4] + b"]]\n\n",
        chat("b", obfuscation='x"'),
        chat("b", usage={"prompt_tokens": 1, "completion_tokens": 1}),
        chat("b").replace(b'"b"', b'"b'),
        chat("b").replace(b'"b"', b'"b" '),
        chat("b").replace(b'"b"', b'"\xff"'),
        chat("b").replace(b'"b"', b'"\x01"'),
        chat("b").replace(b'"b"', b"7"),
        chat("b")[:-1],
        chat("b") + chat("b"),
        b": " + chat("b"),
        b"",
    ],
)
def test_what_is_not_alike_is_not_recognised(other):
    stencil = Stencil()
    stencil.cut(chat("a"), "a", said)
    assert stencil.words_in(chat("b")) == "b"
    assert stencil.words_in(other) is None


@pytest.mark.parametrize("padding", [b'x\\"', b"x ", b'x","usage":"x', b'"'])
def test_padding_is_letters_and_nothing_that_could_mean_something(padding):
    stencil = Stencil()
    stencil.cut(chat("a", obfuscation="pad"), "a", said)
    assert stencil.words_in(chat("b", obfuscation="longer0")) == "b"
    assert stencil.words_in(chat("b", obfuscation="pad").replace(b"pad", padding)) is None


def test_blanks_inside_words_are_no_padding():
    stencil = Stencil()
    stencil.cut(anthropic("a"), "a", said)
    assert stencil.words_in(anthropic("}}\n", 4)) == "}}\n"
    assert stencil.words_in(anthropic("b", 4).replace(b"}   ", b"}  0")) is None


def test_words_that_stand_elsewhere_too_are_not_taken_for_the_event_s():
    tap = StreamTap()
    escaped = data({"note": "a", "choices": [{"index": 0, "delta": {"content": "WORDS"}}]}).replace(
        b"WORDS", b"\\u0061"
    )
    for event in (escaped, escaped.replace(b'"a"', b'"b"'), chat("id"), chat("x"), chat("")):
        tap.feed(event)
    assert tap.content_events == 4
    assert tap.upstream_request_id == "c"


def test_where_each_event_has_something_of_its_own_no_more_is_learned():
    stencil = Stencil()
    asked = []
    for number in range(40):
        assert stencil.words_in(chat("a", created=number)) is None
        stencil.cut(chat("a", created=number), "a", lambda event: asked.append(event) or said(event))
    assert len(asked) == 16


BEGINNINGS = {
    "chat": data({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}),
    "messages": data({"type": "message_start", "message": {"id": "c", "model": "m", "usage": {"input_tokens": 3}}}),
}


def say(upstream: str, kind: str, index: int) -> list[bytes]:
    """Return the events of one part: what begins it, and three pieces."""
    found = []
    if upstream == "chat":
        if kind == "call":
            call = {"index": index, "id": f"t{index}", "function": {"name": "f"}}
            found.append(data({"choices": [{"delta": {"tool_calls": [call]}}]}))
        for words in "one", '"two', "three\n":
            piece = {"tool_calls": [{"index": index, "function": {"arguments": words}}]}
            delta = {"call": piece, "text": {"content": words}, "thought": {"reasoning_content": words}}[kind]
            found.append(data({"choices": [{"index": 0, "delta": delta}]}))
        return found
    block = {
        "call": {"type": "tool_use", "id": f"t{index}", "name": "f", "input": {}},
        "text": {"type": "text", "text": ""},
        "thought": {"type": "thinking", "thinking": ""},
    }[kind]
    found.append(data({"type": "content_block_start", "index": index, "content_block": block}))
    for words in "one", '"two', "three\n":
        delta = {
            "call": {"type": "input_json_delta", "partial_json": words},
            "text": {"type": "text_delta", "text": words},
            "thought": {"type": "thinking_delta", "thinking": words},
        }[kind]
        found.append(data({"type": "content_block_delta", "index": index, "delta": delta}))
    return [*found, data({"type": "content_block_stop", "index": index})]


@pytest.mark.parametrize(
    ("client", "upstream"),
    [("messages", "chat"), ("responses", "chat"), ("chat", "messages"), ("responses", "messages")],
)
def test_a_part_after_another_of_its_kind_is_told_as_its_own(monkeypatch, client, upstream):
    kinds = ["thought", "text", "call", "call", "thought", "text", "call", "text"]
    parts = [event for index, kind in enumerate(kinds) for event in say(upstream, kind, index)]

    def told() -> bytes:
        asked = {"model": "m", "stream": True, "max_tokens": 5, "messages": []}
        if client == "responses":
            asked = {"model": "m", "stream": True, "max_output_tokens": 5, "input": "x"}
        stream = translate(json.dumps(asked).encode(), client=client, upstream=upstream).stream(now_s=7)
        return b"".join(map(stream.feed, [BEGINNINGS[upstream], *parts])) + stream.finish()

    found = told()
    recognised = []
    words_in = Stencil.words_in

    def count(stencil: Stencil, event: bytes) -> str | None:
        words = words_in(stencil, event)
        recognised.append(words)
        return words

    with patch.object(Stencil, "words_in", count):
        assert told() == found
    assert sum(words is not None for words in recognised) > len(kinds)
    with patch.object(Stencil, "words_in", lambda _stencil, _event: None):
        assert told() == found


def test_what_was_read_since_may_change_what_an_event_means():
    """Reasoning told twice is passed on once: the plain form counts only until the other has come."""
    asked = {"model": "m", "stream": True, "max_tokens": 5, "messages": []}
    stream = translate(json.dumps(asked).encode(), client="messages", upstream="chat").stream(now_s=7)
    details = [{"type": "reasoning.text", "text": "r"}]
    thoughts = say("chat", "thought", 0)
    for event in (BEGINNINGS["chat"], *thoughts):
        assert stream.feed(event)
    stream.feed(data({"choices": [{"delta": {"reasoning_details": details, "content": "x"}}]}))
    assert stream.feed(thoughts[0]) == b""


@pytest.mark.parametrize("words", ["text", "thought"])
def test_arguments_that_follow_other_words_are_refused(words):
    asked = {"model": "m", "stream": True, "max_output_tokens": 5, "input": "x"}
    for upstream in "chat", "messages":
        stream = translate(json.dumps(asked).encode(), client="responses", upstream=upstream).stream(now_s=7)
        call, other = say(upstream, "call", 0), say(upstream, words, 1)
        ended = call[4:]  # Anthropic's dialect says when a block is over
        for event in (BEGINNINGS[upstream], call[0], call[1], *ended, other[0], other[1]):
            stream.feed(event)
        with pytest.raises(Exception, match=r"goes back to a part|outside of a call"):
            stream.feed(call[1])
