"""Requests in forms that the other provider refuses, although it knows what they say: written as it takes them."""

from __future__ import annotations

import hashlib
import json

import pytest

from ownward.upstreams.translation import Limits, translate

USER = {"role": "user", "content": "hello"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "r"}


def chat(*messages, **more):
    return {"model": "m", "max_tokens": 9, "messages": [*messages] or [USER], **more}


def to_messages(body):
    made = translate(json.dumps(body).encode(), client="chat", upstream="messages")
    return json.loads(made.body), made


def to_chat(body, **limits):
    made = translate(json.dumps(body).encode(), client="messages", upstream="chat", limits=Limits(**limits))
    return json.loads(made.body), made


def test_what_openai_takes_and_anthropic_refuses_by_its_form_alone_is_written_as_anthropic_takes_it():
    empty, said = {"type": "text", "text": ""}, {"type": "text", "text": "a"}
    picture = {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA"}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}} for schema in ({}, {"anyOf": []})]
    body, _ = to_messages(
        chat(
            {"role": "system", "content": [empty, said]},
            {"role": "user", "content": [empty, picture]},
            CALLED,
            {**RESULT, "content": [empty, said, said]},
            {"role": "user", "content": ""},
            tools=tools,
        )
    )
    assert body["system"] == [said]
    source = {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}
    assert body["messages"][0]["content"] == [{"type": "image", "source": source}]
    assert body["messages"][2]["content"][0]["content"] == [said, said]
    assert body["messages"][2]["content"][1] == empty  # there is nothing else that this user says
    schemas = [{"type": "object"}, {"type": "object", "anyOf": []}]
    assert [tool["input_schema"] for tool in body["tools"]] == schemas


def test_texts_that_are_blank_are_left_out_where_anthropic_refuses_them():
    blank, said = {"type": "text", "text": " \n"}, {"type": "text", "text": "a "}
    only_blank = {"role": "assistant", "content": "\n\n"}
    body, _ = to_messages(chat(USER, {**CALLED, "content": "\n\n"}, RESULT, only_blank, chat_user(blank, said)))
    assert [block["type"] for block in body["messages"][1]["content"]] == ["tool_use"]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][2]["content"][1:] == [said]


def chat_user(*parts):
    return {"role": "user", "content": [*parts]}


def test_system_messages_in_a_row_are_one_for_anthropic_which_takes_no_two():
    developer = {"role": "developer", "content": "be brief"}
    body, _ = to_messages(chat(USER, {"role": "system", "content": "be kind"}, developer))
    texts = [{"type": "text", "text": text} for text in ("be kind", "be brief")]
    assert body["messages"] == [USER, {"role": "system", "content": texts}]


def test_a_long_name_of_who_asks_is_told_by_its_hash():
    for name, told in (("a" * 64, "a" * 64), ("a" * 65, hashlib.sha256(b"a" * 65).hexdigest())):
        body, _ = to_chat({"model": "m", "messages": [USER], "max_tokens": 9, "metadata": {"user_id": name}})
        assert body["user"] == told


OPEN = {"type": "object", "properties": {"x": {"type": "integer"}}}
CLOSED = {**OPEN, "additionalProperties": False}
FREE = {"type": "object"}
LOOSE = {**OPEN, "additionalProperties": True}


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (OPEN, CLOSED),
        (LOOSE, LOOSE),
        (FREE, FREE),
        ({**OPEN, "patternProperties": {}}, {**OPEN, "patternProperties": {}}),
        (
            {"type": "array", "items": OPEN, "$defs": {"a": OPEN}},
            {"type": "array", "items": CLOSED, "$defs": {"a": CLOSED}},
        ),
        ({"anyOf": [OPEN, {"type": "null"}]}, {"anyOf": [CLOSED, {"type": "null"}]}),
        (
            {"type": "object", "properties": {"not": OPEN, "a": FREE}},
            {"type": "object", "properties": {"not": CLOSED, "a": FREE}, "additionalProperties": False},
        ),
        ({"allOf": [OPEN]}, {"allOf": [CLOSED]}),
        ({"allOf": [OPEN, LOOSE]}, {"allOf": [OPEN, LOOSE]}),
        ({"anyOf": [OPEN, {"not": OPEN}]}, {"anyOf": [OPEN, {"not": OPEN}]}),
        ({**OPEN, "allOf": [OPEN]}, {**OPEN, "allOf": [OPEN]}),
    ],
)
def test_the_objects_of_a_schema_are_closed_for_anthropic_where_an_answer_follows_the_open_one_as_well(schema, told):
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    body, _ = to_messages(chat(response_format=form))
    assert body["output_config"]["format"]["schema"] == told


