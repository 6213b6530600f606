"""The sockets that the workers of one port share: the parent opens them, and each worker accepts from its own."""

from __future__ import annotations

import socket
import sys
from typing import Final

from ownward.gateway.server import bind

_BACKLOG: Final = 2048


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
