"""ownward puts every AI request where it costs least to complete the task.

Rooms are loaded when they are first used: `import ownward` alone costs little.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__version__ = "0.1.0"

_ROOMS = frozenset(
    {
        "anatomy",
        "catalog",
        "economics",
        "engines",
        "ledger",
        "perf",
        "plan",
        "planner",
        "policy",
        "pricing",
        "probe",
        "quality",
        "reports",
        "simulation",
        "strategies",
        "traffic",
        "trials",
    }
)


def __getattr__(name: str) -> ModuleType:
    """Load a room on first use, so that `ownward.anatomy.read(path)` works after `import ownward`."""
    if name in _ROOMS:
        return importlib.import_module(f"ownward.{name}")
    raise AttributeError(f"module 'ownward' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
