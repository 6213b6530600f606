"""The gateway's port: its connections, their limits in time, one task for each request, and the drain at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from email.utils import formatdate
from typing import Any

from ownward.core import Clock
from ownward.gateway.listening.call import Call
from ownward.gateway.listening.connection import HttpConnection
from ownward.gateway.listening.descriptors import fitting_connections, how_to_raise, read_descriptor_limit
from ownward.gateway.settings import GatewaySettings

_LOG = logging.getLogger("ownward.gateway")
_BACKLOG = 2048
_AT_ONCE = 4
"""How many connections asyncio's own event loop takes before it makes the first: of a burst it would take as many as
there are descriptors, and those too many could not be told so."""

_LINGER_S = 0.5
"""How long a stopping gateway leaves idle connections open: a request can be on its way that was sent before."""

_STOP_TICK_S = 0.05
_SETTLE_S = 5.0
_LOOKS_PER_TIMEOUT = 8
_LONGEST_TICK_S = 1.0


class Listener:
    """Accepts requests on one socket, each of which `answer` returns the answering of."""

    def __init__(self, answer: Callable[[Call], Awaitable[None]], *, limits: GatewaySettings, clock: Clock) -> None:
        """Keep who answers; nothing listens yet."""
        self._answer = answer
        self.limits = limits
        self._clock = clock
        self.connections: set[HttpConnection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self._arriving: set[asyncio.Task[None]] = set()
        self._greeting: dict[asyncio.Task[None], None] = {}  # handshakes that are not over, the oldest first
        self.address: tuple[str, int] | None = None
        self.scheme = "http"
        self.date_line = b""
        self.hurry = asyncio.Event()
        self.is_stopping = False
        self._socket: socket.socket | None = None
        self._tls: ssl.SSLContext | None = None
        self._server: asyncio.Server | None = None
        self._tick: asyncio.TimerHandle | None = None
        self.most_connections, self.most_refused = _connections_that_fit(limits)
        self._tick_s = min(_LONGEST_TICK_S, limits.header_timeout_s / _LOOKS_PER_TIMEOUT)
        self._now_s = 0.0

    async def start(self, listener: socket.socket, *, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections."""
        self.scheme = "http" if tls is None else "https"
        self._socket, self._tls = listener, tls
        self._loop = asyncio.get_running_loop()
        self.address = listener.getsockname()[:2]
        self._look()
        if tls is None:
            self._server = await self._loop.create_server(lambda: HttpConnection(self), sock=listener, backlog=_AT_ONCE)
        else:
            self._loop.add_reader(listener, self._accept)
        listener.listen(_BACKLOG)  # how many may wait

    def take(self, connection: socket.socket) -> None:
        """Serve a connection that was accepted elsewhere for this socket's address."""
        connection.settimeout(0)
        self._arrive([connection])

    async def stop(self, drain_s: float) -> None:
        """Accept nothing more, let what is in flight end within `drain_s` or until `hurry`, cancel the rest.

        What came before is served: also who waits to be accepted, and a request that is on its way over a connection
        that was kept. Each answer that begins from now on says that its connection is closed after it.
        """
        if self._socket is None:
            return
        self.is_stopping = True
        self.limits = replace(
            self.limits,
            keep_alive_s=min(_LINGER_S, self.limits.keep_alive_s),
            header_timeout_s=min(_LINGER_S, self.limits.header_timeout_s),
        )
        self._arrive(self._accept_the_rest())
        if self._server is None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
        else:
            self._server.close()
        if self._tick is not None:
            self._tick.cancel()
            self._tick_s = _STOP_TICK_S
            self._look()  # the moments of grace count from now, and not from when it was looked last
        for connection in list(self.connections):
            connection.shut_down()
        hurry = asyncio.create_task(self.hurry.wait())
        ends_s = self._loop.time() + drain_s
        while (left_s := ends_s - self._loop.time()) > 0 and not hurry.done():
            if self._arriving or self.tasks:
                ending = asyncio.ensure_future(asyncio.wait({*self._arriving, *self.tasks}))
                await asyncio.wait({hurry, ending}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                ending.cancel()
            elif any(each.is_between for each in self.connections):  # until `_look` closes them, at its next tick
                await asyncio.wait({hurry}, timeout=min(_STOP_TICK_S, left_s))
            else:
                break
        hurry.cancel()
        for task in (*self._arriving, *self._greeting):
            task.cancel()
        left = {task for task in self.tasks if not task.done()}
        for task in left:
            task.cancel("the gateway is stopping")
        if left:
            await asyncio.wait(left, timeout=_SETTLE_S)
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        for connection in list(self.connections):
            connection.close()

    def _accept(self) -> None:
        """Take a few who wait to speak TLS; a handshake that is not over counts as a connection.

        Where there are too many, the oldest handshake makes room: one that is meant is over in a moment. None of those
        can be told, as what would be said has to be encrypted.
        """
        assert self._socket is not None
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # of descriptors or memory
                _LOG.error("no connection can be taken: %s; that is tried again in %g s", error, _LONGEST_TICK_S)
                self._loop.remove_reader(self._socket)
                self._loop.call_later(_LONGEST_TICK_S, self._accept_again)
                return
            if len(self._greeting) + len(self.connections) >= self.most_connections + self.most_refused:
                oldest = next(iter(self._greeting), None)
                if oldest is None:
                    connection.close()
                    continue
                del self._greeting[oldest]
                oldest.cancel()
            connection.settimeout(0)
            task = self._loop.create_task(self._greet(connection))
            self._greeting[task] = None
            task.add_done_callback(lambda task: self._greeting.pop(task, None))

    def _accept_again(self) -> None:
        if self._socket is not None and not self.is_stopping:
            self._loop.add_reader(self._socket, self._accept)

    async def _greet(self, connection: socket.socket) -> None:
        """Begin with a connection that was accepted, over TLS once its handshake is over."""
        with contextlib.suppress(OSError):  # it is gone, speaks no TLS, or takes too long
            await self._loop.connect_accepted_socket(
                lambda: HttpConnection(self),
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else self.limits.header_timeout_s,
            )

    def _accept_the_rest(self) -> list[socket.socket]:
        """Return the connections that wait to be accepted: the system would reset them, and what they have sent."""
        accepted: list[socket.socket] = []
        with contextlib.suppress(OSError):  # no more wait, or there is no descriptor left for them
            while self._socket is not None and len(accepted) < _BACKLOG:
                connection, _ = self._socket.accept()
                connection.settimeout(0)
                accepted.append(connection)
        return accepted

    def _arrive(self, accepted: list[socket.socket]) -> None:
        task = self._loop.create_task(self._take(accepted))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _take(self, accepted: list[socket.socket]) -> None:
        """Begin with those connections; over TLS wait besides for those whose handshake is not over."""
        greeting: list[Coroutine[Any, Any, object]] = [self._greet(connection) for connection in accepted]
        if self._tls is not None:
            greeting.append(asyncio.sleep(_LINGER_S))
        await asyncio.gather(*greeting, return_exceptions=True)

    # The connections' side.

    def answer(self, call: Call) -> None:
        """Have the application answer a call, in a task of its own."""
        # Made here and named, as a name that asyncio makes up costs more than the task.
        task = call.task = asyncio.Task(self._run(call), loop=self._loop, name="request")
        self.tasks.add(task)

    def deadline_s(self, seconds: float) -> float:
        """Return the time on this listener's own clock, which goes in ticks, that lies `seconds` ahead."""
        return self._now_s + seconds

    async def _run(self, call: Call) -> None:
        try:
            await self._answer(call)
        except asyncio.CancelledError:
            call.fail()
            raise
        except Exception:  # noqa: BLE001 - the outermost frame of an application
            _LOG.exception("the application failed at %s", call.scope["path"])
            call.fail()
        else:
            if not call.is_over and not call.is_gone:
                _LOG.error("the application ended without an answer at %s", call.scope["path"])
                call.fail()
        finally:
            self.tasks.discard(call.task)
            call.forget()

    def _look(self) -> None:
        """Move the clock, renew the date, give up on connections that took too long."""
        now_s = self._now_s = self._loop.time()
        self.date_line = f"date: {formatdate(self._clock.now().timestamp(), usegmt=True)}\r\n".encode()
        for connection in tuple(self.connections):
            if connection.waits is not None and connection.deadline_s <= now_s:
                connection.expire()
        self._tick = self._loop.call_later(self._tick_s, self._look)


def _connections_that_fit(limits: GatewaySettings) -> tuple[int, int]:
    """Return how many connections are taken, saying where that is far fewer than stated, and how many more refused."""
    descriptors = read_descriptor_limit()
    fitting, refused = fitting_connections(limits.max_connections, descriptors=descriptors)
    if fitting < limits.max_connections:
        _LOG.log(
            logging.INFO if fitting > limits.max_connections // 2 else logging.WARNING,
            "%d connections of clients are taken at a time, and not %d (max_connections): this process may have %d file"
            " descriptors. %s",
            fitting,
            limits.max_connections,
            descriptors,
            how_to_raise(limits.max_connections),
        )
    return fitting, refused
