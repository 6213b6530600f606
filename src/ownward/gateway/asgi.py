"""The words of ASGI that this gateway speaks; see asgi.readthedocs.io, "HTTP Connection Scope"."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Headers = list[tuple[bytes, bytes]]
"""Names in lower case, with their values; several lines of one name stand one after another."""

Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

REMEMBERED: Final = "ownward.remembered"
"""In a scope: a dictionary that all requests share whose heads differ in nothing but the body's length."""


def address_of(stated: object) -> tuple[str, int] | None:
    """Return a socket's address as a scope has it: host and port; None of one that is no IP address."""
    return (str(stated[0]), int(stated[1])) if isinstance(stated, tuple) else None
