"""The first of several addresses that takes a connection, without waiting for those that do not answer."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Final

_NEXT_AFTER_S: Final = 0.25


async def connect_first(addresses: Sequence[str], port: int) -> tuple[socket.socket, str]:
    """Return a connected socket, and which of the addresses it is connected to.

    Each is tried when the one before it failed, or has not answered for a quarter of a second (RFC 8305, section 5): a
    network that has lost its way to IPv6, or a machine that is gone from a round of several, costs no more than that.
    Raises: OSError, if none gave a connection.
    """
    left = list(addresses)
    trying: set[asyncio.Task[tuple[socket.socket, str]]] = set()
    failure = OSError()
    try:
        while left or trying:
            if left:
                trying.add(asyncio.create_task(_connect(left.pop(0), port)))
            done, _ = await asyncio.wait(
                trying, timeout=_NEXT_AFTER_S if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                trying.remove(task)
                error = task.exception()
                if error is None:
                    return task.result()
                if not isinstance(error, OSError):
                    raise error
                failure = error
    finally:
        for task in trying:
            task.add_done_callback(_close)
            task.cancel()
    raise failure


async def _connect(address: str, port: int) -> tuple[socket.socket, str]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, so that event loops set TCP_NODELAY
    try:
        made.settimeout(0)
        await asyncio.get_running_loop().sock_connect(made, (address, port))
    except OSError as error:
        made.close()
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno)) from None  # event loops have words of their own
    except BaseException:
        made.close()
        raise
    return made, address


def _close(task: asyncio.Task[tuple[socket.socket, str]]) -> None:
    """Close the connection of one that came second."""
    if not task.cancelled() and task.exception() is None:
        task.result()[0].close()
