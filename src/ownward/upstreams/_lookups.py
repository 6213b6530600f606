"""Host names looked up, each by itself and once for all calls that wait for it: one that hangs holds up no other."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from functools import lru_cache, partial
from typing import Protocol


class Resolver(Protocol):
    """Turns a host name into IP literals, in the order to try them."""

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the addresses; raises OSError where there are none."""
        ...


async def resolve(host: str, port: int) -> list[str]:
    """Return the system's addresses of a name; raises OSError where there are none."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[list[str]] = loop.create_future()

    def tell(found: list[str] | OSError) -> None:
        if answered.done():
            return  # nobody waits any more
        if isinstance(found, OSError):
            answered.set_exception(found)
        else:
            answered.set_result(found)

    def ask() -> None:
        found: list[str] | OSError
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(str(info[4][0]) for info in infos))
        except OSError as error:
            found = error
        except UnicodeError:
            found = OSError("no host can have this name")
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(tell, found)

    # Event loops have few threads for it, and wait for them at their end, however long name servers are silent.
    threading.Thread(target=ask, name=f"looks up {host}", daemon=True).start()
    return await answered


class Lookups:
    """A resolver that asks another one, and of each name one question at a time, however many calls wait for it."""

    def __init__(self, resolver: Resolver) -> None:
        """Ask `resolver`."""
        self._resolver = resolver
        self._asked: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the addresses, of a question that may be under way; it goes on where who waits for it leaves."""
        if _is_address(host):
            return [host]
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


@lru_cache(maxsize=1024)
def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
