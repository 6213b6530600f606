"""Cached and written tokens stand under many names, inside the input of all that say `prompt_tokens`."""

import pytest

from ownward.traffic._usage import Tokens, read_usage

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
