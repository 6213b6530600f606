"""A number from outside, with where it came from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Generic, Literal, TypeVar, get_args

T_co = TypeVar("T_co", covariant=True)

Basis = Literal["measured", "datasheet", "price page", "counted", "fitted", "assumed"]

# From the strongest to the weakest: what a result with several inputs is called by.
_STRENGTH: dict[str, int] = {
    "counted": 0,
    "measured": 1,
    "price page": 2,
    "datasheet": 3,
    "fitted": 4,
    "assumed": 5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sourced(Generic[T_co]):
    """A value with its basis, the document it was read from and the day it was checked."""

    value: T_co
    basis: Basis
    source: str
    checked_on: date
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse a basis outside the list and an empty source."""
        if self.basis not in get_args(Basis):
            message = f"basis {self.basis!r} is not one of {', '.join(get_args(Basis))}"
            raise ValueError(message)
        if not self.source.strip():
            message = f"value {self.value!r} has no source"
            raise ValueError(message)


def weakest_basis(bases: Iterable[Basis]) -> Basis | None:
    """Return the weakest of `bases`, which is what a result computed from all of them deserves.

    >>> weakest_basis(["measured", "assumed", "datasheet"])
    'assumed'
    """
    return max(bases, key=_STRENGTH.__getitem__, default=None)
