"""What stands where few clients put it: carried, named as left out, or refused by name."""

from __future__ import annotations

import json

import pytest

from ownward.upstreams.translation import Limits, Untranslatable, translate

USER = {"role": "user", "content": "hello"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PDF = "application/pdf"
MARK = {"type": "ephemeral"}


def told(asked, client, upstream):
    asked = {"model": "m", "max_tokens": 9, **asked}
    if client == "responses":
        asked["max_output_tokens"] = asked.pop("max_tokens")
    made = translate(json.dumps(asked).encode(), client=client, upstream=upstream, limits=Limits())
    return json.loads(made.body), made.dropped


def refused(message, client):
    with pytest.raises(Untranslatable) as error:
        told({"messages": [message]}, client, "messages" if client == "chat" else "chat")
    return error.value.fields


def test_a_chat_message_that_ends_a_cached_prefix_ends_it_with_its_last_part():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body, dropped = told({"messages": [{"role": "user", "content": parts, "cache_control": MARK}]}, "chat", "messages")
    assert body["messages"][0]["content"] == [parts[0], {**parts[1], "cache_control": MARK}]
    assert dropped == ()


@pytest.mark.parametrize("content", [None, "", []])
def test_a_message_that_ends_a_cached_prefix_and_has_no_part_to_say_so_is_named(content):
    called = {"role": "assistant", "content": content, "tool_calls": [CALL], "cache_control": MARK}
    result = {"role": "tool", "tool_call_id": "c", "content": "r"}
    _, dropped = told({"messages": [USER, called, result]}, "chat", "messages")
    assert dropped == ("messages[1].cache_control",)


@pytest.mark.parametrize("upstream", ["chat", "responses"])
@pytest.mark.parametrize("is_error", [True, False])
def test_the_mark_of_a_cache_in_a_result_is_named_where_it_is_left_out(upstream, is_error):
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    text = {"type": "text", "text": "r", "cache_control": MARK}
    result = {"type": "tool_result", "tool_use_id": "c", "is_error": is_error, "content": [text]}
    said = [USER, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    body, dropped = told({"messages": said}, "messages", upstream)
    assert dropped == ("messages[2].content[0].content[0].cache_control",)
    assert ('"Error: r"' in json.dumps(body)) == is_error


@pytest.mark.parametrize("inner", ["of the object", None])
def test_what_is_said_of_a_form_beside_its_own_description_is_named(inner):
    schema = {"type": "object", "properties": {}} | ({} if inner is None else {"description": inner})
    named = {"name": "n", "description": "of the form", "schema": schema}
    asked = {"messages": [USER], "response_format": {"type": "json_schema", "json_schema": named}}
    body, dropped = told(asked, "chat", "messages")
    assert body["output_config"]["format"]["schema"]["description"] == (inner or "of the form")
    assert ("response_format.json_schema.description" in dropped) == (inner is not None)


@pytest.mark.parametrize(
    ("client", "part", "field"),
    [
        ("chat", {"type": "image_url"}, "image_url"),
        ("chat", {"type": "image_url", "image_url": None}, "image_url"),
        ("chat", {"type": "file"}, "file"),
        ("messages", {"type": "image", "source": {"type": "base64", "data": "AA=="}}, "source.media_type"),
        ("messages", {"type": "image", "source": {"type": "base64", "media_type": "image/png"}}, "source.data"),
        ("messages", {"type": "image", "source": {"type": "url"}}, "source.url"),
        ("messages", {"type": "document", "source": {"type": "base64", "media_type": PDF}}, "source.data"),
    ],
)  # fmt: skip
def test_a_part_that_lacks_what_it_is_of_is_refused_by_name_and_neither_left_out_nor_made_up(client, part, field):
    message = {"role": "user", "content": [{"type": "text", "text": "see"}, part]}
    assert refused(message, client) == (f"messages[0].content[1].{field}",)


def test_the_parts_of_a_summary_stay_apart():
    summary = [{"type": "summary_text", "text": words} for words in ("one", "two")]
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    items = [USER, {"type": "reasoning", "summary": summary}, call]
    body, _ = told(
        {"input": [*items, {"type": "function_call_output", "call_id": "c", "output": "r"}]}, "responses", "chat"
    )
    assert body["messages"][1]["reasoning_content"] == "one\n\ntwo"
