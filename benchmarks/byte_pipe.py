"""Copies bytes between clients and one upstream on uvloop and reads nothing: the least that a proxy in Python costs.

python -m benchmarks.byte_pipe UPSTREAM_PORT      # prints its port, serves until standard input closes
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import cast

from benchmarks.light_client import run_on_light_loop


class Side(asyncio.Protocol):
    """One end of a pipe; what it reads goes to the other."""

    def __init__(self, upstream: int | None, other: Side | None = None) -> None:
        """Make the client's side with the upstream's port, the upstream's side with the client's."""
        self._upstream, self.other = upstream, other
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to the upstream for a client; send on what came early for an upstream."""
        self.transport = cast("asyncio.Transport", transport)
        if self._upstream is not None:
            loop = asyncio.get_running_loop()
            self._connecting = loop.create_task(
                loop.create_connection(lambda: Side(None, self), "127.0.0.1", self._upstream)
            )
        elif self.other is not None:
            self.other.other = self
            transport.writelines(self.other._early)  # type: ignore[attr-defined]  # noqa: SLF001 - its own kind

    def data_received(self, data: bytes) -> None:
        """Copy."""
        if self.other is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """End the other side too."""
        if self.other is not None:
            self.other.transport.close()


async def serve(upstream: int) -> None:
    """Print the port and serve until standard input closes."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Side(upstream), "127.0.0.1", 0, backlog=4096)
    print("listening at", server.sockets[0].getsockname()[1], flush=True)
    gc.freeze()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    run_on_light_loop(lambda: serve(int(sys.argv[1])))
