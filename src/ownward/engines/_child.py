"""A supervised child process: its lifeline, its words, its end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

_KEPT_LINES = 200
_READ_BYTES = 65536
_LONGEST_LINE_BYTES = 16384
_CLOSE_S = 10.0
_TERMINATE_S = 5.0
_STAMP = re.compile(r"^[0-9.]+ [A-Z] ")


class Child:
    """A process that leaves when its standard input closes; what it says on standard error is kept."""

    def __init__(self, process: asyncio.subprocess.Process, log_file: Path | None) -> None:
        """Belong to `process`; `spawn` makes both."""
        self._process = process
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._log = None if log_file is None else _open_log(log_file)
        self._reading = asyncio.create_task(self._keep_words())
        self.pid = process.pid

    @classmethod
    async def spawn(cls, command: Sequence[str], *, greeting: bytes | None, log_file: Path | None) -> Child:
        """Start `command` in a session of its own (a Ctrl-C at the terminal is ours to handle) and greet it.

        Raises: OSError, if there is no such program.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        child = cls(process, log_file)
        if greeting is not None and process.stdin is not None:
            with contextlib.suppress(ConnectionError):  # it left at once; its exit tells more
                process.stdin.write(greeting)
                await process.stdin.drain()
        return child

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it lives."""
        return self._process.returncode

    @property
    def last_words(self) -> tuple[str, ...]:
        """The last lines of its standard error."""
        return tuple(self._lines)

    async def read_line(self) -> bytes:
        """Return the next line of its standard output; empty when it has left."""
        assert self._process.stdout is not None
        return await self._process.stdout.readline()

    async def wait(self) -> int:
        """Wait until it is gone and all its words are here; return its status."""
        status = await self._process.wait()
        await asyncio.wait({self._reading}, timeout=1.0)  # a grandchild may hold the pipe open
        return status

    async def stop(self) -> int:
        """Close its lifeline; after ten seconds ask by SIGTERM, after five more end it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        for grace_s, number in ((_CLOSE_S, signal.SIGTERM), (_TERMINATE_S, signal.SIGKILL)):
            try:
                async with asyncio.timeout(grace_s):
                    return await self.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(number)
        return await self.wait()

    async def kill(self) -> None:
        """End it at once, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.wait()

    async def _keep_words(self) -> None:
        assert self._process.stderr is not None
        rest = b""
        try:
            while data := await self._process.stderr.read(_READ_BYTES):
                if self._log is not None:
                    self._log.write(data)
                    self._log.flush()
                *lines, rest = (rest + data).split(b"\n")
                self._lines.extend(line.decode("utf-8", "replace").rstrip() for line in lines)
                rest = rest[-_LONGEST_LINE_BYTES:]
        finally:
            if rest:
                self._lines.append(rest.decode("utf-8", "replace").rstrip())
            if self._log is not None:
                self._log.close()


def _open_log(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def pick_reason(lines: Sequence[str]) -> str | None:
    """Return the first line that speaks of an error, as far as one does, without llama.cpp's time stamp.

    >>> pick_reason(["0.00.006.172 E llama_model_load: error loading model", "cleaning up"])
    'llama_model_load: error loading model'
    """
    told = [_STAMP.sub("", line.strip()) for line in lines]
    for word in ("error:", "error", "failed", "invalid", "no such", "cannot"):
        for line in told:
            if word in line.lower():
                return line
    return None


def describe_status(status: int) -> str:
    """Return an exit status in words.

    >>> describe_status(-9)
    'was ended by SIGKILL (the kernel does so when memory runs out)'
    """
    if status >= 0:
        return f"stopped with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (the kernel does so when memory runs out)" if -status == signal.SIGKILL else ""
    return f"was ended by {name}{hint}"
