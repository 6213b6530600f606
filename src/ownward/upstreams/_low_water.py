"""A socket's low-water mark: how much must have come before the event loop is told of it; an end always is.

While it is raised, what comes costs this process nothing, not even under TLS, and stays in the kernel.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys


def _is_heeded() -> bool:
    """Tell whether the system wakes a reader by SO_RCVLOWAT, and at once where the mark sinks: Linux since 4.18."""
    if sys.platform != "linux":
        return False
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is not None and (int(found[1]), int(found[2])) >= (4, 18)


IS_HEEDED = _is_heeded()


class LowWater:
    """The mark of a socket that belongs to a transport.

    uvloop makes a socket anew for each option that is set, which costs five times as much as setting it. So one is made
    once, of the plain type that has no references of its own, and lets go of the descriptor however it ends: closing is
    the transport's.
    """

    __slots__ = ("_socket",)

    def __init__(self, descriptor: int) -> None:
        """Take a TCP socket by its descriptor."""
        self._socket: socket.SocketType | None = socket.SocketType(
            socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, descriptor
        )

    def put_at(self, size_bytes: int) -> bool:
        """Tell the reader only once so much has come; return whether the system does."""
        if self._socket is None:
            return False
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size_bytes)
        except OSError:
            self.let_go()
            return False
        return True

    def let_go(self) -> None:
        """Leave the socket alone from here on."""
        held, self._socket = self._socket, None
        if held is not None:
            with contextlib.suppress(OSError):
                held.detach()

    def __del__(self) -> None:
        """Close nothing."""
        self.let_go()
