"""What an operator says by signals: stop, read the plan again; and that no habit from other servers ends this one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
from collections.abc import Callable, Iterator

_LOG = logging.getLogger("ownward.gateway")
_TOO_MANY_OPEN = frozenset({errno.EMFILE, errno.ENFILE})


@contextlib.contextmanager
def heeded_signals(*, stop: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    """Have signals heeded by the running loop while this lasts.

    SIGTERM, SIGINT and SIGQUIT call `stop`, each time. SIGHUP calls `reload`; once the terminal that this process was
    started from is gone it says so, and calls `stop` (unless it was ignored before, as nohup does). SIGUSR1 and
    SIGUSR2 do nothing, where other servers open their logs anew.
    """
    loop = asyncio.get_running_loop()
    may_hang_up = hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and has_terminal()
    has_hung_up = False

    def on_hangup() -> None:
        nonlocal has_hung_up
        if has_hung_up:
            return  # the shell passes on what the kernel has said already
        if may_hang_up and not has_terminal():
            has_hung_up = True
            _LOG.warning("the terminal is gone: stopping")
            stop()
        else:
            reload()

    handlers = {"SIGINT": stop, "SIGTERM": stop, "SIGQUIT": stop, "SIGHUP": on_hangup}
    handlers |= dict.fromkeys(("SIGUSR1", "SIGUSR2"), _say_nothing_to_do)
    heeded = {getattr(signal, name): handler for name, handler in handlers.items() if hasattr(signal, name)}
    for number, handler in heeded.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)


def has_terminal() -> bool:
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
