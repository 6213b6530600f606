"""Members that an engine would ignore without a word: the request is rewritten so that it obeys them, or refused.

llama.cpp takes `auto`, `none` and `required` in a chat's `tool_choice`, and goes by `auto` where it names tools (build
b11549, measured 2026-11-22). It is told of no other tools then, with the word for how they may be called. A form of
JSON keeps it from every call: where one is demanded it is not told of the form, which is for words alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ownward.gateway import json_body
from ownward.gateway.endpoints import Endpoint
from ownward.gateway.errors import Incapable
from ownward.gateway.needs import CALL_NOT_FORM, TOOL_CHOICE
from ownward.upstreams import UNREADABLE

if TYPE_CHECKING:
    from ownward.gateway.placing.routing import Target

_FALSE: Final = msgspec.Raw(b"false")
_NONE: Final = msgspec.Raw(b"[]")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a tool may be called, and no longer text."""
_MOST_SHOWN: Final = 3

_UNSAID: Final = frozenset({b"", b"null", b"false", b'""'})


class _Function(msgspec.Struct):
    name: str


class _Named(msgspec.Struct, tag_field="type", tag="function"):
    function: _Function


class _Some(msgspec.Struct):
    mode: Literal["auto", "required"]
    tools: list[_Named]


class _Allowed(msgspec.Struct, tag_field="type", tag="allowed_tools"):
    allowed_tools: _Some


_read_choice: Final = msgspec.json.Decoder(_Named | _Allowed).decode


def needs_narrowed_tools(needs: frozenset[str], target: Target, endpoint: Endpoint) -> bool:
    """Return whether a chat names tools in its `tool_choice` and this upstream would ignore that."""
    return TOOL_CHOICE in needs and endpoint.splices_as == "chat" and target.quirks.ignores_named_tools


def needs_call_without_form(needs: frozenset[str], target: Target, endpoint: Endpoint) -> bool:
    """Return whether a chat demands a call and states a form of JSON that would keep this upstream from calling."""
    return CALL_NOT_FORM in needs and endpoint.splices_as == "chat" and target.quirks.form_bars_calls


def narrow_tools(body: bytes) -> bytes:
    """Return a chat with those tools alone that its `tool_choice` names.

    Raises: Incapable, if it names none of them or cannot be read, as OpenAI refuses it.

    >>> narrow_tools(
    ...     b'{"tools":[{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"b"}}],'
    ...     b'"tool_choice":{"type":"function","function":{"name":"b"}}}'
    ... )
    b'{"tools":[{"type":"function","function":{"name":"b"}}],"tool_choice":"required","parallel_tool_calls":false}'
    """
    top = json_body.read_members(body)
    try:
        choice = _read_choice(top[TOOL_CHOICE])
    except UNREADABLE:
        raise Incapable(
            "tool_choice is an object that chats know nothing of",
            allowed='"auto", "none", "required", or an object of the type "function" or "allowed_tools"',
            next_step="Name a function of tools in it, or leave it out",
            field=TOOL_CHOICE,
        ) from None
    if isinstance(choice, _Named):
        names, word = {choice.function.name}, "required"
        top.setdefault("parallel_tool_calls", _FALSE)  # one call is what is asked for
    else:
        names, word = {tool.function.name for tool in choice.allowed_tools.tools}, choice.allowed_tools.mode
    try:
        tools = msgspec.json.decode(top.get("tools", _NONE), type=list[msgspec.Raw] | None) or []
        kept = [tool for tool in tools if msgspec.json.decode(tool)["function"]["name"] in names]
    except (*UNREADABLE, LookupError, TypeError):
        return body  # tools that are none of the dialect's, which the engine tells
    if not kept:
        named = sorted(repr(name) for name in names if _NAME.fullmatch(name))
        raise Incapable(
            "tool_choice names none of the request's tools"
            + (f", but {', '.join(named[:_MOST_SHOWN])}" if named else ""),
            allowed="The names of functions that stand in tools",
            next_step="Add the function to tools, or name one that is there",
            field=TOOL_CHOICE,
        )
    top |= {"tools": msgspec.Raw(msgspec.json.encode(kept)), TOOL_CHOICE: msgspec.Raw(msgspec.json.encode(word))}
    return msgspec.json.encode(top)


def refuse_ignored(completion: Mapping[str, msgspec.Raw], target: Target) -> None:
    """Refuse a completion that states members which the engine of `target` would ignore.

    Raises: Incapable.
    """
    said = [
        name for name in sorted(target.quirks.ignored_members) if json_body.written(completion, name) not in _UNSAID
    ]
    if said:
        raise Incapable(
            f"the engine of tier {target.tier.name!r} passes over {' and '.join(said)}, and would answer without",
            next_step=f"Leave out {' and '.join(said)}, or ask a tier that knows it",
            field=said[0],
        )
