"""What reads the streams of upstreams, event by event, and what their dialects have in common."""

from __future__ import annotations

from typing import Any, Protocol

from ownward.upstreams.translation._core import Event, Failed, Piece
from ownward.upstreams.translation._json import read_json
from ownward.upstreams.translation._members import UntranslatableAnswer


class Reader(Protocol):
    """What makes events of our own from an upstream's."""

    def may_repeat(self, kind: type[Piece]) -> bool:
        """Return whether events like the last one need not be read while nothing else comes, but `note_repeated`."""
        ...

    def note_repeated(self, kind: type[Piece], words: str) -> None:
        """Note an event like the last one, with other words, that was told without being read."""
        ...

    def unread(self) -> None:
        """Forget the words of the last event, which was read to see what its kind means."""
        ...

    def read(self, event: bytes) -> list[Event]:
        """Return what one event of the upstream says.

        Raises: UntranslatableAnswer.
        """
        ...


class EveryEvent:
    """The part of a reader that keeps nothing of an event which a later one like it would have to note."""

    __slots__ = ()

    def may_repeat(self, kind: type[Piece]) -> bool:  # noqa: ARG002 - nothing is kept of any
        """Return that events like the last one need not be read."""
        return True

    def note_repeated(self, kind: type[Piece], words: str) -> None:
        """Keep nothing of it."""

    def unread(self) -> None:
        """Keep nothing of it."""


def object_in(data: bytes) -> dict[str, Any]:
    """Return what an event says.

    Raises: UntranslatableAnswer, if that is no object.
    """
    try:
        found = read_json(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UntranslatableAnswer(f"the upstream sent an event of {len(data)} bytes that is not a JSON object")
    return found


def text_of(value: object) -> str:
    """Return a text; an empty one for all else."""
    return value if isinstance(value, str) else ""


def list_of(value: object) -> list[Any]:
    """Return a list, empty where nothing is stated.

    Raises: UntranslatableAnswer, if something else stands there.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise UntranslatableAnswer("the upstream's stream holds something else where a list belongs")
    return value


def failure_in(error: object) -> Failed:
    """Return an error as an upstream tells it in its stream."""
    if isinstance(error, dict):
        kind = text_of(error.get("type")) or text_of(error.get("code"))
        return Failed(kind=kind or "api_error", message=text_of(error.get("message")) or kind or "it gave no reason")
    return Failed(kind="api_error", message=text_of(error) or "it gave no reason")
