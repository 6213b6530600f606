"""Tools in namespaces, as coding agents send those of MCP servers: told flat, and told back in their namespace."""

from __future__ import annotations

import json

import pytest

from ownward.upstreams.translation import Limits, Untranslatable, translate

SEARCH = {
    "type": "function",
    "name": "search",
    "description": "Searches.",
    "strict": False,
    "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
}
FETCH = {"type": "function", "name": "fetch", "parameters": {"type": "object"}}
DOCS = {"type": "namespace", "name": "mcp__docs", "description": "The company's pages.", "tools": [SEARCH, FETCH]}
PLAIN = {"type": "function", "name": "search", "description": "Searches files.", "parameters": {"type": "object"}}
USER = {"role": "user", "content": "hello"}
CALL = {"type": "function_call", "call_id": "c", "namespace": "mcp__docs", "name": "search", "arguments": '{"q": "x"}'}
RESULT = {"type": "function_call_output", "call_id": "c", "namespace": "mcp__docs", "name": "search", "output": "r"}
UPSTREAMS = ["chat", "messages"]


def made(upstream, *items, tools=(DOCS, PLAIN), **more):
    body = {"model": "m", "input": [USER, *items], "tools": [*tools], **more}
    return translate(
        json.dumps(body).encode(), client="responses", upstream=upstream, limits=Limits(max_output_tokens=9)
    )


def tools_told(translation):
    return [tool.get("function", tool) for tool in json.loads(translation.body)["tools"]]


def calling(upstream, name, *, is_stream=False):
    """Return an upstream's answer, or its stream, that calls a tool."""
    if upstream == "messages":
        block = {"type": "tool_use", "id": "c", "name": name, "input": {"q": "x"}}
        whole = {"id": "a", "type": "message", "role": "assistant", "content": [block], "stop_reason": "tool_use"}
        if not is_stream:
            return json.dumps(whole).encode()
        events = [
            {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": {**block, "input": {}}},
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": '{"q": "x"}'},
            },
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        ]
        return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": '{"q": "x"}'}}
    message = {"role": "assistant", "tool_calls": [{**call, "index": 0}]}
    choice = {"index": 0, "delta" if is_stream else "message": message, "finish_reason": "tool_calls"}
    body = json.dumps({"id": "a", "model": "m", "choices": [choice]}).encode()
    return b"data: %b\n\ndata: [DONE]\n\n" % body if is_stream else body


def calls_in(output):
    return [(item.get("namespace"), item["name"], json.loads(item["arguments"])) for item in output]


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_the_tools_of_a_namespace_are_told_with_its_name_and_its_first_one_says_what_it_is(upstream):
    searching, fetching, plain = tools_told(made(upstream))
    assert [tool["name"] for tool in (searching, fetching, plain)] == [
        "mcp__docs__search",
        "mcp__docs__fetch",
        "search",
    ]
    assert searching["description"] == "Tools whose names begin with mcp__docs__: The company's pages.\n\nSearches."
    assert "description" not in fetching
    assert plain["description"] == "Searches files."
    assert searching.get("parameters", searching.get("input_schema")) == SEARCH["parameters"]


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_calls_come_back_in_the_namespace_of_their_tool(upstream):
    crossing = made(upstream)
    told = json.loads(crossing.answer(calling(upstream, "mcp__docs__search"), now_s=1))
    assert calls_in(told["output"]) == [("mcp__docs", "search", {"q": "x"})]
    plain = json.loads(crossing.answer(calling(upstream, "search"), now_s=1))["output"]
    assert "namespace" not in plain[0]
    assert plain[0]["name"] == "search"


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_streamed_calls_come_back_in_the_namespace_of_their_tool(upstream):
    stream = made(upstream, stream=True).stream(now_s=1)
    told = stream.feed(calling(upstream, "mcp__docs__search", is_stream=True)) + stream.finish()
    events = [json.loads(line[6:]) for line in told.splitlines() if line.startswith(b"data: ")]
    items = [event["item"] for event in events if event["type"].startswith("response.output_item.")]
    assert [(item["namespace"], item["name"], item["arguments"]) for item in items] == [
        ("mcp__docs", "search", ""),
        ("mcp__docs", "search", '{"q": "x"}'),
    ]
    assert calls_in(events[-1]["response"]["output"]) == [("mcp__docs", "search", {"q": "x"})]


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_call_that_was_made_is_told_by_the_name_of_its_tool_and_its_result_belongs_to_it(upstream):
    _, called, result = json.loads(made(upstream, CALL, RESULT).body)["messages"]
    call = called["tool_calls"][0] if upstream == "chat" else called["content"][0]
    assert call.get("function", call)["name"] == "mcp__docs__search"
    assert (result["tool_call_id"] if upstream == "chat" else result["content"][0]["tool_use_id"]) == "c"


@pytest.mark.parametrize(("upstream", "longest"), [("chat", 64), ("messages", 128)])
def test_names_that_are_too_long_with_their_namespace_are_shortened_and_told_back_whole(upstream, longest):
    namespace = "mcp__" + "x" * longest
    crossing = made(upstream, tools=[{**DOCS, "name": namespace}])
    told = [tool["name"] for tool in tools_told(crossing)]
    assert [len(name) for name in told] == [longest, longest]
    assert told[0] != told[1]
    answer = json.loads(crossing.answer(calling(upstream, told[1]), now_s=1))
    assert calls_in(answer["output"]) == [(namespace, "fetch", {"q": "x"})]


def test_a_namespace_that_ends_as_names_are_joined_is_joined_once():
    assert [tool["name"] for tool in tools_told(made("chat", tools=[{**DOCS, "name": "mcp__docs__"}]))] == [
        "mcp__docs__search",
        "mcp__docs__fetch",
    ]


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_two_tools_that_would_be_told_by_one_name_are_refused(upstream):
    with pytest.raises(Untranslatable) as error:
        made(upstream, tools=[{**PLAIN, "name": "mcp__docs__fetch"}, DOCS])
    assert error.value.fields == ("tools[1].tools[1]",)
    assert "called as another tool is" in str(error.value)


def test_what_a_namespace_holds_besides_functions_is_refused_by_its_place():
    with pytest.raises(Untranslatable) as error:
        made("chat", tools=[{**DOCS, "tools": [SEARCH, {"type": "tool_search"}], "newer": 1}])
    assert set(error.value.fields) == {"tools[0].tools[1].type", "tools[0].newer"}


def test_a_response_repeats_its_namespaces_as_they_were_stated():
    crossing = made("chat")
    whole = json.loads(crossing.answer(calling("chat", "search"), now_s=1))
    streamed = crossing.answer_as_stream(calling("chat", "search"), now_s=1).rsplit(b"data: ", 1)[1]
    assert whole["tools"] == json.loads(streamed)["response"]["tools"] == [DOCS, PLAIN]
