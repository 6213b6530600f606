"""What Mistral's own service takes otherwise: it answers 422 to each member of OpenAI's dialect that it does not know.

Source: its refusals in public issues, and what Vercel's AI SDK sends it (`thinking` in the content), read 2026-11-22.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from ownward.upstreams.translation._core import Asked, Reasoning
from ownward.upstreams.translation._members import Report

_CALL_ID = re.compile(r"[A-Za-z0-9]{9}")
_UNKNOWN = ("reasoning_details", "extra_content")


def as_mistral_takes(body: dict[str, Any], asked: Asked, report: Report) -> None:
    """Change a written chat: thinking stands in the content, calls have ids of nine signs, and nobody asks."""
    if body.pop("user", None) is not None:
        report.drop(asked.place("user"))
    for turn in asked.turns:
        for part in turn.parts:
            if isinstance(part, Reasoning) and (part.signature is not None or part.redacted is not None):
                report.drop(part.path)  # another provider's: its words are carried, where it has some
    for message in body["messages"]:
        _tell_thinking(message)
        if "tool_call_id" in message:
            message["tool_call_id"] = _id_of(message["tool_call_id"])
        for call in message.get("tool_calls", ()):
            call["id"] = _id_of(call["id"])
            call.pop("extra_content", None)


def _tell_thinking(message: dict[str, Any]) -> None:
    for name in _UNKNOWN:
        message.pop(name, None)
    words = message.pop("reasoning_content", None) or message.pop("reasoning", None)
    if words is None:
        return
    said = message["content"]
    texts = [{"type": "text", "text": said}] if isinstance(said, str) and said else said or []
    message["content"] = [{"type": "thinking", "thinking": [{"type": "text", "text": words}]}, *texts]


def _id_of(call_id: str) -> str:
    """Return a call's id as the service demands it, where another's has another form; each time the same."""
    if _CALL_ID.fullmatch(call_id):
        return call_id
    return hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:9]
