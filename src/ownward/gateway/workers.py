"""Several processes behind one port: who starts them, tells them of engines and plans, and starts them anew.

They share the address and the ledger, so that budgets, limits and keys hold for all of them together. What one
process learns of upstreams it tells the others (`telling`). The parent serves nothing: it owns the engines, and passes
on what workers say to each other. A line of JSON each way is all they say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from ownward.core import EngineError, OwnwardError
from ownward.gateway.server import GatewayServer, bind, clear_ready_file, remove_ready_file, write_ready_file
from ownward.gateway.settings import GatewaySettings
from ownward.gateway.telling import News, Telling
from ownward.gateway.watching.merging import accumulated, merge_metrics
from ownward.ledger import Ledger
from ownward.plan import Plan, loads

_LOG = logging.getLogger("ownward.gateway")
_BACKLOG: Final = 2048
_LINE_BYTES: Final = 1 << 26
_START_S: Final = 60.0
_GATHER_S: Final = 2.0
_SNAPSHOT_EVERY_S: Final = 5.0
_MOST_UNANSWERED: Final = 10
"""Of the looks at a worker, each 5 to 7 s: a minute is above everything that holds an event loop up."""

_STOP_GRACE_S: Final = 10.0
_SHORT_LIFE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 30.0
_MOST_UNHEARD_BYTES: Final = 1 << 20  # what waits for a process that does not listen; further news are left out

Message = dict[str, Any]


class WorkerPool:
    """The parent's side: so many workers, each kept running until `stop`.

    `command` starts one; it is given the descriptors of the listening socket and of its line to the parent in place of
    `{listener}` and `{line}`. `hello` makes the first message for a worker by its number.
    """

    def __init__(
        self,
        *,
        count: int,
        command: Sequence[str],
        hello: Callable[[int], Message],
        plan: Plan,
        settings: GatewaySettings,
        ledger: Ledger,
        addresses: Mapping[str, str | None],
    ) -> None:
        """Keep the parts; nothing is started yet."""
        self.settings = settings
        self.plan = plan
        self.addresses = dict(addresses)
        self.base_url = ""
        self._count = count
        self._command = tuple(command)
        self._hello = hello
        self._ledger = ledger
        self._listeners: list[socket.socket] = []
        self._workers: dict[int, _Worker] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._retired: list[str] = []
        self._is_stopping = False

    async def start(self) -> None:
        """Listen, start the workers, and write the ready file once all of them accept requests.

        Raises: PortTaken; EngineError, if a worker does not start.
        """
        ready_file = self.settings.ready_file
        if ready_file is not None:
            clear_ready_file(ready_file)
        self._listeners = listen_together(self.settings.host, self.settings.port, count=self._count)
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        scheme = "http" if self.settings.tls_cert_file is None else "https"
        self.base_url = f"{scheme}://{host}:{self._listeners[0].getsockname()[1]}"
        try:
            await asyncio.gather(*(self._start_one(number) for number in range(self._count)))
        except BaseException:
            await self.stop()
            raise
        self._keepers = [asyncio.create_task(self._keep(number)) for number in range(self._count)]
        self._keepers.append(asyncio.create_task(self._keep_snapshots()))
        if ready_file is not None:
            write_ready_file(ready_file, base_url=self.base_url, tiers=list(self.plan.tiers))

    @property
    def pids(self) -> list[int]:
        """The workers' process ids."""
        return [worker.process.pid for worker in self._workers.values()]

    def set_address(self, upstream: str, url: str | None) -> None:
        """Tell every worker where an engine listens now; None, that it is down."""
        self.addresses[upstream] = url
        for worker in self._workers.values():
            worker.tell({"do": "address", "upstream": upstream, "url": url})

    async def reload(self, plan: Plan) -> None:
        """Have every worker serve new requests by `plan`.

        Raises: ConfigError or LedgerError of the first worker that refuses it, and the old plan stays everywhere.
        """
        text = plan.canonical_text
        replies = await asyncio.gather(*(worker.ask({"do": "reload", "plan": text}) for worker in self._living()))
        refusals = [reply["why"] for reply in replies if reply is not None and "why" in reply]
        if refusals:
            old = self.plan.canonical_text
            await asyncio.gather(*(worker.ask({"do": "reload", "plan": old}) for worker in self._living()))
            raise EngineError(f"a worker refused the plan: {refusals[0]}", next_step="The old plan stays")
        self.plan = plan

    def read_certificate(self) -> None:
        """Have every worker read the certificate again."""
        for worker in self._workers.values():
            worker.tell({"do": "certificate"})

    async def stop(self) -> None:
        """Have every worker take no new requests and end those in flight within `drain_s`; none is left."""
        self._is_stopping = True
        for worker in self._workers.values():
            worker.tell({"do": "stop"})
        waits_s = self.settings.drain_s + _STOP_GRACE_S
        await asyncio.gather(*(worker.end(waits_s) for worker in self._workers.values()))
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        if self.settings.ready_file is not None:
            remove_ready_file(self.settings.ready_file)
        for listener in self._listeners:
            listener.close()
        with contextlib.suppress(OwnwardError):
            await asyncio.to_thread(self._ledger.reconcile)

    def hurry(self) -> None:
        """Cut the drain short."""
        for worker in self._workers.values():
            worker.tell({"do": "hurry"})

    # One worker.

    async def _start_one(self, number: int) -> None:
        listener = self._listeners[number % len(self._listeners)]
        ours, theirs = socket.socketpair()
        descriptors = {"listener": listener.fileno(), "line": theirs.fileno()}
        process = await asyncio.create_subprocess_exec(
            *(part.format_map(descriptors) for part in self._command),
            pass_fds=tuple(descriptors.values()),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is the parent's to pass on
        )
        theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_LINE_BYTES)
        worker = _Worker(process, reader, writer, on_collect=self._collect, on_news=partial(self._pass_on, number))
        self._workers[number] = worker
        worker.tell({**self._hello(number), "plan": self.plan.canonical_text, "addresses": self.addresses})
        if not await worker.wait_until_ready(_START_S):
            await worker.end(0.0)
            raise EngineError(
                f"worker {number} did not start: it ended with status {process.returncode}",
                next_step="Its own words stand above, on standard error",
            )

    async def _keep(self, number: int) -> None:
        """Start a worker anew whenever it ends, with longer and longer pauses while it ends at once."""
        pause_s = 0.0
        while True:
            worker = self._workers[number]
            began_s = asyncio.get_running_loop().time()
            status = await worker.process.wait()
            if self._is_stopping:
                return
            self._retire(worker)
            self._tell_others(number, {"do": "forget", "worker": number})
            _LOG.error(
                "worker %d (pid %d) ended with status %s and is started again", number, worker.process.pid, status
            )
            try:
                await asyncio.to_thread(self._ledger.reconcile)
            except OwnwardError as error:
                _LOG.error("what the worker left in flight could not be settled: %s", error)
            lived_s = asyncio.get_running_loop().time() - began_s
            pause_s = 0.0 if lived_s > _SHORT_LIFE_S else min(max(2 * pause_s, 0.1), _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)
            try:
                await self._start_one(number)
            except (OwnwardError, OSError) as error:
                _LOG.error("%s", error)
            else:
                self._tell_others(number, {"do": "repeat"})

    def _living(self) -> list[_Worker]:
        return [worker for worker in self._workers.values() if worker.process.returncode is None]

    def _pass_on(self, number: int, news: News) -> None:
        self._tell_others(number, {"do": "hear", "worker": number, "news": news})

    def _tell_others(self, number: int, message: Message) -> None:
        line = msgspec.json.encode(message) + b"\n"
        for other, worker in self._workers.items():
            if other != number:
                worker.tell_line(line)

    # Metrics.

    async def _keep_snapshots(self) -> None:
        """Have each worker's counters at hand, so that little is lost of one that is killed; kill one that hangs."""
        while True:
            await asyncio.sleep(_SNAPSHOT_EVERY_S)
            await self._snapshots(self._living())
            for number, worker in self._workers.items():
                worker.unanswered += 1  # each answer sets it to none
                if worker.unanswered > _MOST_UNANSWERED and worker.process.returncode is None:
                    _LOG.error(
                        "worker %d (pid %d) has not answered %d times in a row and is killed: its clients wait in vain",
                        number,
                        worker.process.pid,
                        worker.unanswered,
                    )
                    worker.process.kill()

    async def _snapshots(self, workers: Sequence[_Worker]) -> None:
        await asyncio.gather(*(worker.take_snapshot() for worker in workers))

    async def _collect(self, asking: _Worker) -> list[str]:
        """Return the metrics of all workers but the one that asks, those that are gone included."""
        others = [worker for worker in self._living() if worker is not asking]
        await self._snapshots(others)
        return [*(worker.snapshot for worker in others if worker.snapshot), *self._retired]

    def _retire(self, worker: _Worker) -> None:
        worker.close()
        if worker.snapshot:
            self._retired = [merge_metrics([*self._retired, accumulated(worker.snapshot)])]
            worker.snapshot = ""  # it may be met again, where no other could be started in its place


