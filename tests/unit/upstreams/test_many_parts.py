"""Requests and answers of thousands of parts: each of them costs what it costs in a short one."""

from __future__ import annotations

import gc
import json
import time

import pytest

from ownward.upstreams.translation import Limits, translate, translate_in_steps
from ownward.upstreams.translation._steps import STEP

FEW, MANY = 1_000, 30_000
MOST = 8
"""How many times as long a part may take among many: on a busy machine more than once. With squares it is thirty."""
USER = {"role": "user", "content": "go on"}


def of_chat(**more):
    return {"model": "m", "messages": [USER], **more}


def of_messages(content):
    return {"model": "m", "max_tokens": 9, "messages": [USER, {"role": "user", "content": content}]}


def of_responses(*items):
    return {"model": "m", "store": False, "input": [*items, USER]}


def calls_in_a_row(count):
    return of_responses(
        *({"type": "function_call", "call_id": f"c{each}", "name": "f", "arguments": "{}"} for each in range(count))
    )


def parts_of_an_answer(count):
    return of_responses({"role": "assistant", "content": [{"type": "output_text", "text": "a"}] * count})


def parts_of_a_message(count):
    return of_messages([{"type": "text", "text": "a"}] * count)


def results_in_a_message(count):
    return of_messages([{"type": "tool_result", "tool_use_id": f"c{each}", "content": "r"} for each in range(count)])


def allowed_tools(count):
    tools = [{"type": "function", "function": {"name": f"f{each}"}} for each in range(count)]
    allowed = {"mode": "auto", "tools": tools}
    return of_chat(tools=tools, tool_choice={"type": "allowed_tools", "allowed_tools": allowed})


def pieces_of_reasoning(count):
    """Some clients send back the pieces of a stream as they came."""
    piece = {"type": "reasoning.text", "index": 0, "text": "so many words of a thought " * 4}
    said = {"role": "assistant", "content": "a", "reasoning_details": [piece] * count}
    return {"model": "m", "messages": [USER, said, USER]}


def seconds_for(asked, client, upstream):
    body = json.dumps(asked).encode()
    limits = Limits(max_output_tokens=9)
    began = time.thread_time()
    translate(body, client=client, upstream=upstream, limits=limits)
    return time.thread_time() - began


@pytest.fixture(autouse=True)
def _without_collecting():
    """What the collector of garbage goes through is everything that other tests have left as well."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    ("asked", "client", "upstream"),
    [
        (calls_in_a_row, "responses", "chat"),
        (parts_of_an_answer, "responses", "messages"),
        (parts_of_a_message, "messages", "chat"),
        (results_in_a_message, "messages", "responses"),
        (allowed_tools, "chat", "messages"),
        (pieces_of_reasoning, "chat", "messages"),
    ],
)
def test_thirty_times_as_many_parts_take_not_much_more_than_thirty_times_as_long(asked, client, upstream):
    few = min(seconds_for(asked(FEW), client, upstream) for _ in range(3))
    assert min(seconds_for(asked(MANY), client, upstream) for _ in range(2)) < few * (MANY / FEW) * MOST


def calls_and_results_of_a_chat(count):
    calls = [
        {"id": f"c{each}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for each in range(count)
    ]
    said = {"role": "assistant", "content": None, "tool_calls": calls}
    return of_chat(
        messages=[USER, said, *({"role": "tool", "tool_call_id": f"c{each}", "content": "r"} for each in range(count))]
    )


def parts_of_a_chat(count):
    return of_chat(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}] * count}])


@pytest.mark.parametrize(
    ("asked", "client", "upstream"),
    [
        (parts_of_a_message, "messages", "chat"),
        (parts_of_a_message, "messages", "responses"),
        (results_in_a_message, "messages", "chat"),
        (results_in_a_message, "messages", "responses"),
        (parts_of_a_chat, "chat", "messages"),
        (calls_and_results_of_a_chat, "chat", "messages"),
        (parts_of_an_answer, "responses", "messages"),
        (parts_of_an_answer, "responses", "chat"),
        (calls_in_a_row, "responses", "messages"),
        (calls_in_a_row, "responses", "chat"),
    ],
)
def test_there_are_pauses_among_the_parts_of_one_message_as_well(asked, client, upstream):
    """Both where it is read and where it is written: what stands between two pauses holds up everybody else."""

    def pauses(count):
        body = json.dumps(asked(count)).encode()
        return len(list(translate_in_steps(body, client=client, upstream=upstream, limits=Limits(max_output_tokens=9))))

    assert pauses(FEW) - pauses(1) >= 2 * (FEW // STEP)


def test_each_of_many_calls_in_a_stream_takes_what_the_first_ones_take():
    def seconds_for_calls(count):
        asked = json.dumps({"model": "m", "max_tokens": 9, "stream": True, "messages": [USER]}).encode()
        stream = translate(asked, client="messages", upstream="chat").stream(now_s=0)
        calls = (
            {"index": each, "id": f"c{each}", "function": {"name": "f", "arguments": "{}"}} for each in range(count)
        )
        events = [
            b"data: %b\n\n"
            % json.dumps({"id": "a", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}).encode()
            for call in calls
        ]
        began = time.thread_time()
        for event in events:
            stream.feed(event)
        return time.thread_time() - began

    few = min(seconds_for_calls(300) for _ in range(3))
    assert min(seconds_for_calls(18_000) for _ in range(2)) < few * 60 * MOST / 2
