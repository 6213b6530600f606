"""How long a process that ends still waits for its database: whoever ends it kills it after a while."""

from __future__ import annotations

import math
import time
from typing import Final

_FOREVER: Final = math.inf


class Patience:
    """When whoever waits for a database, in any thread, waits no more; never, until that is said."""

    def __init__(self) -> None:
        """Have as much as anybody may want."""
        self._ends_at_s = _FOREVER

    def end_in(self, seconds: float) -> None:
        """Have it end then, unless it ends sooner."""
        self._ends_at_s = min(self._ends_at_s, time.monotonic() + seconds)

    @property
    def left_s(self) -> float:
        """How much there is; not below none."""
        return max(0.0, self._ends_at_s - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether there is none."""
        return self._ends_at_s != _FOREVER and time.monotonic() >= self._ends_at_s
