"""How the log is written: as text or as JSON Lines, on standard error, without ever holding up who logs.

A reader that does not read, such as a full pipe, must not stop the gateway: lines wait in a bounded queue for a thread
that writes them, and what does not fit is counted and said later.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TextIO

from ownward.cli._output import say

MOST_WAITING = 10_000
_GATHER_S = 0.05
_LAST_WORDS_S = 2.0
_PIPE_BYTES = getattr(select, "PIPE_BUF", 512)
"""A write of so many bytes to a pipe is whole, whoever else writes to it (POSIX, write)."""


class JsonLines(logging.Formatter):
    """One JSON object a line: `at`, `level`, `logger`, `message`, the fields of a request, `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; text from outside cannot break out of it."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "request", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class OneLine(logging.Formatter):
    """Text for people: a message stays on its line, so that nobody can write lines that are not ours."""

    def __init__(self) -> None:
        """Use the time of this place."""
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        """Return the line without control characters."""
        text = super().formatMessage(record)
        return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class PatientHandler(logging.Handler):
    """Writes lines on a thread of its own; at most `most` wait, and what is dropped is counted."""

    def __init__(self, stream: TextIO, *, most: int = MOST_WAITING) -> None:
        """Start the thread."""
        super().__init__()
        self.dropped = 0
        self._stream = stream
        self._most = most
        self._lines: deque[str] = deque()
        self._wake = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._write_all, name="ownward log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or drop it."""
        if len(self._lines) >= self._most:
            self.dropped += 1
            return
        try:
            self._lines.append(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - logging's own rule: never raise into who logs
            self.handleError(record)
        self._wake.set()

    def close(self) -> None:
        """Write what waits, within two seconds."""
        self._is_closing = True
        self._wake.set()
        self._thread.join(_LAST_WORDS_S)
        super().close()

    def _write_all(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            self._write_waiting()
            if self._is_closing and not self._lines:
                return
            # Gathers what follows into one write. Closing cuts it short.
            if not self._is_closing:
                time.sleep(_GATHER_S)
            if self._lines or self._is_closing:
                self._wake.set()

    def _write_waiting(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if self.dropped:
            dropped, self.dropped = self.dropped, 0
            record = logging.LogRecord(
                "ownward", logging.WARNING, "", 0, "%d lines of this log were dropped: its reader is too slow",
                (dropped,), None,
            )  # fmt: skip
            lines.append(self.format(record) + "\n")
        if lines:
            with contextlib.suppress(OSError, ValueError):  # nobody reads any more
                self._write(lines)

    def _write(self, lines: list[str]) -> None:
        """Write past the stream's own buffer: a thread that is stuck in there would block the end of the process."""
        try:
            descriptor = self._stream.fileno()
        except (OSError, AttributeError):
            self._stream.write("".join(lines))
            self._stream.flush()
            return
        for piece in _pieces(lines):
            rest = memoryview(piece)
            while rest:
                try:
                    rest = rest[os.write(descriptor, rest) :]
                except BlockingIOError:  # so it was handed to us: here it is waited for, as elsewhere
                    select.select((), (descriptor,), ())


def _pieces(lines: list[str]) -> Iterator[bytes]:
    """Yield whole lines, gathered into what a pipe takes at once: a longer write may be torn by another worker's."""
    piece = b""
    for line in lines:
        encoded = line.encode("utf-8", "backslashreplace")
        if piece and len(piece) + len(encoded) > _PIPE_BYTES:
            yield piece
            piece = b""
        piece += encoded
    if piece:
        yield piece


def announce(message: str, *, level: int = logging.INFO) -> None:
    """Tell people on standard error; where the log there is JSON, which programs read, it is a line of the log."""
    root = logging.getLogger()
    if any(isinstance(handler.formatter, JsonLines) for handler in root.handlers):
        logging.getLogger("ownward").log(level, "%s", message.strip())
    else:
        say(message)


@contextlib.contextmanager
def logging_to(stream: TextIO, *, level: str, form: str) -> Iterator[None]:
    """Have every logger write to `stream` while this lasts; `form` is text or json."""
    handler = PatientHandler(stream)
    handler.setFormatter(JsonLines() if form == "json" else OneLine())
    root = logging.getLogger()
    before = root.level
    root.setLevel(level.upper())
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        handler.close()
