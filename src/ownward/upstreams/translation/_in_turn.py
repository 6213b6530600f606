"""Parts of an answer that an upstream tells by turns, put one behind the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from ownward.upstreams.translation._core import CallPiece, Event, ReasoningPiece, TextPiece
from ownward.upstreams.translation._held import MOST_BYTES, PART_BYTES, too_much_held
from ownward.upstreams.translation._members import UntranslatableAnswer

_MOST_WAITING_CHARACTERS = 16 * 1024 * 1024

_Key = TypeVar("_Key")


class InTurn(Generic[_Key]):
    """Gives out the part that began first as it comes, and the next one once that is over.

    Both dialects number their parts, so that two calls may be told by turns; no client of the other side can be told
    them so. What belongs to a later part waits here.
    """

    __slots__ = ("_begun_bytes", "_open", "_over", "_waiting", "_waiting_characters")

    def __init__(self) -> None:
        """Begin with no part."""
        self._open: _Key | None = None
        self._over: set[_Key] = set()  # of those that wait
        self._waiting: dict[_Key, list[Event]] = {}
        self._waiting_characters = 0
        self._begun_bytes = 0  # of all parts: readers remember each, so that none is gone back to

    @property
    def open(self) -> _Key | None:
        """The part that is given out as it comes."""
        return self._open

    @property
    def has_waiting(self) -> bool:
        """Whether another part waits for the open one's end."""
        return bool(self._waiting)

    def begin(self, key: _Key, events: Iterable[Event]) -> list[Event]:
        """Return what may be told of a part's beginning.

        Raises: UntranslatableAnswer, if it is one of too many.
        """
        self._begun_bytes += PART_BYTES
        if self._begun_bytes > MOST_BYTES:
            raise too_much_held()
        if self._open is None:
            self._open = key
            return list(events)
        self._waiting[key] = list(events)
        return []

    def tell(self, key: _Key, events: list[Event]) -> list[Event]:
        """Return what may be told of more of a part.

        Raises: UntranslatableAnswer, if the part was over, or too much waits.
        """
        if key == self._open:
            return events
        if key not in self._waiting or key in self._over:
            raise UntranslatableAnswer("the upstream's stream goes back to a part that was over")
        self._waiting[key] += events
        self._waiting_characters += sum(map(_length_of, events))
        if self._waiting_characters > _MOST_WAITING_CHARACTERS:
            raise UntranslatableAnswer("the upstream's stream tells too much of several parts at once")
        return []

    def end(self, key: _Key, events: Iterable[Event] = ()) -> list[Event]:
        """Return what may be told at a part's end: the parts that waited for it, up to one that is not over."""
        if key in self._waiting:
            self._waiting[key] += events
            self._over.add(key)
            return []
        if key != self._open:
            return []
        self._open = None
        told = list(events)
        while self._waiting and self._open is None:
            following = next(iter(self._waiting))
            told += self._waiting.pop(following)
            if following in self._over:
                self._over.discard(following)
            else:
                self._open = following
        return told

    def end_all(self) -> list[Event]:
        """Return all that waits: no part goes on."""
        told: list[Event] = []
        while self._open is not None:
            told += self.end(self._open)
        return told


def _length_of(event: Event) -> int:
    match event:
        case CallPiece():
            return len(event.arguments)
        case TextPiece() | ReasoningPiece():
            return len(event.text)
        case _:
            return 0
