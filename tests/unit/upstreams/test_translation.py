"""What crosses and what is refused, case by case; the laws stand in tests/properties, the bytes in tests/contract."""

from __future__ import annotations

import json
import time

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
    error = refused(chat({**USER, "name": "ada"}, USER, seed=1, n=2, logit_bias={"1": 5}, brand_new={"a": 1}))
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


@pytest.mark.parametrize("kind", ["adaptive", "enabled"])
def test_thinking_that_openais_models_leave_out_without_an_effort_is_named(kind):
    asked = {"model": "m", "max_tokens": 9, "messages": [USER], "thinking": {"type": kind}}
    assert to_chat(asked, limit_name="max_completion_tokens")[1].dropped == ("thinking",)
    assert to_chat(asked)[1].dropped == ()
    stated = {**asked, "output_config": {"effort": "low"}}
    assert to_chat(stated, limit_name="max_completion_tokens")[1].dropped == ()


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


def test_names_are_left_out_and_named_where_each_role_has_one_participant():
    """As AutoGen and Semantic Kernel write them to every model; an assistant's messages without one are its own too."""
    system, user = {"role": "system", "content": "s", "name": "bot"}, {**USER, "name": "user"}
    told, made = to_messages(chat(system, user, {**CALLED, "name": "bot"}, RESULT, {**CALLED}, RESULT, user))
    assert "name" not in told["messages"][0]
    assert made.dropped == tuple(f"messages[{index}].name" for index in (0, 1, 6, 2))


@pytest.mark.parametrize("other", [{"name": "bob"}, {}])
def test_names_that_tell_participants_of_a_role_apart_are_refused(other):
    body = chat({**USER, "name": "ada"}, {"role": "assistant", "content": "x"}, {**USER, **other})
    assert refused(body).fields == tuple(["messages[0].name", "messages[2].name"][: 1 + len(other)])


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
def test_reasoning_signed_by_another_provider_is_refused_while_its_turn_runs_and_left_out_after_it(turn_is_over):
    end = [{"role": "assistant", "content": "x"}, USER] if turn_is_over else []
    signed = {"type": "reasoning.text", "text": "t", "signature": "s", "format": "google-gemini-v1"}
    body = chat(USER, {**CALLED, "reasoning_details": [signed]}, RESULT, *end)
    if not turn_is_over:
        assert refused(body).fields == ("messages[1].reasoning_details[0]",)
        return
    told, made = to_messages(body)
    assert "thinking" not in json.dumps(told)
    assert made.dropped == ("messages[1].reasoning_details[0]",)


def test_reasoning_that_litellm_put_away_comes_back_signed_and_what_else_it_keeps_there_asks_for_nothing():
    """Its client keeps what it does not know of a message in `provider_specific_fields`, and sends it back there."""
    signed = {"type": "reasoning.text", "text": "t", "signature": "s", "format": "anthropic-claude-v1"}
    put_away = {"refusal": None, "reasoning_details": [signed], "citations": []}
    body = chat(USER, {**CALLED, "reasoning_content": "t", "provider_specific_fields": put_away}, RESULT)
    told, made = to_messages(body)
    assert told["messages"][1]["content"][0] == {"type": "thinking", "thinking": "t", "signature": "s"}
    assert made.dropped == ("messages[1].provider_specific_fields",)
    told, made = to_messages(chat(USER, {**CALLED, "provider_specific_fields": {"refusal": None}}, RESULT))
    assert [block["type"] for block in told["messages"][1]["content"]] == ["tool_use"]
    assert made.dropped == ()


@pytest.mark.parametrize("turn_is_over", [False, True])
def test_words_of_reasoning_that_nobody_signed_are_left_out_for_anthropic_and_named(turn_is_over):
    end = [{"role": "assistant", "content": "x"}, USER] if turn_is_over else []
    told, made = to_messages(chat(USER, {**CALLED, "reasoning_content": "t"}, RESULT, *end))
    assert [block["type"] for block in told["messages"][1]["content"]] == ["tool_use"]
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


@pytest.mark.parametrize("upstream", ["chat", "responses"])
def test_a_prompt_that_is_to_be_cached_without_an_answer_is_refused_where_nobody_does_so(upstream):
    """Anthropic's service takes a limit of 0 for that; llama.cpp reads the prompt and says nothing, others refuse."""
    body = chat(max_tokens=0)
    assert refused(body, client="messages", upstream=upstream).fields == ("max_tokens",)
    made = translate(json.dumps(body).encode(), client="messages", upstream="chat", limits=Limits(goes_on=True))
    assert json.loads(made.body)["max_tokens"] == 0


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
    with pytest.raises(UntranslatableAnswer, match="not a JSON object"):
        to_chat(chat())[1].answer(json.dumps(answer).encode(), now_s=0)


