"""Events that differ from one before them in nothing but their words, recognised without being decoded.

Nearly all events of a stream are such. What stands before and behind the words is compared byte by byte, and what
is between must be one JSON string, so that nothing else of the event can have changed. Events of responses are numbered
besides: in the place of the number any other may stand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import msgspec

from ownward.upstreams._json import UNREADABLE

_MARK = "ownward: these are other words"
"""Put in the place of an event's words, to see by decoding it again that they are all that changes with it."""

_MARKED = msgspec.json.encode(_MARK)
_END = b"}\n\n"
_PADDED = re.compile(rb'"(?:obfuscation|p)":"([A-Za-z0-9]*)"\}\n\n\Z')
"""How OpenAI and Mistral make an event's length say nothing of its words; Anthropic puts blanks before the brace."""

_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_MOST_IN_VAIN = 16

_NUMBERED = re.compile(rb'"sequence_number": ?(0|[1-9][0-9]{0,14})(?=[,}])')
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,14}")

_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class Stencil:
    """The bytes around the words of an event; recognises nothing until it was cut from one."""

    __slots__ = (
        "_before",
        "_before_number",
        "_behind",
        "_behind_number",
        "_closing",
        "_core",
        "_least",
        "_padding",
        "_start",
        "_stop",
        "_vain",
    )

    def __init__(self) -> None:
        """Begin with no event seen."""
        self._vain = 0
        self.forget()

    def forget(self) -> None:
        """Recognise nothing until it is cut again."""
        self._least = sys.maxsize
        self._before = self._behind = self._core = self._closing = self._padding = b""
        self._before_number = self._behind_number = b""  # what stands between a number and the words, on either side
        self._start = self._stop = 0

    def words_in(self, event: bytes) -> str | None:
        """Return the words of an event that is like the one it was cut from; None of any other."""
        if len(event) < self._least or not event.startswith(self._before):
            return None
        start, stop = self._start, self._stop
        if self._before_number:
            start = self._pass_number(event, start, self._before_number)
            if not start:
                return None
        if self._behind_number:
            stop = self._find_numbered(event, start)
        elif not event.endswith(self._behind):
            stop = self._find_padded(event, start)
        if not stop:
            return None
        try:
            words = _decode_text(event[start:stop])
        except UNREADABLE:
            return None
        self._vain = 0
        return words or None

    def cut(self, event: bytes, words: str, read: Callable[[bytes], str | None]) -> None:
        """Learn an event that says `words`; `read` tells the words of any that says nothing else.

        After many in a row that recognised nothing (each event has something else of its own) it learns no more.
        """
        self.forget()
        if self._vain >= _MOST_IN_VAIN:
            return
        self._vain += 1
        try:
            said = _encode(words)
        except UnicodeEncodeError:  # half of a character, which the next event may hold the rest of
            return
        before, _, behind = event.partition(said)
        if event.count(said) != 1 or not behind.endswith(b"\n\n"):
            return
        numbers = list(_NUMBERED.finditer(before)), list(_NUMBERED.finditer(behind))
        if sum(map(len, numbers)) > 1:
            return
        if read(_numbered_anew(before) + _MARKED + _numbered_anew(behind)) != _MARK:
            return
        # The quotes belong to both sides: blanks outside of them would be no part of the words.
        self._start, self._stop = len(before), -len(behind)
        self._before, self._behind = before, behind = before + b'"', b'"' + behind
        if numbers[0]:
            at, end = numbers[0][0].span(1)
            self._before, self._before_number, self._start = before[:at], before[end:], at
        if numbers[1]:
            at, end = numbers[1][0].span(1)
            self._behind_number, behind = behind[: at + 1], behind[end + 1 :]
            self._behind = behind
        padded = _PADDED.search(behind)
        if padded is not None:
            self._core, self._closing, self._padding = behind[: padded.start(1)], behind[padded.end(1) :], _LETTERS
        elif behind.endswith(_END):
            self._core, self._closing, self._padding = behind[: -len(_END)].rstrip(b" "), _END, b" "
        self._least = len(self._before) + len(self._core or behind) + len(self._closing)

    @staticmethod
    def _pass_number(event: bytes, at: int, following: bytes) -> int:
        """Return where the words begin behind a number that stands at `at`, and what follows it; else 0."""
        number = _NUMBER.match(event, at)
        if number is None or not event.startswith(following, number.end()):
            return 0
        return number.end() + len(following) - 1

    def _find_numbered(self, event: bytes, start: int) -> int:
        """Return where the words end if what follows differs by its number and its padding alone; else 0."""
        at = event.rfind(self._behind_number, start)
        number = None if at < 0 else _NUMBER.match(event, at + len(self._behind_number))
        if number is None or at == start:
            return 0
        end = number.end()
        if event.startswith(self._behind, end) and len(event) - end == len(self._behind):
            return at + 1
        core, last = self._core, len(event) - len(self._closing)
        if not core or end + len(core) > last or not event.startswith(core, end) or not event.endswith(self._closing):
            return 0
        return at + 1 if not event[end + len(core) : last].strip(self._padding) else 0

    def _find_padded(self, event: bytes, start: int) -> int:
        """Return where the words end if what follows differs by its padding alone; else 0."""
        core, closing = self._core, self._closing
        if not core or not event.endswith(closing):
            return 0
        end = len(event) - len(closing)
        at = event.rfind(core, start, end)
        return at + 1 if at > 0 and not event[at + len(core) : end].strip(self._padding) else 0


def _numbered_anew(part: bytes) -> bytes:
    """Return one side of an event with another number, to see by decoding it that its words do not hang on that."""
    return _NUMBERED.sub(lambda found: found[0][: -len(found[1])] + b"%d" % (int(found[1]) + 1), part)
