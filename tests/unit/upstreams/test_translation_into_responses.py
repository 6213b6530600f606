"""Requests of messages told as responses, and their answers told back; bytes stand in tests/contract."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ownward.upstreams.translation import Limits, Untranslatable, UntranslatableAnswer, translate

WRITTEN = Path(__file__).parents[2] / "contract/translation/written"
USER = {"role": "user", "content": "hello"}
CALL = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "r"}]}
SEALED = {"type": "thinking", "thinking": "t", "signature": "ownward:openai:openai-responses-v1|rs_1|summary:x"}
OPENAI = Limits(limit_name="max_completion_tokens")


def asked(*messages, **more):
    return {"model": "m", "max_tokens": 99, "messages": [*messages] or [USER], **more}


def told(body, limits=OPENAI):
    made = translate(json.dumps(body).encode(), client="messages", upstream="responses", limits=limits)
    return json.loads(made.body), made


def refused(body, limits=OPENAI):
    with pytest.raises(Untranslatable) as error:
        told(body, limits)
    return error.value


def answer(*output, **more):
    made = told(asked(stream=True))[1]
    body = {"id": "r", "object": "response", "status": "completed", "model": "m", "output": [*output], **more}
    return json.loads(made.answer(json.dumps(body).encode(), now_s=0))


def test_every_request_is_kept_by_nobody_and_asks_for_its_reasoning_sealed():
    body, made = told(asked(output_config={"effort": "high"}))
    assert body == {
        "model": "m",
        "input": [USER],
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "max_output_tokens": 99,
        "reasoning": {"effort": "high"},
    }
    assert made.dropped == ()


def test_a_function_is_strict_only_where_it_says_so():
    """This dialect takes one for strict that does not say what it is."""
    tools = [{"name": "f", "input_schema": {"type": "object"}, **more} for more in ({}, {"strict": True})]
    assert [tool["strict"] for tool in told(asked(tools=tools))[0]["tools"]] == [False, True]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, {"type": "function", "name": "f"}),
    ],
)
def test_the_choice_of_a_tool(choice, expected):
    assert told(asked(tools=[{"name": "f", "input_schema": {}}], tool_choice=choice))[0]["tool_choice"] == expected


@pytest.mark.parametrize(
    ("thinking", "effort", "expected", "dropped"),
    [
        ({"type": "disabled"}, None, {"effort": "none"}, ()),
        ({"type": "disabled"}, "high", {"effort": "none"}, ("output_config.effort",)),
        ({"type": "adaptive"}, "high", {"effort": "high"}, ()),
        ({"type": "adaptive"}, None, None, ("thinking",)),
        ({"type": "adaptive", "display": "summarized"}, "low", {"effort": "low", "summary": "auto"}, ()),
        ({"type": "adaptive", "display": "omitted"}, "low", {"effort": "low"}, ("thinking.display",)),
        ({"type": "enabled", "budget_tokens": 1024}, "low", {"effort": "low"}, ("thinking.budget_tokens",)),
    ],
)
def test_thinking(thinking, effort, expected, dropped):
    more = {} if effort is None else {"output_config": {"effort": effort}}
    body, made = told(asked(thinking=thinking, **more))
    assert body.get("reasoning") == expected
    assert made.dropped == dropped


def test_what_responses_know_nothing_like_is_refused_by_the_clients_name():
    error = refused(asked(stop_sequences=["END"], top_k=5, thinking={"type": "between_tools"}))
    assert set(error.fields) == {"stop_sequences", "top_k", "thinking.type"}


def test_results_keep_their_pictures_and_errors_say_so():
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}
    results = [
        {"type": "tool_result", "tool_use_id": "a", "content": [image], "is_error": True},
        {"type": "tool_result", "tool_use_id": "b", "is_error": True},
        {"type": "tool_result", "tool_use_id": "c"},
    ]
    calls = [{**CALL, "id": name} for name in "abc"]
    body, _ = told(asked(USER, {"role": "assistant", "content": calls}, {"role": "user", "content": results}))
    outputs = [item["output"] for item in body["input"] if item.get("type") == "function_call_output"]
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "auto"}
    assert outputs == [[{"type": "input_text", "text": "Error:"}, picture], "Error:", ""]


def test_reasoning_comes_back_in_its_place_with_its_seal():
    content = [SEALED, {"type": "text", "text": "a"}, CALL]
    body, made = told(asked(USER, {"role": "assistant", "content": content}, RESULT))
    assert body["input"][1] == {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "t"}],
        "encrypted_content": "x",
    }
    kinds = [item.get("type", item.get("role")) for item in body["input"]]
    assert kinds == ["user", "reasoning", "assistant", "function_call", "function_call_output"]
    assert made.dropped == ()


@pytest.mark.parametrize("limits", [OPENAI, Limits()])
def test_words_that_nobody_sealed_go_to_servers_that_read_them_and_not_to_openai(limits):
    thought = {"type": "thinking", "thinking": "t", "signature": "ownward:unsigned"}
    body, made = told(asked(USER, {"role": "assistant", "content": [thought, CALL]}, RESULT), limits)
    items = [item for item in body["input"] if item.get("type") == "reasoning"]
    words = [{"type": "reasoning_text", "text": "t"}]
    if limits is OPENAI:
        assert (items, made.dropped) == ([], ("messages[1].content[0]",))
    else:
        assert (items, made.dropped) == ([{"type": "reasoning", "summary": [], "content": words}], ())


@pytest.mark.parametrize("is_over", [False, True])
def test_what_another_provider_sealed_is_refused_while_its_turn_runs_and_left_out_after_it(is_over):
    sealed = {"type": "redacted_thinking", "data": "anthropic's"}
    end = [{"role": "assistant", "content": "x"}, USER] if is_over else []
    body = asked(USER, {"role": "assistant", "content": [sealed, CALL]}, RESULT, *end)
    if is_over:
        assert told(body)[1].dropped == ("messages[1].content[0]",)
    else:
        assert refused(body).fields == ("messages[1].content[0]",)


def test_what_was_sealed_for_another_organisation_is_left_out_also_while_its_turn_runs():
    """The upstream said that it cannot read it; the calls stand without it."""
    body, made = told(
        asked(USER, {"role": "assistant", "content": [SEALED, CALL]}, RESULT),
        Limits(limit_name="max_completion_tokens", reads_seals=False),
    )
    assert [item.get("type", "message") for item in body["input"]] == [
        "message", "function_call", "function_call_output",
    ]  # fmt: skip
    assert made.dropped == ("messages[1].content[0]",)


def test_reasoning_that_was_cut_before_anything_followed_is_left_out():
    """OpenAI refuses a reasoning item without the item that it belongs to."""
    body, made = told(asked(USER, {"role": "assistant", "content": [{"type": "text", "text": "a"}, SEALED]}, USER))
    assert all(item.get("type") != "reasoning" for item in body["input"])
    assert made.dropped == ("messages[1].content[1]",)


def test_an_assistants_message_at_the_end_is_refused():
    assert refused(asked(USER, {"role": "assistant", "content": "So"})).fields == ("messages[1]",)


def test_names_of_tools_that_are_too_long_are_told_back_as_they_were():
    name = "mcp__" + "n" * 90
    body, made = told(asked(tools=[{"name": name, "input_schema": {}}]))
    short = body["tools"][0]["name"]
    assert len(short) == 64
    item = {"type": "function_call", "call_id": "c", "name": short, "arguments": "{}"}
    whole = {"id": "r", "status": "completed", "model": "m", "output": [item]}
    assert json.loads(made.answer(json.dumps(whole).encode(), now_s=0))["content"][0]["name"] == name


# Answers.

TEXT = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}


@pytest.mark.parametrize(
    ("more", "stop"),
    [
        ({}, "end_turn"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "max_tokens"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "refusal"),
        ({"status": "incomplete", "incomplete_details": {"reason": "steered"}}, None),
    ],
)
def test_why_a_response_ended(more, stop):
    assert answer(TEXT, **more)["stop_reason"] == stop


def test_a_refusal_is_told_with_its_words():
    item = {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}
    found = answer(item)
    assert (found["content"], found["stop_reason"]) == ([{"type": "text", "text": "no"}], "refusal")


def test_pages_that_a_response_cites_stand_at_its_text():
    cited = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 1}
    other = {"type": "file_citation", "file_id": "f", "filename": "n", "index": 0}
    part = {"type": "output_text", "text": "a", "annotations": [cited, other]}
    (block,) = answer({"type": "message", "content": [part]})["content"]
    assert [found["url"] for found in block["citations"]] == ["https://a.example"]


@pytest.mark.parametrize(
    "body",
    [
        {"status": "failed", "output": [TEXT], "error": {"code": "server_error", "message": "m"}},
        {"status": "in_progress", "output": []},
        {"status": "completed", "output": [{"type": "web_search_call", "id": "w"}]},
        {"status": "completed", "output": [{"type": "message", "content": [{"type": "output_audio"}]}]},
        {"status": "completed", "output": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "["}]},
        {"status": "completed"},
    ],
)
def test_what_is_no_whole_answer_for_a_client_of_messages_is_none(body):
    with pytest.raises(UntranslatableAnswer):
        told(asked())[1].answer(json.dumps(body).encode(), now_s=0)


# Streams.


def stream(*events, finishes=True):
    made = told(asked(stream=True))[1].stream(now_s=0)
    created = {"type": "response.created", "response": {"id": "r", "model": "m", "status": "in_progress"}}
    data = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in (created, *events))
    said = (made.feed(data) + (made.finish() if finishes else b"")).decode()
    return [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: ")]


def completed(*output, **more):
    usage = {"input_tokens": 3, "output_tokens": 4}
    response = {"id": "r", "model": "m", "status": "completed", "output": [*output], "usage": usage, **more}
    return {"type": "response.completed", "response": response}


def item(kind, index, **fields):
    return {"type": f"response.output_item.{kind}", "output_index": index, "item": fields}


def blocks_of(events):
    """Return each block's kind with its words."""
    found = []
    for event in events:
        if event["type"] == "content_block_start":
            found.append([event["content_block"]["type"], ""])
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            found[-1][1] += delta.get("text") or delta.get("thinking") or delta.get("partial_json") or ""
    return found


