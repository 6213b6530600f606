"""The states of an engine and the only ways from one to another. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class EngineState(Enum):
    """Where an engine is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


TRANSITIONS: frozenset[tuple[EngineState, EngineState]] = frozenset(
    {
        (EngineState.STOPPED, EngineState.STARTING),
        (EngineState.STARTING, EngineState.READY),
        (EngineState.STARTING, EngineState.FAILED),
        (EngineState.STARTING, EngineState.STOPPING),
        (EngineState.READY, EngineState.FAILED),
        (EngineState.READY, EngineState.STOPPING),
        (EngineState.FAILED, EngineState.STARTING),
        (EngineState.FAILED, EngineState.STOPPING),
        (EngineState.STOPPING, EngineState.STOPPED),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """What can be said of an engine at a moment."""

    name: str
    state: EngineState
    base_url: str | None
    pid: int | None
    reason: str | None  # why it failed last
    restarts: int
    restart_in_s: float | None  # of one that failed: when it is started again; None: it is not, by itself
    load_s: float | None  # from start to the first token, of the current or last run
    lacks: frozenset[str]  # capabilities, in the plan's words, that it said it does not have


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """How an engine that failed by itself is brought back.

    The wait grows by `factor` from `first_delay_s` to at most `longest_delay_s`;
    after `limit` failures in a row it stays down. A run of `healthy_after_s`
    makes the next failure the first again.
    """

    first_delay_s: float = 0.5
    factor: float = 2.0
    longest_delay_s: float = 30.0
    limit: int = 5
    healthy_after_s: float = 60.0


def compute_restart_delay_s(policy: RestartPolicy, failures: int) -> float | None:
    """Return how long to wait after the `failures`-th failure in a row; None: stay down.

    >>> [compute_restart_delay_s(RestartPolicy(limit=3), n) for n in (1, 2, 3, 4)]
    [0.5, 1.0, 2.0, None]
    """
    if failures > policy.limit:
        return None
    return float(min(policy.first_delay_s * policy.factor ** (failures - 1), policy.longest_delay_s))


def compute_load_timeout_s(file_bytes: int) -> float:
    """Return how long a load may take: a minute, and a second for each 25 MB (a slow disk, read once).

    >>> round(compute_load_timeout_s(98_362_432))
    64
    """
    return 60.0 + file_bytes / 25e6


def choose_threads(*, usable_cores: int, machine_cores: int, busy_cores: float) -> int:
    """Return how many threads may compute: cores that are ours and free now, at least one.

    Threads beyond the free cores wait for each other at barriers: on two cores
    with one busy, two threads decoded at 8 to 41 tokens/s where one made 141.

    >>> choose_threads(usable_cores=2, machine_cores=2, busy_cores=0.1)
    2
    >>> choose_threads(usable_cores=2, machine_cores=2, busy_cores=0.9)
    1
    """
    free = machine_cores - round(busy_cores)
    return max(1, min(usable_cores, free))
