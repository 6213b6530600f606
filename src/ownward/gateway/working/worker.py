"""One worker process as its parent sees it: what it is told and asked, and what it said."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from ownward.gateway.working.messages import GATHER_S, MOST_UNHEARD_BYTES, Message, News

_ANSWER_S: Final = 60.0


class Worker:
    """One worker: its process, its line, and the metrics it told last.

    `unanswered` counts the looks at it from its last answer on, that one included.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        taker: socket.socket,
        on_collect: Callable[[Worker], Awaitable[str]],
        on_news: Callable[[News], None],
    ) -> None:
        """Listen to what it says; `on_collect` returns the metrics of all, `on_news` passes its news on.

        `taker` is where it is handed connections.
        """
        self.process = process
        self.taker = taker
        self.snapshot = ""
        self.unanswered = 1
        self._reader = reader
        self._writer = writer
        self._on_collect = on_collect
        self._on_news = on_news
        self._ready = asyncio.Event()
        self._numbers = itertools.count()  # none twice: a late answer is nobody else's
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._answers: set[asyncio.Task[None]] = set()
        self._listening = asyncio.create_task(self._listen())

    @property
    def is_serving(self) -> bool:
        """Whether it accepts requests, as far as is known."""
        return self._ready.is_set() and self.process.returncode is None and not self._writer.is_closing()

    @property
    def hangs(self) -> bool:
        """Whether it was looked at in vain the last time."""
        return self.unanswered > 1

    def tell(self, message: Message) -> None:
        """Tell it, if its line is still there."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    def tell_line(self, line: bytes) -> None:
        """Tell what may be lost where it does not listen."""
        if not self._writer.is_closing() and self._writer.transport.get_write_buffer_size() < MOST_UNHEARD_BYTES:
            self._writer.write(line)

    async def ask(self, message: Message, timeout_s: float = _ANSWER_S) -> Message | None:
        """Return the answer; None where there is none in time, or the worker ended."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self.tell({**message, "id": number})
        try:
            return await asyncio.wait_for(answer, timeout_s)
        except (TimeoutError, ConnectionError):
            return None
        finally:
            self._asked.pop(number, None)

    async def take_snapshot(self) -> None:
        """Ask for its metrics; where it does not answer in time, the last ones stay."""
        if await self.ask({"do": "snapshot"}, GATHER_S) is not None:
            self.unanswered = 0

    async def wait_until_ready(self, timeout_s: float) -> bool:
        """Return whether it accepts requests, once it does, or ended, or the time is over."""
        ready, ended = asyncio.create_task(self._ready.wait()), asyncio.create_task(self.process.wait())
        await asyncio.wait({ready, ended}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        ended.cancel()
        return self._ready.is_set() and self.process.returncode is None

    async def end(self, waits_s: float) -> bool:
        """Wait for its end, and end it where that takes longer; return whether it ended by itself."""
        has_ended = True
        try:
            await asyncio.wait_for(self.process.wait(), max(waits_s, 0.01))
        except TimeoutError:
            has_ended = False
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        self.close()
        return has_ended

    def close(self) -> None:
        """Hear it no more; whoever waits for an answer is told that there is none."""
        self._listening.cancel()
        self._writer.close()
        self.taker.close()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ConnectionError())

    async def _listen(self) -> None:
        while line := await self._reader.readline():
            message: Message = msgspec.json.decode(line)
            # As they come, since no later one has counted less; also what it is about to tell who scrapes it.
            self.snapshot = message.get("text", self.snapshot)
            if message["said"] == "ready":
                self._ready.set()
            elif message["said"] == "news":
                self._on_news(message["news"])
            elif message["said"] == "collect":
                task = asyncio.create_task(self._answer_collect(message["id"]))
                self._answers.add(task)
                task.add_done_callback(self._answers.discard)
            else:
                answer = self._asked.get(message["id"])
                if answer is not None and not answer.done():
                    answer.set_result(message)

    async def _answer_collect(self, number: int) -> None:
        self.tell({"do": "all", "id": number, "text": await self._on_collect(self)})
