"""Laws of reading: any bytes give records, bad rows or one of our errors; a trace survives its way through CSV."""

from __future__ import annotations

import io
import json

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ownward.core import OwnwardError
from ownward.traffic import FORMATS, Limits, Trace, detect, read

# Other work may slow a busy machine down at any moment.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
HEADS = [
    b"TIMESTAMP,ContextTokens,GeneratedTokens\n",
    b"arrival_s,input_tokens,output_tokens\n",
    b'{"messages":',
    b'{"resourceSpans":',
    b'{"sessionId":"s","uuid":"u","type":"assistant","message":',
    b'{"request_id":"a","spend":1,"prompt_tokens":1,"completion_tokens":1,"startTime":',
    b"\x1f\x8b",
    b"[",
    b"",
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
KEYS = [
    *("arrival_s", "started_at", "input_tokens", "output_tokens", "cached_input_tokens", "prefix_blocks", "priority"),
    *(
        "messages",
        "tools",
        "usage",
        "model",
        "request",
        "response",
        "body",
        "custom_id",
        "sessionId",
        "uuid",
        "message",
    ),
    *(
        "type",
        "timestamp",
        "timings",
        "choices",
        "attributes",
        "resourceSpans",
        "trace_id",
        "usage_details",
        "metadata",
    ),
    *("request_created_at", "prompt_tokens", "completion_tokens", "spend", "startTime", "request_id", "hash_ids"),
    *("input_length", "output_length", "response_format", "charge_usd", "completed", "status", "created"),
]


def consume(raw: bytes, **options) -> None:
    try:
        reading = read(io.BytesIO(raw), limits=Limits(max_expanded_bytes=10**6), **options)
        for record in reading:
            assert record.input_tokens >= record.cached_input_tokens >= 0
    except OwnwardError as error:
        assert str(error)  # noqa: PT017 - any of our errors will do


@CALM
@given(st.sampled_from(HEADS), st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(head, tail) -> None:
    consume(head + tail)


@settings(CALM, max_examples=300)
@given(
    st.lists(st.dictionaries(st.sampled_from(KEYS), json_values, max_size=8), min_size=1, max_size=4),
    st.sampled_from([known.name for known in FORMATS if not known.refusal]),
)
def test_any_json_in_any_format_is_read_or_refused(rows, name) -> None:
    consume("\n".join(json.dumps(row) for row in rows).encode(), format=name)


@CALM
@given(st.binary(max_size=400))
def test_detection_answers_or_refuses(raw) -> None:
    try:
        assert detect(raw).container in {"csv", "json", "parquet"}
    except OwnwardError as error:
        assert str(error)  # noqa: PT017 - any of our errors will do


@CALM
@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**6), st.integers(0, 10**5)), min_size=1, max_size=20))
def test_a_trace_comes_back_from_its_csv(rows) -> None:
    lines = ["arrival_s,input_tokens,output_tokens", *(f"{at!r},{i},{o}" for at, i, o in rows)]
    back = Trace.from_records(read(io.BytesIO("\n".join(lines).encode())))
    made = Trace.from_columns(
        arrival_s=[at for at, _, _ in rows], input_tokens=[i for _, i, _ in rows], output_tokens=[o for _, _, o in rows]
    )
    assert back.compute_sha256() == made.compute_sha256()


@CALM
@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 100)), min_size=2, max_size=50), st.floats(0.1, 50))
def test_no_window_is_busier_than_the_peak(rows, window_s) -> None:
    made = Trace.from_columns(
        arrival_s=[at for at, _ in rows], input_tokens=[i for _, i in rows], output_tokens=[1] * len(rows)
    )
    summary = made.compute_summary(window_s=window_s)
    if summary.peak is not None:
        for start in np.linspace(0, 100, 37):
            assert len(made.between(start, start + window_s)) <= summary.peak.requests
        assert summary.peak.requests_per_s >= summary.requests_per_s * 0.5
