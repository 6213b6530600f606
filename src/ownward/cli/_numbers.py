"""Numbers of the command line: `nan` and infinity are none of them."""

from __future__ import annotations

import math
from typing import Any

import click

MOST = 10**9
"""More than any watts, dollars, hours or rates that are meant, and little enough for exact costs."""


class Finite(click.FloatRange):
    """A finite number up to MOST within a range, which click's own lets `nan` into: that is not below anything."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail as usage does."""
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        if found > MOST:
            self.fail(f"{value} is more than {MOST:,}.", param, ctx)
        return found


ABOVE_ZERO = Finite(min=0, min_open=True)
"""More than 0."""
FROM_ZERO = Finite(min=0)
"""0 or more."""
SHARE = Finite(min=0, max=1, min_open=True, max_open=True)
"""A share between 0 and 1, both excluded."""
