"""Streams as llama.cpp writes them, put together as the answers that it gives where none is asked for."""

import json

import pytest

from ownward.core import BrokenStream
from ownward.gateway.calling.stream_as_whole import PATHS, stream_as_whole

HEAD = {"created": 1, "id": "chatcmpl-1", "model": "m", "system_fingerprint": "b0", "object": "chat.completion.chunk"}
USAGE = {
    "completion_tokens": 4,
    "prompt_tokens": 38,
    "total_tokens": 42,
    "prompt_tokens_details": {"cached_tokens": 37},
}


def sse(*events):
    return "".join(f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events).encode()


def chunk(index=0, finish=None, /, **delta):
    logprobs = {"logprobs": {"content": delta.pop("logprobs")}} if "logprobs" in delta else {}
    return {"choices": [{"finish_reason": finish, "index": index, "delta": delta, **logprobs}], **HEAD}


def end(**more):
    return {"choices": [], **HEAD, "usage": USAGE, **more}


def chat(*events):
    return json.loads(stream_as_whole("/v1/chat/completions", sse(*events) + b"data: [DONE]\n\n"))


def test_a_chat_with_logprobs_and_thoughts_is_put_together():
    found = chat(
        chunk(role="assistant", content=None),
        chunk(reasoning_content="hm"),
        chunk(reasoning_content="m"),
        chunk(content="The", logprobs=[{"token": "The", "logprob": -1.5}]),
        chunk(content=" \u2028 end", logprobs=[{"token": " \u2028 end", "logprob": -0.5}]),
        chunk(0, "length"),
        end(timings={"predicted_n": 4}),
    )
    assert found == {
        **HEAD,
        "object": "chat.completion",
        "usage": USAGE,
        "timings": {"predicted_n": 4},
        "choices": [
            {
                "index": 0,
                "finish_reason": "length",
                "message": {"role": "assistant", "reasoning_content": "hmm", "content": "The \u2028 end"},
                "logprobs": {"content": [{"token": "The", "logprob": -1.5}, {"token": " \u2028 end", "logprob": -0.5}]},
            }
        ],
    }


def test_calls_of_tools_are_put_together_by_their_places_and_choices_by_theirs():
    def call(index, **function):
        more = {"id": f"call_{index}", "type": "function"} if "name" in function else {}
        return {"index": index, **more, "function": function}

    found = chat(
        chunk(role="assistant", content=None, tool_calls=[call(0, name="f", arguments="")]),
        chunk(1, role="assistant", content="b"),
        chunk(tool_calls=[call(0, arguments='{"a"')]),
        chunk(tool_calls=[call(0, arguments=":1}"), call(1, name="g", arguments="{}")]),
        chunk(1, "stop"),
        chunk(0, "tool_calls"),
        end(),
    )
    first, second = found["choices"]
    assert first["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
            {"id": "call_1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }
    assert (second["message"]["content"], second["finish_reason"]) == ("b", "stop")


def test_an_answer_of_no_words_is_an_empty_text():
    assert chat(chunk(role="assistant", content=None), chunk(0, "stop"), end())["choices"][0]["message"] == {
        "role": "assistant",
        "content": "",
    }


def test_a_completion_of_several_prompts_is_put_together():
    def piece(index, text, finish=None):
        return {"choices": [{"text": text, "index": index, "logprobs": None, "finish_reason": finish}], "model": "m"}

    events = sse(piece(0, " 3"), piece(1, " 4"), piece(0, " a"), {**piece(0, "", "stop"), "usage": USAGE})
    events = b"data: null\n\n" + events + sse(piece(1, "", "length"))  # as it begins a stream of several
    found = json.loads(stream_as_whole("/v1/completions", events))
    assert [(choice["text"], choice["finish_reason"]) for choice in found["choices"]] == [
        (" 3 a", "stop"),
        (" 4", "length"),
    ]
    assert found["usage"] == USAGE


@pytest.mark.parametrize(
    ("path", "events", "words"),
    [
        ("/v1/chat/completions", sse(chunk(content="a")), "ended before its answer"),
        ("/v1/chat/completions", b"", "ended before its answer"),
        ("/v1/chat/completions", sse(chunk(content="a"), {"error": {"message": "no room"}}), "ends with an error"),
        ("/v1/chat/completions", sse({"choices": [{}]}), "not of its endpoint"),
        ("/v1/chat/completions", b"data: {broken}\n\n", "not of its endpoint"),
        ("/v1/completions", sse({"choices": 3}), "not of its endpoint"),
    ],
)
def test_what_is_no_whole_answer_is_a_broken_stream(path, events, words):
    with pytest.raises(BrokenStream, match=words):
        stream_as_whole(path, events)


def test_every_endpoint_that_llama_cpp_is_asked_at_for_words_can_be_put_together():
    assert {"/v1/chat/completions", "/v1/completions"} == PATHS
