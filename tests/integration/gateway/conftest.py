"""A gateway, its ledger and its upstreams in one event loop, and a client that sees every byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytest

from ownward import ledger
from ownward.engines import Garbage
from ownward.gateway import GatewayServer, GatewaySettings
from ownward.ledger import Ledger
from ownward.plan import Match, Plan, Strategy, Tier, Upstream, Workload
from ownward.policy import ANY, Label
from ownward.pricing import Price
from ownward.upstreams import Door

PRICE = Price(
    provider="fake",
    model="fake-model",
    input_usd_per_mtok=Decimal(3),
    output_usd_per_mtok=Decimal(15),
    basis="assumed",
    source="tests",
    checked_on=date(2026, 11, 21),
)
CHAT = "/v1/chat/completions"


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": "hello there"}], **more}


@dataclass(slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    pieces: list[bytes] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection, read piece by piece."""

    def __init__(self, base_url: str) -> None:
        host, port = base_url.removeprefix("http://").split(":")
        self.host, self.port = host, int(port)
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def send(
        self, path: str, body: Any = None, *, method: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1"]
        stated = {"host": f"{self.host}:{self.port}", "content-length": len(content), **(headers or {})}
        lines += [f"{name}: {value}" for name, value in stated.items()]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        await self.writer.drain()

    async def head(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        raw = dict(line.split(": ", 1) for line in head[1:] if line)
        return Answer(
            int(head[0].split()[1]), {name.lower(): raw_value for name, raw_value in raw.items()} or headers, b""
        )

    async def piece(self) -> bytes:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def rest(self, answer: Answer) -> Answer:
        if "content-length" in answer.headers:
            answer.body += await self.reader.readexactly(int(answer.headers["content-length"]))
            return answer
        while piece := await self.piece():
            answer.pieces.append(piece)
            answer.body += piece
        return answer

    async def ask(self, path: str, body: Any = None, **more: Any) -> Answer:
        await self.send(path, body, **more)
        return await self.rest(await self.head())


async def ask(base_url: str, path: str, body: Any = None, **more: Any) -> Answer:
    async with Client(base_url) as client:
        return await client.ask(path, body, **more)


Script = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Scripted:
    """An upstream whose every answer a test writes by hand; `heard` holds each request as it came."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.heard: list[tuple[str, dict[str, str], bytes]] = []
        self.lost = asyncio.Event()
        self.base_url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.heard.append((head[0], headers, body))
                await self._script(body, reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            self.lost.set()
        finally:
            writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        await asyncio.sleep(0)


def garbage(kind: str) -> Garbage:
    return Garbage.parse(kind)


def whole(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Script:
    lines = [f"HTTP/1.1 {status} Said", "content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]

    async def script(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()

    return script


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def tier(name: str, url: str, *, kind: str = "rented", **more: Any) -> Tier:
    upstreams = more.pop("upstreams", None) or (Upstream(name=f"{name}-1", url=url),)
    place = {"provider": "fake", "region": "eu"} if kind == "rented" else {}
    settled = {"model": f"{name}-model", "price": PRICE, **place, **more}
    return Tier(name=name, kind=kind, upstreams=upstreams, **settled)  # type: ignore[arg-type]


def plan_of(*tiers: Tier, label: Label | None = ANY, workloads: tuple[Workload, ...] = (), **more: Any) -> Plan:
    """Return a plan whose workload `chat` asks the tiers in their order."""
    first, *others = (tier.name for tier in tiers)
    chat_workload = Workload(
        name="chat",
        match=Match(models=("chat",)),
        strategy=Strategy(kind="direct", tiers=(first,)),
        fallback=tuple(others),
        label=ANY if label is None else label,
    )
    named = {workload.name: workload for workload in (chat_workload, *workloads)}
    return Plan(name="test", default_label=label, tiers={tier.name: tier for tier in tiers}, workloads=named, **more)


@dataclass(slots=True)
class Running:
    """A started gateway and its ledger."""

    server: GatewayServer
    ledger: Ledger

    @property
    def base_url(self) -> str:
        return self.server.base_url

    async def ask(self, path: str = CHAT, body: Any = None, **more: Any) -> Answer:
        return await ask(self.base_url, path, body, **more)

    async def rows(self) -> list[dict[str, Any]]:
        await self.ledger.flush()
        return list(self.ledger.export_rows())


Start = Callable[..., contextlib.AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a gateway on a plan: `async with start(plan) as running`."""

    @contextlib.asynccontextmanager
    async def run(plan: Plan, **more: Any) -> AsyncIterator[Running]:
        settings = more.pop("settings", None) or GatewaySettings(port=0, drain_s=2)
        opened = more.pop("ledger", None) or ledger.open(tmp_path / "ledger.db")
        try:
            async with (
                Door() as door,
                GatewayServer(plan=plan, ledger=opened, door=door, settings=settings, **more) as server,
            ):
                yield Running(server, opened)
        finally:
            opened.close()

    return run


@pytest.fixture
def lab() -> ModuleType:
    """Everything above, for tests of this folder."""
    return sys.modules[__name__]
