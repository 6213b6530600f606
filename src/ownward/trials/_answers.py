"""The text of an answer in any dialect, whole or streamed: what was said, or the calls that were made as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_STREAM_STARTS = ("data:", "event:", ":", "id:")


def text_of_answer(body: bytes) -> str | None:
    """Return the text of an answer, or its calls as a JSON list of {name, arguments}; None where it is no answer.

    >>> text_of_answer(b'{"choices": [{"message": {"content": "hello"}}]}')
    'hello'
    """
    text = body.decode("utf-8", "replace")
    try:
        if text.lstrip().startswith(_STREAM_STARTS):
            return _text_of_stream(list(_events(text)), is_ended="data: [DONE]" in text)
        return _text_of_whole(json.loads(text))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _events(text: str) -> Iterator[Mapping[str, Any]]:
    for line in text.splitlines():
        data = line.removeprefix("data:").strip()
        if line.startswith("data:") and data.startswith("{"):
            yield json.loads(data)


def _text_of_whole(answer: Mapping[str, Any]) -> str | None:
    if "choices" in answer:
        choice = answer["choices"][0]
        if "message" not in choice:
            return _said(choice["text"])
        message = choice["message"]
        calls = ((call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls") or ())
        return _told(calls, _said(message.get("content")))
    if "output" in answer:
        if answer.get("status") in {"failed", "cancelled"}:
            return None
        items = answer["output"]
        calls = ((item["name"], item["arguments"]) for item in items if item["type"] == "function_call")
        parts = [part for item in items if item["type"] == "message" for part in item["content"]]
        return _told(calls, "".join(part.get("text", "") for part in parts))
    parts = answer["content"]
    calls = ((part["name"], json.dumps(part["input"])) for part in parts if part["type"] == "tool_use")
    return _told(calls, "".join(part["text"] for part in parts if part["type"] == "text"))


def _said(content: object) -> str:
    """Return the text of a message's content: a text, or parts of it, as Mistral's reasoning models give them."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if part.get("type", "text") == "text")
    return content if isinstance(content, str) else ""


def _told(calls: Iterable[tuple[str, str]], text: str) -> str:
    made = [{"name": name, "arguments": arguments} for name, arguments in calls]
    return json.dumps(made) if made else text


def _text_of_stream(events: list[Mapping[str, Any]], *, is_ended: bool) -> str | None:
    if any(event.get("error") for event in events):
        return None
    last = next((event["response"] for event in reversed(events) if "response" in event), None)
    if last is not None:
        return _text_of_whole(last) if last.get("status") in {"completed", "incomplete"} else None
    if any("choices" in event for event in events):
        is_whole = is_ended or any(
            choice.get("finish_reason") for event in events for choice in event.get("choices") or ()
        )
        return _text_of_chunks(events) if is_whole else None
    return _text_of_blocks(events)


def _text_of_chunks(events: list[Mapping[str, Any]]) -> str:
    text: list[str] = []
    calls: dict[int, list[str]] = {}  # name, then the pieces of the arguments
    for choice in (choice for event in events for choice in event.get("choices") or () if not choice.get("index")):
        delta = choice.get("delta") or {"content": choice.get("text")}
        text.append(_said(delta.get("content")))
        for call in delta.get("tool_calls") or ():
            made = calls.setdefault(call.get("index", 0), [""])
            function = call.get("function") or {}
            made[0] = made[0] or function.get("name") or ""
            made.append(function.get("arguments") or "")
    return _told(((name, "".join(pieces)) for name, *pieces in calls.values()), "".join(text))


def _text_of_blocks(events: list[Mapping[str, Any]]) -> str | None:
    text: list[str] = []
    calls: dict[int, list[str]] = {}
    is_whole = False
    for event in events:
        is_whole = is_whole or event["type"] == "message_stop"
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            calls[event["index"]] = [event["content_block"]["name"]]
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            text.append(delta.get("text") or "")
            if "partial_json" in delta:
                calls[event["index"]].append(delta["partial_json"])
    made = ((name, "".join(pieces) or "{}") for name, *pieces in calls.values())
    return _told(made, "".join(text)) if is_whole else None