def test_calls_that_are_told_by_turns_are_told_one_after_the_other():
    def piece(index, words):
        return {"type": "response.function_call_arguments.delta", "output_index": index, "delta": words}

    calls = [{"type": "function_call", "id": f"fc_{n}", "call_id": f"c{n}", "name": "f"} for n in range(2)]
    events = stream(
        *[item("added", n, **calls[n]) for n in range(2)],
        piece(0, '{"a"'), piece(1, '{"b"'), piece(0, ":1}"), piece(1, ":2}"),
        *[item("done", n, **calls[n]) for n in range(2)],
        completed(*calls),
    )  # fmt: skip
    assert blocks_of(events) == [["tool_use", '{"a":1}'], ["tool_use", '{"b":2}']]


def test_what_is_only_told_at_an_items_end_is_told():
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}'}
    bare = {**call, "call_id": "d", "arguments": ""}
    thought = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "t"}]}
    items = [thought, TEXT, call, bare]
    events = stream(*[item("done", index, **one) for index, one in enumerate(items)], completed(*items))
    expected = [["thinking", "t"], ["text", "a"], ["tool_use", '{"a":1}'], ["tool_use", "{}"]]
    assert blocks_of(events) == expected
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_stream_without_its_last_word_is_not_told_as_whole():
    piece = {"type": "response.output_text.delta", "output_index": 0, "item_id": "m", "delta": "a"}
    events = stream(piece, finishes=False)
    assert blocks_of(events) == [["text", "a"]]
    assert "message_stop" not in [event["type"] for event in events]


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "w"}, "rate_limit_error"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "w"}}, "overloaded_error"),
        ({"type": "response.failed", "response": {"error": {"code": "server_error", "message": "w"}}}, "api_error"),
        ({"type": "response.failed", "response": {"error": {"code": "brand_new", "message": "w"}}}, "api_error"),
        ({"error": {"type": "server_error", "message": "w"}}, "api_error"),  # as servers tell errors of chats
    ],
)
def test_an_error_that_ends_a_stream_is_told_and_nothing_behind_it(event, kind):
    events = stream(event, completed())
    assert events[-1] == {"type": "error", "error": {"type": kind, "message": "w"}}


