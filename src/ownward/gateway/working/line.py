"""A worker's line to its parent: it serves by the parent's orders until the end."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import socket
from typing import Final

import msgspec

from ownward.core import OwnwardError
from ownward.gateway.errors import WorkersSilent
from ownward.gateway.placing.engine_address import address_of_message
from ownward.gateway.server import GatewayServer, calm_collector
from ownward.gateway.signals import has_started
from ownward.gateway.working.lending import take_handed_over
from ownward.gateway.working.messages import GATHER_S, LINE_BYTES, MOST_UNHEARD_BYTES, Message, News
from ownward.gateway.working.telling import Telling
from ownward.plan import loads

_MOST_WAITED_S: Final = GATHER_S + 3


class WorkerLine:
    """A worker's line to its parent: the first message, then orders until the end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, taker: socket.socket) -> None:
        """Keep the two ends, and where connections are handed over."""
        self._taker = taker
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, descriptor: int, taker_descriptor: int) -> WorkerLine:
        """Return the line whose descriptors the parent handed over."""
        line, taker = socket.socket(fileno=descriptor), socket.socket(fileno=taker_descriptor)
        taker.settimeout(0)
        return cls(*await asyncio.open_unix_connection(sock=line, limit=LINE_BYTES), taker)

    async def hear_first(self) -> Message:
        """Return the first message."""
        message: Message = json.loads(await self._reader.readline())
        return message

    async def serve(self, server: GatewayServer) -> None:
        """Run a server by the parent's orders until it says stop, is gone, or this process gets SIGTERM."""
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stopping.set)
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            loop.add_signal_handler(number, _ignore)
        server.gateway.gather_metrics = self._gather
        telling = Telling(server.gateway, self._tell_news)
        hearing = asyncio.create_task(self._hear(server, telling, stopping))
        try:
            if await has_started(server.start(), stopping):
                calm_collector()
                loop.add_reader(self._taker, self._take_connections, server)
                self._tell({"said": "ready"})
                await stopping.wait()
        finally:
            loop.remove_reader(self._taker)
            self._take_connections(server)
            await server.stop()
            telling.stop()
            hearing.cancel()
            self._writer.close()
            self._taker.close()

    def _tell(self, message: Message) -> None:
        if not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(message) + b"\n")

    def _tell_news(self, news: News) -> None:
        if self._writer.transport.get_write_buffer_size() < MOST_UNHEARD_BYTES:
            self._tell({"said": "news", "news": news})

    def _take_connections(self, server: GatewayServer) -> None:
        for connection in take_handed_over(self._taker):
            server.take(connection)

    async def _hear(self, server: GatewayServer, telling: Telling, stopping: asyncio.Event) -> None:
        try:
            while line := await self._reader.readline():
                message: Message = msgspec.json.decode(line)
                match message["do"]:
                    case "stop":
                        stopping.set()
                    case "hurry":
                        server.hurry()
                    case "hear":
                        telling.hear(message["worker"], message["news"])
                    case "repeat":
                        telling.repeat()
                    case "forget":
                        telling.forget(message["worker"])
                    case "certificates":
                        server.read_certificates()
                    case "address":
                        said = message["address"]
                        server.set_address(message["upstream"], None if said is None else address_of_message(said))
                    case "all":
                        answer = self._asked.get(message["id"])
                        if answer is not None and not answer.done():
                            answer.set_result(message["text"])
                    case "snapshot" | "reload":
                        task = asyncio.create_task(self._answer(server, message))
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)
        finally:
            stopping.set()  # a parent that is gone starts nobody anew and owns the engines

    async def _answer(self, server: GatewayServer, message: Message) -> None:
        reply: Message = {"said": "done", "id": message["id"]}
        if message["do"] == "snapshot":
            reply["text"] = (await server.gateway.render_own_metrics()).decode()
        else:
            try:
                await server.reload(await asyncio.to_thread(loads, message["plan"], file="the parent's plan"))
            except OwnwardError as error:
                reply["why"] = str(error)
        self._tell(reply)

    async def _gather(self, own: bytes) -> bytes:
        """Return the metrics of all workers, which the parent sums up, as it serves nobody.

        Raises: WorkersSilent, where the parent does not answer in time.
        """
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._tell({"said": "collect", "id": number, "text": own.decode()})
        try:
            text: str = await asyncio.wait_for(answer, _MOST_WAITED_S)
        except TimeoutError:
            raise WorkersSilent(waited_s=_MOST_WAITED_S) from None
        finally:
            del self._asked[number]
        return text.encode()


def _ignore() -> None:
    """Leave a signal to the parent."""
