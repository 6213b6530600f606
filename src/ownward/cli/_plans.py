"""Reading a plan file, with limits, into a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ownward.core import BadInput

if TYPE_CHECKING:
    from ownward.plan import Plan

_LARGEST_PLAN_BYTES = 1 << 20


def read_plan(path: Path) -> Plan:
    """Return the plan in a file.

    Raises: ConfigError, with every fault and its line; BadInput, if it cannot be read.
    """
    from ownward import plan

    return plan.loads(read_text(path), file=str(path))


def read_text(path: Path) -> str:
    """Return the text of a small file.

    Raises: BadInput.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(_LARGEST_PLAN_BYTES + 1)
    except OSError as error:
        raise BadInput(
            f"cannot read {str(path)!r}: {error.strerror}", next_step="Write one with: ownward plan --out plan.toml"
        ) from error
    if len(raw) > _LARGEST_PLAN_BYTES:
        raise BadInput(f"{str(path)!r} is larger than 1 MiB", allowed="A plan is a small text file")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{str(path)!r} is not UTF-8 text: byte {error.start}") from error
