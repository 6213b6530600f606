from __future__ import annotations

import json

import pytest

from ownward.pricing import Usage
from ownward.upstreams import StreamTap, WholeAnswer


def sse(*payloads: object) -> bytes:
    return b"".join(
        b"data: " + (payload if isinstance(payload, bytes) else json.dumps(payload).encode()) + b"\n\n"
        for payload in payloads
    )


def chunk(delta: object = None, finish: str | None = None, **extra: object) -> dict:
    return {"id": "c-1", "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **extra}


def only_usage(**usage: object) -> dict:
    return {"id": "c-1", "choices": [], "usage": usage}


DONE = b"[DONE]"
COUNTS = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
USAGE = Usage(input_tokens=10, output_tokens=4)
ALIKE = {"input_tokens": 10, "output_tokens": 4}


def usage(read: int, written: int, **parts: int) -> Usage:
    return Usage(input_tokens=read, output_tokens=written, **parts)


def tap_over(
    data: bytes,
    dialect: str = "openai",
) -> StreamTap:
    tap = StreamTap(dialect)
    tap.feed(data)
    tap.finish()
    return tap


def test_a_chat_stream_gives_usage_identity_reason_and_end():
    tap = tap_over(
        sse(
            chunk({"role": "assistant", "content": ""}, usage=None),
            chunk({"content": "Hi"}, usage=None),
            chunk({"content": " there"}),
            chunk(finish="stop"),
            only_usage(**COUNTS),
            DONE,
        )
    )
    assert tap.usage == USAGE
    assert tap.upstream_request_id == "c-1"
    assert tap.finish_reason == "stop"
    assert tap.is_complete
    assert tap.has_content
    assert tap.content_events == 2
    assert tap.error is None


def test_a_tier_of_service_that_one_event_tells_is_that_of_the_answer():
    events = sse(chunk({"content": "Hi"}, service_tier="flex"), chunk(finish="stop"), only_usage(**COUNTS), DONE)
    assert tap_over(events).terms.mode == "flex"


def test_the_usage_event_we_asked_for_is_stripped_and_no_other_byte():
    first = sse(chunk({"content": "Hi"}, usage=None)) + b": keep-alive\n\n" + sse(chunk(finish="stop"))
    tap = StreamTap("openai", strip_usage=True)
    assert tap.feed(first) == first
    assert tap.feed(sse(only_usage(**COUNTS))) == b""
    assert tap.feed(sse(DONE)) == sse(DONE)
    assert tap.finish() == b""
    assert tap.usage == USAGE


def test_a_stream_that_is_not_stripped_passes_event_by_event_and_byte_for_byte():
    tap = StreamTap("openai")
    pieces = (b"da", b"ta: {", b'"x"', b"garbage\n\n", sse(only_usage(**COUNTS)))
    assert [tap.feed(piece) for piece in pieces] == [b"", b"", b"", b"".join(pieces[:4]), pieces[4]]
    assert tap.usage == USAGE


def test_signs_of_life_that_end_with_one_line_pass_at_once():
    tap = StreamTap("openai")
    assert [tap.feed(piece) for piece in (b": wa", b"it\n", b": on\n: on\n")] == [b"", b": wait\n", b": on\n: on\n"]
    event = sse(chunk({"content": "Hi"}))
    assert tap.feed(b": a\n" + event[:5]) == b""
    assert tap.feed(event[5:]) == b": a\n" + event


@pytest.mark.parametrize("strips", [True, False])
def test_the_start_of_an_event_waits_for_its_end(strips):
    tap = StreamTap("openai", strip_usage=strips)
    event = sse(chunk({"content": "Hi"}))
    assert tap.feed(event[:9]) == b""
    assert tap.feed(event[9:] + event[:3]) == event
    assert tap.finish() == event[:3]


@pytest.mark.parametrize("event", [{"usage": COUNTS}, {"choices": [], "usage": COUNTS, "error": {"message": "late"}}])
def test_an_event_that_may_mean_more_than_usage_is_not_stripped(event):
    tap = StreamTap("openai", strip_usage=True)
    assert tap.feed(sse(event)) == sse(event)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_stripped_event_takes_its_whole_blank_line_with_it(cut):
    """A carriage return at the end of a piece may be half of a line's end."""
    event = sse(only_usage(**COUNTS)).replace(b"\n", b"\r\n")
    tap = StreamTap("openai", strip_usage=True)
    assert tap.feed(event[:-cut]) + tap.feed(event[-cut:]) + tap.finish() == b""


def test_usage_in_the_last_content_event_counts_and_the_event_stays():
    data = sse(chunk({"content": "a"}, "stop", usage=COUNTS), DONE)
    tap = StreamTap("openai", strip_usage=True)
    assert tap.feed(data) == data
    assert tap.usage == USAGE


def test_running_counts_are_not_usage_until_the_end():
    tap = StreamTap("openai")
    tap.feed(sse(chunk({"content": "a"}, usage={**COUNTS, "completion_tokens": 1, "total_tokens": 11})))
    assert tap.usage is None
    tap.feed(sse(chunk({"content": "b"}, "stop", usage=COUNTS), DONE))
    assert tap.usage == USAGE


def test_a_later_count_is_the_truer_one():
    """Some servers begin with a count of the prompt alone; others say their last one twice."""
    begun = only_usage(prompt_tokens=10, completion_tokens=0, total_tokens=10)
    assert tap_over(sse(begun, chunk({"content": "a"}), chunk(finish="stop", usage=COUNTS), DONE)).usage == USAGE
    assert (
        tap_over(sse(chunk({"content": "a"}), chunk(finish="stop"), begun, only_usage(**COUNTS), DONE)).usage == USAGE
    )


def test_a_count_that_content_follows_is_not_the_whole():
    begun = only_usage(prompt_tokens=10, completion_tokens=0, total_tokens=10)
    tap = tap_over(sse(begun, chunk({"content": "a"}), chunk({"content": "b"}), chunk(finish="stop"), DONE))
    assert tap.is_complete
    assert tap.usage is None


def test_usage_inside_a_choice_is_read():
    """Moonshot's streams state it there alone."""
    last = chunk(finish="stop")
    last["choices"][0]["usage"] = {**COUNTS, "cached_tokens": 6}
    assert tap_over(sse(chunk({"content": "a"}), last, DONE)).usage == usage(10, 4, cached_input_tokens=6)


def test_a_cut_stream_is_not_complete_and_states_nothing():
    tap = tap_over(sse(chunk({"content": "a"})))
    assert not tap.is_complete
    assert tap.usage is None
    assert tap.has_content


@pytest.mark.parametrize(
    ("stated", "read"),
    [
        ({**COUNTS, "prompt_tokens_details": {"cached_tokens": 6}}, usage(10, 4, cached_input_tokens=6)),
        ({**COUNTS, "prompt_tokens_details": None, "completion_tokens_details": None}, USAGE),
        ({**COUNTS, "prompt_tokens_details": None}, USAGE),
        ({**COUNTS, "total_tokens": 15}, USAGE),
        ({**COUNTS, "total_tokens": None}, USAGE),
        ({**COUNTS, "total_tokens": 14.0}, USAGE),
        ({**COUNTS, "completion_tokens": 4.0}, USAGE),
        ({**COUNTS, "prompt_tokens": -4, "completion_tokens": 18}, None),
        ({"prompt_tokens": 1 << 41, "completion_tokens": 0, "total_tokens": 1 << 41}, None),
        ({"prompt_tokens": True, "completion_tokens": 0, "total_tokens": 1}, None),
        (
            {**COUNTS, "prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 2},
            usage(10, 4, cached_input_tokens=8),
        ),
        (
            {**COUNTS, "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2}},
            usage(10, 4, cached_input_tokens=3, cache_write_tokens=2),
        ),
        ({**COUNTS, "completion_tokens_details": {"reasoning_tokens": 3}}, usage(10, 4, reasoning_tokens=3)),
        (
            {**COUNTS, "total_tokens": 34, "completion_tokens_details": {"reasoning_tokens": 20}},
            usage(10, 24, reasoning_tokens=20),
        ),
        ({"prompt_tokens": 10, "total_tokens": 10}, usage(10, 0)),
        ({"total_tokens": 10}, None),
        (
            {
                "input_tokens": 10,
                "output_tokens": 4,
                "input_tokens_details": {
                    "cached_tokens": 1,
                    "cache_write_tokens": 5,
                    "cache_write_tokens_details": {"ttl_30m_tokens": 2, "ttl_12h_tokens": 3},
                },
            },
            usage(10, 4, cached_input_tokens=1, cache_write_tokens=5, cache_write_1h_tokens=3),
        ),
        ({**COUNTS, "cached_tokens": 6}, usage(10, 4, cached_input_tokens=6)),
        (
            {**COUNTS, "cached_tokens": 0, "prompt_tokens_details": {"cached_tokens": 6}},
            usage(10, 4, cached_input_tokens=6),
        ),
        (
            {**COUNTS, "prompt_tokens_details": {"cached_tokens": 3, "cache_creation_input_tokens": 2}},
            usage(10, 4, cached_input_tokens=3, cache_write_tokens=2),
        ),
        (
            {**COUNTS, "prompt_tokens_details": {"cache_creation": {"ephemeral_5m_input_tokens": 2}}},
            usage(10, 4, cache_write_tokens=2),
        ),
        (
            {
                **COUNTS,
                "prompt_tokens_details": {
                    "cache_creation_input_tokens": 5,
                    "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 4},
                },
            },
            usage(10, 4, cache_write_tokens=5, cache_write_1h_tokens=4),
        ),
        (
            {
                **COUNTS,
                "prompt_tokens_details": {"cached_tokens": 3},
                "cache_read_input_tokens": 3,
                "cache_creation_input_tokens": 2,
            },
            usage(10, 4, cached_input_tokens=3, cache_write_tokens=2),
        ),
        ({**COUNTS, "prompt_tokens_details": {"cached_tokens": "6"}}, None),
        ({**COUNTS, "prompt_tokens_details": {"cached_tokens": -6}}, None),
        ({**COUNTS, "prompt_cache_hit_tokens": 0.5}, None),
        (
            {"input_tokens": 10, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 1}},
            usage(10, 4, cached_input_tokens=1),
        ),
        ({"prompt_tokens": 10}, None),
        ({"completion_tokens": 4}, None),
        ({**COUNTS, "prompt_tokens": "10"}, None),
        ({**COUNTS, "completion_tokens": "x"}, None),
        ({**COUNTS, "completion_tokens": -1}, None),
        ({**COUNTS, "prompt_tokens": 10.5}, None),
        ({**COUNTS, "prompt_tokens": True}, None),
        ({**COUNTS, "prompt_tokens_details": {"cached_tokens": 11}}, None),
        ({}, None),
        ("many", None),
        ([1], None),
    ],
)
def test_counts_are_read_as_stated_or_not_at_all(stated, read):
    assert tap_over(sse({"choices": [], "usage": stated}, DONE)).usage == read
    assert WholeAnswer("openai", json.dumps({"choices": [], "usage": stated}).encode()).usage == read


def test_llama_cpp_timings_count_where_no_usage_is_stated():
    timings = {"prompt_n": 3, "cache_n": 7, "predicted_n": 4, "prompt_ms": 1.5}
    read = Usage(input_tokens=10, output_tokens=4, cached_input_tokens=7)
    assert tap_over(sse(chunk(finish="stop", timings=timings), DONE)).usage == read
    assert tap_over(sse(chunk(finish="stop", timings=timings), only_usage(**COUNTS), DONE)).usage == USAGE
    assert tap_over(sse(chunk({"content": "a"}, timings=timings))).usage is None


def test_an_anthropic_stream_is_read_with_its_cached_tokens_moved_inside():
    start = {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "usage": {
                "input_tokens": 3,
                "cache_read_input_tokens": 90,
                "cache_creation_input_tokens": 7,
                "output_tokens": 1,
            },
        },
    }
    events = [
        start,
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 12}},
    ]
    data = b"".join(b"event: %b\n" % event["type"].encode() + sse(event) for event in events)
    tap = StreamTap("anthropic")
    tap.feed(data)
    assert tap.usage is None
    tap.feed(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    assert tap.usage == Usage(input_tokens=100, output_tokens=12, cached_input_tokens=90, cache_write_tokens=7)
    assert (tap.upstream_request_id, tap.finish_reason, tap.content_events) == ("msg_1", "end_turn", 1)
    assert tap.is_complete


@pytest.mark.parametrize(
    ("minutes", "hour", "stored", "read"),
    [
        (7, 0, 7, (7, 0)),
        (7, 0, 30, (30, 0)),
        (0, 7, 30, (30, 30)),
        (0, 0, 30, (30, 0)),
        (3, 4, 7, (7, 4)),
        (3, 4, 30, None),
    ],
)
def test_what_a_stream_adds_to_a_cache_lasts_as_long_as_what_it_began_with(minutes, hour, stored, read):
    """Its start states the lifetimes, and its end the sum alone, with what tools of the provider added meanwhile."""
    parts = {"ephemeral_5m_input_tokens": minutes, "ephemeral_1h_input_tokens": hour}
    counts = {"input_tokens": 2, "cache_creation_input_tokens": minutes + hour, "cache_creation": parts}
    start = {"type": "message_start", "message": {"usage": {**counts, "output_tokens": 1}}}
    end = {"type": "message_delta", "delta": {}, "usage": {"cache_creation_input_tokens": stored, "output_tokens": 5}}
    tap = tap_over(sse(start, end, {"type": "message_stop"}), "anthropic")
    if read is None:  # how long the rest is kept is not known, nor its price
        assert tap.usage is None
    else:
        assert tap.usage == usage(2 + stored, 5, cache_write_tokens=read[0], cache_write_1h_tokens=read[1])


@pytest.mark.parametrize(("at_start", "at_end"), [(9, 0), (0, 9), (9, 9), (9, None)])
def test_input_that_an_anthropic_server_states_only_once_is_not_lost(at_start, at_end):
    start = {"type": "message_start", "message": {"usage": {"input_tokens": at_start, "output_tokens": 1}}}
    end = {"type": "message_delta", "delta": {}, "usage": {"input_tokens": at_end, "output_tokens": 5}}
    tap = tap_over(sse(start, end, {"type": "message_stop"}), "anthropic")
    assert tap.usage == usage(9, 5)


@pytest.mark.parametrize(
    ("at_start", "at_end", "read"),
    [
        ((10_000, 0), (500, 9_500), (10_000, 9_500)),  # Moonshot's: the whole input first, then its two parts
        ((10_000, None), (500, 9_500), (10_000, 9_500)),
        ((9_500, 0), (0, 9_500), (9_500, 9_500)),
        ((9, 0), (0, 90), (99, 90)),  # repeated as 0, and no whole
        ((9, 90), (0, 90), (99, 90)),
        ((9, 90), (20, 200), (220, 200)),  # tools that the provider runs add to both
        ((9, 0), (None, 90), (99, 90)),
    ],
)
def test_an_input_that_begins_as_a_whole_and_ends_in_parts_is_counted_once(at_start, at_end, read):
    def stated(counts):
        return dict(zip(("input_tokens", "cache_read_input_tokens"), counts, strict=True))

    start = {"type": "message_start", "message": {"usage": {**stated(at_start), "output_tokens": 1}}}
    end = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {**stated(at_end), "output_tokens": 5},
    }
    tap = tap_over(sse(start, end, {"type": "message_stop"}), "anthropic")
    assert tap.usage == usage(read[0], 5, cached_input_tokens=read[1])


