"""Signals that come before a gateway is there to heed them: engines can take minutes to start."""

from __future__ import annotations

import os
import signal
from typing import Any


class EarlySignals:
    """From now on SIGHUP does not end this process, and SIGTERM does, also in a container whose first process it is.

    The kernel lets signals pass by a first process that has no handler for them: a stop during the start would be lost.
    """

    def __init__(self) -> None:
        """Take the place of the system's own way with both."""
        self._has_hangup = False
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._note)
        if os.getpid() == 1:
            signal.signal(signal.SIGTERM, _end)

    def pass_on(self) -> None:
        """Say again what came too early, now that somebody heeds it."""
        if self._has_hangup:
            self._has_hangup = False
            signal.raise_signal(signal.SIGHUP)

    def _note(self, *_: Any) -> None:
        self._has_hangup = True


def _end(*_: Any) -> None:
    os._exit(128 + signal.SIGTERM)
