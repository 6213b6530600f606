"""Names of tools that the upstream's dialect does not take, told by others and told back by their own.

It takes names of so many characters, and no namespaces: a tool in one is told with its namespace before its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from ownward.upstreams.translation._core import Asked, Call, CallBegun, Part
from ownward.upstreams.translation._members import Report, shown

Name = tuple[str | None, str]
"""What a client calls a tool: the namespace that it is in, where it is in one, and its name."""

LONGEST = {"chat": 64, "responses": 64, "messages": 128}
"""Characters; coding agents put a server's name before each of its tools."""
_CHECKSUM = 9
_Called = TypeVar("_Called", Call, CallBegun)


def told_name(namespace: str, name: str) -> str:
    """Return the name of a tool together with its namespace's, as coding agents write both in one."""
    return f"{namespace}{'' if namespace.endswith('__') else '__'}{name}"


def told_names_of(asked: Asked, longest: int, report: Report) -> dict[Name, str]:
    """Return what tools, called and chosen ones included, are called there, of those that have another name here.

    Two tools that would be told by one name are refused.
    """
    stated: dict[Name, str] = {(tool.namespace, tool.name): tool.path for tool in asked.tools}
    names = [*stated]
    names += [(part.namespace, part.name) for turn in asked.turns for part in turn.parts if isinstance(part, Call)]
    if asked.tool_choice is not None:
        names += [(None, name) for name in (asked.tool_choice.name or "", *(asked.tool_choice.allowed or ()))]
    told = {name: _shortened(name[1] if name[0] is None else told_name(name[0], name[1]), longest) for name in names}
    taken: dict[str, Name] = {}
    for name, path in stated.items():
        if taken.setdefault(told[name], name) != name:
            report.refuse(path, "together with its namespace it would be called as another tool is")
    return {name: other for name, other in told.items() if name != (None, other)}


def _shortened(name: str, longest: int) -> str:
    """Return a name that is unlike any other's, and the same each time, so that prefixes stay cached."""
    if len(name) <= longest:
        return name
    return f"{name[: longest - _CHECKSUM]}_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def renamed(asked: Asked, names: Mapping[Name, str]) -> Asked:
    """Return a request in which the tools have these names."""
    choice = asked.tool_choice
    if choice is not None:
        allowed = None if choice.allowed is None else tuple(names.get((None, name), name) for name in choice.allowed)
        choice = replace(choice, name=names.get((None, choice.name or ""), choice.name), allowed=allowed)
    return replace(
        asked,
        tools=tuple(replace(tool, name=names.get((tool.namespace, tool.name), tool.name)) for tool in asked.tools),
        tool_choice=choice,
        turns=tuple(
            replace(
                turn,
                parts=tuple(
                    replace(part, name=names.get((part.namespace, part.name), part.name))
                    if isinstance(part, Call)
                    else part
                    for part in turn.parts
                ),
            )
            for turn in asked.turns
        ),
    )


def check_choice(asked: Asked, report: Report) -> None:
    """Refuse a choice that no tool of the request can meet: many servers pass over it, and answer as if none was made.

    OpenAI and Anthropic refuse it too.
    """
    choice = asked.tool_choice
    if choice is None:
        return
    names = {tool.name for tool in asked.tools}
    if choice.kind == "named" and choice.name not in names:
        report.refuse("tool_choice", f"it names {shown(choice.name)}, which is not one of the tools")
    elif choice.kind == "required" and not names:
        report.refuse("tool_choice", "it demands a call, and there are no tools")
    elif choice.allowed is not None and names.isdisjoint(choice.allowed):
        report.refuse("tool_choice", "it allows none of the tools")


def told_back(parts: tuple[Part, ...], names: Mapping[str, Name]) -> tuple[Part, ...]:
    """Return the parts of an answer, in which the called tools have their own names again."""
    return tuple(called(part, names) if isinstance(part, Call) else part for part in parts)


def called(call: _Called, names: Mapping[str, Name]) -> _Called:
    """Return a call, or its beginning, with the tool's own name."""
    namespace, name = names.get(call.name, (None, call.name))
    return replace(call, name=name, namespace=namespace)
