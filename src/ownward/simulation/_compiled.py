"""The loop compiled by numba where that is installed; the same source otherwise."""

from __future__ import annotations

import functools
import importlib.util
import types
from collections.abc import Callable
from typing import Any

from ownward.simulation import _loop

# Each after those that it calls.
_FUNCTIONS = (
    "push",
    "sink",
    "pop",
    "discard",
    "unlink",
    "use_unit",
    "take_blocks",
    "release",
    "preempt",
    "count_steps_with_blocks",
    "run",
)


def is_available() -> bool:
    """Return whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


@functools.cache
def compiled_run() -> Callable[..., tuple[float, float]]:
    """Return `_loop.run` compiled; the first call with its types takes seconds."""
    import numba

    namespace: dict[str, Any] = dict(vars(_loop))
    for name in _FUNCTIONS:
        plain: types.FunctionType = namespace[name]
        namespace[name] = numba.njit(types.FunctionType(plain.__code__, namespace, name))
    found: Callable[..., tuple[float, float]] = namespace["run"]
    return found
