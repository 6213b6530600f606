"""Objects read member by member: what nobody took is refused by its name, and what was left out is remembered."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ownward.core import OwnwardError

_T = TypeVar("_T")
_NAMES = {str: "text", bool: "true or false", int: "a whole number", dict: "an object", list: "a list"}
_SHOWN = 6
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_WORD = re.compile(r"(?=.{1,48}$)[a-z]+(?:[_.][a-z]+)*(?:_20[0-9]{6})?")


def shown(value: object) -> str:
    """Return a value that a client sent, where it is a word of a format: texts and secrets are never repeated."""
    return repr(value) if isinstance(value, str) and _WORD.fullmatch(value) else "what it says"


class Untranslatable(OwnwardError):
    """A request says what the other dialect has no words for; `fields` names each of them as the client did."""

    def __init__(self, refused: Mapping[str, str], *, is_of_seals: bool = False) -> None:
        """Name what cannot be told, with the reason for each; `is_of_seals`: reasoning that another sealed, alone."""
        listed = [f"{place} ({why})" for place, why in refused.items()]
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        super().__init__("; ".join(listed[:_SHOWN]) + more)
        self.fields = tuple(refused)
        self.reasons = tuple(refused.values())
        self.is_of_seals = is_of_seals


class UntranslatableAnswer(OwnwardError):
    """An upstream says what the client's dialect has no words for, or what is no answer at all."""


@dataclass(slots=True)
class Report:
    """What reading and writing one request found: what is refused, and the hints that were left out."""

    refused: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, None] = field(default_factory=dict)
    sealed: set[str] = field(default_factory=set)
    forgets: bool = False  # what is sealed for another provider is left out of a running turn as well

    def refuse(self, place: str, why: str) -> None:
        """Note that `place` cannot be told."""
        self.refused.setdefault(place, why)

    def drop(self, place: str) -> None:
        """Note that `place`, which is a hint, was left out."""
        self.dropped[place] = None

    def seal(self, place: str, why: str) -> None:
        """Note that reasoning of the running turn is sealed for another provider than the upstream."""
        if self.forgets:
            self.drop(place)
        else:
            self.sealed.add(place)
            self.refuse(place, why)

    def check(self) -> None:
        """Raise what was refused, all at once.

        Raises: Untranslatable.
        """
        if self.refused:
            raise Untranslatable(self.refused, is_of_seals=self.refused.keys() <= self.sealed)


class Members:
    """One object of the client's body. `null` is the same as absent."""

    __slots__ = ("_left", "path", "report")

    def __init__(self, value: Any, path: str, report: Report) -> None:
        """Begin with everything untaken; something else than an object is refused and read as an empty one."""
        self.path = path
        self.report = report
        if isinstance(value, dict):
            self._left = {name: item for name, item in value.items() if item is not None}
        else:
            self._left = {}
            report.refuse(path or "the body", "it is not an object")

    def at(self, name: str) -> str:
        """Return the place of a member."""
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        """Return whether a member is there and was not taken yet."""
        return name in self._left

    def take(self, name: str, kind: type[_T]) -> _T | None:
        """Return a member, or None; one of another type is refused."""
        value = self._left.pop(name, None)
        if kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None or (type(value) is kind):
            return value
        self.report.refuse(self.at(name), f"it is not {_NAMES[kind]}")
        return None

    def take_any(self, name: str) -> Any:
        """Return a member of any type, or None."""
        return self._left.pop(name, None)

    def take_number(self, name: str) -> float | None:
        """Return a number, or None."""
        value = self._left.pop(name, None)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        self.report.refuse(self.at(name), "it is not a number")
        return None

    def take_one_of(self, name: str, *allowed: str) -> str | None:
        """Return one of `allowed`, or None; another value is refused."""
        value = self.take(name, str)
        if value is None or value in allowed:
            return value
        self.report.refuse(self.at(name), f"{shown(value)} is not known: {', '.join(allowed)} are")
        return None

    def take_texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; a single text is a list of one."""
        value = self._left.pop(name, None)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        self.report.refuse(self.at(name), "it is neither text nor a list of texts")
        return ()

    def take_objects(self, name: str) -> list[Members]:
        """Return the objects of a list."""
        return list(self.each_object(name))

    def each_object(self, name: str) -> Iterator[Members]:
        """Yield the objects of a list one after the other: it may be long."""
        place = self.at(name)
        for index, item in enumerate(self.take(name, list) or []):
            yield Members(item, f"{place}[{index}]", self.report)

    def inner(self, name: str) -> Members | None:
        """Return a member that is an object, or None."""
        return Members(self._left.pop(name), self.at(name), self.report) if name in self._left else None

    def unwrap(self, name: str, *known: str) -> None:
        """Read the `known` members of a member that is an object as if they stood here; leave out what else it holds.

        What stands here itself counts.
        """
        held = self._left.pop(name, None)
        if held is None:
            return
        if not isinstance(held, dict):
            self.report.drop(self.at(name))
            return
        for inner, value in held.items():
            if value is None:
                continue
            if inner in known:
                self._left.setdefault(inner, value)
            else:
                self.report.drop(self.at(name))

    def refuse(self, name: str, why: str, *, unless: Iterable[Any] = ()) -> None:
        """Refuse a member where it is there, unless its value is one that means nothing."""
        if name in self._left and not any(_same(self._left[name], value) for value in unless):
            self.report.refuse(self.at(name), why)
        self._left.pop(name, None)

    def drop(self, name: str, *, unless: Iterable[Any] = ()) -> None:
        """Leave a hint out where it is there, and say so unless its value is one that means nothing."""
        if name in self._left and not any(_same(self._left[name], value) for value in unless):
            self.report.drop(self.at(name))
        self._left.pop(name, None)

    def close(
        self, why: str = "this gateway does not know it, and so cannot tell it in the upstream's dialect"
    ) -> None:
        """Refuse whatever was not taken."""
        for name in self._left:
            self.report.refuse(self.at(name) if _NAME.fullmatch(name) else self.at("(a member)"), why)
        self._left.clear()


def _same(value: object, other: object) -> bool:
    return type(value) is type(other) and value == other
