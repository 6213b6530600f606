"""Cached and written tokens stand under many names, inside the input of all that say `prompt_tokens`."""

import json

import pytest

from ownward.traffic import read
from ownward.traffic._usage import Tokens, read_usage
from ownward.upstreams._counts import read_anthropic_usage, read_openai_usage

COUNTS = {"prompt_tokens": 10, "completion_tokens": 4}


@pytest.mark.parametrize(
    ("more", "cached", "written"),
    [
        ({"prompt_cache_hit_tokens": 6}, 6, 0),
        ({"cached_tokens": 6}, 6, 0),
        ({"prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 2}}, 6, 2),
        ({"prompt_tokens_details": {"cached_tokens": 0, "cache_creation_input_tokens": 2}}, 0, 2),
        ({"cache_read_input_tokens": 6, "cache_creation_input_tokens": 2}, 6, 2),
    ],
    ids=["DeepSeek", "Moonshot", "OpenAI", "Alibaba", "LiteLLM"],
)
def test_cached_and_written_tokens_are_read_as_each_provider_names_them(more, cached, written):
    assert read_usage(COUNTS | more) == Tokens(10, cached, written, 4)


HOUR = {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 3}
TWELVE = {"ttl_30m_tokens": 1, "ttl_12h_tokens": 3}


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": 6, "cache_creation_input_tokens": 4, "cache_creation": HOUR, "output_tokens": 4},
        COUNTS | {"prompt_tokens_details": {"cache_creation_tokens": 4, "cache_creation_token_details": HOUR}},
        COUNTS | {"prompt_tokens_details": {"cache_write_tokens": 4, "cache_write_tokens_details": TWELVE}},
        {
            "input_tokens": 10,
            "input_tokens_details": {"cache_write_tokens": 4, "cache_write_tokens_details": TWELVE},
            "output_tokens": 4,
        },
    ],
    ids=["Anthropic", "LiteLLM", "OpenAI", "OpenAI's responses"],
)
def test_what_is_written_for_longer_is_told_apart(usage):
    assert read_usage(usage) == Tokens(10, 0, 4, 4, cache_write_1h_tokens=3)


BESIDE = {"input_tokens": 6, "output_tokens": 4}
SUMMARY = {"type": "compaction", "input_tokens": 90, "output_tokens": 9, "cache_read_input_tokens": 5}


@pytest.mark.parametrize(
    ("reading", "usage", "model"),
    [
        (read_openai_usage, COUNTS | {"total_tokens": 14, "prompt_tokens_details": {"cached_tokens": 6}}, None),
        (read_openai_usage, COUNTS | {"total_tokens": 20}, "gemini-3-flash"),
        (read_openai_usage, COUNTS | {"total_tokens": 20}, "gpt-5"),
        (
            read_openai_usage,
            COUNTS | {"total_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 6}},
            "grok-4",
        ),
        (
            read_openai_usage,
            BESIDE | {"total_tokens": 16, "output_tokens_details": {"reasoning_tokens": 6}},
            "grok-4",
        ),
        (read_openai_usage, COUNTS | {"prompt_tokens_details": {"cache_creation": HOUR}}, None),
        (read_anthropic_usage, BESIDE | {"cache_creation": HOUR}, None),
        (read_anthropic_usage, BESIDE | {"cache_creation": HOUR, "cache_creation_input_tokens": 4}, None),
        (
            read_anthropic_usage,
            BESIDE | {"cache_creation": {"ephemeral_1h_input_tokens": 3}, "cache_creation_input_tokens": 8},
            None,
        ),
        (read_anthropic_usage, BESIDE | {"iterations": [SUMMARY, {"type": "message", **BESIDE}]}, None),
    ],
    ids=[
        "OpenAI", "Gemini's thinking in the total alone", "a total that is wrong", "xAI's thinking beside it",
        "the same as a response", "lifetimes inside the input without their sum", "lifetimes without their sum",
        "lifetimes and their sum", "a sum that grew after its lifetimes were stated", "a summary of the context",
    ],
)  # fmt: skip
def test_an_import_counts_what_the_gateway_settles_for(reading, usage, model):
    args = (usage, model) if reading is read_openai_usage else (usage,)
    settled = reading(*args)
    imported = read_usage(usage, model)
    assert settled is not None
    for name in Tokens.__slots__:
        assert getattr(imported, name) == getattr(settled, name), name


def test_a_logged_answer_of_gemini_counts_what_it_thought(tmp_path):
    row = {"model": "gemini-3-flash", "choices": [], "usage": COUNTS | {"total_tokens": 20}}
    with (tmp_path / "log.jsonl").open("w+b") as stream:
        stream.write(json.dumps(row).encode())
        stream.seek(0)
        (record,) = read(stream, name="log.jsonl")
    assert (record.input_tokens, record.output_tokens) == (10, 10)


def test_a_stream_that_repeats_its_input_as_0_at_its_end_keeps_it(tmp_path):
    events = [
        {"type": "message_start", "message": {"id": "m", "usage": BESIDE | {"output_tokens": 1}}},
        {"type": "message_delta", "usage": {"input_tokens": 0, "output_tokens": 4}},
    ]
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    with (tmp_path / "log.jsonl").open("w+b") as stream:
        stream.write(json.dumps({"request": {"model": "m", "messages": []}, "response": text}).encode())
        stream.seek(0)
        (record,) = read(stream, name="log.jsonl")
    assert (record.input_tokens, record.output_tokens) == (6, 4)
