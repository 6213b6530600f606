"""Connecting to the first of several addresses that answers: RFC 8305."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from ownward.upstreams import _sockets
from ownward.upstreams._sockets import connect_first

SILENT = "192.0.2.1"


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were left waiting; of these one never answers."""
    connect, given_up = _sockets._connect, []

    async def connect_or_wait(address: str, port: int) -> tuple[socket.socket, str]:
        if address != SILENT:
            return await connect(address, port)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            given_up.append(address)
            raise
        raise AssertionError

    monkeypatch.setattr(_sockets, "_connect", connect_or_wait)
    return given_up


def test_an_address_that_does_not_answer_costs_a_quarter_of_a_second(port: int, left: list[str]) -> None:
    async def main() -> None:
        began = time.monotonic()
        connected, address = await connect_first([SILENT, "127.0.0.1"], port)
        assert 0.2 < time.monotonic() - began < 5
        assert address == connected.getpeername()[0] == "127.0.0.1"
        connected.close()
        await asyncio.sleep(0)
        assert left == [SILENT]

    asyncio.run(main())


def test_an_address_that_refuses_is_passed_over_at_once(port: int) -> None:
    async def main() -> None:
        connected, address = await connect_first(["::1", "127.0.0.1"], port)
        assert address == "127.0.0.1"
        connected.close()

    asyncio.run(main())


def test_where_none_takes_a_connection_the_last_one_says_why_in_the_systems_words() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        for addresses in (["127.0.0.1"], ["127.0.0.1", "127.0.0.1"]):
            with pytest.raises(ConnectionRefusedError) as caught:
                await connect_first(addresses, port)
            assert caught.value.strerror == "Connection refused"

    asyncio.run(main())


def test_of_two_that_answer_at_once_the_second_is_closed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []
    connect, both = _sockets._connect, asyncio.Event()

    async def connect_together(address: str, port: int) -> tuple[socket.socket, str]:
        found = await connect("127.0.0.1", port)
        made.append(found[0])
        if len(made) == 2:
            both.set()
        await both.wait()
        return found

    monkeypatch.setattr(_sockets, "_connect", connect_together)

    async def main() -> None:
        connected, _ = await connect_first(["127.0.0.1", "127.0.0.2"], port)
        await asyncio.sleep(0.01)
        assert [one.fileno() >= 0 for one in made].count(True) == 1
        assert connected.fileno() >= 0
        connected.close()

    asyncio.run(main())


def test_who_leaves_takes_all_attempts_along(port: int, left: list[str]) -> None:
    async def main() -> None:
        task = asyncio.create_task(connect_first([SILENT, SILENT, SILENT], port))
        await asyncio.sleep(0.4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert left == [SILENT, SILENT]

    asyncio.run(main())