def test_a_schema_nested_too_deeply_to_be_closed_is_told_as_it_is():
    schema: dict = OPEN
    for _ in range(250):
        schema = {"type": "array", "items": {"anyOf": [schema]}}
    body, _ = to_messages(chat(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}))
    assert body["output_config"]["format"]["schema"] == schema


NULLABLE = {"anyOf": [{"type": "string"}, {"type": "null"}]}
PLAIN = {"type": "string"}


@pytest.mark.parametrize(
    ("properties", "required", "told"),
    [
        ({"a": PLAIN, "b": NULLABLE}, ["a"], ["a", "b"]),
        ({"a": {"type": ["string", "null"]}}, None, ["a"]),
        ({"a": PLAIN, "b": NULLABLE}, None, None),  # a model that has to state `a` would make something up
        ({"a": PLAIN}, ["a"], ["a"]),
        ({"a": NULLABLE}, 7, 7),
        ({"a": {"type": "integer", "default": 3}, "b": {"type": "array"}}, None, ["a", "b"]),
        ({"a": {"type": "integer", "description": "How many\n\n{minimum: 1, default: 3}"}}, None, ["a"]),
        ({"a": {"type": "array", "minItems": 1}}, None, None),
        ({"a": {"type": "integer", "description": "the default: 3"}}, None, None),
    ],
)
def test_what_may_be_missing_and_may_say_nothing_is_stated_where_openai_holds_an_answer_to_its_schema(
    properties, required, told
):
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    expected = dict(schema)
    if required is not None:
        schema["required"] = required
    if told is not None:
        expected["required"] = told
    tools = [{"name": name, "input_schema": schema, "strict": name == "f"} for name in ("f", "g")]
    form = {"type": "json_schema", "schema": {"type": "array", "items": schema}}
    asked = {"model": "m", "messages": [USER], "max_tokens": 9, "tools": tools, "output_config": {"format": form}}
    body, _ = to_chat(asked)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "array", "items": expected}
    assert [tool["function"]["parameters"] for tool in body["tools"]] == [expected, schema]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"temperature": 0.2, "top_p": 1}, {"temperature": 0.2}),
        ({"temperature": 1.0, "top_p": 0.9}, {"top_p": 0.9}),
        ({"temperature": 1, "top_p": 1}, {"temperature": 1}),
        ({"temperature": 1}, {"temperature": 1}),
        ({"top_p": 1}, {"top_p": 1}),
        ({"temperature": 0.2, "top_p": 0.9}, {"temperature": 0.2, "top_p": 0.9}),
    ],
)
def test_of_temperature_and_top_p_which_anthropic_refuses_together_the_one_that_changes_nothing_is_left_out(
    asked, told
):
    body, made = to_messages(chat(**asked))
    assert {name: body[name] for name in ("temperature", "top_p") if name in body} == told
    assert made.dropped == ()


def test_a_system_prompt_that_says_nothing_is_none():
    body, _ = to_messages(chat({"role": "system", "content": ""}, {"role": "system", "content": " "}, USER))
    assert "system" not in body


@pytest.mark.parametrize(
    ("content", "more", "told"),
    [
        ([], {"stop_reason": "end_turn"}, ""),
        ([{"type": "thinking", "thinking": "t", "signature": "s"}], {"stop_reason": "max_tokens"}, ""),
        ([{"type": "tool_use", "id": "c", "name": "f", "input": {}}], {"stop_reason": "tool_use"}, None),
        ([], {"stop_reason": "refusal", "stop_details": {"explanation": "no"}}, None),
    ],
)
def test_a_chat_message_without_words_has_a_content_with_which_it_can_be_sent_back(content, more, told):
    """OpenAI takes null only beside calls or a refusal."""
    answer = {"id": "i", "type": "message", "role": "assistant", "model": "m", "content": content, **more}
    _, made = to_messages(chat())
    assert json.loads(made.answer(json.dumps(answer).encode(), now_s=1))["choices"][0]["message"]["content"] == told


