"""What an operator says by signals: stop, read the plan again; and that no habit from other servers ends this one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

_LOG = logging.getLogger("ownward.gateway")
_LOOK_S: Final = 5.0
_TOO_MANY_OPEN = frozenset({errno.EMFILE, errno.ENFILE})


@contextlib.contextmanager
def heeded_signals(*, stop: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    """Have signals heeded by the running loop while this lasts.

    SIGTERM, SIGINT and SIGQUIT call `stop`, each time. SIGHUP calls `reload`, but for the one by which the terminal
    goes that this process was started from: that calls `stop`, unless it was ignored before (nohup). SIGUSR1 and
    SIGUSR2 do nothing, where other servers open their logs anew.
    """
    loop = asyncio.get_running_loop()
    terminal = _Terminal(loop)

    def on_hangup() -> None:
        if not terminal.is_hanging_up:
            reload()
        elif not terminal.has_said_so:  # the shell passes on what the kernel says already
            terminal.has_said_so = True
            _LOG.warning("the terminal is gone: stopping")
            stop()

    handlers = {"SIGINT": stop, "SIGTERM": stop, "SIGQUIT": stop, "SIGHUP": on_hangup}
    handlers |= dict.fromkeys(("SIGUSR1", "SIGUSR2"), _say_nothing_to_do)
    heeded = {getattr(signal, name): handler for name, handler in handlers.items() if hasattr(signal, name)}
    for number, handler in heeded.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        terminal.look_no_more()
        for number in heeded:
            loop.remove_signal_handler(number)


async def has_started(starting: Coroutine[Any, Any, None], stopping: asyncio.Event) -> bool:
    """Return whether a start came to its end; it is cancelled where a stop comes before that."""
    start, stop = asyncio.ensure_future(starting), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        start.cancel()
    await asyncio.wait({start})
    if start.cancelled():
        return False
    start.result()
    return True


class _Terminal:
    """The terminal that this process was started from, if any.

    Its end is told by SIGHUP in the moment of it. Who was not told (`disown`) is told nothing of it by a later one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._misses = 0
        self._next_look: asyncio.TimerHandle | None = None
        self.has_said_so = False
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and _has_terminal():
            self._look()

    @property
    def is_hanging_up(self) -> bool:
        """Whether a SIGHUP of this moment says that it is gone."""
        return self._next_look is not None and not _has_terminal()

    def look_no_more(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()

    def _look(self) -> None:
        self._misses = 0 if _has_terminal() else self._misses + 1
        self._next_look = None if self._misses > 1 else self._loop.call_later(_LOOK_S, self._look)


def _has_terminal() -> bool:
    """Return whether this process has a terminal, which could hang up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError as error:
        return error.errno in _TOO_MANY_OPEN
    return True


def _say_nothing_to_do() -> None:
    _LOG.warning(
        "SIGUSR1 and SIGUSR2 do nothing here: the log goes to standard error, SIGHUP reads plan and certificates"
        " again, and SIGTERM stops"
    )
