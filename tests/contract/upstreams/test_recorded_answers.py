"""Answers of a real engine, as they came: llama.cpp b11549 (xllamacpp 2026.10.11549), SmolLM2-135M, 2026-11-21.

Each was asked for six tokens (four of completions), greedy; `recorded/` holds the bodies without their framing.
Completions carry their usage in the last event of content, so that nothing can be taken out of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ownward.pricing import Usage
from ownward.upstreams import StreamTap, WholeAnswer

RECORDED = Path(__file__).with_name("recorded")
COLD = Usage(input_tokens=33, output_tokens=6)
WARM = Usage(input_tokens=33, output_tokens=6, cached_input_tokens=32)
SHORT = Usage(input_tokens=1, output_tokens=4)


@pytest.mark.parametrize(
    ("name", "dialect", "expected"),
    [
        ("chat-stream", "openai", (COLD, "length", 6)),
        ("chat-stream-no-usage", "openai", (WARM, "length", 6)),
        ("completions-stream", "openai", (SHORT, "length", 4)),
        ("responses-stream", "openai", (WARM, "completed", 6)),
        ("messages-stream", "anthropic", (WARM, "max_tokens", 6)),
    ],
)
@pytest.mark.parametrize("piece_bytes", [1, 7, 100, 10_000])
def test_a_recorded_stream_is_read_to_the_token_and_passed_to_the_byte(name, dialect, expected, piece_bytes):
    data = (RECORDED / f"{name}.txt").read_bytes()
    pieces = [data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes)]
    tap = StreamTap(dialect)
    assert b"".join(tap.feed(piece) for piece in pieces) + tap.finish() == data
    assert (tap.usage, tap.finish_reason, tap.content_events) == expected
    assert tap.is_complete
    assert tap.has_content
    assert tap.upstream_request_id


@pytest.mark.parametrize(
    ("name", "dialect", "usage", "reason"),
    [
        ("chat-whole", "openai", WARM, "length"),
        ("completions-whole", "openai", SHORT, "length"),
        ("responses-whole", "openai", WARM, "completed"),
        ("messages-whole", "anthropic", WARM, "max_tokens"),
    ],
)
def test_a_recorded_body_is_read_to_the_token(name, dialect, usage, reason):
    tap = WholeAnswer(dialect, (RECORDED / f"{name}.txt").read_bytes())
    assert (tap.usage, tap.finish_reason) == (usage, reason)
    assert tap.is_complete
    assert tap.has_content


@pytest.mark.parametrize(("name", "is_taken_out"), [("chat-stream", True), ("completions-stream", False)])
def test_the_usage_event_is_taken_out_and_every_other_event_stays(name, is_taken_out):
    data = (RECORDED / f"{name}.txt").read_bytes()
    tap = StreamTap("openai", strip_usage=True)
    passed = tap.feed(data) + tap.finish()
    events = data.split(b"\n\n")
    kept = [event for event in events if b'"choices":[]' not in event]
    assert passed == b"\n\n".join(kept)
    assert len(kept) == len(events) - is_taken_out


def test_a_recorded_error_is_no_answer():
    tap = WholeAnswer("openai", (RECORDED / "error-too-long.txt").read_bytes())
    assert "exceeds the available context size" in (tap.error or "")
    assert tap.usage is None
    assert not tap.is_complete