def test_an_anthropic_stream_cut_after_its_start_knows_its_input_and_no_usage():
    tap = tap_over(
        sse({"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}}),
        "anthropic",
    )
    assert tap.usage is None
    assert not tap.is_complete


def test_a_responses_stream_is_read_from_its_last_event():
    usage = {"input_tokens": 10, "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 2}}
    tap = tap_over(
        sse(
            {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress", "usage": None}},
            {"type": "response.output_text.delta", "delta": "Hi"},
            {"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "usage": usage}},
        )
    )
    assert tap.usage == Usage(input_tokens=10, output_tokens=4, reasoning_tokens=2)
    assert (tap.upstream_request_id, tap.finish_reason, tap.content_events) == ("resp_1", "completed", 1)
    assert tap.is_complete


def test_an_incomplete_response_says_why():
    inner = {"id": "r", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    tap = tap_over(sse({"type": "response.incomplete", "response": inner}))
    assert tap.finish_reason == "max_output_tokens"
    assert tap.is_complete


@pytest.mark.parametrize(
    ("data", "dialect", "message"),
    [
        (sse({"error": {"message": "overloaded", "code": 503}}), "openai", "overloaded"),
        (sse({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}), "anthropic", "busy"),
        (sse({"type": "error", "message": "broken", "code": "x"}), "openai", "broken"),
        (
            sse({"type": "response.failed", "response": {"status": "failed", "error": {"message": "no"}}}),
            "openai",
            "no",
        ),
        (sse({"error": "plain"}), "openai", "plain"),
    ],
)
def test_an_error_inside_a_stream_is_seen(data, dialect, message):
    tap = tap_over(data, dialect)
    assert tap.error == message
    assert tap.usage is None


@pytest.mark.parametrize(
    ("body", "dialect", "reason"),
    [
        ({"choices": [{"message": {"content": "a"}, "finish_reason": "length"}], "usage": COUNTS}, "openai", "length"),
        ({"choices": [{"text": "a", "finish_reason": "stop"}], "usage": COUNTS}, "openai", "stop"),
        ({"type": "message", "content": [{}], "stop_reason": "end_turn", "usage": ALIKE}, "anthropic", "end_turn"),
        ({"object": "response", "status": "completed", "output": [{}], "usage": ALIKE}, "openai", "completed"),
    ],
)
def test_a_body_that_does_not_stream_is_read_whole(body, dialect, reason):
    tap = WholeAnswer(dialect, json.dumps({"id": "x", **body}).encode())
    assert tap.usage == USAGE
    assert tap.upstream_request_id == "x"
    assert tap.finish_reason == reason
    assert tap.is_complete
    assert tap.has_content


def test_an_embedding_has_input_and_no_output():
    body = {"object": "list", "data": [{"embedding": [0.1]}], "usage": {"prompt_tokens": 8, "total_tokens": 8}}
    tap = WholeAnswer("openai", json.dumps(body).encode())
    assert tap.usage == Usage(input_tokens=8, output_tokens=0)
    assert tap.has_content


def test_an_error_body_is_no_answer():
    tap = WholeAnswer("openai", b'{"error":{"message":"bad key"}}')
    assert tap.error == "bad key"
    assert not tap.is_complete
    assert tap.usage is None


@pytest.mark.parametrize(
    "delta",
    [
        *({key: "a"} for key in ("content", "reasoning_content", "reasoning", "refusal")),
        {"tool_calls": [{"index": 0}]},
        {"function_call": {"name": "f"}},
        {"content": [{"type": "text", "text": "a"}]},
    ],
)
def test_content_of_every_kind_is_content(delta):
    assert tap_over(sse(chunk(delta))).content_events == 1


@pytest.mark.parametrize("delta", [{}, {"role": "assistant"}, {"content": ""}, {"content": None}, {"tool_calls": []}])
def test_an_empty_delta_is_none(delta):
    assert not tap_over(sse(chunk(delta))).has_content


def test_words_that_look_like_markers_inside_content_change_nothing():
    tap = tap_over(
        sse(chunk({"content": '"usage":{"prompt_tokens":1} data: [DONE]\n\n'}), chunk({"content": "[DONE]"}))
    )
    assert tap.usage is None
    assert not tap.is_complete
    assert tap.content_events == 2


def test_odd_shapes_lose_what_is_odd_and_nothing_else():
    event = {
        "id": 5,
        "choices": [None, {"delta": "x"}, {"delta": {"content": "a"}, "finish_reason": 3}],
        "usage": COUNTS,
    }
    tap = tap_over(sse(event, DONE))
    assert tap.usage == USAGE
    assert tap.content_events == 1
    assert tap.upstream_request_id is None


def test_an_endless_event_is_passed_on_and_not_kept():
    tap = StreamTap("openai", strip_usage=True)
    piece = b"x" * (1024 * 1024)
    passed = sum(len(tap.feed(piece)) for _ in range(20))
    assert passed + len(tap.finish()) == 20 * len(piece)
    assert tap.usage is None


def test_endless_nesting_is_survived():
    deep = b"[" * 100_000 + b"]" * 100_000
    for data in (b'{"usage":%b}' % deep, b'{"choices":[{"x":%b}]}' % deep, b'{"id":"\xff"}'):
        assert tap_over(sse(data)).usage is None
        assert WholeAnswer("openai", data).usage is None


def test_embeddings_that_are_no_numbers_are_an_answer_all_the_same():
    """`NaN` is not JSON, yet Python writes it and reads it: what such a client can read is not taken from it."""
    body = b'{"object":"list","data":[{"embedding":[NaN]}],"usage":{"prompt_tokens":3,"total_tokens":3}}'
    tap = WholeAnswer("openai", body)
    assert tap.is_complete
    assert tap.usage == usage(3, 0)


def test_embeddings_whose_total_alone_is_stated_are_all_input():
    """Voyage's are."""
    body = b'{"object":"list","data":[{"embedding":[0.1]}],"usage":{"total_tokens":3}}'
    assert WholeAnswer("openai", body).usage == usage(3, 0)


@pytest.mark.parametrize("name", ["cache_read_input_tokens", "cache_creation_input_tokens"])
@pytest.mark.parametrize("odd", [-1, "20", 0.5, True])
def test_a_cache_count_that_is_none_leaves_the_usage_unknown(name, odd):
    stated = {"input_tokens": 10, "output_tokens": 5, name: odd}
    body = json.dumps({"type": "message", "content": [], "usage": stated}).encode()
    assert WholeAnswer("anthropic", body).usage is None


def test_cache_writes_that_are_stated_in_parts_alone_are_counted():
    parts = {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}
    stated = {"input_tokens": 10, "cache_creation": parts, "output_tokens": 5}
    body = json.dumps({"type": "message", "content": [], "usage": stated}).encode()
    found = WholeAnswer("anthropic", body).usage
    assert found == usage(40, 5, cache_write_tokens=30, cache_write_1h_tokens=20)


def test_a_count_that_is_spelled_with_a_point_is_a_count():
    body = b'{"choices":[],"usage":{"prompt_tokens":10.0,"completion_tokens":4e0,"total_tokens":14.0}}'
    assert WholeAnswer("openai", body).usage == USAGE
    half = b'{"choices":[],"usage":{"prompt_tokens":10.5,"completion_tokens":4,"total_tokens":14}}'
    assert WholeAnswer("openai", half).usage is None


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_event_that_says_nothing_is_left_out_and_is_no_garbage(size: int) -> None:
    """llama.cpp begins the stream of several prompts with it, and clients take it for a piece."""
    rest = sse(chunk({"content": "a"}), chunk(finish="stop"), DONE)
    data = sse(b"null") + rest
    tap = StreamTap("openai")
    passed = b"".join(tap.feed(data[at : at + size]) for at in range(0, len(data), size)) + tap.finish()
    assert passed == rest
    assert (tap.is_garbled, tap.is_complete, tap.content_events) == (False, True, 1)
