"""A server program that the user has (llama-server, vLLM, SGLang), launched and supervised like the embedded engine."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from ownward.core import EngineExited
from ownward.engines import _talk
from ownward.engines._child import Child
from ownward.engines._lifeline import may_bind_to_thread
from ownward.engines._state import EngineStatus, RestartPolicy
from ownward.engines._supervisor import HealthPolicy, SupervisedEngine
from ownward.upstreams import Door

_LOOK_S = 0.25


class LaunchedEngine(SupervisedEngine):
    """A server program in a process of its own, held by a leash that ends it with us.

    `command` is told the port to listen on and returns the command line; it is
    called anew for each start. The program must answer `/health` with 200 once
    it has loaded.
    """

    def __init__(
        self,
        command: Callable[[int], list[str]],
        *,
        name: str,
        model: str,
        load_timeout_s: float,
        port: int = 0,
        host: str = "127.0.0.1",
        is_embedding: bool = False,
        log_file: Path | None = None,
        restart: RestartPolicy | None = None,
        health: HealthPolicy | None = None,
        on_change: Callable[[EngineStatus], None] | None = None,
    ) -> None:
        """Name it; nothing runs before `start`. `port` 0 takes a free one at each start."""
        super().__init__(
            name=name,
            model=model,
            is_embedding=is_embedding,
            log_file=log_file,
            restart=restart or RestartPolicy(),
            health=health or HealthPolicy(),
            on_change=on_change,
        )
        self._command = command
        self._timeout_s = load_timeout_s
        self._wanted_port = port
        self._host = host
        self._port = port

    async def _launch(self) -> Child:
        self._port = self._wanted_port or _find_free_port(self._host)
        command = self._command(self._port)
        if shutil.which(command[0]) is None:
            raise EngineExited(
                f'the program "{command[0]}" of engine "{self.name}" is not on this machine',
                next_step="Install it, or give its path",
            )
        bond = str(os.getpid() if may_bind_to_thread() else 0)
        return await Child.spawn(
            [sys.executable, "-m", "ownward.engines._leash", bond, *command], greeting=None, log_file=self.log_file
        )

    async def _find_address(self, child: Child, door: Door) -> str:  # noqa: ARG002 - it is known beforehand
        base_url = f"http://{self._host}:{self._port}"
        name, timeout_s = self.name, self._timeout_s
        while not await _talk.is_healthy(  # noqa: ASYNC110 - another process's state can only be looked at
            door, base_url, name=name, timeout_s=timeout_s
        ):
            await asyncio.sleep(_LOOK_S)
        return base_url

    def _load_timeout_s(self) -> float:
        return self._timeout_s


def _find_free_port(host: str) -> int:
    """Return a port that was free a moment ago; should another take it, the start fails and may be tried again."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