@pytest.mark.parametrize(
    ("name", "is_hashed"),
    [("u-17", False), ("a" * 256, False), ("a" * 257, True), ("ada@example.org", True), ("+49 (30) 123-456", True)],
)
def test_a_name_that_says_who_asks_is_told_to_anthropic_by_its_hash(name, is_hashed):
    body, _ = to_messages(chat(user=name))
    expected = hashlib.sha256(name.encode()).hexdigest() if is_hashed else name
    assert body["metadata"] == {"user_id": expected}


LONG = [f"mcp__{'4e9e25f1-b480-40f3-ba8d-a792f8f6ff07' * 2}__{name}" for name in ("one", "two")]


def test_tools_with_names_that_openai_does_not_take_are_told_by_shorter_ones_and_told_back_by_their_own():
    call = {"type": "tool_use", "id": "c", "name": LONG[0], "input": {}}
    result = {"type": "tool_result", "tool_use_id": "c", "content": "r"}
    asked = chat(
        USER,
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
        tools=[{"name": name, "input_schema": {"type": "object"}} for name in (*LONG, "f")],
        tool_choice={"type": "tool", "name": LONG[1]},
    )
    body, made = to_chat(asked)
    told = [tool["function"]["name"] for tool in body["tools"]]
    assert [len(name) for name in told] == [64, 64, 1]
    assert len(set(told)) == 3
    assert body["messages"][1]["tool_calls"][0]["function"]["name"] == told[0]
    assert body["tool_choice"]["function"]["name"] == told[1]

    calls = [
        {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for number, name in enumerate(told)
    ]
    answer = json.dumps({"id": "i", "choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]})
    whole = json.loads(made.answer(answer.encode(), now_s=1))
    assert [block["name"] for block in whole["content"]] == [*LONG, "f"]
    pieces = [{"tool_calls": [{"index": number, **called}]} for number, called in enumerate(calls)]
    stream = made.stream(now_s=1)
    events = [{"id": "i", "choices": [{"delta": piece}]} for piece in pieces]
    said = b"".join(stream.feed(f"data: {json.dumps(event)}\n\n".encode()) for event in events)
    said += stream.feed(b"data: [DONE]\n\n") + stream.finish()
    assert [name for name in (*LONG, "f") if f'"name":"{name}"'.encode() in said] == [*LONG, "f"]
    assert told[0].encode() not in said


def test_a_response_repeats_the_names_of_its_tools_as_its_client_calls_them():
    asked = {"model": "m", "input": "x", "tools": [{"type": "function", "name": LONG[0]}]}
    made = translate(json.dumps(asked).encode(), client="responses", upstream="chat")
    assert LONG[0].encode() not in made.body
    said = b'{"id": "c", "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}'
    assert json.loads(made.answer(said, now_s=1))["tools"][0]["name"] == LONG[0]


def test_mistrals_service_gets_thinking_in_the_content_its_own_form_of_ids_and_no_name_of_who_asks():
    thinking = {"type": "thinking", "thinking": "t", "signature": "ownward:unsigned"}
    signed = {"type": "thinking", "thinking": "u", "signature": "ownward:openai:other:s"}
    calls = [{"type": "tool_use", "id": call_id, "name": "f", "input": {}} for call_id in ("D681PevKs", "call_1")]
    results = [{"type": "tool_result", "tool_use_id": call["id"], "content": "r"} for call in calls]
    asked = chat(
        USER,
        {"role": "assistant", "content": [thinking, *calls]},
        {"role": "user", "content": results},
        {"role": "assistant", "content": [signed, {"type": "text", "text": "x"}]},
        USER,
        metadata={"user_id": "u"},
    )
    body, made = to_chat(asked, is_mistral=True)
    said = [{"type": "thinking", "thinking": [{"type": "text", "text": text}]} for text in ("t", "u")]
    assert body["messages"][1].keys() == {"role", "content", "tool_calls"}
    assert body["messages"][1]["content"] == [said[0]]
    ids = [call["id"] for call in body["messages"][1]["tool_calls"]]
    assert ids[0] == "D681PevKs"
    assert len(ids[1]) == 9
    assert ids[1].isalnum()
    assert [message["tool_call_id"] for message in body["messages"][2:4]] == ids
    assert body["messages"][4] == {"role": "assistant", "content": [said[1], {"type": "text", "text": "x"}]}
    assert "user" not in body
    assert made.dropped == ("metadata.user_id", "messages[3].content[0]")
    assert to_chat(asked)[0]["messages"][1]["reasoning_content"] == "t"