class _Worker:
    """One worker as its parent sees it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        on_collect: Callable[[_Worker], Any],
        on_news: Callable[[News], None],
    ) -> None:
        self.process = process
        self.snapshot = ""
        self.unanswered = 0
        self._reader = reader
        self._writer = writer
        self._on_collect = on_collect
        self._on_news = on_news
        self._ready = asyncio.Event()
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._answers: set[asyncio.Task[None]] = set()
        self._listening = asyncio.create_task(self._listen())

    def tell(self, message: Message) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    def tell_line(self, line: bytes) -> None:
        """Tell what may be lost where it does not listen."""
        if not self._writer.is_closing() and self._writer.transport.get_write_buffer_size() < _MOST_UNHEARD_BYTES:
            self._writer.write(line)

    async def ask(self, message: Message, timeout_s: float = _START_S) -> Message | None:
        """Return the answer; None where there is none in time, or the worker ended."""
        number = len(self._asked) and max(self._asked) + 1
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self.tell({**message, "id": number})
        try:
            return await asyncio.wait_for(answer, timeout_s)
        except (TimeoutError, ConnectionError):
            return None
        finally:
            self._asked.pop(number, None)

    async def take_snapshot(self) -> None:
        reply = await self.ask({"do": "snapshot"}, _GATHER_S)
        if reply is not None:
            self.snapshot = reply["text"]
            self.unanswered = 0

    async def wait_until_ready(self, timeout_s: float) -> bool:
        ready, ended = asyncio.create_task(self._ready.wait()), asyncio.create_task(self.process.wait())
        await asyncio.wait({ready, ended}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        ended.cancel()
        return self._ready.is_set() and self.process.returncode is None

    async def end(self, waits_s: float) -> None:
        """Wait for its end, and end it where that takes longer."""
        try:
            await asyncio.wait_for(self.process.wait(), max(waits_s, 0.01))
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        self.close()

    def close(self) -> None:
        self._listening.cancel()
        self._writer.close()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ConnectionError())

    async def _listen(self) -> None:
        while line := await self._reader.readline():
            message: Message = msgspec.json.decode(line)
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
        self.tell({"do": "others", "id": number, "texts": await self._on_collect(self)})


class WorkerLine:
    """A worker's line to its parent: the first message, then orders until the end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep the two ends."""
        self._reader = reader
        self._writer = writer
        self._asked: dict[int, asyncio.Future[list[str]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, descriptor: int) -> WorkerLine:
        """Return the line whose descriptor the parent handed over."""
        line = socket.socket(fileno=descriptor)
        return cls(*await asyncio.open_unix_connection(sock=line, limit=_LINE_BYTES))

    async def hear_first(self) -> Message:
        """Return the first message."""
        message: Message = json.loads(await self._reader.readline())
        return message

    async def serve(self, server: GatewayServer) -> None:
        """Run a server by the parent's orders until it says stop, is gone, or this process gets SIGTERM."""
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stopping.set)
        for number in (signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, _ignore)
        server.gateway.gather_metrics = self._gather
        telling = Telling(server.gateway, self._tell_news)
        hearing: asyncio.Task[None] | None = None
        try:
            await server.start()
            self._tell({"said": "ready"})
            hearing = asyncio.create_task(self._hear(server, telling, stopping))
            await stopping.wait()
        finally:
            await server.stop()
            telling.stop()
            if hearing is not None:
                hearing.cancel()
            self._writer.close()

    def _tell(self, message: Message) -> None:
        if not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(message) + b"\n")

    def _tell_news(self, news: News) -> None:
        if self._writer.transport.get_write_buffer_size() < _MOST_UNHEARD_BYTES:
            self._tell({"said": "news", "news": news})

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
                    case "certificate":
                        server.read_certificate()
                    case "address":
                        server.set_address(message["upstream"], message["url"])
                    case "others":
                        answer = self._asked.get(message["id"])
                        if answer is not None and not answer.done():
                            answer.set_result(message["texts"])
                    case _:
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
                await server.reload(loads(message["plan"], file="the parent's plan"))
            except OwnwardError as error:
                reply["why"] = str(error)
        self._tell(reply)

    async def _gather(self, own: bytes) -> bytes:
        """Return the metrics of all workers; only one's own where the parent does not answer in time."""
        number = max(self._asked, default=0) + 1
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._tell({"said": "collect", "id": number})
        try:
            others = await asyncio.wait_for(answer, _GATHER_S + 1)
        except TimeoutError:
            return own
        finally:
            del self._asked[number]
        return merge_metrics([own.decode(), *others]).encode()


