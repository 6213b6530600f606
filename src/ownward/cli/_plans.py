"""Reading a plan file, with limits, into a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ownward.cli._output import read_small_text

if TYPE_CHECKING:
    from ownward.plan import Plan


def read_plan(path: Path) -> Plan:
    """Return the plan in a file.

    Raises: ConfigError, with every fault and its line; BadInput, if it cannot be read.
    """
    from ownward import plan

    text = read_small_text(path, what="A plan", next_step="Write one with: ownward plan --out plan.toml")
    return plan.loads(text, file=str(path))
