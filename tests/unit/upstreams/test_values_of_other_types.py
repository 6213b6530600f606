"""Members whose values no client of a published library sends: refused by name, and never a fault of ours."""

from __future__ import annotations

import contextlib
import json

import pytest

from ownward.upstreams.translation import Untranslatable, translate

USER = {"role": "user", "content": "hello"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize("value", [[], {}, ["adaptive"], 5])
@pytest.mark.parametrize(
    ("client", "upstream", "thinking", "field"),
    [
        ("chat", "messages", {}, "type"),
        ("messages", "chat", {"type": "adaptive"}, "display"),
        ("messages", "responses", {"type": "adaptive"}, "display"),
    ],
)
def test_thinking_of_another_type_is_refused_by_name(client, upstream, thinking, field, value):
    asked = {"model": "m", "max_tokens": 9, "messages": [USER], "thinking": {**thinking, field: value}}
    with pytest.raises(Untranslatable) as error:
        translate(json.dumps(asked).encode(), client=client, upstream=upstream)
    assert error.value.fields == (f"thinking.{field}",)


@pytest.mark.parametrize(
    "entry",
    [
        {"type": [], "index": 0},
        {"type": "reasoning.text", "index": 0, "text": {"a": 1}},
        {"type": "reasoning.summary", "index": 0, "summary": 5},
    ],
)
def test_pieces_of_reasoning_of_other_types_are_not_put_together(entry):
    """Two of a kind are where pieces of a stream would be, which clients give back as they came."""
    said = {"role": "assistant", "content": "x", "tool_calls": [CALL], "reasoning_details": [entry, entry]}
    messages = [USER, said, {"role": "tool", "tool_call_id": "c", "content": "r"}]
    asked = json.dumps({"model": "m", "max_tokens": 9, "messages": messages}).encode()
    told = ("messages[1].reasoning_details[0]", "messages[1].reasoning_details[1]")
    if entry["type"]:
        assert translate(asked, client="chat", upstream="messages").dropped == told
        return
    with pytest.raises(Untranslatable) as error:
        translate(asked, client="chat", upstream="messages")
    assert error.value.fields == told


def test_a_schema_is_told_or_refused_however_deeply_it_is_nested():
    """What is just not too deep to be read may be too deep to be written, where it stands a member further down."""
    said = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hello"}],"tools":[%b]}'
    told = []
    for depth in range(1, 1100):
        nested = b'{"a":' * depth + b"1" + b"}" * depth
        tool = b'{"name":"f","strict":true,"input_schema":{"type":"object","properties":%b}}' % nested
        with contextlib.suppress(Untranslatable):
            told.append(nested in translate(said % tool, client="messages", upstream="chat").body)
    assert all(told)
    assert len(told) > 500
