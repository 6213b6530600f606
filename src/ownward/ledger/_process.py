"""Which process wrote a row, and whether it still lives.

A pid means something only within one boot and one pid namespace, and is used
again; together with the process's start they name it exactly.
"""

from __future__ import annotations

import functools
import os
import socket
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_BOOT_SESSION = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
_SYSCTL_S = 5.0
_STATE_FIELD = 0  # of /proc/PID/stat after the command's closing bracket
_START_FIELD = 19
_ENDED_STATES = frozenset("ZXx")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """One process, so named that no other is taken for it."""

    pid: int
    process_start: str
    host_id: str
    host_name: str


def this_process() -> ProcessIdentity:
    """Return the identity of the calling process."""
    pid = os.getpid()
    return ProcessIdentity(
        pid=pid,
        process_start=process_start(pid) or "unknown",
        host_id=this_host_id(),
        host_name=socket.gethostname(),
    )


def this_host_id() -> str:
    """Return what two processes share exactly when they see each other's pids: the boot and the pid namespace."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        session = _boot_session()
        if session is not None:
            return session
        import psutil

        return f"{socket.gethostname()}/{psutil.boot_time():.0f}"


@functools.cache
def _boot_session() -> str | None:
    """Return macOS's own id of this boot: its `kern.boottime` moves with the clock, its name with the network."""
    import subprocess

    try:
        done = subprocess.run(_BOOT_SESSION, capture_output=True, text=True, timeout=_SYSCTL_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def process_start(pid: int) -> str | None:
    """Return when the process with `pid` started, as a text that only it has; None, if none runs.

    A process that ended and waits for its parent does not run.
    """
    if (_PROC / "self/stat").exists():
        try:
            fields = (
                (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            )
        except OSError:
            return None
        return None if fields[_STATE_FIELD] in _ENDED_STATES else f"ticks:{fields[_START_FIELD]}"
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
            return None
        return f"time:{process.create_time():.3f}"
    except psutil.Error:
        return None


def is_alive(process: ProcessIdentity, *, heartbeat_age_s: float, heartbeat_limit_s: float) -> bool:
    """Return whether `process` lives: looked up on this host, else judged by its last heartbeat."""
    if process.host_id == this_host_id():
        return process_start(process.pid) == process.process_start
    return heartbeat_age_s <= heartbeat_limit_s
