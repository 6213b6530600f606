"""What ended processes left in flight is settled in a thread: on a ledger of millions of calls nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ownward.core import OwnwardError
from ownward.ledger import Ledger

_LOG = logging.getLogger("ownward.gateway")
_WAITED_S = 0.1


async def begin_reconciling(
    ledger: Ledger, *, go_on: Callable[[], bool], is_thorough: bool = True
) -> asyncio.Future[int] | None:
    """Return once all is settled, or with what still runs after a moment.

    Raises: LedgerError, if that could not be committed.
    """
    running = asyncio.ensure_future(asyncio.to_thread(ledger.reconcile, go_on=go_on, is_thorough=is_thorough))
    done, _ = await asyncio.wait({running}, timeout=_WAITED_S)
    if not done:
        return running
    running.result()
    return None


async def end_reconciling(running: asyncio.Future[int]) -> None:
    """Wait for what still runs; that it failed is logged."""
    try:
        await running
    except OwnwardError as error:
        _LOG.error("what ended processes left in flight could not be settled: %s", error)
