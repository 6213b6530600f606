"""What stands beside a fit: the licence, published scores, and the cheapest API that serves the same model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ownward.core import OwnwardError, to_jsonable

if TYPE_CHECKING:
    from ownward.anatomy import Anatomy
    from ownward.pricing import Price

_MOST_SCORES = 4
_UNDATED_YEARS = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Facts of the catalogue about a model, as of a date; nothing for a model that it does not have."""

    at: date

    def licence(self, model: str) -> str | None:
        """Return the licence's name."""
        release = _release(model)
        return None if release is None or release.licence is None else str(release.licence.value)

    def merit(self, anatomy: Anatomy) -> float:
        """Return what stands for a model's worth where no common score exists: its size, made dearer by its age.

        The geometric mean of total and active parameters, halved for each year between the release and `at`; a
        release without a date counts as four years old. A rule of thumb: newer models of a size have been better.
        """
        release = _release(anatomy.name)
        stated = "" if release is None or release.released is None else str(release.released.value)
        year, _, rest = stated.partition("-")
        years = _UNDATED_YEARS
        if year.isdigit():
            month = rest[:2]
            years = self.at.year - int(year) + (self.at.month - (int(month) if month.isdigit() else 6)) / 12
        size = math.sqrt(anatomy.total_live_params * max(anatomy.active_params_per_token, 1))
        return size * math.exp2(-max(years, 0.0))

    def scores(self, model: str) -> list[dict[str, Any]]:
        """Return a few published scores; those of different makers do not compare."""
        from ownward import catalog

        release = _release(model)
        if release is None:
            return []
        return [
            {"benchmark": item.benchmark, "score": to_jsonable(item.score.value), "source": item.score.source}
            for item in catalog.scores(release.id)[:_MOST_SCORES]
        ]

    def cheapest_api(self, model: str) -> Price | None:
        """Return the cheapest hosted offer of the very same weights."""
        release = _release(model)
        if release is None:
            return None
        try:
            offers = _book().hosts(release.id, at=self.at)
        except OwnwardError:
            return None
        return offers[0] if offers else None


@lru_cache(maxsize=256)
def _release(model: str) -> Any:
    from ownward import catalog

    try:
        return catalog.model(model)
    except OwnwardError:
        return None


@lru_cache(maxsize=1)
def _book() -> Any:
    from ownward.pricing import PriceBook

    return PriceBook.load()
