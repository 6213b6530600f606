"""Whether processes that a test began are gone."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, also where nobody has asked yet with what status."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_all_gone(pids: Sequence[int], *, within_s: float = 15) -> bool:
    """Return whether all of them have ended within so long."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if all(map(is_gone, pids)):
            return True
        time.sleep(0.02)
    return False
