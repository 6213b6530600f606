"""How upstreams say that a request is longer than their model's context."""

from __future__ import annotations

import re
from typing import Final

_STATUSES: Final = frozenset({400, 413})
_TOO_LONG: Final = re.compile(
    rb"context[ _](?:length|size|window|limit)|exceed_context_size|(?:prompt|input) is too long", re.IGNORECASE
)
_OF_THE_ANSWER: Final = re.compile(rb"max(?:_completion|_output)?_tokens|output tokens|in the completion")


def says_too_long(status: int, words: bytes) -> bool:
    """Return whether a refusal says so, in the words of llama.cpp, vLLM, SGLang, OpenAI or Anthropic."""
    return status in _STATUSES and _TOO_LONG.search(words) is not None


def blames_the_answer(words: bytes) -> bool:
    """Return whether such a refusal names the answer that was asked for, and not the input alone."""
    return _OF_THE_ANSWER.search(words) is not None
