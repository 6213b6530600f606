"""Where the engine of an upstream is found that `ownward serve` started for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias


class EngineAddress(NamedTuple):
    """Where an engine listens, and which capabilities it said that it does not have; without `url` it is starting."""

    url: str | None
    lacks: frozenset[str] = frozenset()


Addresses: TypeAlias = Mapping[str, EngineAddress]
"""By `tier/upstream`, or by the upstream's name."""


def address_as_message(address: EngineAddress) -> dict[str, Any]:
    """Return an address as a worker is told it."""
    return {"url": address.url, "lacks": sorted(address.lacks)}


def address_of_message(message: Mapping[str, Any]) -> EngineAddress:
    """Return the address that a worker was told.

    >>> address_of_message(address_as_message(EngineAddress("http://127.0.0.1:1", frozenset({"tools"}))))
    EngineAddress(url='http://127.0.0.1:1', lacks=frozenset({'tools'}))
    """
    return EngineAddress(message["url"], frozenset(message["lacks"]))
