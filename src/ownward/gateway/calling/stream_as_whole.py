"""The stream of an engine as the whole answer that its client asked for.

llama.cpp notices that nobody waits for a whole answer once a second, and not at all while another request streams; it
would go on computing it, up to its end. Where a stream's reader leaves, it stops at the next token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from ownward.core import BrokenStream
from ownward.gateway import json_body
from ownward.gateway.endpoints import CHAT, COMPLETIONS

_Json: TypeAlias = dict[str, Any]

_DATA: Final = re.compile(rb"^data: ?(\{.*\})\r?$", re.MULTILINE)
_SAID_ONCE: Final = frozenset({"id", "index", "name", "object", "role", "type"})
_SHOWN_CHARACTERS: Final = 300


def stream_as_whole(path: str, events: bytes) -> bytes:
    """Return what the events of one of the endpoints `PATHS` say, as its answer that is not streamed.

    Raises: BrokenStream, if they end with an error, or before the answer does.
    """
    try:
        whole = _PUT_TOGETHER[path](_read(events))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise BrokenStream("the stream that was to be put together is not of its endpoint") from None
    if whole is None:
        raise BrokenStream("the stream that was to be put together ended before its answer did")
    return json_body.write(whole)


def _read(events: bytes) -> Iterable[_Json]:
    for found in _DATA.finditer(events):
        event: _Json = json.loads(found[1])
        error = event.get("error")
        if error:
            said = error.get("message") if isinstance(error, dict) else error
            raise BrokenStream(
                "the stream that was to be put together ends with an error", allowed=str(said)[:_SHOWN_CHARACTERS]
            )
        yield event


def _chat(events: Iterable[_Json]) -> _Json | None:
    whole, choices = _choices_of(events, said_in="delta")
    for choice in choices:
        message = choice.pop("delta") or {}
        for call in message.get("tool_calls") or ():
            call.pop("index", None)
        if message.get("content") is None:
            message["content"] = None if message.get("tool_calls") else ""
        choice["message"] = message
    return _finished({**whole, "object": "chat.completion"}, choices)


def _completion(events: Iterable[_Json]) -> _Json | None:
    return _finished(*_choices_of(events, said_in="text"))


def _choices_of(events: Iterable[_Json], *, said_in: str) -> tuple[_Json, list[_Json]]:
    whole: _Json = {}
    choices: dict[int, _Json] = {}
    for event in events:
        for piece in event.get("choices", ()):
            choice = choices.setdefault(piece["index"], {said_in: None})
            _add(piece, to=choice)
        whole.update({name: value for name, value in event.items() if name != "choices" and value is not None})
    return whole, [choices[index] for index in sorted(choices)]


def _finished(whole: _Json, choices: list[_Json]) -> _Json | None:
    """Return the answer, unless one of its choices says no reason to have ended."""
    if not choices or any(choice.get("finish_reason") is None for choice in choices):
        return None
    return {"choices": choices, **whole}


def _add(piece: Mapping[str, Any], *, to: _Json) -> None:
    """Add what a piece says to what was said: texts and lists grow, entries with an index are found by it."""
    for name, value in piece.items():
        old = to.get(name)
        if value is None:
            to.setdefault(name, None)
        elif isinstance(value, dict):
            to[name] = old or {}
            _add(value, to=to[name])
        elif isinstance(value, list) and value and isinstance(value[0], dict) and "index" in value[0]:
            to[name] = _add_entries(value, to=old or [])
        elif isinstance(value, list) and old is not None:
            old.extend(value)
        elif isinstance(value, str) and isinstance(old, str) and name not in _SAID_ONCE:
            to[name] = old + value
        else:
            to[name] = value


def _add_entries(pieces: Iterable[_Json], *, to: Iterable[_Json]) -> list[_Json]:
    found = {entry["index"]: entry for entry in to}
    for piece in pieces:
        _add(piece, to=found.setdefault(piece["index"], {}))
    return [found[index] for index in sorted(found)]


_PUT_TOGETHER: Final[Mapping[str, Callable[[Iterable[_Json]], _Json | None]]] = {
    CHAT.path: _chat,
    COMPLETIONS.path: _completion,
}
PATHS: Final = frozenset(_PUT_TOGETHER)
"""The endpoints whose streams can be put together."""
