"""A chat request's body into hashes of its fixed part, and its text into an estimated count of tokens."""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ownward.traffic._values import mappings, parsed
from ownward.traffic.records import PromptSketch

OPENING_WORDS = 24
_SHINGLE_WORDS = 3
_FEATURES = 64  # of a set's smallest hashes: the share two sets have in common shows in them
_OPENING_CHARACTERS = 600
_CHARACTERS_A_TOKEN = 4.0
_MAX_DEPTH = 24
_REMEMBERED = 1024
_MAX_NAME = 64

# What changes from call to call inside a template: ids, addresses, times, names of days and months, numbers, and the
# line for Anthropic's accounts with which its coding agent begins.
_VARIABLE = re.compile(
    r"x-anthropic-billing-header:(?:\s*\w+=[^;\s]*;)*|https?://\S+|\S+@\S+\.\w+|\b[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}\b|\b(?=\w*\d)\w{16,}\b"
    r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b"
    r"|\b(?:january|february|march|april|june|july|august|september|october|november|december)\b"
    r"|\b\d[\d.,:/+TZ-]*(?:am|pm|st|nd|rd|th)?\b",
    re.IGNORECASE,
)


class Sketcher:
    """Makes sketches; the fixed parts it saw last are known by their hash, as applications repeat them."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[str, frozenset[int], tuple[int, ...]]] = {}

    def sketch(self, body: Mapping[str, Any]) -> PromptSketch | None:
        """Return the sketch of a chat, responses or messages body; None where it has no prompt."""
        return _sketch(body, self._describe)

    def fingerprint(self, body: Mapping[str, Any]) -> str | None:
        """Return what names the fixed part of a body's prompt; None where it has none."""
        sketch = _sketch(body, self._describe)
        return None if sketch is None else sketch.fingerprint

    def _describe(self, system: str) -> tuple[str, frozenset[int], tuple[int, ...]]:
        key = hashlib.sha256(system.encode(errors="replace")).digest()
        found = self._known.get(key)
        if found is None:
            words = _words(system)
            found = _digest(words), _features(words), _hashes(words[:OPENING_WORDS])
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = found
        return found


def _sketch(
    body: Mapping[str, Any], describe: Callable[[str], tuple[str, frozenset[int], tuple[int, ...]]]
) -> PromptSketch | None:
    messages = mappings(body.get("messages", body.get("input")))
    system = "\n".join(_system_texts(body, messages))
    user = next((_text(one.get("content")) for one in messages if str(one.get("role")) == "user"), "")
    if not user and isinstance(body.get("input"), str):
        user = body["input"]
    if not user and isinstance(body.get("prompt"), str):
        user = body["prompt"]
    if not system and not user and not messages:
        return None
    tools = _tools(body)
    schema_name, schema = _schema(body)
    fixed, features, opening = describe(system) if system else (None, frozenset[int](), ())
    return PromptSketch(
        contract=_digest([sorted(tools), schema_name, schema]),
        system=fixed,
        features=features,
        opening=opening if system else _hashes(_words(user[:_OPENING_CHARACTERS])[:OPENING_WORDS]),
        closing=() if system else _hashes(_words(user[-_OPENING_CHARACTERS:])[: -OPENING_WORDS - 1 : -1]),
        tool_names=tuple(sorted({name for name, _ in tools})),
        schema_name=schema_name,
        has_contract=bool(tools) or schema is not None,
    )


def estimate_tokens(text: str) -> int:
    """Return a quarter of the characters, rounded up: what English text and common tokenizers come to."""
    return math.ceil(len(text) / _CHARACTERS_A_TOKEN)


def prompt_text(body: Mapping[str, Any]) -> str:
    """Return all text that a body sends, for counting: messages, instructions, tools and schemas."""
    parts: list[str] = []
    for name in ("system", "instructions", "messages", "input", "prompt"):
        if body.get(name) is not None:
            parts += _texts(body[name])
    for name in ("tools", "functions", "response_format"):
        if body.get(name):
            parts.append(json.dumps(body[name]))
    return "\n".join(parts)


def message_text(message: Mapping[str, Any]) -> str:
    """Return the text of one message, its tool calls included."""
    return "\n".join([*_texts(message.get("content")), *_texts(message.get("tool_calls"))])


def _system_texts(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for name in ("system", "instructions"):
        text = _text(body.get(name))
        if text:
            yield text
    for message in messages:
        if str(message.get("role")) in {"system", "developer"}:
            yield _text(message.get("content"))


def _tools(body: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    found = []
    for tool in [*_list(body.get("tools")), *_list(body.get("functions"))]:
        if isinstance(tool, Mapping):
            inner = tool.get("function", tool)
            if isinstance(inner, Mapping):
                schema = inner.get("parameters", inner.get("input_schema"))
                properties = schema.get("properties") if isinstance(schema, Mapping) else None
                fields = sorted(map(str, properties)) if isinstance(properties, Mapping) else []
                found.append((_name(inner.get("name", inner.get("type", "tool"))), fields))
    return found


def _schema(body: Mapping[str, Any]) -> tuple[str | None, Any]:
    wanted = parsed(body.get("response_format"))
    if wanted is None and isinstance(body.get("text"), Mapping):
        wanted = body["text"].get("format")
    if not isinstance(wanted, Mapping):
        return None, None
    inner = wanted.get("json_schema", wanted)
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return (_name(name) if name else None), wanted


def _name(value: object) -> str:
    return str(value).encode(errors="replace").decode().replace("\0", "?")[:_MAX_NAME]


def _words(text: str) -> list[str]:
    return _VARIABLE.sub("#", text).lower().split()


def _hashes(words: Sequence[str]) -> tuple[int, ...]:
    return tuple(zlib.crc32(word.encode(errors="replace")) for word in words)


def _features(words: Sequence[str]) -> frozenset[int]:
    hashed = _hashes(words)
    size = min(_SHINGLE_WORDS, len(hashed))
    shingles = {hash(hashed[at : at + size]) for at in range(len(hashed) - size + 1)} if size else set()
    return frozenset(heapq.nsmallest(_FEATURES, shingles))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode(errors="replace")).hexdigest()[:24]


def _list(value: object) -> list[Any]:
    found = parsed(value)
    return found if isinstance(found, list) else []


def _text(content: object) -> str:
    return "\n".join(_texts(content))


def _texts(value: object, depth: int = 0) -> list[str]:
    """Return every text of a content value: a string, parts, or a list of messages."""
    if isinstance(value, str):
        return [value]
    if depth > _MAX_DEPTH:
        return []
    if isinstance(value, Mapping):
        return [
            text
            for name in ("text", "content", "parts", "arguments", "input", "output", "function", "name", "tool_calls")
            for text in _texts(value.get(name), depth + 1)
        ]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one, depth + 1)]
    return []
