"""Laws of events recognised by what stands around their words: they mean what decoding them says, and nothing else."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from ownward.upstreams import Stencil, StreamTap
from ownward.upstreams.translation import UntranslatableAnswer, translate

PAIRS = [
    ("messages", "chat"),
    ("responses", "chat"),
    ("chat", "messages"),
    ("responses", "messages"),
    ("messages", "responses"),
]
WORDS = st.sampled_from(
    [
        " word",
        "the",
        '"',
        "\\",
        'a"b\\',
        "\n",
        "\u00e9",
        "\U0001f600",
        " ",
        "",
        ",",
        '","',
        "content",
        "index",
        "0",
        "x",
    ]
) | st.text(max_size=4)
ODD = st.sampled_from([b'"', b"\\", b"{", b"}", b",", b":", b" ", b"\n", b"\r", b"\0", b"\xff", b"a", b"1", b"\\u0041"])


def event(data: dict[str, Any], *, name: str = "", is_ascii: bool = False) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'), ensure_ascii=is_ascii)}\n\n".encode(
        "utf-8", "surrogatepass"
    )


def chat_event(words: str, kind: int, extra: dict[str, Any], *, is_ascii: bool) -> bytes:
    call, other = ({"index": index, "function": {"arguments": words}} for index in (0, 1))
    delta = [
        {"content": words},
        {"reasoning_content": words},
        {"tool_calls": [call]},
        {"refusal": words},
        {"tool_calls": [other]},
        {"tool_calls": [{**call, "id": "t"}]},
        {"content": words, "extra_content": {"google": {"thought": True}}},
    ][kind]
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return event({"id": "c", "model": "m", "choices": [choice], **extra}, is_ascii=is_ascii)


def message_event(words: str, kind: int, extra: dict[str, Any], *, is_ascii: bool) -> bytes:
    delta = [
        {"type": "text_delta", "text": words},
        {"type": "thinking_delta", "thinking": words},
        {"type": "input_json_delta", "partial_json": words},
        {"type": "signature_delta", "signature": words},
    ][kind % 4]
    name = "content_block_delta"
    return event({"type": name, "index": 0, "delta": delta, **extra}, name=name, is_ascii=is_ascii)


def response_event(words: str, kind: int, extra: dict[str, Any], *, is_ascii: bool) -> bytes:
    """Return an event with the number of `extra`: before the words, behind them, in both places, or in none."""
    name = [
        "response.output_text.delta",
        "response.function_call_arguments.delta",
        "response.reasoning_summary_text.delta",
        "response.output_text.done",
    ][kind % 4]
    extra = dict(extra)
    number = {"sequence_number": extra.pop("number", 7)}
    place = {"item_id": "m", "output_index": 0}
    data = [
        {"type": name, **number, **place, "delta": words, "logprobs": []},
        {"type": name, **place, "delta": words, "logprobs": [], **number},
        {"type": name, **number, **place, "delta": words, "part": number},
        {"type": name, **place, "delta": words},
    ][kind % 7 // 2]
    return event({**data, **extra}, name=name, is_ascii=is_ascii)


BEGINNINGS = {
    "responses": [event({"type": "response.created", "sequence_number": 0, "response": {"id": "r"}})],
    "chat": [
        event({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}),
        event({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f"}}]}}]}),
    ],
    "messages": [
        event({"type": "message_start", "message": {"id": "c", "model": "m", "usage": {"input_tokens": 3}}}),
        event(
            {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f"}}
        ),
    ],
}
BETWEEN = {
    "responses": [
        event({"type": "response.output_text.done", "sequence_number": 9, "text": "x"}),
        event({"type": "error", "message": "m"}),
        event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}}),
        event(
            {"type": "response.completed", "response": {"id": "r", "usage": {"input_tokens": 3, "output_tokens": 4}}}
        ),
    ],
    "chat": [
        b": ping\n\n",
        event({"choices": [{"delta": {"tool_calls": [{"index": 1, "id": "u", "function": {"name": "g"}}]}}]}),
        event({"choices": [{"delta": {"reasoning_details": [{"type": "reasoning.text", "text": "r"}]}}]}),
        event({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
        event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}),
        b"data: [DONE]\n\n",
    ],
    "messages": [
        event({"type": "ping"}),
        event({"type": "content_block_stop", "index": 0}),
        event({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
        event({"type": "content_block_start", "index": 1, "content_block": {"type": "thinking", "thinking": ""}}),
        event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}),
        event({"type": "message_stop"}),
    ],
}
EXTRAS = st.sampled_from(
    [
        {},
        {"usage": {"prompt_tokens": 3, "completion_tokens": 5}},
        {"timings": {"prompt_n": 3, "predicted_n": 2}},
        {},
        {},
        {"obfuscation": "aB3"},
        {"obfuscation": "z"},
        {"p": "ab"},
        {"usage": None},
        {"created": 7},
        {"number": 8},
        {"number": 10},
        {"number": 1e1},
        {"number": "8"},
        {"number": 8, "obfuscation": "aB"},
        {"number": 123456789, "obfuscation": "aB3dE"},
    ]
)


MAKERS = {"chat": chat_event, "messages": message_event, "responses": response_event}


@st.composite
def streams(draw: st.DrawFn, upstream: str) -> list[bytes]:
    """Return the events of a stream: runs of events that are alike, some of them damaged, with others between them."""
    make = MAKERS[upstream]
    events = list(BEGINNINGS[upstream])
    for _ in range(draw(st.integers(1, 4))):
        kind, extra, is_ascii = draw(st.integers(0, 6)), draw(EXTRAS), draw(st.booleans())
        for _ in range(draw(st.integers(2, 6))):
            made = make(draw(WORDS), kind, extra, is_ascii=is_ascii)
            damage = draw(st.integers(0, 5))
            if damage == 1:
                made = made[:-3] + b" " * draw(st.integers(0, 3)) + made[-3:]
            if damage == 2:
                at = draw(st.integers(0, len(made) - 3))
                made = made[:at] + draw(ODD) + made[at + draw(st.integers(0, 1)) :]
            if damage == 3:
                made = make(draw(WORDS), kind, draw(EXTRAS), is_ascii=is_ascii)
            events.append(made)
        events += draw(st.lists(st.sampled_from(BETWEEN[upstream]), max_size=2))
    return events


def never(_self: Stencil, _event: bytes) -> None:
    """Recognise nothing."""


def state_of(tap: StreamTap) -> tuple[Any, ...]:
    return (
        tap.usage, tap.content_events, tap.error, tap.finish_reason,
        tap.has_content, tap.is_complete, tap.is_garbled, tap.upstream_request_id,
    )  # fmt: skip


def tapped(events: list[bytes], dialect: Any, *, strips: bool) -> list[Any]:
    tap = StreamTap(dialect, strip_usage=strips)
    found: list[Any] = [(tap.feed(event), state_of(tap)) for event in events]
    return [*found, tap.finish(), state_of(tap)]


@given(
    st.data(), st.sampled_from(sorted(MAKERS)), st.sampled_from(["openai", "anthropic"]), st.booleans(), st.booleans()
)
def test_a_tap_reads_of_events_that_are_alike_what_it_reads_of_each(data, upstream, dialect, strips, is_joined):
    """Also of events of another dialect than the one that it reads: an upstream may send what it likes."""
    events = data.draw(streams(upstream))
    if is_joined:
        events = [b"".join(events[:3]), b"".join(events[3:])]
    found = tapped(events, dialect, strips=strips)
    with patch.object(Stencil, "words_in", never):
        assert tapped(events, dialect, strips=strips) == found


def told(events: list[bytes], client: str, upstream: str) -> list[bytes | str]:
    asked = {
        "model": "m",
        "stream": True,
        **({"input": "x", "max_output_tokens": 5} if client == "responses" else {"messages": [], "max_tokens": 5}),
    }
    stream = translate(json.dumps(asked).encode(), client=client, upstream=upstream).stream(now_s=7)  # type: ignore[arg-type]
    found: list[bytes | str] = []
    try:
        found.extend(map(stream.feed, events))
        found.append(stream.finish())
    except UntranslatableAnswer as error:
        found.append(error.message)
    return found


@given(st.data(), st.sampled_from(PAIRS), st.booleans())
def test_events_that_are_alike_are_told_as_each_would_be(data, pair, is_joined):
    client, upstream = pair
    events = data.draw(streams(upstream))
    if is_joined:
        events = [b"".join(events[:3]), b"".join(events[3:])]
    found = told(events, client, upstream)
    with patch.object(Stencil, "words_in", never):
        assert told(events, client, upstream) == found
