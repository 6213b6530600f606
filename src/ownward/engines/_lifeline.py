"""How a child process learns that its parent is gone: its standard input closes, and on Linux the kernel kills it.

It imports nothing of ours, so that a worker starts fast.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9
_READ_BYTES = 65536


def may_bind_to_thread() -> bool:
    """Whether a child started here may ask to die with its parent.

    The kernel's parent is the *thread* that started the child: from any but the
    main thread, the child would die when that thread ends.
    """
    return sys.platform == "linux" and threading.current_thread() is threading.main_thread()


def die_with(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent's main thread ends; leave if it is gone already.

    A second guard behind the closing pipe, for a child that hangs. Nothing happens off Linux.
    """
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(0)


def read_lines(on_line: Callable[[bytes], None]) -> None:
    """Call `on_line` with each line of standard input; return when it closes.

    Reads the descriptor itself: a thread that sleeps in `sys.stdin` would hold its lock at exit.
    """
    rest = b""
    while True:
        try:
            data = os.read(0, _READ_BYTES)
        except OSError:
            return
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            on_line(line)
