"""One gateway on the network in memory, everything that may give data away, and the judge of it all."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.sovereignty.network import Heard, Network, NetworkLoop
from benchmarks.sovereignty.world import NAMES, Book, Stated, Where, make_hosts, permits, secrets_of

from ownward import ledger
from ownward.core import ManualClock, PolicyRefusal
from ownward.gateway import Gateway, GatewaySettings
from ownward.gateway.holding.judging import Judging, Read
from ownward.plan import Plan, loads
from ownward.policy import Label, Permit, Place, issue_permit
from ownward.strategies import judge_for
from ownward.upstreams import Door, Http1Transport, Response

CANARY = re.compile(rb"CANARY(\d+)Z")
HIDDEN = re.compile(rb"HIDDEN(\d+)Z")
UPSTREAM_SECRET = re.compile(rb"sk-SECRET-OF-(\w+)")
_KEPT = re.compile(rb'"id":"(resp_[0-9a-f]{48})"')
_SUCCESS = 200
_RUNS_PER_LEDGER = 40
_PROBES = [
    Where(machine=machine, site=site, region=region, provider=provider)
    for machine, site in ((True, True), (False, True), (False, False))
    for region in (None, "eu", "us", "eu-west", "elsewhere")
    for provider in (None, "mistral", "openai", "mist", "other")
]


class JudgingHere(Judging):
    """Reads answers in this process: the clock of this network does not wait for another."""

    async def read(self, rule: bytes, text: str) -> Read:
        """Return what the judge reads."""
        judge = judge_for(json.loads(rule))
        assert judge is not None
        return judge.extract(text), judge.verify(text)


class Leak(AssertionError):
    """Data was found where its label does not let it be."""


@dataclass(slots=True, kw_only=True)
class Case:
    """One request: what it may reach, and what came of it."""

    number: int
    allowed: frozenset[str]
    label: tuple[Stated, ...]
    secret: str | None = None
    is_captured: bool = False
    names_somebody: bool = False
    is_barred: bool = False
    earlier: tuple[Case, ...] = ()
    response_id: str | None = None
    status: int = 0
    answer: bytes = b""
    heard_at: list[str] = field(default_factory=list)

    @property
    def turns(self) -> tuple[Case, ...]:
        """The requests whose words are sent with this one: those that it continues, and itself."""
        return (*self.earlier, self)

    @property
    def kept_as(self) -> str | None:
        """The name under which its answer is kept, as far as the answer says; None where it is not."""
        found = _KEPT.search(self.answer)
        is_whole = b'"status":"completed"' in self.answer and b'"store":false' not in self.answer
        return found[1].decode() if self.status == _SUCCESS and found is not None and is_whole else None


class Logs(logging.Handler):
    """Keeps what was logged since it was last read."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record with its traceback."""
        self.lines.append((record.name, record.levelno, _FORMAT.format(record)))


_FORMAT = logging.Formatter("%(name)s %(levelname)s %(message)s")


class WatchedDoor(Door):
    """The door, with somebody who writes down each permit that is shown."""

    def __init__(self, on_shown: Callable[[Permit, bytes], None], *, transport: Http1Transport) -> None:
        super().__init__(transport=transport)
        self._on_shown = on_shown

    async def send(self, permit: Permit, **more: Any) -> Response:
        """Show a permit."""
        self._on_shown(permit, more.get("body", b""))
        return await super().send(permit, **more)


class WatchedLedger:
    """The ledger, with somebody who reads each row before it is queued."""

    def __init__(
        self,
        found: ledger.Ledger,
        on_written: Callable[..., None],
        on_kept: Callable[[ledger.KeptResponse], None],
    ) -> None:
        self._ledger = found
        self._on_written = on_written
        self._on_kept = on_kept

    def keep_response(self, kept: ledger.KeptResponse, **bounds: Any) -> int:
        """Keep a response, once it was looked at."""
        self._on_kept(kept)
        return self._ledger.keep_response(kept, **bounds)

    def __getattr__(self, name: str) -> Any:
        """Return what the ledger has; calls that write are read first."""
        member = getattr(self._ledger, name)
        if name not in {"begin", "begin_attempt", "settle", "refuse", "record_outcome", "capture_body"}:
            return member

        def write(*values: Any, **more: Any) -> Any:
            self._on_written(f"{values!r} {more!r}", is_capture=name == "capture_body")
            return member(*values, **more)

        return write


