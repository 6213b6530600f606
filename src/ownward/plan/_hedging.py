"""When a call that is late gets a second one at another upstream; the gateway carries it out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ownward.plan._problems import Problem, find_repeated, fraction_problems, positive_problems, refuse

LOWEST_PERCENTILE = 50.0
HIGHEST_PERCENTILE = 99.0
USUAL_OBSERVATIONS = 100
FEWEST_OBSERVATIONS = 20
MOST_OBSERVATIONS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedge:
    """After how long without a first byte a call of a tier gets a second one, and how often at most.

    The delay is `after_s`, or `after_percentile` of the tier's own recent times, once there are `min_observations`
    (100, unless stated); of both, the longer.
    `max_fraction` is the share of the tier's requests that may get a second call. It goes to another upstream of the
    tiers in `to`; where these are not stated, of this tier and of owned ones: a rented tier is asked a second time only
    where it states a hedge itself or is named.
    """

    after_s: float | None = None
    after_percentile: float | None = None
    min_observations: int | None = None
    max_fraction: float = 0.05
    to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would be no delay, or a second call for every request."""
        object.__setattr__(self, "to", tuple(self.to))
        refuse("hedge", _hedge_problems(self))
        if self.after_percentile is not None and self.min_observations is None:
            object.__setattr__(self, "min_observations", USUAL_OBSERVATIONS)


def _hedge_problems(hedge: Hedge) -> Iterable[Problem]:
    if hedge.after_s is None and hedge.after_percentile is None:
        allowed = 'Write after_s = "400ms", or after_percentile = 95 for what the tier itself takes'
        yield Problem("after_s", "is missing: nothing says when a call is late", allowed)
    yield from positive_problems("after_s", hedge.after_s)
    percentile = hedge.after_percentile
    if percentile is not None and not LOWEST_PERCENTILE <= percentile <= HIGHEST_PERCENTILE:
        allowed = f"{LOWEST_PERCENTILE:g} to {HIGHEST_PERCENTILE:g}, such as 95"
        yield Problem("after_percentile", f"is {percentile:g}", allowed)
    fewest = hedge.min_observations
    if fewest is not None and percentile is None:
        yield Problem("min_observations", "is stated without after_percentile, which alone observes", "Leave it out")
    elif fewest is not None and not FEWEST_OBSERVATIONS <= fewest <= MOST_OBSERVATIONS:
        allowed = f"{FEWEST_OBSERVATIONS} to {MOST_OBSERVATIONS}, which is how many are kept"
        yield Problem("min_observations", f"is {fewest}", allowed)
    yield from fraction_problems("max_fraction", hedge.max_fraction)
    for index, _ in find_repeated(hedge.to):
        yield Problem(f"to[{index}]", "is named twice", "Name each tier once")
