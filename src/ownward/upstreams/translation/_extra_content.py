"""What Gemini's chat answers hold besides their words and want back: `extra_content`, of a message or of a call.

It is carried as reasoning that only its upstream can read. The signature of a thought stands in it, at the first call
of each step, and Gemini 3 refuses a turn that comes back without. Source: Google, "Thought signatures" and "OpenAI
compatibility", and streams captured in public issues, read 2026-11-21. Vertex writes `vertex` for `google`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ownward.upstreams.translation._core import Reasoning
from ownward.upstreams.translation._json import read_json, write_json

FORM = "extra_content"
"""The form of reasoning that holds one."""

THOUGHT = "gemini-thought"
"""The form of thoughts told in words: they are for the reader, and are not given back."""

_FLAG = "thought"
_OPENED, _CLOSED = "<thought>", "</thought>"
_THOUGHT = re.compile(rf"\A{_OPENED}(.*?)(?:{_CLOSED}|\Z)", re.DOTALL)

Extra = Mapping[str, Any]


def is_thought(extra: object) -> bool:
    """Return whether the words beside this are a thought, and no answer."""
    found = extra.values() if isinstance(extra, dict) else ()
    return any(isinstance(inner, dict) and inner.get(_FLAG) is True for inner in found)


def seal_extra(extra: object, *, call_id: str | None = None) -> str | None:
    """Return what is to come back, with the call that it belongs to; None where there is nothing."""
    if not isinstance(extra, dict):
        return None
    kept = {
        name: {key: value for key, value in inner.items() if key != _FLAG} if isinstance(inner, dict) else inner
        for name, inner in extra.items()
    }
    kept = {name: inner for name, inner in kept.items() if inner not in ({}, None)}
    if not kept:
        return None
    return write_json({FORM: kept} if call_id is None else {"id": call_id, FORM: kept}).decode("utf-8")


def extra_reasoning(extra: object, *, call_id: str | None = None, after: int = 0, path: str = "") -> list[Reasoning]:
    """Return an `extra_content` as reasoning that stands behind `after` other parts; nothing where it holds nothing."""
    sealed = seal_extra(extra, call_id=call_id)
    if sealed is None:
        return []
    return [Reasoning(text="", signer="openai", redacted=sealed, form=FORM, after=after, path=path)]


def unseal_extras(thought: Iterable[Reasoning]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the `extra_content` of a message, and of its calls by their ids; several of one are put together."""
    of_message: dict[str, Any] = {}
    of_calls: dict[str, dict[str, Any]] = {}
    for item in thought:
        if item.form != FORM or item.redacted is None:
            continue
        try:
            found = read_json(item.redacted)
        except ValueError:
            continue  # not what was written here
        extra = found.get(FORM) if isinstance(found, dict) else None
        if isinstance(extra, dict):
            call_id = found.get("id")
            _merge(of_calls.setdefault(call_id, {}) if isinstance(call_id, str) else of_message, extra)
    return of_message, of_calls


def _merge(into: dict[str, Any], extra: Extra) -> None:
    for name, inner in extra.items():
        known = into.get(name)
        into[name] = {**known, **inner} if isinstance(known, dict) and isinstance(inner, dict) else inner


def split_thought(content: str) -> tuple[str, str]:
    """Return the thought that a whole answer begins with, and the answer behind it."""
    found = _THOUGHT.match(content)
    return ("", content) if found is None else (found[1], content[found.end() :])


class Thoughts:
    """Tells thoughts from the answer in a stream: flagged pieces, the first behind `<thought>`, then `</thought>`."""

    __slots__ = ("_is_inside",)

    def __init__(self) -> None:
        """Begin outside of any thought."""
        self._is_inside = False

    def words_in(self, content: str, extra: object) -> tuple[bool, str]:
        """Return whether a piece of content is thought, and its words without what stands around a thought."""
        thinks = extra is not None and is_thought(extra)
        if thinks is self._is_inside:
            return thinks, content
        self._is_inside = thinks
        return thinks, content.removeprefix(_OPENED if thinks else _CLOSED)
