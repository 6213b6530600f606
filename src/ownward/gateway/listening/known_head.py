"""The head that a kept connection has sent before: clients write each of theirs alike, and it is parsed once.

Only the digits of the body's length may differ. What else the bytes mean was found by the parser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ownward.gateway.asgi import REMEMBERED, Headers

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})(?=\r\n)", re.IGNORECASE)
_MOST_DIGITS = 9
_MOST_IN_VAIN = 8
_PARSED_EACH_TIME = frozenset({b"expect", b"transfer-encoding", b"upgrade"})


class KnownHead:
    """A head and the bytes it was parsed from; none until one was learned.

    A client with something new in each of its heads is given up after a few.
    """

    __slots__ = ("_after", "_before", "_headers", "_in_vain", "_length_at", "_scope")

    def __init__(self) -> None:
        """Know none."""
        self._before = self._after = b""
        self._headers: Headers = []
        self._length_at = 0
        self._scope: dict[str, Any] = {}
        self._in_vain = 0

    def read(self, data: bytes) -> tuple[dict[str, Any], bytes] | None:
        """Return the ASGI scope and the body of a whole request that has this head; None of anything else."""
        start = len(self._before)
        end = data.find(b"\r", start, start + _MOST_DIGITS + 1) if start else -1
        if end < 0 or not data.startswith(self._before) or not data.startswith(self._after, end):
            return None
        length, body_at = data[start:end], end + len(self._after)
        if not length.isdigit() or len(data) - body_at != int(length):
            return None
        self._in_vain = 0
        headers = self._headers.copy()
        headers[self._length_at] = (b"content-length", length)
        scope = self._scope.copy()
        scope["headers"] = headers
        return scope, data[body_at:]

    def learn(self, data: bytes, scope: Mapping[str, Any], *, most_bytes: int) -> None:
        """Take the head of the one whole request that `data` is, which the parser has read into `scope`.

        The first of a connection may be its last, and is passed over; so is one without a length, one that asks for
        more than an answer, and one that with a longer length may pass `most_bytes`.
        """
        self._in_vain += 1
        if not 1 < self._in_vain <= _MOST_IN_VAIN:
            return
        headers = scope["headers"]
        names = [name for name, _ in headers]
        ends = data.find(b"\r\n\r\n") + 4
        length = _LENGTH.search(data, 0, ends)
        if length is None or names.count(b"content-length") != 1 or not _PARSED_EACH_TIME.isdisjoint(names):
            return
        if ends + _MOST_DIGITS > most_bytes or len(data) - ends != int(length[1]):
            return
        self._before, self._after = data[: length.start(1)], data[length.end(1) : ends]
        self._headers, self._length_at = headers.copy(), names.index(b"content-length")
        self._scope = {**scope, REMEMBERED: {}}
