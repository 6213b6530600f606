"""When a call is late, and where a second one may go: what tiers take until their first byte, and the plan's words.

How the two calls are run beside each other stands in `race`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from ownward.gateway.placing.breaker import CLOSED, Breaker
from ownward.gateway.placing.extra_calls import ExtraCalls
from ownward.plan import MOST_OBSERVATIONS, Hedge

if TYPE_CHECKING:
    from ownward.gateway.placing.routing import Target

_MOST_SAVED = 10
"""Second calls that a quiet time can save up."""


def may_take_second(first: Target, target: Target, hedge: Hedge) -> bool:
    """Return whether the plan lets a second call go from `first` to `target`."""
    if target.key == first.key:
        return False
    if hedge.to:
        return target.tier.name in hedge.to
    return target.tier.name == first.tier.name or target.tier.is_owned


def find_second(
    first: Target,
    left: Iterable[Target],
    hedge: Hedge,
    *,
    breakers: Mapping[str, Breaker],
    has_place: Callable[[Target], bool],
    now_s: float,
) -> Target | None:
    """Return the first of the request's other candidates that is healthy, has a place and may take a second call."""
    for target in left:
        is_healthy = breakers.get(target.key, CLOSED).state(now_s) == "closed"
        if is_healthy and may_take_second(first, target, hedge) and has_place(target):
            return target
    return None


class FirstByteTimes:
    """How long recent calls of one kind took until their first byte, and a percentile of that."""

    __slots__ = ("_kept", "_new", "_seen")

    def __init__(self) -> None:
        """Start without any."""
        self._seen: deque[float] = deque(maxlen=MOST_OBSERVATIONS)
        self._new = 0
        self._kept: tuple[float, float] | None = None

    def observe(self, seconds: float) -> None:
        """Count a call; of one that was cancelled, what it had taken by then."""
        self._seen.append(seconds)
        self._new += 1

    def percentile(self, percentile: float, *, fewest: int) -> float | None:
        """Return the percentile (nearest rank), None below `fewest` calls; it is worked out anew now and then."""
        count = len(self._seen)
        if count < fewest:
            return None
        if self._kept is None or self._kept[0] != percentile or self._new > count // 50:
            ordered = sorted(self._seen)
            self._kept = (percentile, ordered[min(int(count * percentile / 100), count - 1)])
            self._new = 0
        return self._kept[1]


class Pace:
    """Of one tier: what its calls take until their first byte, and the second calls that its requests have earned."""

    __slots__ = ("_times", "hedge", "second_calls")

    def __init__(self, hedge: Hedge) -> None:
        """Start with nothing observed."""
        self.hedge = hedge
        self._times: dict[tuple[str, bool], FirstByteTimes] = {}
        self.second_calls = _begin_earning(hedge)

    def follow(self, hedge: Hedge) -> None:
        """Go on by the words of a plan that was loaded anew."""
        if hedge != self.hedge:
            if hedge.max_fraction != self.hedge.max_fraction:
                self.second_calls = _begin_earning(hedge)
            self.hedge = hedge

    def observe(self, path: str, seconds: float, *, is_stream: bool) -> None:
        """Note what a call took: of a stream until its first event, else until the whole answer was there."""
        times = self._times.get((path, is_stream))
        if times is None:
            times = self._times[path, is_stream] = FirstByteTimes()
        times.observe(seconds)

    def delay_s(self, path: str, *, is_stream: bool) -> float | None:
        """Return after how long a call is late; None while too little is known to say."""
        hedge = self.hedge
        if hedge.after_percentile is None:
            return hedge.after_s
        times = self._times.get((path, is_stream))
        if times is None:
            return None
        usual_s = times.percentile(hedge.after_percentile, fewest=hedge.min_observations or 1)
        return None if usual_s is None else max(usual_s, hedge.after_s or 0.0)


def _begin_earning(hedge: Hedge) -> ExtraCalls:
    """Return a purse with nothing in it, so that the share is held from the first request on."""
    return ExtraCalls(fraction=hedge.max_fraction, burst=_MOST_SAVED, left=0.0)
