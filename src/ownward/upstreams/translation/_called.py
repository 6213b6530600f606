"""One call of a tool as a chat upstream tells it in pieces: its id, its name and its arguments."""

from __future__ import annotations

import re
from typing import Any

from ownward.upstreams.translation._json import read_json, write_json
from ownward.upstreams.translation._members import UntranslatableAnswer

NULL = "null"
_SIGN = re.compile(r'\\.?|["{}\[\]]', re.DOTALL)


def arguments_of(function: dict[str, Any]) -> str:
    """Return the text of a call's arguments, or of a piece of them; some servers write the object itself.

    Raises: UntranslatableAnswer, if they are neither.
    """
    stated = function.get("arguments")
    if isinstance(stated, dict):
        return write_json(stated).decode("utf-8")
    if stated is None or isinstance(stated, str):
        return stated or ""
    raise UntranslatableAnswer("the upstream's answer calls a tool with arguments that are neither text nor an object")


def stated_arguments(stated: str | None) -> str:
    """Return the arguments of a call; none at all, as some models and clients write `null`, are an empty object."""
    return "{}" if stated is None or stated.strip() in {"", NULL} else stated


def made_call_id(answer_id: str, number: int) -> str:
    """Return the id of an answer's `number`th call, where its upstream gives it none: unlike any other's."""
    return f"call_{answer_id}_{number}"


class Called:
    """A call that a stream has begun, with what came of it; it `is_told` once a client knows its name."""

    __slots__ = (
        "_depth",
        "_has_closed",
        "_is_escaped",
        "_is_in_text",
        "_made_id",
        "_scanned",
        "arguments",
        "call_id",
        "is_told",
        "name",
    )

    def __init__(self, made_id: str) -> None:
        """Begin a call without a word of it; it is called `made_id` where it has no id."""
        self.call_id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.is_told = False
        self._made_id = made_id
        self._scanned = 0
        self._depth = 0
        self._is_in_text = False
        self._is_escaped = False
        self._has_closed = False

    def learn(self, call_id: str, name: str) -> None:
        """Take in what a piece says of id and name: names come whole, in pieces, or whole in each piece."""
        if self.is_told:
            return
        self.call_id = self.call_id or call_id
        if name != self.name:
            self.name += name

    def fix_id(self) -> str:
        """Return the call's id, which its result will name: from here on it is this one."""
        self.call_id = self.call_id or self._made_id
        return self.call_id

    def is_whole(self) -> bool:
        """Tell whether its arguments are an object, so that no more of them can come; each piece is looked at once."""
        for piece in self.arguments[self._scanned :]:
            self._scan(piece)
        self._scanned = len(self.arguments)
        if not self._has_closed:
            return False
        try:
            return isinstance(read_json("".join(self.arguments)), dict)
        except ValueError:
            self._has_closed = False  # it is not JSON, and so may go on for all we know
            return False

    def _scan(self, piece: str) -> None:
        start = 1 if self._is_escaped and piece else 0
        self._is_escaped &= not start
        for found in _SIGN.finditer(piece, start):
            sign = found[0]
            if sign[0] == "\\":
                self._is_escaped = len(sign) == 1
            elif sign == '"':
                self._is_in_text = not self._is_in_text
            elif not self._is_in_text:
                self._depth += 1 if sign in "{[" else -1
                self._has_closed |= self._depth == 0
