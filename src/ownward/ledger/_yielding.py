"""How the ledger's threads leave the processor to requests."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import Final

_NICE: Final = 10


def run_when_others_do_not() -> None:
    """Have this thread run when requests leave the processor free, where threads have a priority of their own.

    Not for one that holds what a request may wait for: it would do so for as long as others are busy.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def let_others_run() -> None:
    """Let threads go first that wait for this processor; where none does, this takes next to no time."""
    if sys.platform == "win32":
        time.sleep(0)
    else:
        os.sched_yield()