def call_piece(index, *, call_id=None, name=None, arguments=None):
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**({} if index is None else {"index": index}), **({"id": call_id} if call_id else {}), "function": function}


def chat_events(*deltas, finish="tool_calls"):
    choices = [{"index": 0, "delta": delta} for delta in deltas]
    if finish:
        choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    return b"".join(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n" for choice in choices)


def calls_told(told):
    """Return the calls of a stream of messages, each with its arguments; blocks must follow one another."""
    found, is_open = [], False
    for line in told.splitlines():
        if not line.startswith(b"data: "):
            continue
        event = json.loads(line[6:])
        kind = event["type"]
        if kind == "content_block_start":
            assert not is_open
            is_open = True
            found.append([event["content_block"].get("name"), ""])
        elif kind == "content_block_stop":
            assert is_open
            is_open = False
        elif kind == "content_block_delta":
            assert is_open
            assert event["index"] == len(found) - 1
            found[-1][1] += event["delta"].get("partial_json", "")
    return found


@pytest.mark.parametrize(
    "pieces",
    [
        [
            [call_piece(0, call_id="a", name="f", arguments=""), call_piece(1, call_id="b", name="g", arguments="")],
            [call_piece(0, arguments='{"x":'), call_piece(1, arguments='{"y":')],
            [call_piece(1, arguments="2}"), call_piece(0, arguments="1}")],
        ],
        [
            [call_piece(0, call_id="a", name="f", arguments='{"x":1')],
            [call_piece(1, call_id="b", name="g", arguments='{"y":2}')],
            [call_piece(0, arguments="}")],
        ],
        [
            [call_piece(0, call_id="a", name="f", arguments='{"x":1}')],
            [call_piece(0, call_id="b", name="g", arguments='{"y":')],
            [call_piece(0, arguments="2}")],
        ],
        [
            [call_piece(None, call_id="a", name="f", arguments='{"x":1}')],
            [call_piece(None, call_id="b", name="g", arguments='{"y":2}')],
        ],
        [
            [call_piece(0, call_id="a", name="f", arguments='{"x":')],
            [call_piece(0, call_id="a", name="f", arguments="1}")],
            [call_piece(1, call_id="b", name="g", arguments='{"y":2}')],
        ],
    ],
    ids=["by turns", "back to the first", "all with index 0", "without an index", "id and name repeated"],
)
@pytest.mark.parametrize("finish", ["tool_calls", None])
def test_calls_that_are_told_by_turns_are_told_one_after_the_other(pieces, finish):
    """Gemini's servers and Ollama give every call the index 0; others begin all calls before any argument."""
    stream = to_chat(chat())[1].stream(now_s=0)
    told = stream.feed(chat_events(*({"tool_calls": piece} for piece in pieces), finish=finish))
    told += stream.feed(b"data: [DONE]\n\n") + stream.finish()
    assert calls_told(told) == [["f", '{"x":1}'], ["g", '{"y":2}']]


def test_the_first_of_several_calls_is_told_as_it_comes_and_the_next_one_when_its_turn_has_come():
    stream = to_chat(chat())[1].stream(now_s=0)
    first = stream.feed(
        chat_events({"tool_calls": [call_piece(0, call_id="a", name="f", arguments='{"x')]}, finish=None)
    )
    assert b'{\\"x' in first
    both = chat_events({"tool_calls": [call_piece(1, call_id="b", name="g", arguments="{}")]}, finish=None)
    assert stream.feed(both) == b""
    rest = stream.feed(chat_events({"tool_calls": [call_piece(0, arguments='":1}')]}, finish=None))
    assert calls_told(first + rest) == [["f", '{"x":1}'], ["g", "{}"]]


@pytest.mark.parametrize(
    "arguments",
    [
        '{"a":"}"}',
        r'{"a":"\"}"}',
        r'{"a":"\\","b":{"c":[1]}}',
        '{"a":"{","b":[{}]}',
        "{}",
        ' {"é😀":{}} ',
        r'{"a":"\u007d"}',
    ],
)
def test_where_arguments_end_is_found_wherever_their_pieces_are_cut(arguments):
    for size in (1, 2, 3, len(arguments)):
        stream = to_chat(chat())[1].stream(now_s=0)
        told = stream.feed(chat_events({"tool_calls": [call_piece(0, call_id="a", name="f")]}, finish=None))
        told += stream.feed(
            chat_events({"tool_calls": [call_piece(1, call_id="b", name="g", arguments="{}")]}, finish=None)
        )
        for start in range(0, len(arguments), size):
            assert calls_told(told) == ([["f", arguments[:start]]] if start else []) or arguments[start:].isspace()
            piece = call_piece(0, arguments=arguments[start : start + size])
            if not start or calls_told(told)[-1][0] == "f":
                told += stream.feed(chat_events({"tool_calls": [piece]}, finish=None))
        assert [name for name, _ in calls_told(told)] == ["f", "g"]


def test_long_arguments_with_a_call_behind_them_are_looked_at_once():
    stream = to_chat(chat())[1].stream(now_s=0)
    stream.feed(chat_events({"tool_calls": [call_piece(0, call_id="a", name="f", arguments='{"a":"')]}, finish=None))
    stream.feed(chat_events({"tool_calls": [call_piece(1, call_id="b", name="g", arguments="{}")]}, finish=None))
    many = chat_events(
        *({"tool_calls": [call_piece(0, arguments="x" * 100 + "}")]} for _ in range(20_000)), finish=None
    )
    before_s = time.thread_time()
    stream.feed(many)
    assert time.thread_time() - before_s < 4  # 16 s where every piece had all before it read again


def test_a_stream_that_goes_back_to_a_call_behind_its_end_is_broken():
    stream = to_chat(chat())[1].stream(now_s=0)
    stream.feed(chat_events({"tool_calls": [call_piece(0, call_id="a", name="f", arguments="{")]}, finish="tool_calls"))
    with pytest.raises(UntranslatableAnswer, match="goes back to a part"):
        stream.feed(chat_events({"tool_calls": [call_piece(0, arguments="}")]}, finish=None))


def test_too_much_that_waits_for_its_turn_breaks_the_stream():
    stream = to_chat(chat())[1].stream(now_s=0)
    stream.feed(chat_events({"tool_calls": [call_piece(0, call_id="a", name="f", arguments="{")]}, finish=None))
    stream.feed(chat_events({"tool_calls": [call_piece(1, call_id="b", name="g", arguments="{")]}, finish=None))
    much = chat_events({"tool_calls": [call_piece(1, arguments="x" * 6_000_000)]}, finish=None)
    stream.feed(much)
    stream.feed(much)
    with pytest.raises(UntranslatableAnswer, match="too much"):
        stream.feed(much)


@pytest.mark.parametrize("name", ["function_call", "audio"])
def test_a_stream_that_says_what_nobody_asked_for_is_not_told_in_part(name):
    stream = to_chat(chat())[1].stream(now_s=0)
    with pytest.raises(UntranslatableAnswer, match=name):
        stream.feed(chat_events({name: {"name": "f", "arguments": "{}"}}, finish=None))


def block_events(*events):
    listed = [{"type": "message_start", "message": {"id": "m", "model": "m", "usage": {"input_tokens": 1}}}, *events]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in listed)


