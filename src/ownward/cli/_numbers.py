"""Numbers of the command line: `nan` and infinity are none of them."""

from __future__ import annotations

import math
from typing import Any

import click


class Finite(click.FloatRange):
    """A finite number within a range, which click's own lets `nan` into: it is neither below nor above anything."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail as usage does."""
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return found


ABOVE_ZERO = Finite(min=0, min_open=True)
"""More than 0."""
FROM_ZERO = Finite(min=0)
"""0 or more."""
SHARE = Finite(min=0, max=1, min_open=True, max_open=True)
"""A share between 0 and 1, both excluded."""
