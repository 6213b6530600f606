"""Holds a server program that knows no lifeline: ends it when standard input closes, and leaves as it leaves.

Run as `python -m ownward.engines._leash PARENT_PID COMMAND…` (0: no bond to the parent's thread).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

from ownward.engines._lifeline import die_with, read_lines

_TERMINATE_S = 5.0  # below the ten seconds that the supervisor grants
_NOT_FOUND = 127


def main(arguments: list[str]) -> None:
    """Run the command until it leaves or the parent is gone."""
    parent_pid, *command = arguments
    if int(parent_pid):
        die_with(int(parent_pid))
    own_pid = os.getpid()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            # Only the bond to this process is made between fork and exec; no thread runs yet.
            preexec_fn=lambda: die_with(own_pid),  # noqa: PLW1509
        )
    except OSError as error:
        sys.stderr.write(f"error: {command[0]} cannot be run: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(_NOT_FOUND)

    def end(*_signal: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        threading.Timer(_TERMINATE_S, process.kill).start()

    signal.signal(signal.SIGTERM, end)

    def ignore(_line: bytes) -> None:
        """Nothing is said to the leash."""

    def listen() -> None:
        read_lines(ignore)
        end()

    threading.Thread(target=listen, name="parent", daemon=True).start()
    status = process.wait()
    if status < 0:
        sys.stderr.write(f"{command[0]} was ended by signal {-status}\n")
    sys.stderr.flush()
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main(sys.argv[1:])
