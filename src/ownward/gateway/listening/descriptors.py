"""How many connections the system lets this process have: each request takes one of a client and one to an upstream.

Without a bound below the system's, a burst of clients takes every file descriptor: then connections are neither taken
nor refused, and calls to healthy upstreams fail.
"""

from __future__ import annotations

from typing import Final

from ownward.core import UsageError

_OWN: Final = 40
"""The ledger, listening sockets, pipes, the log and what an import opens for a moment."""

_FEWEST: Final = 4
_FEWEST_TO_START: Final = 32
_PARENT, _EACH_WORKER = 24, 6
"""What a process takes that starts workers, and what each of these takes there: its socket, both ends of its line and
of where it is handed connections, its start."""

_MOST: Final = 1 << 20
"""Above this some programs that we start would be busy closing descriptors that they do not have."""


def raise_descriptor_limit() -> None:
    """Let this process and its children have as many file descriptors as their user may; nothing on Windows.

    macOS states no limit, and takes none above its `kern.maxfilesperproc`: half as many are asked for until it does.
    """
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    while soft != resource.RLIM_INFINITY and wanted > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            wanted //= 2
        else:
            return


def require_descriptors(*, workers: int, connections: int) -> None:
    """Raise the limit, and refuse to start with fewer than a start takes; `connections` are wanted in each process.

    Raises: UsageError.
    """
    raise_descriptor_limit()
    have, least = read_descriptor_limit(), max(_FEWEST_TO_START, _PARENT + _EACH_WORKER * workers)
    if have is not None and have < least:
        raise UsageError(
            f"this process may have {have} file descriptors, and a gateway of"
            f" {workers} {'process' if workers == 1 else 'workers'} takes {least}",
            allowed=f"At least {least}, and two more for each request at a time",
            next_step=how_to_raise(connections),
        )


def read_descriptor_limit() -> int | None:
    """Return how many file descriptors this process may have; None where there is no limit."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def how_to_raise(connections: int) -> str:
    """Return what to do so that so many connections of clients fit.

    >>> how_to_raise(12_000)
    'Raise the limit: ulimit -n 30040, or LimitNOFILE=30040 of systemd, is enough for 12000 connections'
    """
    enough = _OWN + 5 * -(-connections // 2)
    return (
        f"Raise the limit: ulimit -n {enough}, or LimitNOFILE={enough} of systemd,"
        f" is enough for {connections} connections"
    )


def fitting_connections(stated: int, *, descriptors: int | None) -> tuple[int, int]:
    """Return how many connections of clients fit, each with one to an upstream, and how many more can be told so.

    >>> fitting_connections(12_000, descriptors=1_048_576), fitting_connections(12_000, descriptors=1024)
    ((12000, 12000), (392, 196))
    """
    if descriptors is None:
        return stated, stated
    fifth = max(descriptors - _OWN, 5) // 5
    return min(stated, max(2 * fifth, _FEWEST)), min(stated, max(fifth, _FEWEST))
