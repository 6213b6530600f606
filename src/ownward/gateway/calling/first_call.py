"""The first call of a chat's answer alone, where its client wants one at a time and the engine does not hold to that.

What a model says behind its first call hangs on nothing that comes after it: without the others the answer is the one
that would have ended there. What was generated stays counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ownward.gateway import json_body

_DATA: Final = re.compile(rb"^data: ?(\{.*\})(?=\r?$)", re.MULTILINE)
_CALLS: Final = b'"tool_calls"'


def wants_one_call(chat: Mapping[str, msgspec.Raw]) -> bool:
    """Return whether a chat wants at most one call."""
    return json_body.written(chat, "parallel_tool_calls") == b"false"


def with_first_call(body: bytes) -> bytes:
    """Return a whole answer without the calls behind the first.

    >>> with_first_call(b'{"choices":[{"message":{"tool_calls":[{"id":"a"},{"id":"b"}]}}]}')
    b'{"choices": [{"message": {"tool_calls": [{"id": "a"}]}}]}'
    """
    return _with_first(body) if _CALLS in body else body


def passing_first_call(feed: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Return `feed`, which takes pieces of a stream in and gives whole events out, without those of further calls."""

    def feed_first(data: bytes) -> bytes:
        passed = feed(data)
        return _DATA.sub(lambda found: b"data: " + _with_first(found[1]), passed) if _CALLS in passed else passed

    return feed_first


def _with_first(said: bytes) -> bytes:
    """Return an answer, or a piece of one, with first calls alone; as it came, where there are no others in it."""
    try:
        answer = json.loads(said)
        has_others = [_leave_others_out(choice.get("message") or choice["delta"]) for choice in answer["choices"]]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return said  # no answer, which is told elsewhere
    return json_body.write(answer) if any(has_others) else said


def _leave_others_out(message: dict[str, Any]) -> bool:
    """Leave the calls behind the first out of a message, or of a piece of one; return whether there were any."""
    calls = message.get("tool_calls") or []
    first = [call for place, call in enumerate(calls) if call.get("index", place) == 0]
    if len(first) == len(calls):
        return False
    message.pop("tool_calls")
    if first:
        message["tool_calls"] = first
    return True
