"""Waiting for what happens on the other side, however busy the machine is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], object], *, within_s: float = 20.0) -> None:
    """Return once it holds; fails where it does not in time."""
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - what happens elsewhere is polled
            await asyncio.sleep(0.005)