def begins(index, **block):
    return {"type": "content_block_start", "index": index, "content_block": block}


def tells(index, words):
    return {"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": words}}


def ends(index):
    return {"type": "content_block_stop", "index": index}


LAST = [{"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}}]


def chat_calls_told(told):
    found = {}
    for line in told.splitlines():
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:])["choices"]:
                for call in choice["delta"].get("tool_calls", ()):
                    name = call["function"].get("name")
                    if name is not None:
                        found[call["index"]] = [name, ""]
                    found[call["index"]][1] += call["function"]["arguments"]
    return [found[index] for index in sorted(found)]


@pytest.mark.parametrize("is_ended", [True, False])
def test_blocks_of_calls_that_are_told_by_turns_keep_their_arguments_apart(is_ended):
    stops = [ends(1), ends(0)] if is_ended else []
    _, made = to_messages(chat(stream=True))
    told = made.stream(now_s=0).feed(
        block_events(
            begins(0, type="tool_use", id="a", name="f", input={}),
            begins(1, type="tool_use", id="b", name="g", input={}),
            tells(0, '{"x":'),
            tells(1, '{"y":'),
            tells(0, "1}"),
            tells(1, "2}"),
            *stops,
            *LAST,
        )
    )
    assert chat_calls_told(told) == [["f", '{"x":1}'], ["g", '{"y":2}']]