class Ground:
    """What outlives one run: the loop, the ledger, the logs, and the counts."""

    def __init__(self) -> None:
        self.loop = NetworkLoop()
        self.logs = Logs()
        self.counts: Counter[str] = Counter()
        self.numbers = 0
        self._runs = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._ledger: ledger.Ledger | None = None
        self._secrets: set[str] = set()
        self.late: list[Leak] = []
        self.captured: set[int] = set()
        self._plans: dict[str, Plan] = {}

    @contextlib.contextmanager
    def open(self) -> Iterator[Ground]:
        """Listen to the logs; at the end look through the last ledger."""
        root = logging.getLogger()
        before = root.level
        root.addHandler(self.logs)
        root.setLevel(logging.DEBUG)
        try:
            yield self
            self._close_ledger()
            if self.late:
                raise self.late[0]
        finally:
            root.removeHandler(self.logs)
            root.setLevel(before)
            if self._ledger is not None:
                self._ledger.close()
            if self._folder is not None:
                self._folder.cleanup()
            self.loop.close()

    def ledger(self) -> ledger.Ledger:
        """Return the ledger of this run: a new one after a while, the old one having been looked through."""
        self._runs += 1
        if self._ledger is None or self._runs % _RUNS_PER_LEDGER == 0:
            self._close_ledger()
            self._folder = tempfile.TemporaryDirectory()
            self._ledger = ledger.open(Path(self._folder.name) / "ledger.db")
        return self._ledger

    def plan(self, book: Book) -> Plan:
        """Return a book as the gateway reads it."""
        text = book.to_toml()
        if text not in self._plans:
            if len(self._plans) > 500:
                self._plans.clear()
            self._plans[text] = loads(text, file="plan.toml")
        return self._plans[text]

    def note_secret(self, secret: str) -> None:
        """Remember a client's key, to look for it."""
        self._secrets.add(secret)

    def check_logs(self) -> None:
        """Raise Leak where a log line holds what it must not, or tells of a fault of the gateway's own."""
        lines, self.logs.lines = self.logs.lines, []
        for name, level, line in lines:
            self.check_bytes(line.encode(), where="the log")
            if level >= logging.ERROR and (name == "asyncio" or "Traceback" in line):
                raise AssertionError(f"a fault of the gateway's own: {line}")
        self.counts["log lines read"] += len(lines)

    def check_bytes(self, data: bytes, *, where: str, except_of: Container[int] = ()) -> None:
        """Raise Leak if `data` holds any secret, or a canary that is not of these requests."""
        for found in CANARY.finditer(data):
            if int(found[1]) not in except_of:
                raise Leak(f"words of request {found[1].decode()} in {where}: {_around(data, found.start())}")
        for pattern in (HIDDEN, UPSTREAM_SECRET):
            if (hidden := pattern.search(data)) is not None:
                raise Leak(f"{hidden[0].decode()} in {where}: {_around(data, hidden.start())}")
        if b"ow-" in data:
            for secret in self._secrets:
                if secret.encode() in data:
                    raise Leak(f"a client's key in {where}")

    def _close_ledger(self) -> None:
        if self._ledger is None or self._folder is None:
            return
        found, self._ledger = self._ledger, None
        rows = [json.dumps(row, default=str).encode() for row in found.export_rows()]
        found.close()
        pages = [(path.name, path.read_bytes()) for path in Path(self._folder.name).iterdir()]
        self._folder.cleanup()
        self._folder = None
        try:
            for row in rows:
                self.check_bytes(row, where="an exported row")
            for name, page in pages:
                self.check_bytes(page, where=f"the ledger's file {name}", except_of=self.captured)
        except Leak as leak:
            self.late.append(leak)  # hypothesis would take it for flakiness in the middle of a run
        self.counts["ledger rows read"] += len(rows)


