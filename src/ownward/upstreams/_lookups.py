"""Host names looked up once for all calls that wait for one: few threads do it, and a name that hangs keeps one."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Protocol


class Resolver(Protocol):
    """Turns a host name into IP literals, in the order to try them."""

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the addresses; raises OSError where there are none."""
        ...


async def resolve(host: str, port: int) -> list[str]:
    """Return the system's addresses of a name; raises OSError where there are none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


class Lookups:
    """A resolver that asks another one, and of each name one question at a time.

    uvloop looks names up in four threads, and asyncio in those that the ledger is read in too: without this, calls to
    an upstream whose name servers are silent keep all others from new connections, and from their rows.
    """

    def __init__(self, resolver: Resolver) -> None:
        """Ask `resolver`."""
        self._resolver = resolver
        self._asked: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the addresses, of a question that may be under way; it goes on where who waits for it leaves."""
        asked = self._asked.get((host, port))
        if asked is None:
            asked = self._asked[host, port] = asyncio.create_task(self._ask(host, port))
            asked.add_done_callback(partial(self._forget, (host, port)))
        await asyncio.wait({asked})
        return asked.result()

    async def _ask(self, host: str, port: int) -> list[str]:
        return await self._resolver(host, port)

    def _forget(self, name: tuple[str, int], asked: asyncio.Task[list[str]]) -> None:
        del self._asked[name]
        if not asked.cancelled():
            asked.exception()  # those who asked may all have left
