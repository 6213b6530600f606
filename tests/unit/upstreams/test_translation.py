"""What crosses and what is refused, case by case; the laws stand in tests/properties, the bytes in tests/contract."""

from __future__ import annotations

import json

import pytest

from ownward.upstreams.translation import Limits, Untranslatable, UntranslatableAnswer, translate

USER = {"role": "user", "content": "hello"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "r"}
SECRET = "sk-ant-REDACTED-canary-7731"


def chat(*messages, **more):
    return {"model": "m", "max_tokens": 9, "messages": [*messages] or [USER], **more}


def to_messages(body, **limits):
    made = translate(json.dumps(body).encode(), client="chat", upstream="messages", limits=Limits(**limits))
    return json.loads(made.body), made


def to_chat(body, **limits):
    made = translate(json.dumps(body).encode(), client="messages", upstream="chat", limits=Limits(**limits))
    return json.loads(made.body), made


def refused(body, *, client="chat", upstream="messages"):
    with pytest.raises(Untranslatable) as error:
        translate(json.dumps(body).encode(), client=client, upstream=upstream)
    return error.value


def test_everything_that_stands_in_the_way_is_named_at_once():
    error = refused(chat({**USER, "name": "ada"}, seed=1, n=2, logit_bias={"1": 5}, brand_new={"a": 1}))
    assert set(error.fields) == {"messages[0].name", "seed", "n", "logit_bias", "brand_new"}


@pytest.mark.parametrize(
    "body",
    [
        chat({"role": SECRET, "content": SECRET}),
        chat({"role": "user", "content": [{"type": SECRET, "text": SECRET}]}),
        chat(tools=[{"type": SECRET}], tool_choice=SECRET, reasoning_effort=SECRET, service_tier=SECRET),
        chat(**{f"{SECRET} {SECRET}": SECRET}),
        chat(tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": SECRET, "tools": [{"type": SECRET}]}}),
        chat({"role": "assistant", "tool_calls": [{**CALL, "type": SECRET}]}, USER),
        chat({"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": SECRET}}]}, USER),
    ],
)
def test_a_refusal_repeats_no_value_of_the_request(body):
    """Refusals go to the ledger, to logs and into headers."""
    assert SECRET not in str(refused(body))


def test_max_tokens_comes_from_the_tier_or_is_demanded():
    body = {"model": "m", "messages": [USER]}
    assert to_messages(body, max_output_tokens=77)[0]["max_tokens"] == 77
    assert to_messages(chat(), max_output_tokens=77)[0]["max_tokens"] == 9
    assert refused(body).fields == ("max_tokens",)


def test_the_limit_has_the_name_that_the_upstream_knows():
    body = {"model": "m", "max_tokens": 9, "messages": [USER]}
    assert to_chat(body)[0]["max_tokens"] == 9
    newer, _ = to_chat(body, limit_name="max_completion_tokens")
    assert newer["max_completion_tokens"] == 9
    assert "max_tokens" not in newer


def test_call_ids_of_other_providers_are_renamed_without_a_clash():
    calls = [{**CALL, "id": call_id} for call_id in ("a:1", "a.1", "a_1", "call_0_a_1")]
    results = [{**RESULT, "tool_call_id": call["id"]} for call in calls]
    body, _ = to_messages(chat(USER, {**CALLED, "tool_calls": calls}, *results))
    used = [block["id"] for block in body["messages"][1]["content"]]
    answered = [block["tool_use_id"] for block in body["messages"][2]["content"]]
    assert used == answered
    assert len(set(used)) == 4


def test_a_system_message_in_the_middle_stays_where_it_is():
    body, _ = to_messages(chat({"role": "system", "content": "a"}, USER, {"role": "developer", "content": "b"}, USER))
    assert body["system"] == "a"
    assert [message["role"] for message in body["messages"]] == ["user", "system", "user"]


@pytest.mark.parametrize(("client", "upstream"), [("chat", "messages"), ("messages", "chat")])
def test_a_message_of_an_assistant_at_the_end_is_refused(client, upstream):
    """One side would continue it, the other answers it."""
    body = chat(USER, {"role": "assistant", "content": "So"})
    assert refused(body, client=client, upstream=upstream).fields == ("messages[1]",)


def test_an_allowed_tool_that_is_none_of_the_tools_is_refused():
    tool = {"type": "function", "function": {"name": "f"}}
    other = {"type": "function", "function": {"name": "g"}}
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [other]}}
    assert refused(chat(tools=[tool], tool_choice=choice)).fields == ("tool_choice",)


@pytest.mark.parametrize("turn_is_over", [False, True])
def test_reasoning_of_another_provider_is_refused_while_its_turn_runs_and_left_out_after_it(turn_is_over):
    end = [{"role": "assistant", "content": "x"}, USER] if turn_is_over else []
    body = chat(USER, {**CALLED, "reasoning_content": "t"}, RESULT, *end)
    if not turn_is_over:
        assert refused(body).fields == ("messages[1].reasoning_content",)
        return
    told, made = to_messages(body)
    assert "thinking" not in json.dumps(told)
    assert made.dropped == ("messages[1].reasoning_content",)


def test_thinking_signed_by_anthropic_reaches_an_openai_upstream_in_words_while_its_turn_runs():
    thinking = {"type": "thinking", "thinking": "t", "signature": "s"}
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "r"}]}
    body, made = to_chat(chat(USER, {"role": "assistant", "content": [thinking, call]}, result))
    assert body["messages"][1]["reasoning_content"] == "t"
    assert made.dropped == ("messages[1].content[0].signature",)
    silent = {**thinking, "thinking": ""}
    error = refused(
        chat(USER, {"role": "assistant", "content": [silent, call]}, result), client="messages", upstream="chat"
    )
    assert error.fields == ("messages[1].content[0]",)