def test_a_call_without_arguments_is_told_with_an_empty_object():
    """Anthropic tells none of them, and chat clients decode what they are told."""
    _, made = to_messages(chat(stream=True))
    block = begins(0, type="tool_use", id="a", name="f", input={})
    told = made.stream(now_s=0).feed(block_events(block, tells(0, ""), ends(0), *LAST))
    assert chat_calls_told(told) == [["f", "{}"]]
    stream = to_chat(chat())[1].stream(now_s=0)
    told = stream.feed(chat_events({"tool_calls": [call_piece(0, call_id="a", name="f")]}))
    assert calls_told(told) == [["f", "{}"]]


def test_text_that_begins_before_thinking_has_ended_is_told_as_it_comes():
    """llama.cpp ends its block of thinking after the text that follows it."""
    _, made = to_messages(chat(stream=True))
    text = {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "words"}}
    thinking, answer = begins(0, type="thinking", thinking="hm"), begins(1, type="text", text="")
    assert b"words" in made.stream(now_s=0).feed(block_events(thinking, answer, text))


def test_text_that_an_assistant_said_after_a_call_stands_beside_it():
    """A chat upstream may stream text after a call, and its client sends that back."""
    used = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    said = {"role": "assistant", "content": [{"type": "text", "text": "x"}, used, {"type": "text", "text": "y"}]}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "r"}]}
    body, _ = to_chat(chat(USER, said, result))
    assert body["messages"][1]["content"] == [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]
    assert body["messages"][1]["tool_calls"][0]["id"] == "a"


def test_an_assistant_that_said_nothing_has_an_empty_text():
    """Chat completions take null beside calls alone."""
    assert to_chat(chat(USER, {"role": "assistant", "content": []}, USER))[0]["messages"][1]["content"] == ""


def test_a_tools_message_may_name_its_function():
    """OpenAI's own examples did for years; the call says it as well."""
    body, made = to_messages(chat(USER, CALLED, {**RESULT, "name": "f"}))
    assert body["messages"][2]["content"] == [{"type": "tool_result", "tool_use_id": "c", "content": "r"}]
    assert made.dropped == ()


def test_a_whole_number_may_be_spelled_with_a_point():
    assert to_messages({**chat(), "max_tokens": 5.0})[0]["max_tokens"] == 5
    assert refused({**chat(), "max_tokens": 5.5}).fields == ("max_tokens",)


def test_a_prediction_of_the_answer_is_a_hint():
    """OpenAI says of it that it improves response times."""
    body, made = to_messages({**chat(), "prediction": {"type": "content", "content": "x"}})
    assert "prediction" not in body
    assert made.dropped == ("prediction",)


@pytest.mark.parametrize("kind", ["auto", "none"])
def test_a_choice_among_no_tools_is_no_choice(kind):
    """OpenAI refuses `tool_choice` without tools."""
    assert "tool_choice" not in to_chat(chat(tools=[], tool_choice={"type": kind}))[0]


PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "words"}]


def test_an_answer_told_in_parts_of_thinking_and_text_is_told_as_such():
    """Mistral's models that reason answer so, whole and in streams."""
    answer = {"id": "c", "choices": [{"index": 0, "message": {"content": PARTS}, "finish_reason": "stop"}]}
    made = to_chat(chat())[1]
    told = json.loads(made.answer(json.dumps(answer).encode(), now_s=0))["content"]
    assert [(block["type"], block.get("thinking") or block.get("text")) for block in told] == [
        ("thinking", "hm"),
        ("text", "words"),
    ]
    stream = made.stream(now_s=0).feed(chat_events({"content": PARTS[:1]}, {"content": PARTS[1:]}, finish="stop"))
    assert b'"thinking":"hm"' in stream
    assert b'"text":"words"' in stream


@pytest.mark.parametrize(
    "message", [{"content": [{"type": "sound"}]}, {"function_call": {"name": "f"}}, {"content": 5}]
)
def test_an_answer_that_says_what_cannot_be_told_is_not_told_in_part(message):
    answer = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    made = to_chat(chat())[1]
    with pytest.raises(UntranslatableAnswer):
        made.answer(json.dumps(answer).encode(), now_s=0)
    with pytest.raises(UntranslatableAnswer):
        made.stream(now_s=0).feed(chat_events(message, finish=None))


