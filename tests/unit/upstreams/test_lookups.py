"""Names that several calls want at once, and names whose servers are silent."""

from __future__ import annotations

import asyncio

import pytest

from ownward.upstreams._lookups import Lookups


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