def listen_together(host: str, port: int, *, count: int) -> list[socket.socket]:
    """Return listening sockets of one address, over which Linux spreads connections evenly; elsewhere one for all.

    They stay open in the parent, so that what waits in one is not lost with the worker that accepts from it.
    Raises: PortTaken.
    """
    if sys.platform != "linux":
        only = bind(host, port)
        only.listen(_BACKLOG)
        return [only]
    with bind(host, port) as alone:  # tells whether somebody else has the port, who may share it as well
        port = alone.getsockname()[1]
    listeners = [bind(host, port, is_shared=True) for _ in range(count)]
    for listener in listeners:
        listener.listen(_BACKLOG)
    return listeners


def worker_command(*arguments: str) -> list[str]:
    """Return the command that runs this program's `serve` as a worker."""
    return [sys.executable, "-m", "ownward", "serve", *arguments, "--worker", "{listener}:{line}"]


def socket_of(descriptor: int) -> socket.socket:
    """Return the listening socket that the parent handed over."""
    listener = socket.socket(fileno=descriptor)
    listener.settimeout(0)
    return listener


def settings_as_message(settings: GatewaySettings) -> Message:
    """Return settings as a message can carry them; the ready file is the parent's."""
    values = {name: getattr(settings, name) for name in GatewaySettings.__dataclass_fields__}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()} | {
        "ready_file": None
    }


def settings_of_message(values: Message) -> GatewaySettings:
    """Return the settings of a message."""
    paths = {"tls_cert_file", "tls_key_file"}
    stated: dict[str, Any] = {
        name: Path(value) if name in paths and value is not None else value for name, value in values.items()
    }
    return GatewaySettings(**stated)


def _ignore() -> None:
    """Leave a signal to the parent."""
