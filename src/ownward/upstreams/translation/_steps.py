"""Work in steps, so that who has more to do can do it in between: a conversation may be thousands of messages long."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

_T = TypeVar("_T")

Steps = Generator[None, None, _T]
"""What is done up to each pause; what is returned at the end is what it is for."""

STEP = 64
"""Parts of messages between two pauses: about a millisecond's work at most."""


def done(steps: Steps[_T]) -> _T:
    """Return what work in steps is for, done at once."""
    while True:
        try:
            next(steps)
        except StopIteration as over:
            found: _T = over.value
            return found