def test_a_message_states_counts_where_the_upstream_states_none():
    answer = {"id": "c", "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}
    told = json.loads(to_chat(chat())[1].answer(json.dumps(answer).encode(), now_s=0))
    assert told["usage"] == {"input_tokens": 0, "output_tokens": 0}


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


def test_counts_told_inside_a_choice_are_told():
    """Moonshot's streams state them there alone, with what was cached beside them."""
    stream = to_chat(chat())[1].stream(now_s=0)
    counts = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "cached_tokens": 6}
    choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop", "usage": counts}
    told = stream.feed(b"data: %b\n\ndata: [DONE]\n\n" % json.dumps({"id": "c", "choices": [choice]}).encode())
    told += stream.finish()
    assert b'"usage":{"input_tokens":4,"output_tokens":4,"cache_read_input_tokens":6}' in told


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


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_a_call_that_is_demanded_without_tools_is_refused(choice):
    assert refused(chat(tool_choice=choice)).fields == ("tool_choice",)
    nothing = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}
    tool = {"type": "function", "function": {"name": "f"}}
    assert refused(chat(tool_choice=nothing, tools=[tool])).fields == ("tool_choice",)


def test_what_is_left_out_of_earlier_answers_and_of_a_schema_is_named():
    said = {"role": "assistant", "content": "a", "annotations": [{"type": "url_citation"}]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": False}}
    _, made = to_messages(chat(said, {**said, "annotations": []}, USER, response_format=form))
    names = ["messages[0].annotations", "response_format.json_schema.name", "response_format.json_schema.strict"]
    assert list(made.dropped) == names
    part = {"type": "output_text", "text": "a", "annotations": [{"type": "file_path"}], "logprobs": [{"token": "a"}]}
    items = [{"type": "message", "role": "assistant", "content": [part]}, USER]
    made = translate(json.dumps({"model": "m", "input": items}).encode(), client="responses", upstream="chat")
    assert list(made.dropped) == ["input[0].content[0].annotations", "input[0].content[0].logprobs"]


@pytest.mark.parametrize("client", ["chat", "responses", "messages"])
def test_what_a_client_parsed_may_be_sent_back_with_what_it_was_parsed_from(client):
    part = {
        "chat": {"role": "assistant", "content": "{}", "parsed": {}},
        "responses": {"role": "assistant", "content": [{"type": "output_text", "text": "{}", "parsed": {}}]},
        "messages": {"role": "assistant", "content": [{"type": "text", "text": "{}", "parsed_output": {}}]},
    }[client]
    asked = {"model": "m", "max_tokens": 9, "messages": [USER, part, USER]}
    if client == "responses":
        asked = {"model": "m", "input": [USER, part, USER]}
    upstream = "chat" if client == "messages" else "messages"
    made = translate(json.dumps(asked).encode(), client=client, upstream=upstream, limits=Limits(max_output_tokens=9))
    assert json.loads(made.body)["messages"][1] == {"role": "assistant", "content": "{}"}
    assert made.dropped == ()


@pytest.mark.parametrize("upstream", ["chat", "messages"])
def test_codex_s_labels_of_its_items_are_left_out_and_named(upstream):
    labels = {"internal_chat_message_metadata_passthrough": {"turn_id": "t", "create_time": 1.5}}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "r"}
    plain = {"model": "m", "max_output_tokens": 9, "input": [USER, call, result]}
    labelled = {**plain, "input": [{**item, **labels} for item in plain["input"]]}
    bodies = [translate(json.dumps(body).encode(), client="responses", upstream=upstream) for body in (plain, labelled)]
    assert bodies[0].body == bodies[1].body
    assert bodies[1].dropped == tuple(f"input[{index}].{name}" for index in range(3) for name in labels)


def test_a_response_repeats_what_its_dialect_repeats():
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}
    asked = {
        "model": "m",
        "input": "x",
        "instructions": "be brief",
        "metadata": {"team": "a"},
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "tool_choice": choice,
    }
    said = b'{"id": "c", "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}'
    for body, repeated in ((asked, asked), ({"model": "m", "input": "x"}, {"instructions": None, "metadata": {}})):
        made = translate(json.dumps(body).encode(), client="responses", upstream="chat")
        told = json.loads(made.answer(said, now_s=1))
        streamed = json.loads(made.answer_as_stream(said, now_s=1).rsplit(b"data: ", 1)[1])["response"]
        for name in ("instructions", "metadata"):
            assert told[name] == streamed[name] == repeated[name]
        assert told["tool_choice"] == repeated.get("tool_choice", "auto")


@pytest.mark.parametrize("upstream", ["chat", "responses"])
def test_what_becomes_of_signed_blocks_is_a_hint_for_who_signed_them(upstream):
    thinking = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}
    body = {"model": "m", "max_tokens": 9, "thinking": thinking, "messages": [{"role": "user", "content": "x"}]}
    made = translate(json.dumps(body).encode(), client="messages", upstream=upstream)
    assert made.dropped == ("thinking.block_binding",)
