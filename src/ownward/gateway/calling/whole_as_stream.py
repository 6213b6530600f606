"""A whole chat completion as the stream of one piece that its client asked for."""

from __future__ import annotations

import json
from typing import Any

from ownward.core import BrokenStream
from ownward.gateway import json_body


def chat_as_stream(body: bytes, *, with_usage: bool) -> bytes:
    """Return the events of a chat completion: each choice at once, its finish, usage where asked, and `[DONE]`.

    Raises: BrokenStream, if the body is no chat completion.
    """
    try:
        events = _events_of(json.loads(body), with_usage=with_usage)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise BrokenStream("the answer is not a chat completion, and cannot be told as a stream") from None
    told = [b"data: " + json_body.write(event) + b"\n\n" for event in events]
    return b"".join(told) + b"data: [DONE]\n\n"


def _events_of(answer: dict[str, Any], *, with_usage: bool) -> list[dict[str, Any]]:
    head: dict[str, Any] = {
        name: answer[name] for name in ("id", "created", "model", "system_fingerprint") if name in answer
    }
    head["object"] = "chat.completion.chunk"
    events = []
    for choice in answer["choices"]:
        delta = dict(choice["message"])
        for index, call in enumerate(delta.get("tool_calls") or []):
            call["index"] = index
        place = {"index": choice["index"], "logprobs": choice.get("logprobs")}
        events.append({**head, "choices": [{**place, "delta": delta, "finish_reason": None}]})
        events.append({**head, "choices": [{**place, "delta": {}, "finish_reason": choice.get("finish_reason")}]})
    if with_usage:
        events.append({**head, "choices": [], "usage": answer.get("usage")})
    return events
