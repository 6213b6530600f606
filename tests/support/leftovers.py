"""What the garbage collector alone would free: objects that outlive their use, since they hold each other.

It rests meanwhile, and knows nothing of objects from before: what earlier tests left neither counts nor makes looking
slow. Waits are counted in turns of the event loop, which come however slow the machine is.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_TURNS = 100


@contextmanager
def resting_collector() -> Iterator[None]:
    """Have the collector rest, and look at nothing that is there already when it is asked."""
    gc.collect()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()


def count_alive(*types: type) -> int:
    """Return how many objects of exactly these types were made since the collector rests, and live."""
    return sum(type(found) in types for found in gc.get_objects())


async def none_alive(*types: type, but: int = 0) -> None:
    """Return once no more than `but` of these are left; fails where that needs the collector."""
    for _ in range(_TURNS):
        if count_alive(*types) <= but:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{count_alive(*types)} of {', '.join(one.__name__ for one in types)} are left")
