"""What the log says of upstreams: why calls to one fail, that it is left alone, that it answers again, what it is.

A request that another upstream served in the end is no failure and has no line at the usual level; without these lines
a dead upstream would be seen in the metrics alone. They say what happened in our words, never in the upstream's, and no
more than one a minute for each upstream, but for the first time that it is left alone and for its return.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ownward.core import format_duration
from ownward.gateway.placing.engine_quirks import is_llama_cpp

if TYPE_CHECKING:
    from ownward.core import OwnwardError
    from ownward.gateway.placing.breaker import Breaker
    from ownward.upstreams import Response

LOGGER = logging.getLogger("ownward.upstreams")
_EVERY_S: Final = 60.0
_MOST_KNOWN: Final = 1024


class UpstreamLog:
    """One gateway's; upstreams are named `tier/upstream`, and times are of its monotonic clock."""

    def __init__(self) -> None:
        """Know of no trouble."""
        self._said_s: dict[str, float] = {}
        self._failing_since_s: dict[str, float] = {}
        self._looked_at: set[str] = set()

    def failed(self, key: str, error: OwnwardError, *, before: Breaker, after: Breaker, now_s: float) -> None:
        """Note a failed call, and whether its upstream is left alone from now on."""
        since_s = self._failing_since_s.setdefault(key, now_s)
        wait_s = after.open_until_s - now_s
        if after.is_unpaid and not before.is_unpaid:
            self._say(key, now_s, f"is left alone for {_for(wait_s)}: {_why(error)}")
        elif after.opened > before.opened:
            is_first = not before.opened
            if is_first or self._may_say(key, now_s):
                said = (
                    f"after {after.failures} failures in a row" if is_first else f"failing for {_for(now_s - since_s)}"
                )
                self._say(key, now_s, f"is left alone for {_for(wait_s)}, {said}; the last: {_why(error)}")
        elif self._may_say(key, now_s):
            self._say(key, now_s, f"failed: {_why(error)}")

    def asked_to_wait(self, key: str, wait_s: float, *, now_s: float) -> None:
        """Note that an upstream asks to be left alone."""
        if self._may_say(key, now_s):
            self._say(key, now_s, f"answered 429 and asks to wait {_for(wait_s)}")

    def answered(self, key: str, *, before: Breaker, now_s: float) -> None:
        """Note an answer of an upstream that had failed."""
        since_s = self._failing_since_s.pop(key, None)
        if before.opened and since_s is not None:
            self._said_s.pop(key, None)
            LOGGER.warning("upstream %s answers again, %s after its first failure", key, _for(now_s - since_s))

    def served_by(self, key: str, response: Response) -> None:
        """Say once where the first answer of a server of which nothing is stated tells what it is."""
        if key in self._looked_at or len(self._looked_at) >= _MOST_KNOWN:
            return
        self._looked_at.add(key)
        if is_llama_cpp(response):
            LOGGER.warning(
                'upstream %s is a llama.cpp: with engine = "llama-server" at its tier in the plan it is told requests'
                " as it reads them, see docs/reference/translation.md",
                key,
            )

    def _may_say(self, key: str, now_s: float) -> bool:
        said_s = self._said_s.get(key)
        return said_s is None or now_s - said_s >= _EVERY_S

    def _say(self, key: str, now_s: float, what: str) -> None:
        if len(self._said_s) >= _MOST_KNOWN:  # plans that are loaded for ever bring new names for ever
            self._said_s.clear()
            self._failing_since_s.clear()
        self._said_s[key] = now_s
        LOGGER.warning("upstream %s %s", key, what)


def _why(error: OwnwardError) -> str:
    """Return what failed and what to do; `allowed` is left out, where an upstream's own words may stand."""
    parts = [error.message if error.where is None else f"{error.where}: {error.message}", error.next_step]
    return ". ".join(part for part in parts if part)


def _for(seconds: float) -> str:
    return format_duration(max(round(seconds, 1), 0.0))
