"""The parent of several processes behind one port: it starts them, tells them of engines and plans, starts them anew.

They share the address and the ledger, so that budgets, limits and keys hold for all of them together. What one
process learns of upstreams it tells the others (`telling`). The parent serves nothing: it owns the engines, and passes
on what workers say to each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from ownward.core import EngineError, LedgerError, OwnwardError, UsageError
from ownward.gateway.listening.port import listen_together
from ownward.gateway.placing.engine_address import Addresses, EngineAddress, address_as_message
from ownward.gateway.ready_file import ReadyFile
from ownward.gateway.reconciling import begin_reconciling, end_reconciling
from ownward.gateway.server import LAST_WRITES_S
from ownward.gateway.settings import GatewaySettings
from ownward.gateway.watching.merging import accumulated, merge_metrics
from ownward.gateway.working.lending import Lending
from ownward.gateway.working.messages import LINE_BYTES, Message, News
from ownward.gateway.working.worker import Worker
from ownward.ledger import Ledger
from ownward.plan import Plan

_LOG = logging.getLogger("ownward.gateway")
_START_S: Final = 60.0
_SNAPSHOT_EVERY_S: Final = 5.0
_MOST_UNANSWERED: Final = 10
"""Of the looks at a worker, each 5 to 7 s: a minute is above everything that holds an event loop up."""

_STOP_GRACE_S: Final = 10.0
_GIVE_UP_S: Final = 1.0
_KINDS: Final = {kind.exit_code: kind for kind in (UsageError, LedgerError)}
"""What a worker says that ends with such a status, for the same status of ours."""

_SHORT_LIFE_S: Final = 5.0
_SHORTEST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 30.0
_LOOK_EVERY_S: Final = 1.0
"""How often a pause looks whether the ledger can be written, for which no worker may have started."""

_UNWRITTEN: Final = (
    "Calls whose end could not be written are unsettled on the ledger, with bounds, once a gateway starts on it again"
)


class WorkerPool:
    """The parent's side: so many workers, each kept running until `stop`.

    `command` starts one; it is given the descriptors of the listening socket, of its line to the parent and of where it
    is handed connections in place of `{listener}`, `{line}` and `{taker}`. `hello` makes the first message for a
    worker by its number.
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
        addresses: Addresses,
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
        self._workers: dict[int, Worker] = {}
        self._lending = Lending(self._takers)
        self._keepers: list[asyncio.Task[None]] = []
        self._retired: list[str] = []
        self._is_stopping = False

    async def start(self) -> None:
        """Listen, start the workers, and write the ready file once all of them accept requests.

        Raises: PortTaken; EngineError, if a worker does not start, or what it ended for: LedgerError, UsageError.
        """
        ready_file = ReadyFile(self.settings.ready_file)
        ready_file.clear()
        self._listeners = listen_together(self.settings.host, self.settings.port, count=self._count)
        self.base_url = self.settings.base_url(self._listeners[0].getsockname()[1])
        try:
            await self._start_all()
        except BaseException:
            await self._give_up()
            raise
        self._keepers = [asyncio.create_task(self._keep(number)) for number in range(self._count)]
        self._keepers.append(asyncio.create_task(self._keep_snapshots()))
        ready_file.write(base_url=self.base_url, tiers=list(self.plan.tiers))

    @property
    def pids(self) -> list[int]:
        """The workers' process ids."""
        return [worker.process.pid for worker in self._workers.values()]

    def set_address(self, upstream: str, address: EngineAddress | None) -> None:
        """Tell every worker where an engine listens now; None: it is down and stays so."""
        if address is None:
            self.addresses.pop(upstream, None)
        else:
            self.addresses[upstream] = address
        said = None if address is None else address_as_message(address)
        for worker in self._workers.values():
            worker.tell({"do": "address", "upstream": upstream, "address": said})

    async def reload(self, plan: Plan) -> None:
        """Have every worker serve new requests by `plan`.

        Raises: ConfigError or LedgerError of the first worker that refuses it, and the old plan stays everywhere.
        """
        old, self.plan = self.plan, plan  # at once: a worker that starts meanwhile is told this one
        text = plan.canonical_text
        replies = await asyncio.gather(*(worker.ask({"do": "reload", "plan": text}) for worker in self._living()))
        refusals = [reply["why"] for reply in replies if reply is not None and "why" in reply]
        if refusals:
            self.plan, text = old, old.canonical_text
            await asyncio.gather(*(worker.ask({"do": "reload", "plan": text}) for worker in self._living()))
            raise EngineError(f"a worker refused the plan: {refusals[0]}", next_step="The old plan stays")

    def read_certificates(self) -> None:
        """Have every worker read our certificate again, and those of upstreams."""
        for worker in self._workers.values():
            worker.tell({"do": "certificates"})

    async def stop(self) -> None:
        """Have every worker take no new requests and end those in flight within `drain_s`; none is left.

        Raises: what one of them ended for: LedgerError where calls could not be written, also by one that was killed.
        """
        self._is_stopping = True
        serving = {number: worker for number, worker in self._workers.items() if worker.is_serving}
        self._lending.close()
        for worker in self._workers.values():
            worker.tell({"do": "stop"})
        for listener in self._listeners:  # each worker closes its own: who comes now is refused and not left waiting
            listener.close()
        waits_s = self.settings.drain_s + _STOP_GRACE_S
        ended = await asyncio.gather(*(worker.end(waits_s) for worker in self._workers.values()))
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        ReadyFile(self.settings.ready_file).remove()
        if not self._keepers:
            return  # none of them has served
        self._ledger.hurry(LAST_WRITES_S)
        with contextlib.suppress(OwnwardError):
            await asyncio.to_thread(self._ledger.reconcile, is_thorough=False)
        if not all(ended):
            raise LedgerError(
                f"{ended.count(False)} of {len(ended)} workers had not ended {waits_s:.0f} s after they were told to"
                " and were killed",
                allowed=_UNWRITTEN,
                next_step="Their own words, if there are any, stand above, on standard error",
            )
        _require_good_ends({number: worker.process.returncode or 0 for number, worker in serving.items()})

    def hurry(self) -> None:
        """Cut the drain short."""
        for worker in self._workers.values():
            worker.tell({"do": "hurry"})

    async def _start_all(self) -> None:
        starting = [asyncio.create_task(self._start_one(number)) for number in range(self._count)]
        try:
            await asyncio.gather(*starting)
        finally:  # where one fails, none of the others goes on
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)

    async def _give_up(self) -> None:
        """End those that have started, where not all can: what holds one up would hold the others up as long."""
        self._is_stopping = True
        for worker in self._workers.values():
            worker.tell({"do": "stop"})
        for listener in self._listeners:
            listener.close()
        await asyncio.gather(*(worker.end(_GIVE_UP_S) for worker in self._workers.values()))

    # One worker.

    async def _start_one(self, number: int) -> None:
        listener = self._listeners[number % len(self._listeners)]
        ours, theirs = socket.socketpair()
        giver, taker = socket.socketpair()
        giver.settimeout(0)
        descriptors = {"listener": listener.fileno(), "line": theirs.fileno(), "taker": taker.fileno()}
        try:
            process = await asyncio.create_subprocess_exec(
                *(part.format_map(descriptors) for part in self._command),
                pass_fds=tuple(descriptors.values()),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C in the terminal is the parent's to pass on
            )
        except BaseException:
            ours.close()
            giver.close()
            raise
        finally:
            theirs.close()
            taker.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_BYTES)
        worker = Worker(
            process, reader, writer, taker=giver, on_collect=self._collect, on_news=partial(self._pass_on, number)
        )
        self._workers[number] = worker
        addresses = {upstream: address_as_message(address) for upstream, address in self.addresses.items()}
        worker.tell({**self._hello(number), "plan": self.plan.canonical_text, "addresses": addresses})
        if self._keepers:  # not the first start: what the others say now it hears before its first request
            self._tell_others(number, {"do": "repeat"})
        if not await worker.wait_until_ready(_START_S):
            status = process.returncode
            await worker.end(0.0)
            if status is None:
                raise EngineError(
                    f"worker {number} did not start within {_START_S:g} s",
                    next_step="Its log may say what it waits for",
                )
            raise _KINDS.get(status, EngineError)(
                f"worker {number} did not start: it ended with status {status}",
                next_step="Its own words stand above, on standard error",
            )

    async def _settle_left(self) -> None:
        """Settle what a worker that ended left in flight; where that takes long, the next one does not wait for it."""
        try:
            running = await begin_reconciling(self._ledger, is_thorough=False, go_on=lambda: not self._is_stopping)
        except OwnwardError as error:
            _LOG.error("what the worker left in flight could not be settled: %s", error)
            return
        if running is not None:
            ending = asyncio.create_task(end_reconciling(running))
            self._keepers.append(ending)
            ending.add_done_callback(self._keepers.remove)

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
            self._lend(number)
            self._tell_others(number, {"do": "forget", "worker": number})
            _LOG.error(
                "worker %d (pid %d) ended with status %s and is started again", number, worker.process.pid, status
            )
            await self._settle_left()
            lived_s = asyncio.get_running_loop().time() - began_s
            pause_s = 0.0 if lived_s > _SHORT_LIFE_S else min(max(2 * pause_s, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
            if not await self._rest(pause_s):
                return
            try:
                await self._start_one(number)
            except (OwnwardError, OSError) as error:
                _LOG.error("%s", error)
            else:
                self._lending.end(number)

    async def _rest(self, pause_s: float) -> bool:
        """Wait before the next try, where the ledger cannot be written no longer than until it can be.

        Return whether there is to be one.
        """
        loop = asyncio.get_running_loop()
        ends_s, could = loop.time() + pause_s, True
        while (left_s := ends_s - loop.time()) > 0:
            can = await self._can_write()
            if can and not could:
                break
            could = can
            await asyncio.sleep(min(left_s, _LOOK_EVERY_S))
        return not self._is_stopping

    async def _can_write(self) -> bool:
        try:
            await asyncio.to_thread(self._ledger.flush_blocking)
        except OwnwardError:
            return False
        return True

    def _takers(self) -> list[socket.socket]:
        return [worker.taker for worker in self._workers.values() if worker.is_serving and not worker.hangs]

    def _lend(self, number: int) -> None:
        if len(self._listeners) == self._count and not self._is_stopping:  # else they share one, and need no help
            self._lending.begin(number, self._listeners[number])

    def _living(self) -> list[Worker]:
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
        """Have each worker's counters at hand, so that little is lost of one that is killed; kill one that hangs.

        Who connects to one that does not answer is served by the others meanwhile.
        """
        while True:
            await asyncio.sleep(_SNAPSHOT_EVERY_S)
            await self._snapshots(self._living())
            for number, worker in self._workers.items():
                worker.unanswered += 1  # each answer sets it to none
                if worker.hangs:
                    self._lend(number)
                elif worker.is_serving:
                    self._lending.end(number)
                if worker.unanswered > _MOST_UNANSWERED and worker.process.returncode is None:
                    _LOG.error(
                        "worker %d (pid %d) has not answered %d times in a row and is killed: its clients wait in vain",
                        number,
                        worker.process.pid,
                        worker.unanswered,
                    )
                    worker.process.kill()

    async def _snapshots(self, workers: Sequence[Worker]) -> None:
        await asyncio.gather(*(worker.take_snapshot() for worker in workers))

    async def _collect(self, asking: Worker) -> str:
        """Return the metrics of all workers together, those that are gone included; the one that asks has told its own.

        They are summed up in a thread, beside what workers tell each other: it takes 50 ms for each in a large plan.
        """
        others = [worker for worker in self._living() if worker is not asking]
        await self._snapshots(others)
        texts = [asking.snapshot, *(worker.snapshot for worker in others if worker.snapshot), *self._retired]
        return await asyncio.to_thread(merge_metrics, texts)

    def _retire(self, worker: Worker) -> None:
        worker.close()
        if worker.snapshot:
            self._retired = [merge_metrics([*self._retired, accumulated(worker.snapshot)])]
            worker.snapshot = ""  # it may be met again, where no other could be started in its place


def _require_good_ends(statuses: Mapping[int, int]) -> None:
    """Raise what workers ended for that had served until they were told to stop; a ledger comes before all else."""
    bad = {number: status for number, status in statuses.items() if status}
    if not bad:
        return
    kind = next((_KINDS[status] for status in bad.values() if _KINDS.get(status) is LedgerError), EngineError)
    raise kind(
        ", ".join(f"worker {number} ended with status {status}" for number, status in bad.items()),
        allowed=_UNWRITTEN,
        next_step="Their own words stand above, on standard error",
    )


def worker_command(*arguments: str) -> list[str]:
    """Return the command that runs this program's `serve` as a worker."""
    return [sys.executable, "-m", "ownward", "serve", *arguments, "--worker", "{listener}:{line}:{taker}"]
