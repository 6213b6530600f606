"""How many connections the system lets this process have: each request takes one of a client and one to an upstream.

Without a bound below the system's, a burst of clients takes every file descriptor: then connections are neither taken
nor refused, and calls to healthy upstreams fail.
"""

from __future__ import annotations

from typing import Final

_OWN: Final = 40
"""The ledger, listening sockets, pipes, the log and what an import opens for a moment."""

_FEWEST: Final = 4
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


def read_descriptor_limit() -> int | None:
    """Return how many file descriptors this process may have; None where there is no limit."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def fitting_connections(stated: int, *, descriptors: int | None) -> tuple[int, int]:
    """Return how many connections of clients fit, each with one to an upstream, and how many more can be told so.

    >>> fitting_connections(12_000, descriptors=1_048_576), fitting_connections(12_000, descriptors=1024)
    ((12000, 12000), (392, 196))
    """
    if descriptors is None:
        return stated, stated
    fifth = max(descriptors - _OWN, 5) // 5
    return min(stated, max(2 * fifth, _FEWEST)), min(stated, max(fifth, _FEWEST))