class Lab:
    """One run: a gateway, its network, and every case so far."""

    def __init__(self, ground: Ground, book: Book, *, requires_keys: bool) -> None:
        self.ground = ground
        self.book = book
        self.cases: dict[int, Case] = {}
        self.faults: list[str] = []
        self.shown: set[tuple[str, str]] = set()
        self.network = Network(make_hosts(), on_heard=self._on_heard, on_strayed=self.faults.append)
        self.network.names = {name: list(addresses) for name, addresses in NAMES.items()}
        ground.loop.network = self.network
        self.clock = ManualClock()
        self.ledger = WatchedLedger(ground.ledger(), self._on_written, self._on_kept)
        self.door = WatchedDoor(self._on_shown, transport=Http1Transport(resolver=self.network.resolve))
        self.requires_keys = requires_keys
        self.gateway = Gateway(
            plan=ground.plan(book),
            ledger=self.ledger,
            door=self.door,
            settings=GatewaySettings(
                requires_keys=requires_keys,
                retry_fraction=1,
                breaker_failures=3,
                key_cache_s=0,
                max_attempts=4,
                keep_responses_s=10 * 365 * 86_400,
            ),
            clock=self.clock,
            secrets=lambda _: secrets_of(self.book),
        )
        self.gateway.judging = JudgingHere()
        self.tasks: list[asyncio.Task[None]] = []
        self.earn_second_calls()

    def earn_second_calls(self) -> None:
        """Have every tier that hedges able to, as if it had served requests before."""
        for pace in self.gateway.paces.values():
            for _ in range(20):
                pace.second_calls.deposit()

    def issue_permit(self, **asked: Any) -> Permit:
        """Issue a permit as ever; a refusal means that a candidate was not left out, as it should have been."""
        try:
            return issue_permit(**asked)
        except PolicyRefusal as error:
            self.faults.append(f"only its permit kept a request back: {error}")
            raise

    def run(self, work: Any) -> Any:
        """Run a coroutine to its end, then judge."""
        with (
            mock.patch("ownward.gateway.calling.attempt.issue_permit", self.issue_permit),
            mock.patch("socket.getaddrinfo", self.network.stray),
        ):
            result = self.ground.loop.run_until_complete(work)
        self.judge()
        return result

    def judge(self) -> None:
        """Raise what was found."""
        if self.faults:
            raise Leak("; ".join(self.faults[:3]))
        self.ground.check_logs()

    async def ask(
        self, case: Case, *, path: str, headers: list[tuple[bytes, bytes]], body: bytes, leaves_after: int | None
    ) -> None:
        """Send a request to the application and take its answer in."""
        self.cases[case.number] = case
        gone = asyncio.Event()
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        answer: list[bytes] = []

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                case.status = message["status"]
                answer.extend(name + b": " + value for name, value in message["headers"])
            else:
                answer.append(message.get("body", b""))
            await asyncio.sleep(0)

        scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "extensions": {}}
        leaver = None
        if leaves_after is not None:
            leaver = asyncio.ensure_future(_leave(gone, leaves_after))
        await self.gateway(scope, receive, send)
        if leaver is not None:
            leaver.cancel()
        case.answer = b"\n".join(answer)
        told = {turn.number for turn in case.turns}
        self.ground.check_bytes(case.answer, where=f"the answer to request {case.number}", except_of=told)

    async def look(
        self, path: str, *, secret: str | None, method: str = "GET", body: bytes = b"", told: Container[int] = ()
    ) -> int:
        """Return the status of a page that carries no inference, after a look through it; it may tell of `told`."""
        answer: list[bytes] = []
        status = 0

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            answer.append(message.get("body", b""))

        headers = [] if secret is None else [(b"x-api-key", secret.encode())]
        await self.gateway({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
        self.ground.check_bytes(b"".join(answer), where=f"the page {path}", except_of=told)
        return status

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return when something is so, or after half a second."""
        for _ in range(1000):
            if is_so():
                return
            await asyncio.sleep(0.0005)

    def end(self) -> None:
        """Let everything held go, and leave nothing behind."""

        async def finish() -> None:
            for host in self.network.hosts.values():
                host.holds, held = False, list(host.held)
                host.held.clear()
                for answer in held:
                    answer()
            if self.tasks:
                await asyncio.wait(self.tasks, timeout=10)
            await self.gateway.stop()
            await self.door.close()

        self.run(finish())
        for task in self.tasks:
            task.result()
        assert not self.gateway.exchanges, "a request never ended"
        for calls in self.gateway.counting.metrics.calls.values():
            self.ground.counts["second calls that won"] += calls.hedges_won
            self.ground.counts["second calls that lost"] += calls.hedges_lost

    # The judge's ears.

    def _on_shown(self, permit: Permit, body: bytes) -> None:
        """Hold a permit's label against what it should be, over every kind of place."""
        self.ground.counts["permits shown"] += 1
        if not isinstance(permit, Permit):
            return
        self.shown.add((hashlib.sha256(body).hexdigest(), permit.upstream))
        numbers = [int(found[1]) for found in CANARY.finditer(body)]
        for number in numbers and {max(numbers)}:  # the others are earlier turns, whose labels are among its own
            case = self.cases.get(number)
            if case is None:
                continue
            for where in _PROBES:
                if not self._is_right(permit.label, case, where):
                    self.faults.append(f"request {number} travels under {permit.label}, which is wrong about {where}")
                    break

    def _on_written(self, row: str, *, is_capture: bool) -> None:
        kept = {number for number, case in self.cases.items() if case.is_captured} if is_capture else set()
        self.ground.captured |= kept
        self.ground.counts["bodies captured"] += is_capture
        try:
            self.ground.check_bytes(row.encode(), where="a row of the ledger", except_of=kept)
        except Leak as leak:
            self.faults.append(str(leak))

    def _on_kept(self, kept: ledger.KeptResponse) -> None:
        """Hold a kept response's label against what its request and all that it continues may reach."""
        self.ground.counts["responses kept"] += 1
        stated = {int(found[1]) for found in CANARY.finditer(kept.items_json)}
        case = self.cases[max(stated)]
        told = {turn.number for turn in case.turns}
        self.ground.captured |= told
        self.ground.check_bytes(kept.items_json, where="what is kept of a request", except_of={case.number})
        self.ground.check_bytes(kept.answer_json, where="what is kept of an answer", except_of=told)
        for where in _PROBES:
            if not self._is_right(Label.parse(kept.label), case, where):
                self.faults.append(f"request {case.number} is kept under {kept.label}, which is wrong about {where}")
                break

    def _is_right(self, label: Label, case: Case, where: Where) -> bool:
        place = Place(is_local=where.machine, is_on_site=where.site, region=where.region, provider=where.provider)
        return label.permits(place) == all(permits(stated, where) for stated in case.label)

    def _on_heard(self, heard: Heard) -> None:
        """Hold what a host heard against what it may hear."""
        host, counts = heard.host, self.ground.counts
        counts["requests heard by upstreams"] += 1
        digest = hashlib.sha256(heard.body).hexdigest()
        spots = [spot for spot in self.book.spots if spot.host == host.name]
        if not any((digest, spot.name) in self.shown for spot in spots):
            self.faults.append(f"{host.name} heard a body for which no permit was shown")
        everything = heard.head + b"\r\n" + heard.body
        for number in {int(found[1]) for found in CANARY.finditer(everything)}:
            case = self.cases.get(number)
            if case is None or host.name not in case.allowed:
                self.faults.append(f"{host.name} heard words of request {number}: {heard.head[:60]!r}")
            else:
                case.heard_at.append(host.name)
        if (hidden := HIDDEN.search(everything)) is not None:
            self.faults.append(f"{host.name} heard {hidden[0].decode()}, which is between the client and the gateway")
        for found in UPSTREAM_SECRET.finditer(everything):
            if found[1].decode() not in {spot.name for spot in spots}:
                self.faults.append(f"{host.name} heard the key of {found[1].decode()}")
        for case in self.cases.values():
            if case.secret is not None and case.secret.encode() in everything:
                self.faults.append(f"{host.name} heard a client's key")


async def _leave(gone: asyncio.Event, turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    gone.set()


def _around(data: bytes, at: int) -> str:
    return repr(data[max(0, at - 80) : at + 60])
