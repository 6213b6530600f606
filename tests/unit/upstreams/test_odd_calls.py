"""Calls of tools as other servers tell them: names in pieces or late, arguments as objects, or none that are JSON."""

from __future__ import annotations

import json

import pytest

from ownward.upstreams.translation import Limits, Untranslatable, UntranslatableAnswer, translate

ASKED = {
    "messages": {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]},
    "responses": {"model": "m", "input": "x"},
}
CLIENTS = list(ASKED)


def made(client):
    return translate(json.dumps(ASKED[client]).encode(), client=client, upstream="chat")


def piece(index=0, call_id=None, name=None, arguments=None):
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**({} if index is None else {"index": index}), **({"id": call_id} if call_id else {}), "function": function}


def chunk(*calls, finish=None, **delta):
    choice = {"index": 0, "delta": {**delta, **({"tool_calls": [*calls]} if calls else {})}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode() + b"\n\n"


def streamed(client, *chunks):
    """Return the calls that a client is told, each as id, name and arguments."""
    stream = made(client).stream(now_s=1)
    told = b"".join([stream.feed(each) for each in chunks]) + stream.feed(b"data: [DONE]\n\n") + stream.finish()
    events = [json.loads(line[6:]) for line in told.splitlines() if line.startswith(b"data: ")]
    if client == "responses":
        items = events[-1]["response"]["output"]
        return [(item["call_id"], item["name"], item["arguments"]) for item in items if item["type"] == "function_call"]
    found = []
    for event in events:
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            found.append([event["content_block"]["id"], event["content_block"]["name"], ""])
        elif event["type"] == "content_block_delta" and found:
            found[-1][2] += event["delta"].get("partial_json", "")
    return [tuple(call) for call in found]


def whole(arguments, finish="tool_calls"):
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    choice = {"index": 0, "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": finish}
    return json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode()


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        (
            [piece(call_id="a", name="get_"), piece(name="weather"), piece(arguments='{"x":1}')],
            [("a", "get_weather", '{"x":1}')],
        ),
        (
            [piece(call_id="a", arguments='{"x"'), piece(arguments=":1}"), piece(name="get_weather")],
            [("a", "get_weather", '{"x":1}')],
        ),
        (
            [piece(name="get_weather", arguments=""), piece(call_id="a"), piece(arguments='{"x":1}')],
            [("a", "get_weather", '{"x":1}')],
        ),
        (
            [piece(name="f", arguments=""), piece(name="f", arguments='{"x"'), piece(name="f", arguments=":1}")],
            [("call_c_0", "f", '{"x":1}')],
        ),
        (
            [
                piece(name="f", arguments='{"x":1}'),
                piece(name="f", arguments='{"x":2}'),
                piece(name="g", arguments="{}"),
            ],
            [("call_c_0", "f", '{"x":1}'), ("call_c_1", "f", '{"x":2}'), ("call_c_2", "g", "{}")],
        ),
        (
            [piece(None, name="f", arguments='{"x":1}'), piece(None, name="g", arguments="{}")],
            [("call_c_0", "f", '{"x":1}'), ("call_c_1", "g", "{}")],
        ),
        (
            [piece(0, call_id="a", name="f"), piece(1, call_id="b", name="g", arguments='{"y":1}')],
            [("a", "f", "{}"), ("b", "g", '{"y":1}')],
        ),
        ([piece(), piece(call_id="a", name="f", arguments={"x": 1})], [("a", "f", '{"x":1}')]),
    ],
    ids=[
        "a name in two pieces",
        "a name behind its arguments",
        "an id behind its name",
        "a name in each piece",
        "whole calls without ids, with one index",
        "whole calls without ids or index",
        "one that takes nothing beside another",
        "an empty piece, and an object for its text",
    ],
)
def test_calls_are_put_together_as_openais_own_client_would(client, pieces, calls):
    assert streamed(client, *map(chunk, pieces), chunk(finish="tool_calls")) == calls


@pytest.mark.parametrize("client", CLIENTS)
def test_a_call_without_any_name_is_not_told(client):
    with pytest.raises(UntranslatableAnswer, match="without its name"):
        streamed(client, chunk(piece(call_id="a", arguments="{}")), chunk(finish="tool_calls"))


@pytest.mark.parametrize("client", CLIENTS)
def test_an_empty_text_in_the_place_of_a_reason_ends_nothing(client):
    """Servers that write one in every chunk would break off their own calls."""
    chunks = [
        chunk(piece(call_id="a", name="f", arguments='{"x"'), finish=""),
        chunk(piece(arguments=":1}"), finish=""),
    ]
    assert streamed(client, *chunks) == [("a", "f", '{"x":1}')]
    stream = made("messages").stream(now_s=1)
    told = stream.feed(chunk(content="a", finish="") + chunk(content="b", finish="") + chunk(finish="stop"))
    assert told.count(b"event: content_block_start") == 1


def test_arguments_that_are_an_object_are_told_as_their_text():
    (item,) = json.loads(made("responses").answer(whole({"x": [1, "é"]}), now_s=1))["output"]
    assert item["arguments"] == '{"x":[1,"é"]}'
    (block,) = json.loads(made("messages").answer(whole({"x": [1, "é"]}), now_s=1))["content"]
    assert block["input"] == {"x": [1, "é"]}


