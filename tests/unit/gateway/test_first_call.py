"""The first call alone, of whole answers and of streams, where one was wanted and several were made."""

import json

import msgspec
import pytest

from ownward.gateway.calling.first_call import passing_first_call, wants_one_call, with_first_call


@pytest.mark.parametrize(
    ("body", "wants"),
    [
        (b'{"parallel_tool_calls":false}', True),
        (b'{"parallel_tool_calls": false , "tools": []}', True),
        (b'{"parallel_tool_calls":true}', False),
        (b'{"parallel_tool_calls":null}', False),
        (b'{"messages":[{"content":"\\"parallel_tool_calls\\":false"}]}', False),
        (b'{"metadata":{"parallel_tool_calls":false}}', False),
        (b"{}", False),
    ],
)
def test_one_call_is_wanted_where_the_chat_says_so(body, wants):
    assert wants_one_call(msgspec.json.decode(body, type=dict[str, msgspec.Raw])) is wants


def whole(*choices):
    said = [{"index": i, "message": {"role": "assistant", **message}} for i, message in enumerate(choices)]
    return json.dumps({"choices": said, "usage": {"completion_tokens": 9}}).encode()


def call(name, **more):
    return {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}, **more}


def test_each_choice_of_a_whole_answer_keeps_its_first_call():
    told = with_first_call(
        whole({"tool_calls": [call("a"), call("b")]}, {"content": "no"}, {"tool_calls": [call("c")]})
    )
    assert json.loads(told) == json.loads(
        whole({"tool_calls": [call("a")]}, {"content": "no"}, {"tool_calls": [call("c")]})
    )


@pytest.mark.parametrize(
    "body",
    [
        whole({"tool_calls": [call("a")]}),
        whole({"content": 'I wrote "tool_calls"'}),
        whole({"tool_calls": None}),
        b'{"choices": [], "tool_calls": 3}',
        b'{"choices": ["tool_calls"]}',
        b'{"tool_calls": [',
        b'["tool_calls"]',
    ],
)
def test_what_makes_no_further_call_stays_as_it_is(body):
    assert with_first_call(body) is body


def piece(delta, **more):
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta, **more}]}).encode() + b"\n\n"


def test_a_stream_keeps_every_byte_but_those_of_further_calls():
    first = piece({"tool_calls": [call("a", index=0)]})
    begun, grown = piece({"tool_calls": [call("b", index=1)]}), piece({"tool_calls": [{"index": 1}]})
    both = piece({"role": "assistant", "tool_calls": [call("a", index=0), call("b", index=1)]})
    end = piece({}, finish_reason="tool_calls") + b"data: [DONE]\n\n"
    feed = passing_first_call(lambda data: data)
    assert feed(first) == first
    told = feed(begun + b": alive\n\n" + grown.replace(b"\n", b"\r\n"))
    assert [json.loads(line[6:])["choices"] for line in told.splitlines() if line[:5] == b"data:"] == [
        [{"index": 0, "delta": {}}]
    ] * 2
    assert b"\n\n: alive\n\n" in told
    assert told.endswith(b"}\r\n\r\n")
    assert json.loads(feed(both)[6:])["choices"][0]["delta"] == {
        "role": "assistant",
        "tool_calls": [call("a", index=0)],
    }
    assert feed(end) == end
