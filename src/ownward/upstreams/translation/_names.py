"""Names of tools that are longer than OpenAI's dialect takes, told by shorter ones and told back by their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from ownward.upstreams.translation._core import Asked, Call, Part

_LONGEST = 64  # characters; Anthropic takes 128, and coding agents put a server's name before each of its tools
_KEPT = 55


def short_names_of(asked: Asked) -> dict[str, str]:
    """Return the short names of the tools, called ones and chosen ones included, that have too long a name."""
    stated = [tool.name for tool in asked.tools]
    stated += [part.name for turn in asked.turns for part in turn.parts if isinstance(part, Call)]
    if asked.tool_choice is not None:
        stated += [asked.tool_choice.name or "", *(asked.tool_choice.allowed or ())]
    return {name: _shortened(name) for name in stated if len(name) > _LONGEST}


def _shortened(name: str) -> str:
    """Return a name that is unlike any other's, and the same each time, so that prefixes stay cached."""
    return f"{name[:_KEPT]}_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def renamed(asked: Asked, names: Mapping[str, str]) -> Asked:
    """Return a request in which the tools have these names."""
    choice = asked.tool_choice
    if choice is not None:
        allowed = None if choice.allowed is None else tuple(names.get(name, name) for name in choice.allowed)
        choice = replace(choice, name=names.get(choice.name or "", choice.name), allowed=allowed)
    return replace(
        asked,
        tools=tuple(replace(tool, name=names.get(tool.name, tool.name)) for tool in asked.tools),
        tool_choice=choice,
        turns=tuple(replace(turn, parts=renamed_calls(turn.parts, names)) for turn in asked.turns),
    )


def renamed_calls(parts: tuple[Part, ...], names: Mapping[str, str]) -> tuple[Part, ...]:
    """Return the parts of a turn or an answer, in which the called tools have these names."""
    return tuple(
        replace(part, name=names.get(part.name, part.name)) if isinstance(part, Call) else part for part in parts
    )
