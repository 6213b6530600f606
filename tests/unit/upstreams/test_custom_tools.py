"""Custom tools of responses, whose input is any text: told as functions that take one, and told back as they are."""

from __future__ import annotations

import json

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from ownward.upstreams.translation import Limits, Untranslatable, translate

RUN = {"type": "custom", "name": "run", "description": "Runs a script.", "format": {"type": "text"}}
ADD = {"type": "function", "name": "add", "parameters": {"type": "object"}}
SCRIPT = 'print("é")\n\\n\U0001f600'
FORM = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
USER = {"role": "user", "content": "hello"}
UPSTREAMS = pytest.mark.parametrize("upstream", ["chat", "messages"])


def made(upstream, *items, tools=(RUN, ADD), **more):
    body = {"model": "m", "input": [USER, *items], "tools": [*tools], **more}
    return translate(
        json.dumps(body).encode(), client="responses", upstream=upstream, limits=Limits(max_output_tokens=9)
    )


def whole(upstream, *calls):
    if upstream == "messages":
        blocks = [
            {"type": "tool_use", "id": f"c{n}", "name": name, "input": json.loads(arguments)}
            for n, (name, arguments) in enumerate(calls)
        ]
        told = {"id": "a", "model": "m", "type": "message", "role": "assistant", "content": blocks}
        return json.dumps({**told, "stop_reason": "tool_use"}).encode()
    told = [
        {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(calls)
    ]
    choice = {"index": 0, "message": {"role": "assistant", "tool_calls": told}, "finish_reason": "tool_calls"}
    return json.dumps({"id": "a", "model": "m", "choices": [choice]}).encode()


def stream(upstream, *calls, piece=5):
    events = []
    if upstream == "messages":
        start = {"id": "a", "model": "m", "type": "message", "role": "assistant", "content": []}
        events.append({"type": "message_start", "message": start})
        for n, (name, arguments) in enumerate(calls):
            block = {"type": "tool_use", "id": f"c{n}", "name": name, "input": {}}
            events.append({"type": "content_block_start", "index": n, "content_block": block})
            for at in range(0, len(arguments), piece):
                delta = {"type": "input_json_delta", "partial_json": arguments[at : at + piece]}
                events.append({"type": "content_block_delta", "index": n, "delta": delta})
            events.append({"type": "content_block_stop", "index": n})
        events.append({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}})
        events.append({"type": "message_stop"})
        return [json.dumps(event) for event in events]

    def chunk(delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return json.dumps({"id": "a", "model": "m", "choices": [choice]})

    for n, (name, arguments) in enumerate(calls):
        begun = {"index": n, "id": f"c{n}", "type": "function", "function": {"name": name, "arguments": ""}}
        events.append(chunk({"tool_calls": [begun]}))
        for at in range(0, len(arguments), piece):
            more = {"index": n, "function": {"arguments": arguments[at : at + piece]}}
            events.append(chunk({"tool_calls": [more]}))
    return [*events, chunk({}, "tool_calls"), "[DONE]"]


CALLS = (("run", json.dumps({"input": SCRIPT})), ("add", '{"a":1}'), ("run", '{"input": "x"}'))


def items_of(output):
    return [(item["type"], item["call_id"], item["name"], item.get("input", item.get("arguments"))) for item in output]


EXPECTED = [
    ("custom_tool_call", "c0", "run", SCRIPT),
    ("function_call", "c1", "add", '{"a":1}'),
    ("custom_tool_call", "c2", "run", "x"),
]


@UPSTREAMS
def test_a_custom_tool_is_told_as_a_function_that_takes_one_text(upstream):
    body = json.loads(made(upstream, tool_choice={"type": "custom", "name": "run"}).body)
    told = body["tools"][0].get("function", body["tools"][0])
    assert (told["name"], told["description"]) == ("run", "Runs a script.")
    assert told.get("parameters", told.get("input_schema")) == FORM
    choice = {"type": "tool", "name": "run"}
    assert body["tool_choice"] == (
        choice if upstream == "messages" else {"type": "function", "function": {"name": "run"}}
    )


@UPSTREAMS
def test_its_calls_come_back_with_the_input_that_the_model_wrote(upstream):
    answer = json.loads(made(upstream).answer(whole(upstream, *CALLS), now_s=0))
    assert items_of(answer["output"]) == EXPECTED
    assert answer["tools"] == [RUN, ADD]
    assert answer["output"][0]["id"].startswith("ctc_")
    Response.model_validate(answer)


@UPSTREAMS
def test_a_stream_tells_its_input_by_the_events_of_custom_tools(upstream):
    translator = made(upstream, stream=True).stream(now_s=0)
    told = b"".join([translator.feed(f"data: {event}\n\n".encode()) for event in stream(upstream, *CALLS)])
    told += translator.finish()
    events = [json.loads(event.split(b"data: ")[1]) for event in told.split(b"\n\n") if event]
    for event in events:
        TypeAdapter(ResponseStreamEvent).validate_python(event)
    assert items_of(events[-1]["response"]["output"]) == EXPECTED
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    added = [event["item"] for event in events if event["type"] == "response.output_item.added"]
    assert [item["type"] for item in added] == ["custom_tool_call", "function_call", "custom_tool_call"]
    for place in (0, 2):
        of_call = [event for event in events if event.get("output_index") == place]
        said = [event["delta"] for event in of_call if event["type"] == "response.custom_tool_call_input.delta"]
        (done,) = [event for event in of_call if event["type"] == "response.custom_tool_call_input.done"]
        assert "".join(said) == done["input"] == EXPECTED[place][3]
        assert {event["item_id"] for event in of_call if "item_id" in event} == {added[place]["id"]}
    arguments = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    assert "".join(arguments) == '{"a":1}'


@UPSTREAMS
def test_a_whole_answer_told_as_a_stream_has_the_same_items(upstream):
    told = made(upstream, stream=True).answer_as_stream(whole(upstream, *CALLS), now_s=0)
    last = json.loads(told.rstrip().rsplit(b"data: ", 1)[1])
    assert items_of(last["response"]["output"]) == EXPECTED


@UPSTREAMS
def test_what_was_called_goes_back_as_the_upstream_said_it(upstream):
    call = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c0", "name": "run", "input": SCRIPT}
    result = {"type": "custom_tool_call_output", "call_id": "c0", "output": "done"}
    said, heard = json.loads(made(upstream, call, result).body)["messages"][-2:]
    if upstream == "messages":
        assert said["content"][0]["input"] == {"input": SCRIPT}
        assert heard["content"][0]["tool_use_id"] == "c0"
    else:
        assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {"input": SCRIPT}
        assert heard == {"role": "tool", "tool_call_id": "c0", "content": "done"}


@pytest.mark.parametrize(
    ("arguments", "given"), [("{}", ""), ('{"input": 5}', '{"input": 5}'), ("print(1)", "print(1)"), ('"x"', '"x"')]
)
def test_a_model_that_writes_something_else_is_told_as_it_wrote_it(arguments, given):
    answer = json.loads(made("chat").answer(whole("chat", ("run", arguments)), now_s=0))
    assert answer["output"][0]["input"] == given


@UPSTREAMS
def test_a_grammar_is_refused_by_name_as_nobody_else_holds_a_model_to_it(upstream):
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /a+/"}
    with pytest.raises(Untranslatable, match=r"tools\[0\]\.format \(no other dialect holds") as refused:
        made(upstream, tools=[{**RUN, "format": grammar}])
    assert refused.value.fields == ("tools[0].format",)
