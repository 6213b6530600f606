"""What an engine reads by half: which tools a chat names is told to one that reads one word of its choice."""

import json

import pytest

from ownward.gateway.calling.adapting import narrow_tools
from ownward.gateway.errors import Incapable

TOOLS = [{"type": "function", "function": {"name": name, "strict": True}} for name in "abc"]


def chat(choice, **more):
    return json.dumps({"model": "m", "tools": TOOLS, "tool_choice": choice, **more}).encode()


def allowed(*names, mode="auto"):
    listed = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": listed}}


def test_a_named_tool_is_the_only_one_and_is_demanded_once():
    told = json.loads(narrow_tools(chat({"type": "function", "function": {"name": "b"}}, seed=1)))
    assert told == {
        "model": "m", "tools": [TOOLS[1]], "tool_choice": "required", "parallel_tool_calls": False, "seed": 1,
    }  # fmt: skip


def test_a_client_that_wants_several_calls_of_it_gets_them():
    body = chat({"type": "function", "function": {"name": "b"}}, parallel_tool_calls=True)
    assert json.loads(narrow_tools(body))["parallel_tool_calls"] is True


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_allowed_tools_are_the_only_ones(mode):
    told = json.loads(narrow_tools(chat(allowed("c", "a", "unknown", mode=mode))))
    assert told == {"model": "m", "tools": [TOOLS[0], TOOLS[2]], "tool_choice": mode}


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "custom", "custom": {"name": "a"}},
        {"type": "function"},
        {"type": "function", "function": "a"},
        {"type": "function", "function": {"name": None}},
        {"type": "tool", "name": "a"},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": ["a"]}},
        {"type": ["a"]},
        {},
        [],
        3,
        None,
    ],
)
def test_an_object_that_is_no_choice_is_refused_as_the_engine_would_go_by_auto(choice):
    with pytest.raises(Incapable) as refused:
        narrow_tools(chat(choice))
    assert refused.value.message == "tool_choice is an object that chats know nothing of"
    assert refused.value.field == "tool_choice"


@pytest.mark.parametrize(
    ("choice", "tools", "named"),
    [
        ({"type": "function", "function": {"name": "unknown"}}, TOOLS, ", but 'unknown'"),
        ({"type": "function", "function": {"name": "a"}}, [], ", but 'a'"),
        ({"type": "function", "function": {"name": "a"}}, None, ", but 'a'"),
        ({"type": "function", "function": {"name": "some words, \n and more"}}, TOOLS, ""),
        (allowed(), TOOLS, ""),
        (allowed("x", "y"), TOOLS, ", but 'x', 'y'"),
    ],
)
def test_a_choice_of_none_of_the_tools_is_refused(choice, tools, named):
    with pytest.raises(Incapable) as refused:
        narrow_tools(chat(choice, tools=tools))
    assert refused.value.message == f"tool_choice names none of the request's tools{named}"
    assert refused.value.field == "tool_choice"


@pytest.mark.parametrize("tools", [{}, ["a"], [{"type": "function"}], [{"function": {"name": ["a"]}}]])
def test_tools_that_are_none_are_left_to_the_engine(tools):
    body = chat({"type": "function", "function": {"name": "a"}}, tools=tools)
    assert narrow_tools(body) is body
