"""A stream as a proxy logs its bytes, events of `data:` lines, into the answer that it made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ownward.traffic import _values as values

_HEAD = ("id", "model", "created", "created_at", "service_tier")


def answer_of_events(body: object) -> Mapping[str, Any]:
    """Return the answer of a logged stream (OpenAI chat or responses, Anthropic); empty where it is none.

    Its usage is what the events tell of it together, each count as it was told last.
    """
    if not isinstance(body, str) or "data:" not in body:
        return {}
    answer: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    texts: list[str] = []
    for line in body.splitlines():
        event = values.mapping(line.removeprefix("data:").strip()) if line.startswith("data:") else {}
        # Anthropic's first event and the last ones of responses hold the answer
        told = values.mapping(event.get("message")) or values.mapping(event.get("response")) or event
        answer = {name: told[name] for name in _HEAD if told.get(name) is not None} | answer
        # some servers repeat what they stated at the start as 0 at the end
        for name, count in values.mapping(told.get("usage")).items():
            if count or (count is not None and name not in usage):
                usage[name] = count
        deltas = [choice.get("delta") for choice in values.mappings(event.get("choices"))] or [event.get("delta")]
        texts += [text for delta in deltas if (text := _text(delta))]
    if not answer and not usage and not texts:
        return {}
    return answer | {"usage": usage, "choices": [{"message": {"content": "".join(texts)}}]}


def _text(delta: object) -> str | None:
    told = delta if isinstance(delta, str) else values.mapping(delta)
    if isinstance(told, str):
        return told
    return next((text for name in ("content", "text", "partial_json") if isinstance(text := told.get(name), str)), None)
