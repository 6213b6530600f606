"""Every format by a row as its source writes it, recognised by content and read to the token."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from ownward.core import BadInput, UnknownName
from ownward.traffic import FORMATS, detect, read


def read_text(text: str, **options):
    reading = read(io.BytesIO(text.encode()), **options)
    records = list(reading)
    return records, reading.count


def read_json(*items, **options):
    return read_text("\n".join(json.dumps(item) for item in items), **options)


def one_of(*items, expect: str, **options):
    records, count = read_json(*items, **options)
    assert count.format == expect
    assert count.bad_total == 0, count.bad
    (record,) = records
    return record


def test_azure_keeps_hundred_nanoseconds() -> None:
    records, count = read_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,4808,10\n"
        "2023-11-16 18:17:04.0319601,3180,8\n"
    )
    assert count.format == "azure"
    assert (records[0].input_tokens, records[0].output_tokens) == (4808, 10)
    assert records[0].started_at == datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)
    assert records[1].arrival_s == pytest.approx(0.0520001, abs=1e-12)


def test_azure_2024_has_an_offset_in_its_times() -> None:
    (record,), _ = read_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n")
    assert record.started_at == datetime(2024, 5, 10, 0, 0, 0, 9930, tzinfo=UTC)


def test_burstgpt_marks_failures_by_their_empty_answer() -> None:
    records, count = read_text(
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,0,1087,API log\n"
    )
    assert count.format == "burstgpt"
    assert [(r.arrival_s, r.model, r.completed, r.workload) for r in records] == [
        (5.0, "ChatGPT", True, "Conversation log"),
        (45.0, "GPT-4", False, "API log"),
    ]


def test_mooncake_has_blocks_of_512_tokens() -> None:
    record = one_of(
        {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 48]}, expect="mooncake"
    )
    assert record.arrival_s == 27.482
    assert record.prefix_blocks == (46, 47, 48)
    assert record.prefix_block_tokens == 512


def test_bailian_has_seconds_blocks_of_16_tokens_and_chats_as_sessions() -> None:
    def row(chat, parent, at):
        return {
            "chat_id": chat,
            "parent_chat_id": parent,
            "timestamp": at,
            "input_length": 521,
            "output_length": 132,
            "type": "text",
            "turn": 1,
            "hash_ids": [1089, 1090],
        }

    records, count = read_json(row(55, -1, 0.5), row(159, 55, 61.114), row(160, 159, 70), row(7, 6, 71))
    assert count.format == "bailian"
    assert [record.arrival_s for record in records] == [0.5, 61.114, 70, 71]
    assert [record.session for record in records] == ["55", "55", "55", "6"]
    assert {record.workload for record in records} == {"text"}
    assert (records[1].prefix_blocks, records[1].prefix_block_tokens) == ((1089, 1090), 16)


@pytest.mark.parametrize("blocks", ["[1, 2]", "1 2", "1;2"])
def test_our_own_columns_from_csv(blocks) -> None:
    (record,), count = read_text(
        "request_id,arrival_s,input_tokens,output_tokens,session,prefix_blocks,priority,charge_usd,completed\n"
        f'a,1.5,10,3,s1,"{blocks}",2,0.0012,true\n'
    )
    assert count.format == "trace"
    assert (record.source_row_id, record.arrival_s, record.session, record.priority) == ("a", 1.5, "s1", 2)
    assert record.prefix_blocks == (1, 2)
    assert record.charge_usd == Decimal("0.0012")
    assert record.completed is True


@pytest.mark.parametrize(
    ("said", "completed"),
    [
        ("true", True),
        ("1", True),
        ("Yes", True),
        ("false", False),
        ("0", False),
        ("NO", False),
        ("", None),
        ("?", None),
    ],
)
def test_whether_a_request_was_completed_is_read_in_the_words_of_tables(said, completed) -> None:
    (record,), _ = read_text(f"arrival_s,input_tokens,output_tokens,completed\n1.5,10,3,{said}\n")
    assert record.completed is completed


def test_our_own_columns_from_json_lines() -> None:
    record = one_of({"arrival_s": 0.25, "input_tokens": 7, "output_tokens": 2, "prefix_blocks": [5]}, expect="trace")
    assert (record.arrival_s, record.input_tokens, record.prefix_blocks) == (0.25, 7, (5,))


def test_an_openai_answer_counts_cached_tokens_inside_its_prompt() -> None:
    record = one_of(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_750_000_000,
            "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 2006,
                "completion_tokens": 300,
                "total_tokens": 2306,
                "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
        },
        expect="openai-log",
    )
    assert (record.input_tokens, record.cached_input_tokens, record.output_tokens) == (2006, 1920, 300)
    assert record.source_row_id == "chatcmpl-1"
    assert record.started_at == datetime.fromtimestamp(1_750_000_000, UTC)


def test_an_anthropic_answer_counts_cached_tokens_outside() -> None:
    record = one_of(
        {
            "request": {
                "model": "claude-sonnet-4-5",
                "system": "Be brief.",
                "messages": [{"role": "user", "content": "x"}],
            },
            "response": {
                "id": "msg_1",
                "type": "message",
                "model": "claude-sonnet-4-5",
                "usage": {
                    "input_tokens": 21,
                    "cache_creation_input_tokens": 188,
                    "cache_read_input_tokens": 2051,
                    "output_tokens": 393,
                },
            },
        },
        expect="openai-log",
    )
    assert record.input_tokens == 21 + 188 + 2051
    assert (record.cached_input_tokens, record.cache_write_tokens, record.output_tokens) == (2051, 188, 393)


def test_a_responses_answer_counts_cached_tokens_inside() -> None:
    record = one_of(
        {
            "id": "resp_1",
            "object": "response",
            "created_at": 1_750_000_000,
            "model": "gpt-5",
            "output": [],
            "usage": {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 40},
                "output_tokens": 9,
                "output_tokens_details": {"reasoning_tokens": 3},
                "total_tokens": 109,
            },
        },
        expect="openai-log",
    )
    assert (record.input_tokens, record.cached_input_tokens, record.output_tokens) == (100, 40, 9)


def test_a_batch_output_row() -> None:
    body = {
        "id": "chatcmpl-2",
        "created": 1_711_652_795,
        "model": "gpt-4o",
        "usage": {"prompt_tokens": 22, "completion_tokens": 2},
    }
    record = one_of(
        {
            "id": "batch_req_1",
            "custom_id": "request-1",
            "response": {"status_code": 200, "request_id": "r", "body": body},
            "error": None,
        },
        expect="openai-batch-output",
    )
    assert (record.source_row_id, record.input_tokens, record.completed) == ("batch_req_1", 22, True)


def test_a_failed_batch_row_is_listed_not_read() -> None:
    good = {"custom_id": "a", "id": "1", "response": {"status_code": 200, "body": {"usage": {"prompt_tokens": 1}}}}
    bad = {"custom_id": "b", "id": "2", "response": None, "error": {"code": "batch_expired", "message": "late"}}
    records, count = read_json(good, bad)
    assert len(records) == 1
    assert count.bad[0].line == 2
    assert "batch_expired" in count.bad[0].why


def test_a_batch_input_row_is_estimated_and_says_so() -> None:
    record = one_of(
        {
            "custom_id": "request-1",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "a" * 400}]},
        },
        expect="openai-batch-input",
    )
    assert (record.input_tokens, record.output_tokens, record.usage_basis) == (100, 0, "estimated")


def test_llama_cpp_timings_leave_cached_tokens_out() -> None:
    record = one_of(
        {
            "id": "chatcmpl-3",
            "created": 1_750_000_000,
            "model": "smollm2",
            "usage": {"prompt_tokens": 50, "completion_tokens": 20},
            "timings": {
                "cache_n": 236,
                "prompt_n": 14,
                "prompt_ms": 30.958,
                "predicted_n": 35,
                "predicted_ms": 661.064,
            },
        },
        expect="openai-log",
    )
    assert (record.input_tokens, record.cached_input_tokens, record.output_tokens) == (250, 236, 35)
    assert record.ttft_s == pytest.approx(0.030958)


def litellm_row(**changes):
    return {
        "request_id": "chatcmpl-9",
        "call_type": "acompletion",
        "api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
        "spend": 0.0021,
        "total_tokens": 1100,
        "prompt_tokens": 1000,
        "completion_tokens": 100,
        "startTime": "2026-05-01T10:00:00.000Z",
        "endTime": "2026-05-01T10:00:02.500Z",
        "completionStartTime": "2026-05-01T10:00:00.500Z",
        "model": "openai/gpt-4o",
        "model_group": "gpt-4o",
        "metadata": {"usage_object": {"prompt_tokens": 1000, "prompt_tokens_details": {"cached_tokens": 512}}},
        "cache_hit": "False",
        "request_tags": ["support"],
        "session_id": "s-1",
        "status": "success",
        "messages": {},
        "response": {},
    } | changes


def test_litellm_spend_logs() -> None:
    record = one_of(litellm_row(), expect="litellm")
    assert (record.input_tokens, record.cached_input_tokens, record.output_tokens) == (1000, 512, 100)
    assert record.charge_usd == Decimal("0.0021")
    assert (record.workload, record.session, record.model, record.completed) == ("support", "s-1", "gpt-4o", True)
    assert (record.ttft_s, record.latency_s) == (0.5, 2.5)


def test_litellm_spend_logs_as_one_json_array() -> None:
    records, count = read_text(json.dumps([litellm_row(), litellm_row(request_id="chatcmpl-10")], indent=1))
    assert count.format == "litellm"
    assert [record.source_row_id for record in records] == ["chatcmpl-9", "chatcmpl-10"]


def test_litellms_own_cache_hits_are_free() -> None:
    assert one_of(litellm_row(cache_hit="True"), expect="litellm").charge_usd == 0


def test_langfuse_parts_add_up() -> None:
    record = one_of(
        {
            "id": "obs-1",
            "trace_id": "t-1",
            "type": "GENERATION",
            "start_time": "2026-05-01 10:00:00.123456",
            "provided_model_name": "gpt-4o",
            "usage_details": {"input": 100, "input_cached_tokens": 900, "output": 40, "total": 1040},
            "cost_details": {"input": 0.001, "output": 0.0004, "total": 0.0014},
            "latency": 1.2,
            "time_to_first_token": 0.3,
            "prompt_name": "summarise",
            "input": json.dumps([{"role": "user", "content": "hello"}]),
            "level": "DEFAULT",
        },
        expect="langfuse",
    )
    assert (record.input_tokens, record.cached_input_tokens, record.output_tokens) == (1000, 900, 40)
    assert record.charge_usd == Decimal("0.0014")
    assert (record.workload, record.session, record.ttft_s) == ("summarise", "t-1", 0.3)


def test_langfuse_spans_are_no_requests() -> None:
    span = {"id": "o", "trace_id": "t", "type": "SPAN", "usage_details": {}}
    records, count = read_json(span)
    assert records == []
    assert count.bad_total == 0


def test_langfuse_csv_holds_json_in_its_cells() -> None:
    (record,), count = read_text(
        "id,trace_id,type,start_time,provided_model_name,usage_details,total_cost\n"
        'o,t,GENERATION,2026-05-01 10:00:00.000000,m,"{""input"": 5, ""output"": 7, ""total"": 12}",0.5\n'
    )
    assert count.format == "langfuse"
    assert (record.input_tokens, record.output_tokens, record.charge_usd) == (5, 7, Decimal("0.5"))


def test_helicone_csv() -> None:
    (record,), count = read_text(
        "response_id,response_created_at,response_status,request_created_at,request_body,request_properties,"
        "request_user_id,model,prompt_tokens,completion_tokens,latency,cost\n"
        'r1,2026-01-01T00:00:02Z,200,2026-01-01T00:00:00Z,"{""model"":""gpt-4o"",""messages"":[{""role"":""user"",'
        '""content"":""two\nlines""}]}","{""app"":""helpdesk""}",u,gpt-4o,50,8,1500,0.001\n'
    )
    assert count.format == "helicone"
    assert (record.input_tokens, record.output_tokens, record.latency_s) == (50, 8, 1.5)
    assert (record.workload, record.completed) == ("helpdesk", True)


def test_helicone_json_converts_anthropics_count() -> None:
    record = one_of(
        {
            "response_id": "r",
            "request_id": "q",
            "request_created_at": "2026-01-01T00:00:00Z",
            "response_status": 200,
            "provider": "ANTHROPIC",
            "model": "claude",
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "prompt_cache_write_tokens": 100,
            "prompt_cache_read_tokens": 1000,
            "delay_ms": 900,
            "time_to_first_token": 200,
        },
        expect="helicone",
    )
    assert (record.input_tokens, record.cached_input_tokens, record.cache_write_tokens) == (1110, 1000, 100)
    assert (record.ttft_s, record.latency_s) == (0.2, 0.9)


def test_openrouter_activity_csv() -> None:
    (record,), count = read_text(
        "generation_id,created_at,cost_total,tokens_prompt,tokens_completion,tokens_reasoning,tokens_cached,"
        "model_permaslug,provider_name,cancelled,finish_reason_normalized,generation_time_ms,time_to_first_token_ms,app_name\n"
        "gen-1,2026-06-28 03:46:57.713,0.00123,812,40,0,512,openai/gpt-4o,OpenAI,false,stop,2100,350,Cline\n"
    )
    assert count.format == "openrouter"
    assert (record.input_tokens, record.cached_input_tokens, record.output_tokens) == (812, 512, 40)
    assert (record.charge_usd, record.completed, record.workload) == (Decimal("0.00123"), True, "Cline")
    assert (record.ttft_s, record.latency_s) == (0.35, 2.1)


def test_openrouter_generations_bill_native_tokens() -> None:
    record = one_of(
        {
            "data": {
                "id": "gen-2",
                "created_at": "2026-06-28T03:46:57Z",
                "model": "z-ai/glm",
                "total_cost": 0.01,
                "tokens_prompt": 10,
                "tokens_completion": 5,
                "native_tokens_prompt": 12,
                "native_tokens_completion": 6,
                "native_tokens_cached": 4,
                "cancelled": False,
            }
        },
        expect="openrouter-generation",
    )
    assert (record.input_tokens, record.cached_input_tokens, record.output_tokens) == (12, 4, 6)


def otel_span(**attributes):
    def typed(value):
        return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}

    return {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": "chat gpt-4o",
        "startTimeUnixNano": "1750000000000000000",
        "endTimeUnixNano": "1750000001500000000",
        "attributes": [{"key": key, "value": typed(value)} for key, value in attributes.items()],
    }


def otlp(*spans):
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "helpdesk"}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}


def test_opentelemetry_spans() -> None:
    record = one_of(
        otlp(
            otel_span(
                **{
                    "gen_ai.operation.name": "chat",
                    "gen_ai.request.model": "gpt-4o",
                    "gen_ai.usage.input_tokens": 100,
                    "gen_ai.usage.output_tokens": 20,
                    "gen_ai.usage.cache_read.input_tokens": 60,
                    "gen_ai.conversation.id": "c-1",
                }
            ),
            otel_span(**{"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 100}),
            otel_span(**{"http.method": "POST"}),
        ),
        expect="otel",
    )
    assert (record.input_tokens, record.cached_input_tokens, record.output_tokens) == (100, 60, 20)
    assert (record.workload, record.session, record.latency_s) == ("helpdesk", "c-1", 1.5)


def claude_line(output_tokens: int, **changes):
    message = {
        "id": "msg_01",
        "role": "assistant",
        "model": "claude-opus-4-5",
        "content": [],
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 500,
            "cache_read_input_tokens": 12000,
            "output_tokens": output_tokens,
        },
    }
    line = {
        "type": "assistant",
        "uuid": f"u{output_tokens}",
        "sessionId": "s-1",
        "requestId": "req_1",
        "timestamp": "2026-03-01T09:00:00.000Z",
        "message": message,
    }
    return line | changes


def test_claude_code_lines_of_one_answer_are_one_request() -> None:
    user = {
        "type": "user",
        "uuid": "u0",
        "sessionId": "s-1",
        "timestamp": "2026-03-01T08:59:59Z",
        "message": {"role": "user"},
    }
    other = claude_line(9, requestId="req_2")
    records, count = read_json(user, claude_line(2), claude_line(250), other)
    assert count.format == "claude-code"
    assert (count.read, count.duplicates) == (2, 1)
    assert (records[0].input_tokens, records[0].cached_input_tokens, records[0].cache_write_tokens) == (
        12503,
        12000,
        500,
    )
    assert records[0].output_tokens == 250
    assert records[0].session == "s-1"


def test_a_claude_code_file_that_opens_with_a_snapshot() -> None:
    head = {"type": "file-history-snapshot", "messageId": "x", "snapshot": {}}
    records, count = read_json(head, {"type": "summary", "summary": "s", "leafUuid": "l"}, claude_line(5))
    assert count.format == "claude-code"
    assert len(records) == 1


def test_chats_give_one_request_a_turn_with_all_before_it_as_input() -> None:
    chat = {
        "messages": [
            {"role": "system", "content": "s" * 40},
            {"role": "user", "content": "u" * 20},
            {"role": "assistant", "content": "a" * 8},
            {"role": "user", "content": "v" * 20},
            {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
        ]
    }
    records, count = read_json(chat)
    assert count.format == "chat"
    assert [(record.input_tokens, record.usage_basis) for record in records] == [(15, "estimated"), (22, "estimated")]
    assert records[0].output_tokens == 2
    assert len({record.session for record in records}) == 1


def test_a_tokenizer_passed_in_makes_counts_counted() -> None:
    record = one_of(
        {"messages": [{"role": "user", "content": "a b c"}]}, expect="chat", count_tokens=lambda text: len(text.split())
    )
    assert (record.input_tokens, record.usage_basis) == (3, "counted")


def test_flat_rows_of_ones_own_log() -> None:
    (record,), count = read_text(
        "timestamp,model,prompt_tokens,completion_tokens,cached_tokens,cost\n2026-05-01T10:00:00Z,m,100,20,60,0.5\n"
    )
    assert count.format == "usage-rows"
    assert (record.input_tokens, record.cached_input_tokens, record.output_tokens) == (100, 60, 20)
    assert record.charge_usd == Decimal("0.5")


def test_vllms_per_request_metrics_tell_the_first_token() -> None:
    answer = {"id": "x", "model": "m", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    record = one_of(answer | {"metrics": {"time_to_first_token_ms": 50.0}}, expect="openai-log")
    assert record.ttft_s == 0.05


@pytest.mark.parametrize(
    "item",
    [
        {"object": "page", "data": [{"object": "bucket", "start_time": 1, "end_time": 2, "results": []}]},
        {"object": "organization.usage.completions.result", "input_tokens": 5, "num_model_requests": 2},
        {"data": [{"date": "2026-01-01", "model": "m", "usage": 0.1, "requests": 5, "prompt_tokens": 9}]},
        {"date": "2026-01-01", "api_requests": 5, "prompt_tokens": 9, "completion_tokens": 3, "spend": 0.1},
        {"timestamp": "2026-01-01", "requests": 5, "input_tokens": 9, "output_tokens": 3},
    ],
)
def test_aggregates_are_recognised_and_refused(item) -> None:
    with pytest.raises(BadInput, match="cannot be planned per request"):
        read_json(item)


def test_an_unknown_format_names_those_we_read() -> None:
    with pytest.raises(BadInput, match="fields are 'colour', 'size'") as caught:
        read_text("colour,size\nred,3\n", name="shirts.csv")
    assert "azure" in (caught.value.allowed or "")
    assert caught.value.where == "shirts.csv"


def test_a_format_named_wrongly_gets_the_closest() -> None:
    with pytest.raises(UnknownName, match="azur"):
        read_text("TIMESTAMP\n", format="azur")


def test_format_names_are_unique() -> None:
    names = [known.name for known in FORMATS]
    assert len(names) == len(set(names))


def test_detection_goes_by_content_even_where_the_first_row_is_cut_off() -> None:
    whole = json.dumps({"messages": [{"role": "user", "content": "x" * 5000}], "tools": []})
    assert detect(whole[:1000].encode(), "log.csv").format == "chat"
    assert detect(json.dumps([litellm_row()] * 3)[:900].encode()).format == "litellm"


@pytest.mark.parametrize(("said", "usd"), [("$0.5", "0.5"), (0.25, "0.25"), ("1000000", "1000000"), (None, None)])
def test_a_charge_is_read_to_the_last_digit(said, usd) -> None:
    item = {"arrival_s": 0.0, "input_tokens": 1, "output_tokens": 1, "charge_usd": said}
    assert one_of(item, expect="trace").charge_usd == (None if usd is None else Decimal(usd))


@pytest.mark.parametrize("said", ["1000000.01", "-0.1", "NaN", "much"])
def test_what_no_request_can_cost_is_a_bad_row(said) -> None:
    records, count = read_json({"arrival_s": 0.0, "input_tokens": 1, "output_tokens": 1, "charge_usd": said})
    assert list(records) == []
    assert count.bad_total == 1


def test_a_row_without_an_id_is_known_again_whatever_the_order_of_its_fields() -> None:
    item = {"arrival_s": 0.0, "input_tokens": 1, "output_tokens": 1}
    first, again = (one_of(stated, expect="trace") for stated in (item, dict(reversed(item.items()))))
    assert first.source_row_id == again.source_row_id
    assert first.source_row_id != one_of(item | {"output_tokens": 2}, expect="trace").source_row_id
