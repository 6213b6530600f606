"""An event loop whose clock goes on only while nothing is left to do, so that waits are exact and take no time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class VirtualTime(asyncio.SelectorEventLoop):
    """Jumps to its next timer as soon as it would have to wait for it; for code that waits for timers alone."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        select = self._selector.select

        def jump(timeout: float | None = None) -> Any:
            if timeout is None:
                return select(None)
            found = select(0)
            if not found:
                self._now_s += max(timeout, 0.0)
            return found

        self._selector.select = jump

    def time(self) -> float:
        return self._now_s


def run_in_virtual_time(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine function to its end."""
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        runner.run(main())
