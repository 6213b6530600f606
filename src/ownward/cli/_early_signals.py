"""Signals that come before a gateway is there to heed them, as engines can take minutes to start, or after it."""

from __future__ import annotations

import os
import signal
from typing import Any


class EarlySignals:
    """From now on SIGHUP, SIGUSR1 and SIGUSR2 do not end this process, and a stop does, also a container's first one.

    The kernel lets signals pass by a first process that has no handler for them: a stop during the start would be lost.
    """

    def __init__(self) -> None:
        """Take the place of the system's own way with them; what starts us may have SIGHUP ignored (nohup)."""
        self._has_hangup = False
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._note)
        _handle(_pass_over, "SIGUSR1", "SIGUSR2")
        if os.getpid() == 1:
            _handle(_end, "SIGTERM", "SIGQUIT")

    def pass_on(self) -> None:
        """Say again what came too early, now that somebody heeds it."""
        if self._has_hangup:
            self._has_hangup = False
            signal.raise_signal(signal.SIGHUP)

    def pass_over(self) -> None:
        """Let none change how this process ends, which it is about to do by itself.

        They are ignored: Python has the system's own way back for whatever else is heard, before it has ended.
        """
        _handle(signal.SIG_IGN, "SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2")

    def _note(self, *_: Any) -> None:
        self._has_hangup = True


def _handle(handler: Any, *names: str) -> None:
    for name in names:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), handler)


def _pass_over(*_: Any) -> None:
    """Do nothing; unlike what is ignored, what a process that we start does not inherit."""


def _end(number: int, _: Any) -> None:
    os._exit(128 + number)
