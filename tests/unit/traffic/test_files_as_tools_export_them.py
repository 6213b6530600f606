"""Exports as they come: other separators and encodings, pages of an API, pieces of streams, odd times, currencies."""

from __future__ import annotations

import bz2
import io
import json
import lzma

import pytest

from ownward.core import BadInput
from ownward.traffic import ReadCount, TrafficRecord, read

FLAT = "timestamp,model,prompt_tokens,completion_tokens,cost\n2026-01-01T00:00:00Z,gpt-é,100,50,0.1\n"


def read_all(raw: bytes | str) -> tuple[list[TrafficRecord], ReadCount]:
    reading = read(io.BytesIO(raw.encode() if isinstance(raw, str) else raw), name="log")
    return list(reading), reading.count


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("sign", [";", "\t", "|"], ids=["semicolon", "tab", "bar"])
def test_a_table_is_read_whatever_separates_its_columns(sign: str) -> None:
    (record,), count = read_all(FLAT.replace(",", sign))
    assert (count.format, record.input_tokens, record.output_tokens) == ("usage-rows", 100, 50)


@pytest.mark.parametrize(
    "head",
    [
        "Timestamp,Model Name,Prompt Tokens,Completion Tokens,Cost USD",
        "timestamp,modelName,promptTokens,completionTokens,costUsd",
        "CREATED-AT,MODEL,TOKENS-IN,TOKENS-OUT,COST",
    ],
    ids=["spelt out", "camel case", "capitals"],
)
def test_columns_are_known_however_their_names_are_spelt(head: str) -> None:
    (record,), count = read_all(f"{head}\n2026-01-01T00:00:00Z,m,100,50,0.1\n")
    assert (count.format, record.model, record.input_tokens, record.output_tokens) == ("usage-rows", "m", 100, 50)
    assert str(record.charge_usd) == "0.1"


def test_sums_are_refused_however_their_names_are_spelt() -> None:
    with pytest.raises(BadInput, match="a table that counts requests"):
        read_all("Timestamp,Total Requests,Input Tokens,Output Tokens\n2026-01-01,7,100,50\n")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_table_is_read_in_the_encodings_that_spreadsheets_write(encoding: str) -> None:
    (record,), _ = read_all(FLAT.encode(encoding))
    assert (record.model, record.input_tokens) == ("gpt-é", 100)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (bz2.compress(FLAT.encode()), "bzip2"),
        (lzma.compress(FLAT.encode()), "xz"),
        (b"\x28\xb5\x2f\xfd" + bytes(40), "zstd"),
        (b"PK\x03\x04" + bytes(40), "zip"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_compression_is_named_and_not_shown_as_columns(raw: bytes, name: str) -> None:
    with pytest.raises(BadInput, match=f"compressed with {name}"):
        read_all(raw)


@pytest.mark.parametrize("indent", [None, 2], ids=["on one line", "printed over many"])
def test_a_page_of_an_api_is_its_records(indent: int | None) -> None:
    row = {"traceId": "t", "type": "GENERATION", "startTime": "2026-01-01T00:00:00Z", "model": "gpt-4o"}
    row |= {"usageDetails": {"input": 60, "output": 50, "total": 110}, "calculatedTotalCost": 0.3}
    page = {"data": [row | {"id": "a"}, row | {"id": "b"}], "meta": {"page": 1}}
    records, count = read_all(json.dumps(page, indent=indent))
    assert count.format == "langfuse"
    assert [(record.input_tokens, str(record.charge_usd)) for record in records] == [(60, "0.3"), (60, "0.3")]


def test_an_answer_that_has_data_of_its_own_is_one_request() -> None:
    answer = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0}],
        "model": "e",
        "usage": {"prompt_tokens": 8},
    }
    (record,), _ = read_all(lines(answer))
    assert (record.input_tokens, record.output_tokens) == (8, 0)
    (record,), _ = read_all(lines({"timestamp": "2026-01-01", "input_tokens": 3, "output_tokens": 1, "data": []}))
    assert record.input_tokens == 3


def test_the_pieces_of_a_stream_are_one_request_with_the_usage_of_its_end() -> None:
    piece = {"id": "c1", "object": "chat.completion.chunk", "created": 1767225600, "model": "m", "choices": []}
    told = [piece | {"usage": {"prompt_tokens": 10, "completion_tokens": count}} for count in (1, 2, 5)]
    (record,), count = read_all(lines(*told))
    assert (record.input_tokens, record.output_tokens, count.duplicates) == (10, 5, 2)


