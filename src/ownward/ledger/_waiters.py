"""Who waits for an entry, and how each is told: on its event loop, in its thread, or in the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from concurrent.futures import Future

from ownward.core import LedgerError
from ownward.ledger._entries import Entry

_log = logging.getLogger("ownward.ledger")


def tell(entries: Iterable[Entry], *, here: asyncio.AbstractEventLoop | None = None) -> LedgerError | None:
    """Tell who waits; who waits on the loop that this runs on (`here`) is told directly.

    Return the newest fault of an entry that nobody waits for: it is told in the log.
    """
    unheard: LedgerError | None = None
    by_loop: dict[asyncio.AbstractEventLoop, list[Entry]] = {}
    for entry in entries:
        waiter = entry.waiter
        if waiter is None:
            if entry.error is not None:
                _log.error("%s", entry.error)
                unheard = entry.error
        elif isinstance(waiter, Future):
            if entry.error is not None:
                waiter.set_exception(entry.error)
            else:
                waiter.set_result(entry.outcome)
        else:
            by_loop.setdefault(waiter.get_loop(), []).append(entry)
    for loop, waiting in by_loop.items():
        if loop is here:
            _resume(waiting)
            continue
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resume, waiting)
    return unheard


def _resume(waiting: list[Entry]) -> None:
    for entry in waiting:
        waiter = entry.waiter
        if waiter is None or waiter.done():
            continue
        if entry.error is not None:
            waiter.set_exception(entry.error)
        else:
            waiter.set_result(entry.outcome)
