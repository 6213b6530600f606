"""Sockets that listen at one address: alone, or together where several processes serve it."""

from __future__ import annotations

import socket
import sys
from typing import Final

from ownward.core import PortTaken

_BACKLOG: Final = 2048


def bind(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """Return a socket bound to the address; `is_shared`, where others that are shared may be bound to it too.

    Raises: PortTaken, naming the address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named, and a kept-alive answer then waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"cannot listen on {host}:{port}: {error.strerror}",
            allowed="Port 0 takes a free one",
            next_step="Stop what listens there, or choose another port with --port",
        ) from error
    listener.settimeout(0)
    return listener


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


def socket_of(descriptor: int) -> socket.socket:
    """Return the listening socket that the parent handed over."""
    listener = socket.socket(fileno=descriptor)
    listener.settimeout(0)
    return listener
