"""A request as its calls see it: what it asks, where it may go, and what they note of it.

`exchange` is what it is; calls know no more of it than stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from ownward.gateway.calling.allowance import Allowance
from ownward.gateway.calling.sink import Sink
from ownward.gateway.calling.translating import TranslatedCall
from ownward.gateway.client import Client
from ownward.gateway.commons import Commons
from ownward.gateway.endpoints import Endpoint
from ownward.gateway.head import Head
from ownward.gateway.placing.affinity import Prompt
from ownward.gateway.placing.choice import Choice, KeyScope
from ownward.gateway.placing.routing import RoutingTable, Target
from ownward.gateway.watching.metrics import CallEnd
from ownward.ledger import BudgetCheck, LimitState, Request
from ownward.policy import Label


class Served(Sink, Protocol):
    """One request. As a sink it is its client, who is told at once."""

    gateway: Commons
    client: Client

    # What it asks.
    endpoint: Endpoint
    head: Head
    headers: Mapping[bytes, bytes]
    body: bytes
    request_id: str
    started_s: float
    is_stream: bool
    is_beta: bool
    needs: frozenset[str]
    prompt: Prompt | None
    key: KeyScope | None
    task_budget: BudgetCheck | None
    allowance: Allowance | None

    # Where it may go; `heeded` is the newest plan by which the label holds.
    table: RoutingTable
    heeded: RoutingTable
    workload: str
    label: Label
    choice: Choice | None

    # What its calls note.
    target: Target | None
    attempts: int
    calls: list[CallEnd]
    call_note: str | None
    translated: dict[str, TranslatedCall]
    hedge: Literal["won", "lost"] | None
    outcome: str
    queue_s: float
    limit_states: tuple[LimitState, ...]

    # How it was answered so far; `broken_id` is what the upstream calls an answer whose stream broke.
    status: int
    has_broken: bool
    broken_id: str | None

    # Its row on the ledger, which its first call writes; False while that is being done.
    request: Request | None
    row_written: bool | None

    @property
    def is_unkept(self) -> bool:
        """Whether the request says that its answer is not to be kept upstream."""
        ...

    async def translate(self, target: Target, body: bytes) -> TranslatedCall:
        """Return the request as an upstream of another dialect is asked.

        Raises: Incapable.
        """
        ...

    async def heed_new_plan(self) -> None:
        """Shrink the label to where a plan that was loaded since lets the request go too."""
        ...

    def may_still_go(self, target: Target) -> bool:
        """Return whether the request may go there by each plan that it heeds."""
        ...

    def add_reason(self, why: str) -> None:
        """Add to the reason why the request went where it did."""
        ...

    def note_limits(self, states: tuple[LimitState, ...]) -> None:
        """Keep what is left of the key's limits, for the client to be told."""
        ...

    def note_row(self, *, is_written: bool | None) -> None:
        """Note that the request's row is written; None, that another call has to write it."""
        ...

    async def wait_for_row(self) -> None:
        """Return when another call has written the request's row, or could not."""
        ...
