"""Custom tools of OpenAI's responses, whose input is any text: told as functions that take one, and told back.

A grammar for that text is a promise that no other dialect keeps, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from ownward.upstreams.translation._core import Asked, Call, CallBegun, CallPiece, Event, Part
from ownward.upstreams.translation._json import read_json, write_json
from ownward.upstreams.translation._members import Members, UntranslatableAnswer
from ownward.upstreams.translation._names import Name

_INPUT: Final = "input"
SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {_INPUT: {"type": "string"}},
    "required": [_INPUT],
    "additionalProperties": False,
}
"""What the function takes that stands for a custom tool."""

_MOST_CHARACTERS: Final = 8 * 1024 * 1024


def read_format(tool: Members) -> None:
    """Take the form of a custom tool's input, which is any text where nothing else is said."""
    form = tool.inner("format")
    if form is None:
        return
    if form.take("type", str) == "grammar":
        why = "no other dialect holds a model to a grammar: state it in the description, with the format text"
        tool.report.refuse(form.path, why)
        return
    form.close()


def arguments_of(given: str) -> str:
    """Return the arguments of the function for a custom tool's input."""
    return write_json({_INPUT: given}).decode("utf-8")


def input_of(arguments: str) -> str:
    """Return the input for the function's arguments; of a model that wrote something else, that as it stands."""
    try:
        found = read_json(arguments)
    except ValueError:
        return arguments
    if found == {}:
        return ""
    given = found.get(_INPUT) if isinstance(found, dict) and len(found) == 1 else None
    return given if isinstance(given, str) else arguments


def customs_of(asked: Asked) -> frozenset[Name]:
    """Return the custom tools of a request, as its client calls them."""
    return frozenset((tool.namespace, tool.name) for tool in asked.tools if tool.is_custom)


def with_inputs(parts: Iterable[Part], customs: frozenset[Name]) -> tuple[Part, ...]:
    """Return the parts of an answer, in which calls of custom tools have an input in the place of arguments."""
    return tuple(
        replace(part, is_custom=True, arguments=input_of(part.arguments))
        if isinstance(part, Call) and (part.namespace, part.name) in customs
        else part
        for part in parts
    )


class Inputs:
    """The inputs of the custom tools that a stream calls: each is told once it is whole."""

    __slots__ = ("_characters", "_customs", "_pieces")

    def __init__(self, customs: frozenset[Name]) -> None:
        """Begin outside of any call."""
        self._customs = customs
        self._pieces: list[str] | None = None
        self._characters = 0

    @property
    def is_open(self) -> bool:
        """Whether a custom tool's call is in the making."""
        return self._pieces is not None

    def take(self, event: Event) -> list[Event]:
        """Return what is told for an event.

        Raises: UntranslatableAnswer, if an input is too long to wait for.
        """
        if isinstance(event, CallPiece) and self._pieces is not None:
            self._pieces.append(event.arguments)
            self._characters += len(event.arguments)
            if self._characters > _MOST_CHARACTERS:
                raise UntranslatableAnswer("the upstream calls a custom tool with too long an input")
            return []
        told: list[Event] = self.close()
        if isinstance(event, CallBegun) and (event.namespace, event.name) in self._customs:
            self._pieces, self._characters = [], 0
            event = replace(event, is_custom=True)
        return [*told, event]

    def close(self) -> list[Event]:
        """Return what is left to tell of a call, which is over."""
        if self._pieces is None:
            return []
        arguments, self._pieces = "".join(self._pieces), None
        return [CallPiece(arguments=input_of(arguments))]