@pytest.mark.parametrize("arguments", ['{"x":', "[1]", "none"])
def test_arguments_that_are_no_object_reach_clients_whose_dialect_has_their_text(arguments):
    body = json.loads(made("responses").answer(whole(arguments, "length"), now_s=1))
    assert (body["status"], body["output"][0]["arguments"]) == ("incomplete", arguments)
    with pytest.raises(UntranslatableAnswer, match="not a JSON object") as error:
        made("messages").answer(whole(arguments, "length"), now_s=1)
    assert "raise that limit" in str(error.value)
    with pytest.raises(UntranslatableAnswer, match="neither text nor an object"):
        made("responses").answer(whole([1]), now_s=1)


def test_arguments_that_are_no_object_come_back_where_they_are_text_and_are_refused_elsewhere():
    """A client sends back what it was told, with what came of it."""
    items = [
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x":'},
        {"type": "function_call_output", "call_id": "a", "output": "Error: no JSON"},
    ]
    body = json.dumps({"model": "m", "max_output_tokens": 5, "input": items}).encode()
    asked = json.loads(translate(body, client="responses", upstream="chat").body)
    assert asked["messages"][0]["tool_calls"][0]["function"]["arguments"] == '{"x":'
    with pytest.raises(Untranslatable) as error:
        translate(body, client="responses", upstream="messages")
    assert error.value.fields == ("input[0].arguments",)


def test_what_azure_tells_before_an_answer_begins_does_not_name_it():
    """Its first chunk has empty names and no choices, and says what was found in the prompt."""
    first = (
        b'data: {"id": "", "model": "", "object": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}'
    )
    chunks = first + b"\n\n" + chunk(content="a") + chunk(finish="stop") + b"data: [DONE]\n\n"
    for client, told_id in (("messages", b'"id":"c"'), ("responses", b'"id":"resp_c"')):
        stream = made(client).stream(now_s=1)
        begun = (stream.feed(chunks) + stream.finish()).split(b"\n\n")[0]
        assert told_id in begun
        assert b'"model":"m"' in begun


def test_an_answer_without_an_id_is_called_as_its_request_is_and_so_are_its_calls():
    """Clients tell answers, and calls, apart by their ids."""
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = json.dumps(ASKED["messages"]).encode()
    chat = translate(asked, client="messages", upstream="chat", answer_id="req_1")
    body = {"choices": [{"message": {"tool_calls": [call]}, "finish_reason": "stop"}]}
    told = json.loads(chat.answer(json.dumps(body).encode(), now_s=1))
    assert (told["id"], told["content"][0]["id"]) == ("req_1", "call_req_1_0")
    piece_of = {"choices": [{"delta": {"tool_calls": [{"index": 0, **call}]}, "finish_reason": "stop"}]}
    stream = chat.stream(now_s=1)
    streamed = stream.feed(b"data: " + json.dumps(piece_of).encode() + b"\n\ndata: [DONE]\n\n") + stream.finish()
    assert b'"message":{"id":"req_1"' in streamed
    assert b'"id":"call_req_1_0"' in streamed
    asked = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()
    messages = translate(
        asked, client="chat", upstream="messages", limits=Limits(max_output_tokens=5), answer_id="req_1"
    )
    whole = {"type": "message", "content": [], "stop_reason": "end_turn", "usage": {}}
    assert json.loads(messages.answer(json.dumps(whole).encode(), now_s=1))["id"] == "req_1"
    start = {"type": "message_start", "message": {"usage": {}}}
    assert b'"id":"req_1"' in messages.stream(now_s=1).feed(b"data: " + json.dumps(start).encode() + b"\n\n")


@pytest.mark.parametrize("arguments", ["null", " null\n", "", None])
def test_a_call_whose_arguments_are_null_takes_none(arguments):
    """Some models write it for a tool without parameters, and some clients send it back."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}]}
    made = translate(json.dumps(asked).encode(), client="messages", upstream="chat")
    choice = {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [call]}}
    answer = json.dumps({"id": "a", "model": "m", "choices": [{**choice, "finish_reason": "tool_calls"}]}).encode()
    assert json.loads(made.answer(answer, now_s=0))["content"][0]["input"] == {}
    delta = {"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}, "finish_reason": "tool_calls"}
    stream = made.stream(now_s=0)
    told = stream.feed(b"data: %b\n\n" % json.dumps({"id": "a", "model": "m", "choices": [delta]}).encode())
    told += stream.feed(b"data: [DONE]\n\n") + stream.finish()
    assert b'"partial_json":"{}"' in told
    said = [*asked["messages"], {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c"}]
    back = translate(json.dumps({**asked, "messages": said}).encode(), client="chat", upstream="messages")
    assert json.loads(back.body)["messages"][1]["content"][0]["input"] == {}


def test_a_null_within_the_arguments_of_a_call_stays():
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}]}
    stream = translate(json.dumps(asked).encode(), client="messages", upstream="chat").stream(now_s=0)
    told = b""
    for piece in ('{"a": ', "null", "}"):
        function = {"name": "f", "arguments": piece} if piece.startswith("{") else {"arguments": piece}
        call = {"index": 0, **({"id": "c"} if "name" in function else {}), "function": function}
        chunk = {"id": "a", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
        told += stream.feed(b"data: %b\n\n" % json.dumps(chunk).encode())
    assert b'"partial_json":"null"' in told