def test_a_time_decades_from_the_others_is_a_bad_row_and_does_not_stretch_the_file() -> None:
    (record,), count = read_all(FLAT + "1970-01-01T00:00:00Z,m,1,1,0\n")
    assert record.input_tokens == 100
    assert count.bad[0].line == 3
    assert "1970-01-01 00:00:00, over 20 years away from 2026-01-01" in count.bad[0].why


@pytest.mark.parametrize(
    ("written", "second"),
    [
        ("1764101561", 1764101561),
        ("1764101561514", 1764101561),  # whose digits are a date of 1764 and a time, too
        ("1764101561514.0", 1764101561),
        ("1764101561514000", 1764101561),
        ("20261025", 1792886400),
        ("20261025T023000Z", 1792895400),
        ("2026-10-25T02:30:00+02:00", 1792888200),  # the hour that comes twice
        ("2026-10-25T02:30:00+01:00", 1792891800),
    ],
)
def test_a_time_in_text_is_the_instant_it_says(written: str, second: int) -> None:
    (record,), _ = read_all(f"started_at,input_tokens,output_tokens\n{written},1,2\n")
    assert record.started_at is not None
    assert int(record.started_at.timestamp()) == second


def test_a_zero_time_of_go_is_no_time() -> None:
    records, count = read_all(FLAT + "0001-01-01T00:00:00Z,m,1,1,0\n")
    assert [record.started_at is None for record in records] == [False, True]
    assert count.bad_total == 0


@pytest.mark.parametrize(("currency", "is_read"), [("EUR", False), ("usd", True), ("", True)])
def test_an_amount_in_another_currency_is_not_taken_for_dollars(currency: str, is_read: bool) -> None:
    records, count = read_all(
        f"timestamp,prompt_tokens,completion_tokens,cost,currency\n2026-01-01,1,2,0.5,{currency}\n"
    )
    assert len(records) == is_read
    assert is_read or "cost is in 'EUR'" in count.bad[0].why


def test_a_duration_below_zero_is_unknown() -> None:
    (record,), _ = read_all("arrival_s,input_tokens,output_tokens,ttft_s,latency_s\n0,1,2,-1,-2\n")
    assert (record.ttft_s, record.latency_s) == (None, None)


def test_flat_rows_tell_whether_they_were_completed_and_what_was_written_to_the_cache() -> None:
    head = "timestamp,prompt_tokens,completion_tokens,completed,cache_write_tokens\n"
    (record,), _ = read_all(f"{head}2026-01-01,10,2,false,4\n")
    assert (record.completed, record.cache_write_tokens) == (False, 4)


def test_a_logged_answer_keeps_the_times_beside_it() -> None:
    answer = {"model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    (record,), _ = read_all(lines({"request": {"messages": []}, "response": answer, "ttft_s": 0.5, "latency_s": 2}))
    assert (record.ttft_s, record.latency_s) == (0.5, 2)


def test_an_older_llama_cpp_had_the_rest_of_its_prompt_in_the_cache() -> None:
    timings = {"prompt_n": 6, "predicted_n": 5}
    chat = {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}, "timings": timings}
    native = {"content": "x", "tokens_evaluated": 10, "timings": timings}
    records, _ = read_all(lines(chat, native))
    assert [(record.input_tokens, record.cached_input_tokens) for record in records] == [(10, 4), (10, 4)]


def test_litellm_keeps_what_a_responses_usage_says_of_the_cache() -> None:
    usage = {"input_tokens": 100, "output_tokens": 50, "input_tokens_details": {"cached_tokens": 40}}
    row = {"request_id": "a", "spend": 0.1, "prompt_tokens": 100, "completion_tokens": 50}
    row |= {"startTime": "2026-01-01T00:00:00Z", "response": {"usage": usage}}
    (record,), _ = read_all(lines(row))
    assert (record.input_tokens, record.cached_input_tokens) == (100, 40)


@pytest.mark.parametrize(
    "raw",
    [
        "usage_date_utc,model_version,api_key,usage_input_tokens_no_cache,usage_output_tokens\n2026-01-01,c,k,1,2\n",
        json.dumps({"data": [{"starting_at": "a", "ending_at": "b", "results": [{"output_tokens": 5}]}]}),
        "start_time,end_time,amount_value,amount_currency,line_item\n1,2,x,usd,gpt\n",
    ],
    ids=["anthropic console", "anthropic api", "openai costs"],
)
def test_sums_over_many_requests_are_refused_as_what_they_are(raw: str) -> None:
    with pytest.raises(BadInput, match="an aggregate of many requests per row"):
        read_all(raw)
