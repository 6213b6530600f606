"""What an answer says of the terms it was served on, wherever it says it."""

from __future__ import annotations

from typing import Any

import pytest

from ownward.upstreams.terms import (
    CREDIT,
    NO_TERMS,
    OTHER_MODELS,
    PICTURES,
    REGION,
    SEARCHES,
    SOUND,
    STANDARD,
    SUMMARIES,
    TOOLS,
    terms_told,
)

PLAIN = {"prompt_tokens": 70, "completion_tokens": 14, "total_tokens": 84}


def told(usage: dict[str, Any], *, service_tier: object = None, items: object = None, dialect: Any = "openai"):
    return terms_told(service_tier=service_tier, usage=PLAIN | usage, items=items, dialect=dialect)


@pytest.mark.parametrize(
    ("usage", "extra"),
    [
        ({"prompt_tokens_details": {"audio_tokens": 1}}, SOUND),
        ({"completion_tokens_details": {"audio_tokens": 1}}, SOUND),
        ({"input_tokens_details": {"audio_tokens": 1}}, SOUND),
        ({"output_tokens_details": {"audio_tokens": 1}}, SOUND),
        ({"prompt_audio_seconds": 3}, SOUND),
        ({"completion_tokens_details": {"image_tokens": 1}}, PICTURES),
        ({"output_tokens_details": {"image_tokens": 1}}, PICTURES),
        ({"inference_geo": "us"}, REGION),
        ({"fallback_credit": {"status": {"type": "redeemed"}}}, CREDIT),
        ({"server_tool_use": {"web_search_requests": 2}}, SEARCHES),
        ({"num_sources_used": 3}, SEARCHES),
        ({"num_search_queries": 3}, SEARCHES),
        ({"iterations": [{"type": "message"}, {"type": "compaction"}]}, SUMMARIES),
        ({"iterations": [{"type": "fallback_message"}]}, OTHER_MODELS),
    ],
)
def test_each_place_in_the_usage_that_tells_of_more_than_tokens_is_read(usage, extra):
    assert told(usage).extras == {extra}


@pytest.mark.parametrize(
    ("usage", "service_tier", "mode"),
    [
        ({}, "default", STANDARD),
        ({}, "flex", "flex"),
        ({}, "on-demand_2.0", "on-demand_2.0"),
        ({}, "words of a prompt", "other"),
        ({}, "a" * 33, "other"),
        ({"service_tier": "batch"}, None, "batch"),
        ({"service_tier": "standard"}, None, STANDARD),
        ({"speed": "fast"}, None, "fast"),
    ],
)
def test_the_mode_is_read_from_the_answer_and_from_its_usage(usage, service_tier, mode):
    assert told(usage, service_tier=service_tier).mode == mode


def test_tools_that_the_provider_ran_are_among_a_responses_items():
    assert told({}, items=[{"type": "message"}, {"type": "web_search_call"}]).extras == {TOOLS}


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"prompt_tokens_details": None},
        {"prompt_tokens_details": {"cached_tokens": 3}},
        {"prompt_tokens_details": {"image_tokens": 900}, "completion_tokens_details": {"image_tokens": 0}},
        {"inference_geo": "global"},
        {"inference_geo": "not_available"},
        {"inference_geo": None},
        {"fallback_credit": {"status": {"type": "not_applied", "reason": "expired"}}},
        {"fallback_credit": None},
    ],
)
def test_counts_alone_say_nothing_of_terms(usage):
    assert told(usage) is NO_TERMS
    assert told(usage, items=[{"type": "message"}]) is NO_TERMS