@pytest.mark.parametrize(
    "events",
    [
        [item("added", 0, type="web_search_call", id="w")],
        [{"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{"}],
        [item("added", 0, **TEXT), item("added", 0, **TEXT)],
        [item("done", 0, **TEXT), item("done", 0, **TEXT)],
        [{"type": "response.completed", "response": None}],
        [{"type": "response.completed", "response": {"status": "cancelled"}}],
    ],
)
def test_a_stream_that_cannot_be_told_is_broken(events):
    with pytest.raises(UntranslatableAnswer):
        stream(*events)


@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_an_answer_goes_back_as_it_was_said(kind):
    """The items of a turn, reasoning with its seal and id among them, reach the upstream again in their order."""
    output = json.loads((WRITTEN / "agent-responses-whole.txt").read_bytes())["output"]
    made = told(asked(stream=True))[1]
    data = (WRITTEN / f"agent-responses-{kind}.txt").read_bytes()
    if kind == "whole":
        content = json.loads(made.answer(data, now_s=0))["content"]
    else:
        translator = made.stream(now_s=0)
        content = gathered((translator.feed(data) + translator.finish()).decode())
    results = [{"type": "tool_result", "tool_use_id": f"call_{n}", "content": "r"} for n in (1, 2)]
    again, made = told(asked(USER, {"role": "assistant", "content": content}, {"role": "user", "content": results}))
    assert made.dropped == ()
    back = again["input"][1:-2]
    assert [one.get("encrypted_content") for one in back] == [one.get("encrypted_content") for one in output]
    assert [one.get("id") for one in back if one.get("type") == "reasoning"] == ["rs_1", "rs_2"]
    assert [one.get("call_id") for one in back] == [one.get("call_id") for one in output]
    assert back[1] == {"role": "assistant", "content": output[1]["content"][0]["text"]}


def gathered(said):
    """Return the blocks that a client makes of a stream."""
    blocks = []
    for line in said.splitlines():
        event = json.loads(line[6:]) if line.startswith("data: ") else {}
        if event.get("type") == "content_block_start":
            blocks.append(dict(event["content_block"]))
        elif event.get("type") == "content_block_delta":
            for name, words in event["delta"].items():
                if name != "type":
                    blocks[-1][name] = blocks[-1].get(name, "") + words
    for block in blocks:
        if "partial_json" in block:
            block["input"] = json.loads(block.pop("partial_json"))
    return blocks
