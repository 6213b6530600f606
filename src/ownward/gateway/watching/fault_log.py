"""What the log says of faults of our own, such as a ledger that cannot be written: once, and how often since.

Each request that such a fault refuses has its line from `request_log`; what is wrong is the same for all of them, and
is said with the first, then with no more than one a minute, which tells how many had none.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ownward.core import Clock, OwnwardError

LOGGER = logging.getLogger("ownward.gateway")
_EVERY_S: Final = 60.0


class FaultLog:
    """One gateway's; times are of its monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        """Know of no fault."""
        self._clock = clock
        self._said: dict[tuple[str, str], tuple[float, int]] = {}  # when it was last said, and how often not since

    def say(self, what: str, request_id: str, error: OwnwardError) -> None:
        """Say `what`, in which `%s` stands for the request, and why; or count it, where that was said just now."""
        now_s = self._clock.monotonic_s()
        key = what, error.kind
        said_s, unsaid = self._said.get(key, (None, 0))
        if said_s is not None and now_s - said_s < _EVERY_S:
            self._said[key] = said_s, unsaid + 1
            return
        self._said[key] = now_s, 0
        more = f" (and {unsaid:,} more since this was last said)" if unsaid else ""
        LOGGER.error("%s: %s%s", what % request_id, error, more)
