"""Server-sent events cut out of bytes: the same events, whatever the pieces, and no more held than the limit."""

from __future__ import annotations

import pytest

from ownward.upstreams import EventCutter

STREAM = (
    b"data: a\n\n: \r\n\r\ndata: b\ndata: c\r\rid: 1\n\r\ndata: \xe2\x80\xa8\r\n\n\n\n\r\n\r\n\r\revent: x\ndata: d\n\n"
)


def cut(cutter: EventCutter, data: bytes, size: int) -> list[bytes]:
    return [event for at in range(0, len(data), size) for event in cutter.cut(data[at : at + size])]


@pytest.mark.parametrize("size", range(1, len(STREAM)))
def test_events_are_the_same_in_pieces_of_any_size(size: int) -> None:
    whole, pieces = EventCutter(1000), EventCutter(1000)
    assert cut(pieces, STREAM, size) == whole.cut(STREAM)
    assert (pieces.take_rest(), whole.take_rest()) == (b"", b"")


@pytest.mark.parametrize("size", [1, 7, 64])
def test_an_event_that_is_too_long_is_noticed_and_given_back_whole(size: int) -> None:
    cutter = EventCutter(200)
    long = b"data: " + b"a" * 195
    assert cut(cutter, long[:200], size) == []
    assert not cutter.is_overrun
    assert cutter.cut(long[200:]) == []
    assert cutter.is_overrun
    assert cutter.take_rest() == long
    assert cutter.is_empty
    assert not cutter.is_overrun
