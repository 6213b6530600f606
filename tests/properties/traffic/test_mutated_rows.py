"""A row of each format with values replaced by junk: read, listed as bad or refused, and never anything else.

A seeded slice; one of 90,000 found no more.
"""

from __future__ import annotations

import copy
import io
import json
import random

import pytest

from ownward.core import OwnwardError
from ownward.traffic import FORMATS, Trace, discover, read

CHAT = {
    "model": "m",
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "x"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {}}}}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "n"}},
    "metadata": {"app": "x"},
}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
SPAN = {
    "traceId": "t",
    "spanId": "s",
    "startTimeUnixNano": "1750000000000000000",
    "endTimeUnixNano": "1750000001000000000",
    "attributes": [
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "5"}},
        {"key": "gen_ai.input.messages", "value": {"stringValue": '[{"role": "user", "parts": [{"content": "x"}]}]'}},
        {"key": "gen_ai.tool.definitions", "value": {"arrayValue": {"values": [{"stringValue": "x"}]}}},
    ],
}
SAMPLES = {
    "litellm": {
        "request_id": "r",
        "spend": 0.1,
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "startTime": "2026-05-01T10:00:00Z",
        "endTime": "2026-05-01T10:00:01Z",
        "metadata": {"usage_object": USAGE},
        "request_tags": ["a"],
        "proxy_server_request": {"body": CHAT},
    },
    "langfuse": {
        "id": "o",
        "trace_id": "t",
        "type": "GENERATION",
        "start_time": "2026-05-01 10:00:00",
        "usage_details": {"input": 1, "input_cached_tokens": 3, "output": 2, "total": 6},
        "cost_details": {"input": 0.1},
        "input": CHAT["messages"],
        "tool_definitions": CHAT["tools"],
    },
    "helicone": {
        "response_id": "r",
        "request_created_at": "2026-01-01T00:00:00Z",
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "request_body": CHAT,
        "response_body": {"usage": USAGE},
        "request_properties": {"app": "x"},
    },
    "langsmith": {
        "id": "l",
        "run_type": "llm",
        "start_time": "2026-01-01T00:00:00Z",
        "end_time": "2026-01-01T00:00:01Z",
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "prompt_token_details": {"cache_read": 3, "cache_creation": 1},
        "inputs": CHAT,
        "extra": {"metadata": {"ls_model_name": "m"}, "invocation_params": {"tools": CHAT["tools"]}},
    },
    "portkey": {
        "id": "p",
        "created_at": "2026-01-01T00:00:00Z",
        "req_units": 9,
        "res_units": 2,
        "cost": 0.3,
        "request": {"body": CHAT},
        "response": {"body": {"usage": USAGE}},
        "metadata": {"app": "x"},
    },
    "openrouter": {"generation_id": "g", "created_at": "2026-06-28", "tokens_prompt": 1, "tokens_completion": 2},
    "openrouter-generation": {"data": {"id": "g", "native_tokens_prompt": 1, "native_tokens_completion": 2}},
    "otel": {"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [SPAN]}]}]},
    "claude-code": {
        "type": "assistant",
        "uuid": "u",
        "sessionId": "s",
        "requestId": "r",
        "timestamp": "2026-03-01T09:00:00Z",
        "message": {
            "id": "m",
            "model": "c",
            "usage": {"input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 1},
        },
    },
    "openai-log": {
        "request": CHAT,
        "response": {
            "id": "x",
            "created": 1,
            "usage": USAGE,
            "timings": {"prompt_n": 1, "predicted_n": 2, "prompt_ms": 3},
        },
        "status": 200,
    },
    "openai-batch-output": {
        "custom_id": "c",
        "response": {"status_code": 200, "body": {"usage": USAGE}},
        "error": None,
    },
    "openai-batch-input": {"custom_id": "c", "body": CHAT},
    "chat": CHAT,
    "trace": {
        "arrival_s": 0,
        "input_tokens": 1,
        "output_tokens": 2,
        "prefix_blocks": [1, "a"],
        "started_at": "2026-01-01",
        "priority": 1,
        "charge_usd": 0.1,
        "completed": True,
    },
    "usage-rows": {"timestamp": 1_750_000_000, "prompt_tokens": 3, "completion_tokens": 2, "cost": 0.1, "user": "u"},
    "mooncake": {"timestamp": 1, "input_length": 2, "output_length": 3, "hash_ids": [1]},
    "bailian": {
        "chat_id": 2,
        "parent_chat_id": 1,
        "timestamp": 1.5,
        "input_length": 2,
        "output_length": 3,
        "type": "text",
        "turn": 2,
        "hash_ids": [1],
    },
    "servegen": {
        "client_id": 0,
        "window_start_s": 0,
        "req_per_s": 0.01,
        "iat_cv": 1.5,
        "iat_dist": "Gamma",
        "p1": 0.5,
        "p2": 1,
    },
    "azure": {"TIMESTAMP": "2023-11-16 18:17:03.97", "ContextTokens": 1, "GeneratedTokens": 2},
    "burstgpt": {"Timestamp": 1, "Request tokens": 2, "Response tokens": 3},
}
LENGTHS = {"0": {"0": {"input_tokens": {"5": 1.0}, "output_tokens": {"7": 1.0}}}}
JUNK = [
    *(None, True, False, 0, -1, 0.1, -0.0, 1e308, 1e-320, float("inf"), float("nan"), 10**400, 2**63, 2**70),
    *(
        "",
        "x",
        "9" * 5000,
        "1e999",
        "-5",
        "1.5",
        "\ud800",
        "a\0b",
        "2026-13-45T99:99:99Z",
        "0001-01-01",
        "[1,",
        '{"a":1}',
    ),
    *("9999-12-31T23:59:59.999999999+14:00", [], {}, [None], [[]], {"": None}, [1, "a", None], {"text": 5}),
    *([{"role": [5], "content": 7}], {"role": {}, "content": {}}),
]


def find_paths(value, path=()):
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from find_paths(inner, (*path, key))


def mutate(sample, rng):
    mutant = copy.deepcopy(sample)
    for _ in range(rng.randint(1, 3)):
        *way, last = rng.choice(list(find_paths(mutant)) or [("empty",)])
        holder = mutant
        for key in way:
            holder = holder[key]
        if isinstance(holder, dict) and rng.random() < 0.15:
            holder.pop(last, None)
        else:
            holder[last] = copy.deepcopy(rng.choice(JUNK))
    return mutant


def test_every_format_has_its_sample() -> None:
    assert set(SAMPLES) == {known.name for known in FORMATS if not known.refusal}
    for name, sample in SAMPLES.items():
        assert list(read(io.BytesIO(json.dumps(sample).encode()), format=name, lengths=LENGTHS)), name


@pytest.mark.parametrize("name", SAMPLES)
def test_junk_in_any_place_is_read_or_refused(name) -> None:
    rng = random.Random(name)
    for _ in range(150):
        raw = "\n".join(json.dumps(mutate(SAMPLES[name], rng)) for _ in range(2)).encode()
        try:
            records = list(discover(read(io.BytesIO(raw), format=name, lengths=LENGTHS)))
            if records and all(record.arrival_s is not None for record in records):
                assert len(Trace.from_records(records)) == len(records)
        except OwnwardError:
            continue
        for record in records:
            for text in (record.source_row_id, record.session, record.model, record.workload):
                assert text is None or (text.encode() and "\0" not in text and len(text) < 600)
