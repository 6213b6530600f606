"""However a stream is cut into pieces, the tap reads the same and hands on the same bytes."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from ownward.upstreams import StreamTap, WholeAnswer

counts = st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 99), "completion_tokens": st.integers(0, 99)},
    optional={"prompt_tokens_details": st.fixed_dictionaries({"cached_tokens": st.integers(0, 120)})},
)
texts = st.text(max_size=12)
chat_events = st.one_of(
    texts.map(
        lambda text: {"id": "c", "choices": [{"delta": {"content": text}, "finish_reason": None}], "usage": None}
    ),
    st.sampled_from(["stop", "length"]).map(lambda why: {"choices": [{"delta": {}, "finish_reason": why}]}),
    counts.map(lambda usage: {"id": "c", "choices": [], "usage": usage}),
    counts.map(lambda usage: {"choices": [{"text": "a"}], "usage": usage}),
    st.just({"choices": []}),
    texts.map(lambda text: {"error": {"message": text}}),
)
anthropic_events = st.one_of(
    counts.map(
        lambda u: {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": u["prompt_tokens"]}}}
    ),
    texts.map(lambda text: {"type": "content_block_delta", "delta": {"text": text}}),
    counts.map(
        lambda u: {
            "type": "message_delta",
            "delta": {"stop_reason": "x"},
            "usage": {"output_tokens": u["completion_tokens"]},
        }
    ),
    st.just({"type": "message_stop"}),
)
ends = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    dialect = draw(st.sampled_from(["openai", "anthropic"]))
    found = draw(st.lists(chat_events if dialect == "openai" else anthropic_events, max_size=6))
    end = draw(ends)
    line = end[: len(end) // 2]
    heads = st.sampled_from([b"data: ", b"data:", b"event: x" + line + b"data: ", b": note" + line + b"data: "])
    events = [draw(heads) + json.dumps(event, ensure_ascii=False).encode() + end for event in found]
    for extra in draw(
        st.lists(st.sampled_from([b"data: [DONE]", b": ping", b"retry: 5", b"data: {broken"]), max_size=2)
    ):
        events.insert(draw(st.integers(0, len(events))), extra + end)
    return dialect, events


def read(tap: StreamTap) -> tuple[object, ...]:
    return (
        tap.usage,
        tap.is_complete,
        tap.has_content,
        tap.content_events,
        tap.finish_reason,
        tap.error,
        tap.upstream_request_id,
    )


def cut(data: bytes, places: list[int]) -> list[bytes]:
    regular = len(places) > 12
    marks = sorted(
        {0, len(data), *(p if regular else p % (len(data) + 1) for p in places if not regular or p < len(data))}
    )
    return [data[a:b] for a, b in itertools.pairwise(marks)]


cuts = st.lists(st.integers(0, 10_000), max_size=12) | st.integers(1, 4).map(lambda step: list(range(0, 10_000, step)))


@given(streams(), cuts, st.booleans())
def test_any_cut_of_a_stream_reads_alike_and_passes_the_same_bytes(stream, places, strip):
    dialect, events = stream
    data = b"".join(events)
    whole = StreamTap(dialect, strip_usage=strip)
    passed_whole = whole.feed(data) + whole.finish()
    pieces = StreamTap(dialect, strip_usage=strip)
    passed = b"".join(pieces.feed(piece) for piece in cut(data, places)) + pieces.finish()
    assert read(pieces) == read(whole)
    assert passed == passed_whole
    if not strip:
        assert passed == data


@given(streams())
def test_stripping_takes_out_whole_events_and_only_those_that_are_usage_alone(stream):
    dialect, events = stream
    tap = StreamTap(dialect, strip_usage=True)
    passed = tap.feed(b"".join(events)) + tap.finish()

    def is_usage_alone(event: bytes) -> bool:
        found = event[event.find(b"{") :]
        return dialect == "openai" and b'"choices": [], "usage": {' in found

    assert passed == b"".join(event for event in events if not is_usage_alone(event))


@given(st.lists(st.binary(max_size=40), max_size=8), st.sampled_from(["openai", "anthropic"]), st.booleans())
def test_garbage_is_passed_on_and_never_read_as_usage(pieces, dialect, strip):
    tap = StreamTap(dialect, strip_usage=strip)
    passed = b"".join(tap.feed(piece) for piece in pieces) + tap.finish()
    assert passed == b"".join(pieces)
    whole = WholeAnswer(dialect, b"".join(pieces))
    assert tap.usage is whole.usage is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["usage", "choices", "delta", "message", "type", "response", "error", "id", "prompt_tokens", "content"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(json_values, st.sampled_from(["openai", "anthropic"]))
def test_any_json_at_all_is_survived(value, dialect):
    text = json.dumps(value).encode()
    tap = StreamTap(dialect)
    tap.feed(b"data: " + text + b"\n\n")
    tap.finish()
    for each in (tap, WholeAnswer(dialect, text)):
        assert each.usage is None or each.usage.input_tokens >= 0
