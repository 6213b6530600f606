"""Server-sent events cut out of bytes in arbitrary pieces, each with the very bytes it came in."""

from __future__ import annotations

import re

_COMMENTS = re.compile(rb"(?::[^\r\n]*\n)+")
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_LINE = re.compile(rb"\r\n|\n|\r")
_LONGEST_COMMENTS = 1024
_LONGEST_TAIL = 3
"""What of a blank line may stand at the end of a piece: all of `\\r\\n\\r\\n` but its last byte."""


class EventCutter:
    """Keeps the start of an event until its end arrives; at most `limit` bytes of it.

    Its pieces are put together once: a long event may come in thousands of them.
    """

    __slots__ = ("_held", "_held_bytes", "_limit", "_tail")

    def __init__(self, limit: int) -> None:
        """Give up on events longer than `limit`."""
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._tail = b""
        self._limit = limit

    @property
    def is_overrun(self) -> bool:
        """Whether an event longer than the limit was met; what follows it is not cut."""
        return self._held_bytes > self._limit

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held, so that the next bytes begin an event."""
        return not self._held

    @property
    def holds_comments(self) -> bool:
        """Whether whole lines of comments are all that is held: signs of life, which not all servers end as events."""
        if not self._held or self._held_bytes > _LONGEST_COMMENTS or not self._held[0].startswith(b":"):
            return False
        return _COMMENTS.fullmatch(b"".join(self._held)) is not None

    def cut(self, data: bytes) -> list[bytes]:
        """Return the events that `data` completes, blank line included."""
        if not self._held and data.endswith(b"\n\n") and b"\r" not in data:
            if data.find(b"\n\n") == len(data) - 2:
                return [data]
            return [part + b"\n\n" for part in data[:-2].split(b"\n\n")]
        return self._cut_slowly(data)

    def _cut_slowly(self, data: bytes) -> list[bytes]:
        joint = self._tail + data
        if _BLANK_LINE.search(joint) is None:
            self._hold(data, tail=joint)
            return []
        search_from = max(0, self._held_bytes - _LONGEST_TAIL)
        held = self.take_rest() + data
        events: list[bytes] = []
        start = 0
        while match := _BLANK_LINE.search(held, search_from):
            end = match.end()
            if end == len(held) and held.endswith(b"\r"):
                break  # a line feed may still belong to it
            events.append(held[start:end])
            start = search_from = end
        rest = held[start:]
        self._hold(rest, tail=rest)
        return events

    def _hold(self, data: bytes, *, tail: bytes) -> None:
        if data:
            self._held.append(data)
            self._held_bytes += len(data)
            self._tail = tail[-_LONGEST_TAIL:]

    def take_rest(self) -> bytes:
        """Return what is held, and hold nothing."""
        rest = b"".join(self._held)
        self._held.clear()
        self._held_bytes, self._tail = 0, b""
        return rest


def data_of(event: bytes) -> bytes:
    """Return an event's data, its lines joined; empty where it has none (comments, keep-alives)."""
    start = 0
    if event.startswith(b"event: "):
        start = event.find(b"\n") + 1
    if event.startswith(b"data: ", start) and event.find(b"\n", start) == len(event) - 2 and b"\r" not in event:
        return event[start + 6 : -2]
    lines = (line[5:] for line in _LINE.split(event) if line.startswith(b"data:"))
    return b"\n".join(line.removeprefix(b" ") for line in lines)