def test_what_an_openai_upstream_signed_comes_back_to_it_as_it_was():
    detail = {"type": "reasoning.text", "text": "t", "signature": "s:1", "format": "google-gemini-v1", "index": 0}
    message = {**CALLED, "reasoning_content": "t", "reasoning_details": [detail]}
    answer = {"id": "a", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    _, made = to_chat(chat(USER))
    told = json.loads(made.answer(json.dumps(answer).encode(), now_s=0))
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "r"}]}
    again, _ = to_chat(chat(USER, {"role": "assistant", "content": told["content"]}, result))
    assert again["messages"][1]["reasoning_details"] == [detail]
    assert again["messages"][1]["reasoning_content"] == "t"


def test_a_sealed_reasoning_item_that_was_changed_is_anothers():
    item = {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "ownward:reasoning:AAAA"}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    body = {"model": "m", "max_output_tokens": 9, "input": [
        {"role": "user", "content": "x"}, item, call, {"type": "function_call_output", "call_id": "c", "output": "r"},
    ]}  # fmt: skip
    assert refused(body, client="responses").fields == ("input[1]",)


def test_old_thinking_may_be_cleared_and_tool_uses_may_not():
    cleared = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    assert to_chat(chat(context_management=cleared))[1].dropped == ("context_management.edits[0]",)
    cut = {"edits": [{"type": "clear_tool_uses_20250919"}]}
    error = refused(chat(context_management=cut), client="messages", upstream="chat")
    assert error.fields == ("context_management.edits[0]",)


def test_a_stop_sequence_is_told_where_the_upstream_tells_it():
    answer = {"id": "a", "model": "m", "choices": [
        {"index": 0, "message": {"content": "x"}, "finish_reason": "stop", "stop_reason": "END"}]}  # fmt: skip
    _, made = to_chat(chat())
    told = json.loads(made.answer(json.dumps(answer).encode(), now_s=0))
    assert (told["stop_reason"], told["stop_sequence"]) == ("stop_sequence", "END")
    _, back = to_messages(chat())
    message = {"type": "message", "id": "m", "model": "m", "content": [], "stop_reason": "stop_sequence",
               "stop_sequence": "END"}  # fmt: skip
    choice = json.loads(back.answer(json.dumps(message).encode(), now_s=0))["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "END")


def test_a_call_demanded_by_name_ends_as_a_call():
    """OpenAI's own service says `stop` there."""
    answer = {"id": "a", "model": "m", "choices": [{"index": 0, "message": CALLED, "finish_reason": "stop"}]}
    assert json.loads(to_chat(chat())[1].answer(json.dumps(answer).encode(), now_s=0))["stop_reason"] == "tool_use"


def test_arguments_that_are_no_object_make_no_answer():
    cut = {**CALLED, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": '{"a": "'}}]}
    answer = {"id": "a", "model": "m", "choices": [{"index": 0, "message": cut, "finish_reason": "length"}]}
    with pytest.raises(UntranslatableAnswer, match="no JSON object"):
        to_chat(chat())[1].answer(json.dumps(answer).encode(), now_s=0)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, (503, "overloaded_error")),
        (404, {"type": "error", "error": {"type": "not_found_error", "message": "m"}}, (404, "invalid_request_error")),
        (500, {"type": "error", "error": {"type": "api_error", "message": "m"}}, (500, "server_error")),
    ],
)
def test_errors_of_anthropic_for_a_chat_client(status, body, expected):
    told, error = to_messages(chat())[1].error(status, json.dumps(body).encode())
    found = json.loads(error)["error"]
    assert (told, found["type"], found["message"]) == (*expected, "m")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (429, b'{"error": {"message": "m", "type": "requests", "code": "rate_limit_exceeded"}}', "rate_limit_error"),
        (
            400,
            b'{"error": {"message": "m", "type": "exceed_context_size_error", "code": 400}}',
            "invalid_request_error",
        ),
        (404, b'{"error": "m"}', "not_found_error"),
        (502, b"m", "api_error"),
        (500, b'{"error": {"message": "m", "type": "server_error"}}', "api_error"),
    ],
)
def test_errors_of_openai_servers_for_a_client_of_messages(status, body, expected):
    told, error = to_chat(chat())[1].error(status, body)
    found = json.loads(error)
    assert found["type"] == "error"
    assert (told, found["error"]["type"], found["error"]["message"]) == (status, expected, "m")


def test_a_stream_that_goes_back_to_a_finished_call_is_broken():
    def piece(index, **function):
        call = {"index": index, "id": f"c{index}", "function": function}
        return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}).encode() + b"\n\n"

    stream = to_chat(chat())[1].stream(now_s=0)
    stream.feed(piece(0, name="f", arguments="{") + piece(1, name="g", arguments="{}"))
    with pytest.raises(UntranslatableAnswer, match="goes back to a call"):
        stream.feed(piece(0, arguments="}"))


def test_counts_told_behind_the_last_word_are_told_before_the_clients():
    stream = to_chat(chat())[1].stream(now_s=0)
    told = stream.feed(
        b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n'
        b"data: [DONE]\n\n"
    )
    assert b"message_stop" not in told
    told = stream.feed(b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}\n\n')
    told += stream.finish()
    assert b'"usage":{"input_tokens":3,"output_tokens":1}' in told
    assert told.endswith(b'{"type":"message_stop"}\n\n')


def test_a_block_that_begins_with_all_its_arguments_keeps_them():
    _, made = to_messages(chat(stream=True))
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    events = [
        {"type": "message_start", "message": {"id": "m", "model": "m", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_stop", "index": 0},
    ]
    told = made.stream(now_s=0).feed(b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events))
    assert rb"{\"a\":1}" in told
