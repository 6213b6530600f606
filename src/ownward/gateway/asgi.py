"""The words of ASGI that this gateway speaks; see asgi.readthedocs.io, "HTTP Connection Scope"."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

REMEMBERED: Final = "ownward.remembered"
"""In a scope: a dictionary that all requests share whose heads differ in nothing but the body's length."""
