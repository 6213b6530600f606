"""What observers and gateways export beside plain usage: sums of sums, cents, own keys, tags, older names, refusals."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import pytest

from ownward.core import BadInput
from ownward.traffic import ReadCount, TrafficRecord, read


def read_all(*rows: object) -> tuple[list[TrafficRecord], ReadCount]:
    return read_text("".join(json.dumps(row) + "\n" for row in rows))


def read_text(text: str) -> tuple[list[TrafficRecord], ReadCount]:
    reading = read(io.BytesIO(text.encode()), name="log")
    return list(reading), reading.count


def langsmith(name: str, kind: str, tokens: int, **changes: Any) -> dict[str, Any]:
    row = {
        "id": name, "name": name, "run_type": kind, "trace_id": "root", "session_id": "project", "status": "success",
        "start_time": "2026-06-01T00:00:00.000000", "end_time": "2026-06-01T00:00:02.500000", "error": None,
        "inputs": {"messages": []}, "prompt_tokens": tokens, "completion_tokens": tokens // 5, "total_cost": "0.001",
    }  # fmt: skip
    return row | changes


def test_runs_of_langsmith_are_the_calls_of_models_and_not_the_chains_that_sum_them_up() -> None:
    extra = {"metadata": {"ls_model_name": "gpt-4o"}}
    details = {"cache_read": 60, "ephemeral_5m_input_tokens": 10, "ephemeral_1hr_input_tokens": 20}
    records, count = read_all(
        langsmith("root", "chain", 300),
        langsmith("a", "llm", 100, extra=extra, prompt_token_details=details),
        langsmith("b", "llm", 200, extra=extra),
        langsmith("tool", "tool", 0),
        langsmith("failed", "llm", 0, prompt_tokens=None, completion_tokens=None, error="rate limit", total_cost=None),
    )
    assert (count.format, count.bad_total) == ("langsmith", 0)
    assert [(one.input_tokens, one.output_tokens, one.completed) for one in records] == [
        (100, 20, None),
        (200, 40, None),
        (0, 0, False),
    ]
    first = records[0]
    assert (first.cached_input_tokens, first.cache_write_tokens, first.charge_usd) == (60, 30, Decimal("0.001"))
    assert first.cache_write_1h_tokens == 20
    assert (first.model, first.session, first.latency_s) == ("gpt-4o", "root", 2.5)


@pytest.mark.parametrize("shape", ["bodies", "whole requests", "flat", "units alone"])
def test_portkey_counts_its_cost_in_cents(shape: str) -> None:
    asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    answer = {"usage": {"prompt_tokens": 1000, "completion_tokens": 100}, "choices": []}
    row = {"id": "p", "created_at": "2026-06-01T00:00:00Z", "is_success": 1, "ai_model": "gpt-4o", "req_units": 1000}
    row |= {"res_units": 100, "cost": 0.35, "cost_currency": "USD", "response_time": 900, "prompt_slug": "triage"}
    bodies: dict[str, dict[str, Any]] = {
        "bodies": {"request": asked, "response": answer},
        "whole requests": {"request": {"method": "POST", "body": asked}, "response": {"status": 200, "body": answer}},
        "flat": {"request.body": json.dumps(asked), "response.body": json.dumps(answer)},
        "units alone": {},
    }
    (record,), count = read_all(row | bodies[shape])
    assert (count.format, record.input_tokens, record.output_tokens) == ("portkey", 1000, 100)
    assert (record.charge_usd, record.model, record.workload) == (Decimal("0.0035"), "gpt-4o", "triage")
    assert (record.completed, record.latency_s) == (True, 0.9)


@pytest.mark.parametrize(("is_byok", "charge"), [(True, "0.0105"), (False, "0.0005")])
def test_openrouter_with_a_key_of_ones_own_costs_its_fee_and_the_providers_part(is_byok: bool, charge: str) -> None:
    record = {"id": "g", "total_cost": 0.0005, "upstream_inference_cost": 0.01, "is_byok": is_byok}
    record |= {"created_at": "2026-06-01T00:00:00Z", "native_tokens_prompt": 100, "native_tokens_completion": 10}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "cost": 0.0005, "is_byok": is_byok}
    answer = {
        "id": "g",
        "model": "m",
        "choices": [],
        "usage": usage | {"cost_details": {"upstream_inference_cost": 0.01}},
    }
    head = "generation_id,created_at,cost_total,byok_usage_inference,tokens_prompt,tokens_completion"
    rows, _ = read_text(f"{head}\ng,2026-06-28 03:46:57.713,0.0005,{0.01 if is_byok else 0},100,10\n")
    for (found,) in (read_all({"data": record})[0], read_all(answer)[0], rows):
        assert found.charge_usd == Decimal(charge)


@pytest.mark.parametrize(
    ("tags", "workload"),
    [
        (["User-Agent: AsyncOpenAI", "User-Agent: AsyncOpenAI/Python 1.99"], None),
        (["User-Agent: curl", "triage"], "triage"),
        (["triage", "User-Agent: curl"], "triage"),
    ],
)
def test_a_clients_program_that_litellm_tags_is_no_workload(tags: list[str], workload: str | None) -> None:
    row = {"request_id": "a", "spend": 0.1, "prompt_tokens": 1, "completion_tokens": 1, "request_tags": tags}
    (record,), _ = read_all(row | {"startTime": "2026-06-01T00:00:00Z"})
    assert record.workload == workload


def test_langfuse_tells_cache_writes_by_how_long_they_are_kept() -> None:
    usage = {"input": 10, "output": 5, "input_cache_read": 100, "input_cache_creation_5m": 40}
    row = {"id": "o", "trace_id": "t", "type": "GENERATION", "start_time": "2026-06-01 00:00:00.000000"}
    (record,), _ = read_all(row | {"usage_details": usage | {"input_cache_creation_1h": 20, "total": 175}})
    assert (record.input_tokens, record.cached_input_tokens, record.cache_write_tokens) == (170, 100, 60)


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.usage.cache_read_input_tokens": 60, "gen_ai.usage.cache_creation_input_tokens": 20},
        {"gen_ai.usage.cache_read.input_tokens": 60, "gen_ai.usage.cache_write.input_tokens": 20},
    ],
    ids=["older", "newer"],
)
@pytest.mark.parametrize("is_nested", [False, True])
def test_spans_are_read_by_older_names_and_with_nested_attributes(attributes: dict[str, int], is_nested: bool) -> None:
    told: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", **attributes}
    told |= {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 10}
    if is_nested:
        nested: dict[str, Any] = {}
        for name, value in told.items():
            *path, last = name.split(".")
            level = nested
            for part in path:
                level = level.setdefault(part, {})
            level[last] = value
        told = nested
    (record,), _ = read_all({"trace_id": "t", "span_id": "s", "start_time": "2026-06-01T00:00:00Z", "attributes": told})
    assert (record.input_tokens, record.output_tokens, record.model) == (100, 10, "m")
    assert (record.cached_input_tokens, record.cache_write_tokens) == (60, 20)


def test_braintrusts_metrics_count_and_not_the_length_of_its_texts() -> None:
    metrics = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_cached_tokens": 500, "start": 1.0}
    row = {"id": "b", "created": "2026-06-01T00:00:00Z", "input": {"messages": [{"role": "user", "content": "hi"}]}}
    (record,), _ = read_all(row | {"output": {"choices": []}, "metrics": metrics, "metadata": {"model": "gpt-4o"}})
    assert (record.input_tokens, record.cached_input_tokens, record.output_tokens) == (1000, 500, 100)
    assert (record.model, record.usage_basis, str(record.started_at)) == (
        "gpt-4o",
        "upstream",
        "2026-06-01 00:00:00+00:00",
    )


@pytest.mark.parametrize("status", [429, "429"])
def test_a_refused_request_counts_no_tokens_and_is_not_completed(status: object) -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi " * 400}]}
    (record,), _ = read_all({"request": asked, "response": {"error": {"message": "slow down"}}, "status": status})
    assert (record.input_tokens, record.output_tokens, record.completed) == (0, 0, False)


def test_flat_rows_say_by_success_whether_they_were_completed() -> None:
    head = "created_at,model,tokens_in,tokens_out,cost,success\n"
    records, _ = read_text(f"{head}2026-06-01 00:00:00,m,9,1,0.1,true\n2026-06-01 00:00:01,m,0,0,0,false\n")
    assert [record.completed for record in records] == [True, False]


def test_a_thousand_with_a_point_is_not_taken_for_one() -> None:
    head = "timestamp;model;prompt_tokens;completion_tokens\n"
    records, count = read_text(f"{head}2026-06-01;m;1.000;50\n2026-06-01;m;1000.0;50\n")
    assert [record.input_tokens for record in records] == [1000]
    assert "prompt_tokens is '1.000', which is thousands in some countries" in count.bad[0].why


def events(*told: Any) -> str:
    return "".join(f"data: {json.dumps(one)}\n\n" for one in told) + "data: [DONE]\n\n"


PIECE = {"id": "c1", "object": "chat.completion.chunk", "created": 1780000000, "model": "m"}
HELLO = PIECE | {"choices": [{"delta": {"content": "Hello, this answer has 40 characters ..." * 10}}]}
STARTED = {"id": "m1", "model": "m", "usage": {"input_tokens": 10, "cache_read_input_tokens": 100, "output_tokens": 1}}
STREAMS = {
    "chat": (
        events(HELLO, PIECE | {"choices": [], "usage": {"prompt_tokens": 110, "completion_tokens": 25}}),
        (110, 0, 25, "upstream"),
    ),
    "messages": (
        "event: message_start\n"
        + events(
            {"type": "message_start", "message": STARTED},
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 25}},
        ),
        (110, 100, 25, "upstream"),
    ),
    "responses": (
        events(
            {"type": "response.created", "response": {"id": "r", "usage": None}},
            {"type": "response.output_text.delta", "delta": "hi"},
            {
                "type": "response.completed",
                "response": {"id": "r", "usage": {"input_tokens": 110, "output_tokens": 25}},
            },
        ),
        (110, 0, 25, "upstream"),
    ),
    "without usage": (events(HELLO), (6, 0, 100, "estimated")),
}


@pytest.mark.parametrize("kind", list(STREAMS))
def test_a_stream_that_a_proxy_logged_is_the_answer_that_its_events_make(kind: str) -> None:
    body, counts = STREAMS[kind]
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "twenty characters ..."}]}
    (record,), _ = read_all({"time": "2026-06-01", "request_body": json.dumps(asked), "response_body": body})
    found = record.input_tokens, record.cached_input_tokens, record.output_tokens, record.usage_basis
    assert found == counts


def test_a_refused_request_of_a_batch_is_named_and_is_no_request_without_a_time() -> None:
    answer = {"status_code": 400, "request_id": "r", "body": {"error": {"message": "no such model"}}}
    records, count = read_all({"id": "b", "custom_id": "c", "response": answer, "error": None})
    assert (records, count.bad[0].line) == ([], 1)


def test_a_batch_that_litellm_sums_up_is_no_request_of_millions_of_tokens() -> None:
    row = {
        "request_id": "a",
        "spend": 3,
        "prompt_tokens": 5_000_000,
        "completion_tokens": 900_000,
        "total_tokens": 5_900_000,
    }
    row |= {"startTime": "2026-06-01T00:00:00Z", "call_type": "aretrieve_batch"}
    polled = row | {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    asked = row | {"request_id": "b", "call_type": "acompletion", "prompt_tokens": 5, "completion_tokens": 1}
    records, count = read_all(row, polled, asked)
    assert [record.input_tokens for record in records] == [5]
    assert [(bad.line, bad.why[:34]) for bad in count.bad] == [(1, "aretrieve_batch sums up a batch: i")]


def test_what_is_not_read_is_told_with_the_columns_to_write() -> None:
    """Such as Bedrock's invocation logs."""
    row = {"schemaType": "ModelInvocationLog", "timestamp": "2026-06-01T00:00:00Z", "input": {"inputTokenCount": 9}}
    with pytest.raises(BadInput, match="not one that we know") as told:
        read_all(row)
    assert "Write one row per request (CSV, JSON Lines) with started_at, input_tokens, output_tokens" in str(told.value)
