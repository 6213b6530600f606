"""How long the door waits, and how much it takes in."""

from __future__ import annotations

from dataclasses import dataclass

from ownward.core import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The waits of one call, in seconds.

    `connect_s`: for a free connection, name resolution, TCP and TLS together;
    `first_byte_s`: from the request's writing to the end of the answer's
    headers; `stall_s`: between two pieces of the body while someone waits for one.
    """

    connect_s: float = 10.0
    first_byte_s: float = 300.0
    stall_s: float = 120.0

    def __post_init__(self) -> None:
        """Refuse waits that are not above zero."""
        for name in ("connect_s", "first_byte_s", "stall_s"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)!r}", allowed="Seconds above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorLimits:
    """What the door holds at most.

    `connections_per_origin` are open at once; further calls wait for `connect_s`,
    at most `waiting_per_origin` of them, the rest are refused at once. (How many
    requests an upstream should have is the caller's to decide; these bound memory.)
    `idle_s` is how long an unused connection is kept (servers close theirs after
    5 s or more; a longer `keep-alive: timeout=` of the server is followed up to
    `idle_most_s`); `header_bytes` of an answer's head; `buffer_bytes` of a body
    are held for a slow reader before the upstream is made to wait.
    """

    connections_per_origin: int = 8192
    waiting_per_origin: int = 1024
    idle_s: float = 4.0
    idle_most_s: float = 60.0
    header_bytes: int = 64 * 1024
    buffer_bytes: int = 256 * 1024
