"""Who connects while a worker is gone or hangs: the parent takes them from its socket and hands them to the others.

Its socket goes on listening, so that nobody is lost who waits there. Where no worker is left, they wait for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Final

_AT_ONCE: Final = 64
_PAUSE_S: Final = 0.05
_ONE: Final = b"c"
"""What a connection travels with, as a stream of sockets carries no descriptor alone."""


class Lending:
    """The sockets of workers that are gone or hang; `takers` returns where the others take connections."""

    def __init__(self, takers: Callable[[], Sequence[socket.socket]]) -> None:
        """Begin with none."""
        self._takers = takers
        self._turns = itertools.count()
        self._lent: dict[int, socket.socket] = {}
        self._paused: dict[int, asyncio.TimerHandle] = {}

    def begin(self, number: int, listener: socket.socket) -> None:
        """Take who connects to a worker's socket from now on; again is harmless."""
        if number in self._paused:
            return
        self._lent[number] = listener
        asyncio.get_running_loop().add_reader(listener, self._take, number, listener)

    def end(self, number: int) -> None:
        """Leave its connections to the worker again."""
        listener = self._lent.pop(number, None)
        paused = self._paused.pop(number, None)
        if paused is not None:
            paused.cancel()
        elif listener is not None:
            asyncio.get_running_loop().remove_reader(listener)

    def close(self) -> None:
        """Take nobody any more."""
        for number in tuple(self._lent):
            self.end(number)

    def _take(self, number: int, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            taker = self._next_taker()
            try:
                if taker is None:
                    self._pause(number, listener)
                    return
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError:  # there is no descriptor left for it
                self._pause(number, listener)
                return
            with connection, contextlib.suppress(OSError):  # where it ended just now, as one that it had taken
                socket.send_fds(taker, [_ONE], [connection.fileno()])

    def _next_taker(self) -> socket.socket | None:
        """Return one that can take a connection now, by turns; None where none can."""
        takers = self._takers()
        if not takers:
            return None
        poll = select.poll()
        for taker in takers:
            poll.register(taker, select.POLLOUT)
        ready = {descriptor for descriptor, event in poll.poll(0) if event == select.POLLOUT}
        first = next(self._turns) % len(takers)
        return next((taker for taker in (*takers[first:], *takers[:first]) if taker.fileno() in ready), None)

    def _pause(self, number: int, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        self._paused[number] = loop.call_later(_PAUSE_S, self._resume, number, listener)

    def _resume(self, number: int, listener: socket.socket) -> None:
        del self._paused[number]
        self.begin(number, listener)


def take_handed_over(taker: socket.socket) -> Iterator[socket.socket]:
    """Yield the connections that the parent has handed over; all that are there, or as many as are served at once."""
    with contextlib.suppress(BlockingIOError, ConnectionError):
        for _ in range(_AT_ONCE):
            said, descriptors, _, _ = socket.recv_fds(taker, len(_ONE), 1, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
            for descriptor in descriptors:
                yield socket.socket(fileno=descriptor)
            if not said:
                return
