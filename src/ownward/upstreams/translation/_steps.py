"""Work in steps, so that who has more to do can do it in between: a conversation may be thousands of messages long."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

_T = TypeVar("_T")
_Item = TypeVar("_Item")

Steps = Generator[None, None, _T]
"""What is done up to each pause; what is returned at the end is what it is for."""

STEP = 64
"""Messages, or parts of one, between two pauses: about a millisecond's work."""


def done(steps: Steps[_T]) -> _T:
    """Return what work in steps is for, done at once."""
    while True:
        try:
            next(steps)
        except StopIteration as over:
            found: _T = over.value
            return found


def each(make: Callable[[_Item], _T], items: Iterable[_Item]) -> Steps[list[_T]]:
    """Return what is made of each item; a single message may have thousands of parts as well."""
    made = []
    for number, item in enumerate(items, 1):
        if number % STEP == 0:
            yield
        made.append(make(item))
    return made
