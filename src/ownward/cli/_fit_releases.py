"""What `fit` tells of a release beside its speed: licence, published scores, merit, the cheapest API that hosts it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from ownward.core import OwnwardError

if TYPE_CHECKING:
    from ownward.anatomy import Anatomy
    from ownward.catalog import Model
    from ownward.planner import Merit
    from ownward.pricing import Price, PriceBook
    from ownward.reports import FitFacts

_MOST_SCORES = 4
_UNDATED_YEARS = 4.0
_HALVINGS_A_YEAR = 2.0


class Releases:
    """Facts of the catalogue and of the user's own files about models, as of a date."""

    def __init__(self, at: date) -> None:
        """Look nothing up yet."""
        self.at = at
        self._releases: dict[str, Model | None] = {}
        self._facts: dict[str, FitFacts] = {}
        self._book: PriceBook | None = None

    def release(self, model: str) -> Model | None:
        """Return the release that a name is exactly one of; None for none."""
        from ownward.cli._lookup import find_release

        if model not in self._releases:
            self._releases[model] = find_release(model)
        return self._releases[model]

    def facts(self, model: str) -> FitFacts:
        """Return licence, scores and the cheapest API of a model; empty for one that the catalogue does not have."""
        from ownward import catalog
        from ownward.cli._lookup import catalog_files
        from ownward.reports import FitFacts

        if model not in self._facts:
            release = self.release(model)
            found = FitFacts()
            if release is not None:
                found = FitFacts(
                    release=release,
                    licence=None if release.licence is None else release.licence.value,
                    scores=catalog.scores(release.id, catalog_files())[:_MOST_SCORES],
                    cheapest_api=self._cheapest_api(release),
                )
            self._facts[model] = found
        return self._facts[model]

    def merit(self, anatomy: Anatomy) -> float:
        """Return an estimate of a model's worth for where no common score exists, from its size and its age.

        The geometric mean of total and active parameters, halved for each half year between the release and `at`; a
        release without a date counts as four years old. A rule of thumb: newer models of a size have been better, by
        more than this. Source: Xiao et al. 2024, Densing Law of LLMs.
        """
        release = self.release(anatomy.name)
        stated = "" if release is None or release.released is None else str(release.released.value)
        year, _, rest = stated.partition("-")
        years = _UNDATED_YEARS
        if year.isdigit():
            month = rest[:2]
            years = self.at.year - int(year) + (self.at.month - (int(month) if month.isdigit() else 6)) / 12
        size = math.sqrt(anatomy.total_live_params * max(anatomy.active_params_per_token, 1))
        return size * math.exp2(-_HALVINGS_A_YEAR * max(years, 0.0))

    def merits(self, anatomies: Sequence[Anatomy]) -> dict[str, Merit]:
        """Return by name what models are worth: by published scores where the catalogue has any of them."""
        from ownward import catalog
        from ownward.cli._lookup import catalog_files
        from ownward.planner import compute_merits

        named = {release.id: found.name for found in anatomies if (release := self.release(found.name)) is not None}
        thumbs = {found.name: self.merit(found) for found in anatomies}
        return compute_merits(thumbs, catalog.scores(extra=catalog_files()), named=named)

    def _cheapest_api(self, release: Model) -> Price | None:
        """Return the cheapest hosted offer of the very same weights."""
        from ownward.cli._lookup import load_price_book

        if self._book is None:
            self._book = load_price_book()
        try:
            offers = self._book.hosts(release.id, at=self.at)
        except OwnwardError:
            return None
        return offers[0] if offers else None
