"""Captured requests become tasks: the answer's text in every dialect, what is expected of it, what is left out."""

from __future__ import annotations

import json

import pytest

from ownward.quality import ExactMatch, JsonSchema, LabelSet, NumberMatch, RegexMatch, Slots, ToolCalls
from ownward.trials import CapturedRequest, tasks_from_captured, text_of_answer

CALLS = [{"name": "look_up", "arguments": '{"q": 1}'}]


def sse(*events):
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()


def chunk(delta):
    return {"choices": [{"index": 0, "delta": delta}]}


CHAT = {"choices": [{"message": {"content": "a b"}}]}
CHAT_CALL = {"choices": [{"message": {"content": None, "tool_calls": [{"function": CALLS[0]}]}}]}
RESPONSE = {
    "status": "completed",
    "output": [
        {"type": "reasoning", "summary": []},
        {"type": "message", "content": [{"type": "output_text", "text": "a "}, {"type": "output_text", "text": "b"}]},
    ],
}
MESSAGE = {"type": "message", "content": [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "a b"}]}
MESSAGE_CALL = {"type": "message", "content": [{"type": "tool_use", "name": "look_up", "input": {"q": 1}}]}
BLOCKS = [
    {"type": "message_start", "message": {"content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a b"}},
    {"type": "message_stop"},
]
BLOCK_CALL = [
    {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "name": "look_up"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"q"'}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ": 1}"}},
    {"type": "message_stop"},
]
CHUNKS = [chunk({"role": "assistant", "content": "a"}), chunk({"content": " b"}), {"choices": [], "usage": {}}]
CHUNK_CALL = [
    chunk({"tool_calls": [{"index": 0, "function": {"name": "look_up", "arguments": ""}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"q": 1}'}}]}),
]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (json.dumps(CHAT).encode(), "a b"),
        (b'{"choices": [{"text": "a b"}]}', "a b"),
        (json.dumps(RESPONSE).encode(), "a b"),
        (json.dumps(MESSAGE).encode(), "a b"),
        (sse(*CHUNKS) + b"data: [DONE]\n\n", "a b"),
        (sse({"type": "response.created", "response": {"status": "in_progress"}},
             {"type": "response.completed", "response": RESPONSE}), "a b"),
        (b"event: x\n" + sse(*BLOCKS), "a b"),
        (sse(*BLOCKS[:-1]), None),
        (sse({"type": "response.created", "response": {"status": "in_progress"}}), None),
        (b"{", None),
        (b'{"input_tokens": 5}', None),
        (b"[]", None),
        (b"data: {\n\n", None),
    ],
)  # fmt: skip
def test_the_text_of_an_answer_is_the_same_in_every_dialect(body, text):
    assert text_of_answer(body) == text


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(CHAT_CALL).encode(),
        json.dumps(MESSAGE_CALL).encode(),
        sse(*CHUNK_CALL) + b"data: [DONE]\n\n",
        sse(*BLOCK_CALL),
    ],
    ids=["chat", "messages", "chat streamed", "messages streamed"],
)
def test_calls_are_told_as_json(body):
    assert json.loads(text_of_answer(body)) == CALLS


def captured(text="refund", *, request=None, **more):
    body = (
        {"model": "m", "messages": [{"role": "user", "content": "?"}], "stream": True} if request is None else request
    )
    answer = {"choices": [{"message": {"content": text}}]}
    stated = {"request_id": "r", "label": "eu", "dialect": "openai"} | more
    return CapturedRequest(request=json.dumps(body).encode(), answer=json.dumps(answer).encode(), **stated)


@pytest.mark.parametrize(
    ("grader", "text", "expected"),
    [
        (ExactMatch(), "refund", "refund"),
        (LabelSet(("refund", "card")), "it is a refund", "refund"),
        (LabelSet(("refund", "card")), "refund or card", None),
        (RegexMatch(r"=(\d+)"), "x=3, y=4", "4"),
        (RegexMatch(r"=(\d+)"), "no", None),
        (NumberMatch(), "it is 1,204", 1204.0),
        (NumberMatch(), "it is nothing", None),
        (Slots(("city", "day")), 'so: {"city": "Riga", "day": null}', {"city": "Riga"}),
        (Slots(("city",)), "none", None),
        (JsonSchema({"type": "object"}), "{}", "{}"),
        (JsonSchema({"type": "object"}), "[]", None),
        (ToolCalls(), json.dumps(CALLS), CALLS),
        (ToolCalls(), "no call", None),
    ],
)
def test_what_the_captured_answer_says_is_expected_or_it_is_left_out(grader, text, expected):
    found = tasks_from_captured([captured(text)], grader)
    if expected is None:
        assert found.left_out == {"the grader does not accept the captured answer itself": 1}
        return
    (task,) = found.tasks
    assert task.expected == expected
    assert (task.label, task.task_id) == ("eu", "r")
    assert grader.grade(text, task.expected).is_completed


def test_a_request_is_asked_again_as_it_was_and_not_as_a_stream():
    response = {"model": "m", "input": "hi", "tools": [], "stream": True, "store": True, "previous_response_id": "p"}
    message = {"model": "m", "messages": [], "max_tokens": 5, "system": "s"}
    found = tasks_from_captured(
        [captured(), captured(request=response), captured(request=message, dialect="anthropic"),
         captured(request={"model": "m", "prompt": "x"})],
        ExactMatch(),
    )  # fmt: skip
    assert [task.path for task in found.tasks] == [
        "/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions",
    ]  # fmt: skip
    assert found.tasks[0].body == {"model": "m", "messages": [{"role": "user", "content": "?"}]}
    assert found.tasks[1].body == {"model": "m", "input": "hi", "tools": [], "store": False}
    assert found.tasks[2].body == message


def test_what_cannot_be_a_task_is_left_out_with_its_reason():
    found = tasks_from_captured(
        [captured(is_completed=False), captured(is_completed=True), captured(request=[1]), captured(request={"x": 1})],
        ExactMatch(),
    )
    assert len(found.tasks) == 1
    assert dict(found.left_out) == {
        "its outcome says that it was not completed": 1,
        "it is not a chat, message, response or completion": 2,
    }
