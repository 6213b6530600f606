"""Judges' reading of answers where that may take long: in a few processes of their own, which a time limit ends.

What a judge makes of an answer stands in `ownward.strategies`; here is who computes it, and what becomes of one that
takes too long: it counts as an answer that the judge cannot read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from typing import Final

from ownward.core import OwnwardError

MOST_CPU_S: Final = 1.0
"""Of the processor, for one answer."""

_MOST_WALL_S: Final = 15.0
"""For one answer, from where it waits for a process on: others may be before it, or the machine is busy."""

_MOST_PROCESSES: Final = 2
_LENGTH_BYTES: Final = 4

Read = tuple[str | None, float | None]
"""The part by which two answers are the same, and the score: what a judge says of an answer."""

UNREAD: Final[Read] = (None, 0.0)


class AnswerUnread(OwnwardError):
    """A judge could not read an answer within its time: for the strategy it is one that cannot be read."""


class Judging:
    """The processes of one gateway that read answers; none before the first answer that needs one."""

    def __init__(self) -> None:
        """Begin with none."""
        self._idle: list[_Reader] = []
        self._places = asyncio.Semaphore(_MOST_PROCESSES)
        self._is_closed = False

    async def read(self, rule: bytes, text: str) -> Read:
        """Return what the judge of `rule` (its options as JSON) reads in `text`.

        Raises: AnswerUnread, if that takes too long or no process can be had.
        """
        try:
            async with asyncio.timeout(_MOST_WALL_S), self._places:
                return await self._read_in_one(rule, text.encode())
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            is_late = isinstance(error, TimeoutError)
            what = f"had not read in {_MOST_WALL_S:g} s" if is_late else "read until it was stopped in"
            raise AnswerUnread(
                f"the judge {what} an answer of {len(text):,} characters",
                allowed=f"An answer that its regex or json_schema is compared with in {MOST_CPU_S:g} s",
                next_step="Look for repeats inside of repeats, as in (a+)+, in the strategy of the workload",
            ) from None
        except OSError as error:
            raise AnswerUnread(f"no process to read an answer in could be started: {error.strerror}") from error

    async def _read_in_one(self, rule: bytes, text: bytes) -> Read:
        """Return what one of the processes reads, and keep it for the next answer unless it fails over this one."""
        while self._idle and not self._idle[-1].is_running:
            self._idle.pop().end()
        reader = self._idle.pop() if self._idle else await _Reader.begin()
        try:
            found = await reader.ask(rule, text)
        except BaseException:
            reader.end()
            raise
        if self._is_closed:
            reader.end()
        else:
            self._idle.append(reader)
        return found

    def close(self) -> None:
        """Have the processes leave."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().end()


class _Reader:
    """One process, on a socket that is its standard input and output; it leaves when that closes."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def begin(cls) -> _Reader:
        """Start one.

        Raises: OSError.
        """
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "ownward.strategies._reading", f"{MOST_CPU_S:g}"]
        process = None
        try:
            with theirs:  # a session of its own, as a Ctrl-C at the terminal is ours to handle
                end = theirs.fileno()
                process = subprocess.Popen(  # noqa: ASYNC220 - it is done within 2 ms
                    command, stdin=end, stdout=end, stderr=subprocess.DEVNULL, start_new_session=True
                )
            return cls(process, *await asyncio.open_connection(sock=ours))
        except BaseException:
            ours.close()
            if process is not None:
                _end(process)
            raise

    @property
    def is_running(self) -> bool:
        """Whether it still lives."""
        return self._process.poll() is None

    async def ask(self, rule: bytes, text: bytes) -> Read:
        """Return what is read.

        Raises: IncompleteReadError or ConnectionError, if the process ended over it.
        """
        for message in (rule, text):
            self._writer.write(len(message).to_bytes(_LENGTH_BYTES) + message)
        await self._writer.drain()
        length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES))
        key, score = json.loads(await self._reader.readexactly(length))
        return key, score

    def end(self) -> None:
        """Have it gone, whatever it does."""
        self._writer.close()
        _end(self._process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()  # a process that was killed is gone within a millisecond
