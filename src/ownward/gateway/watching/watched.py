"""A request as those see it who watch: what it asked, where it went, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from ownward.gateway.client import Client
from ownward.gateway.endpoints import Endpoint
from ownward.gateway.placing.choice import Choice, KeyScope
from ownward.gateway.placing.routing import RoutingTable, Target
from ownward.gateway.watching.metrics import CallEnd
from ownward.policy import Label


class Counted(Protocol):
    """A request whose calls are counted; `calls` are those that are over."""

    workload: str
    table: RoutingTable
    calls: list[CallEnd]


class Watched(Counted, Protocol):
    """A request that is over; `status` is what its client was told, `error_kind` why, where it was refused here."""

    client: Client
    endpoint: Endpoint
    headers: Mapping[bytes, bytes]
    request_id: str
    task_id: str
    route: str
    key: KeyScope | None
    label: Label
    is_stream: bool

    choice: Choice | None
    target: Target | None
    attempts: int
    outcome: str
    hedge: Literal["won", "lost"] | None

    started_s: float
    queue_s: float
    status: int
    error_kind: str | None
    has_broken: bool
