"""Bodies that a workload's plan asks to be kept: sampled, bounded in size, deleted when their time is over.

Without `capture` in the plan no body is kept anywhere. They stand in the ledger as they were sent, so a ledger on
another machine gets only those whose label lets data travel anywhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ownward.core import LedgerError, OwnwardError
from ownward.policy import ANY

if TYPE_CHECKING:
    from ownward.gateway.calling.served import Served
    from ownward.gateway.commons import Commons
    from ownward.gateway.placing.choice import Choice
    from ownward.plan import Capture, Plan

_LOG = logging.getLogger("ownward.gateway")
_RANDOM_BITS: Final = 53
_SUCCESS: Final = 200


class Capturing:
    """What one request's bodies are gathered in; nothing is kept of what grows too large or does not end well."""

    __slots__ = ("_answer", "_capture", "_is_whole", "_request", "_size")

    def __init__(self, capture: Capture, request: bytes) -> None:
        """Begin with the request as the client sent it."""
        self._capture = capture
        self._request = request
        self._answer: list[bytes] = []
        self._size = 0
        self._is_whole = len(request) <= capture.max_body_bytes

    def add(self, data: bytes) -> None:
        """Add a piece of the answer."""
        self._size += len(data)
        if self._size > self._capture.max_body_bytes:
            self._is_whole = False
            self._answer.clear()
        elif self._is_whole:
            self._answer.append(data)

    async def keep(self, exchange: Served) -> None:
        """Write both bodies to the ledger, if the plan of now still lets them travel there; never raises."""
        if not self._is_whole or exchange.status != _SUCCESS or exchange.has_broken or exchange.client.is_gone:
            return
        gateway = exchange.gateway
        try:
            if gateway.table is not exchange.heeded:
                await exchange.heed_new_plan()
            if gateway.ledger.is_on_this_machine or exchange.label == ANY:
                await asyncio.to_thread(self._write, gateway, exchange.request_id, exchange.attempts)
        except OwnwardError as error:
            _LOG.error("the bodies of %s were not kept: %s", exchange.request_id, error)

    def _write(self, gateway: Commons, request_id: str, attempts: int) -> None:
        ledger, expires_at = gateway.ledger, gateway.clock.now() + timedelta(seconds=self._capture.retention_s)
        ledger.capture_body(
            request_id=request_id, attempt=None, kind="request", content=self._request, expires_at=expires_at
        )
        answer = b"".join(self._answer)
        ledger.capture_body(
            request_id=request_id, attempt=attempts, kind="response", content=answer, expires_at=expires_at
        )


def begin_capture(gateway: Commons, choice: Choice, body: bytes) -> Capturing | None:
    """Return what a request's bodies are gathered in; None where its workload does not ask, or it is not drawn."""
    capture = None if choice.declared is None else choice.declared.capture
    if capture is None or not (gateway.ledger.is_on_this_machine or choice.label == ANY):
        return None
    if gateway.random_bits(_RANDOM_BITS) >= capture.sample_fraction * (1 << _RANDOM_BITS):
        return None
    return Capturing(capture, body)


async def delete_expired(gateway: Commons) -> None:
    """Delete the bodies whose time is over; never raises."""
    try:
        await asyncio.to_thread(gateway.ledger.delete_expired_bodies)
    except LedgerError as error:
        _LOG.error("expired bodies could not be deleted and are tried again: %s", error)


def uncaptured_lines(plan: Plan, *, is_on_this_machine: bool) -> Iterator[str]:
    """Yield what an operator should know: workloads whose bodies may not travel to where the ledger is."""
    if is_on_this_machine:
        return
    for workload in plan.workloads.values():
        if workload.capture is not None and workload.label != ANY:
            yield (
                f"workload {workload.name!r}: its bodies are not captured, since the ledger is on another machine and"
                f" the label {workload.label} does not let them travel there"
            )
