"""Reasoning in a conversation that moved to another upstream, which cannot read it, or misses it where there is none.

Bytes that pass are not looked at, so that only a refusal tells: the upstream is asked again in another way then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from ownward.gateway import json_body
from ownward.gateway.endpoints import COUNT_TOKENS, MESSAGES, RESPONSES
from ownward.upstreams import UNREADABLE

if TYPE_CHECKING:
    from ownward.gateway.endpoints import Endpoint

_THINKING: Final = frozenset({"thinking", "redacted_thinking"})
_read_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Item(msgspec.Struct):
    type: str | None = None
    role: str | None = None


_read_item: Final = msgspec.json.Decoder(_Item).decode


def without_reasoning(body: bytes, endpoint: Endpoint) -> bytes | None:
    """Return a request of messages or responses without what was thought in it; None where that is nothing.

    All else stays as it was written. A message of nothing else is left out, as empty ones are refused.
    """
    if endpoint in {MESSAGES, COUNT_TOKENS}:
        return _rewritten(body, "messages", _without_thinking)
    if endpoint is RESPONSES:
        return _rewritten(body, "input", lambda item: None if _read_item(item).type == "reasoning" else item)
    return None


def with_reasoning_stated(body: bytes) -> bytes | None:
    """Return a chat in which each message of the assistant has a `reasoning_content`; None where each has one.

    It is what the message calls `reasoning`, else a blank: some services take an empty one for none.
    """
    return _rewritten(body, "messages", _with_reasoning)


def _with_reasoning(message: msgspec.Raw) -> msgspec.Raw:
    members = json_body.read_members(bytes(message))
    if _read_item(message).role != "assistant" or json_body.text_of(members, "reasoning_content"):
        return message
    words = json_body.text_of(members, "reasoning") or " "
    return msgspec.Raw(msgspec.json.encode({**members, "reasoning_content": words}))


def _without_thinking(message: msgspec.Raw) -> msgspec.Raw | None:
    if _read_item(message).role != "assistant":
        return message
    kept = _rewritten(message, "content", lambda block: None if _read_item(block).type in _THINKING else block)
    if kept is None:
        return message
    return None if json_body.written(json_body.read_members(kept), "content") == b"[]" else msgspec.Raw(kept)


def _rewritten(raw: bytes | msgspec.Raw, name: str, keep: Callable[[msgspec.Raw], msgspec.Raw | None]) -> bytes | None:
    """Return an object whose list of this name holds what `keep` gives for each entry; None where nothing changes."""
    try:
        members = json_body.read_members(bytes(raw))
        listed = _read_list(members.get(name, b""))
        kept = [rest for entry in listed if (rest := keep(entry)) is not None]
    except UNREADABLE:
        return None
    if len(kept) == len(listed) and all(rest is entry for rest, entry in zip(kept, listed, strict=True)):
        return None
    return msgspec.json.encode({**members, name: msgspec.Raw(msgspec.json.encode(kept))})
