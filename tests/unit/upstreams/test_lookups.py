"""Names that several calls want at once, and names whose servers are silent."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ownward.upstreams._lookups import Lookups, resolve


class Dns:
    """A resolver that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = asyncio.Event()
        self.failure: OSError | None = None

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(f"{host}:{port}")
        await self.answer.wait()
        if self.failure is not None:
            raise self.failure
        return ["127.0.0.1"]


def test_calls_that_want_a_name_at_once_ask_for_it_once_and_a_later_one_anew() -> None:
    async def main() -> None:
        dns = Dns()
        lookups = Lookups(dns)
        waiting = [asyncio.create_task(lookups("a", 1)) for _ in range(500)]
        other = asyncio.create_task(lookups("a", 2))
        await asyncio.sleep(0.01)
        assert dns.asked == ["a:1", "a:2"]
        dns.answer.set()
        assert await asyncio.gather(*waiting, other) == [["127.0.0.1"]] * 501
        await lookups("a", 1)
        assert dns.asked == ["a:1", "a:2", "a:1"]

    asyncio.run(main())


def test_who_leaves_takes_the_question_from_nobody_and_does_not_ask_it_again() -> None:
    async def main() -> None:
        dns = Dns()
        lookups = Lookups(dns)
        first = asyncio.create_task(lookups("a", 1))
        second = asyncio.create_task(lookups("a", 1))
        await asyncio.sleep(0.01)
        first.cancel()
        third = asyncio.create_task(lookups("a", 1))
        await asyncio.sleep(0.01)
        dns.answer.set()
        assert await second == await third == ["127.0.0.1"]
        assert first.cancelled()
        assert dns.asked == ["a:1"]

    asyncio.run(main())


def test_a_name_without_address_is_told_to_all_who_wait_and_looked_up_again() -> None:
    async def main() -> None:
        dns = Dns()
        dns.failure = OSError("no such name")
        lookups = Lookups(dns)
        waiting = [asyncio.create_task(lookups("a", 1)) for _ in range(2)]
        await asyncio.sleep(0.01)
        dns.answer.set()
        for task in waiting:
            with pytest.raises(OSError, match="no such name"):
                await task
        dns.failure = None
        assert await lookups("a", 1) == ["127.0.0.1"]

    asyncio.run(main())


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the name servers of `silent-…` say nothing for as long as the test takes."""
    known, over = socket.getaddrinfo, threading.Event()

    def getaddrinfo(host: str, *more: object, **named: object) -> object:
        if host.startswith("silent"):
            over.wait(30)
            raise OSError
        return known("127.0.0.1", *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    over.set()


@pytest.mark.usefixtures("silent")
def test_names_whose_servers_are_silent_hold_up_neither_others_nor_the_end() -> None:
    async def main() -> None:
        waiting = [asyncio.create_task(resolve(f"silent-{number}", 1)) for number in range(40)]
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await resolve("well", 1) == ["127.0.0.1"]
        assert not any(task.done() for task in waiting)

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "2001:db8::1"])
def test_an_address_is_no_name_to_look_up(address: str) -> None:
    async def main() -> None:
        dns = Dns()
        assert await Lookups(dns)(address, 1) == [address]
        assert not dns.asked

    asyncio.run(main())


@pytest.mark.parametrize("name", ["a" * 64, "a..b"])
def test_what_can_be_no_name_has_no_address(name: str) -> None:
    with pytest.raises(OSError, match="no host can have this name"):
        asyncio.run(resolve(name, 1))
