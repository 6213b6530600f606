"""How JSON stands on the wire: bodies, and events of a stream."""

from __future__ import annotations

import json
from typing import Any


def dump(value: object) -> bytes:
    """Return a value as compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def data(value: object) -> bytes:
    """Return an event without a name."""
    return b"data: " + dump(value) + b"\n\n"


def event(name: str, value: dict[str, Any]) -> bytes:
    """Return an event that states its name twice, as both services do."""
    return b"event: " + name.encode() + b"\ndata: " + dump({"type": name, **value}) + b"\n\n"


def with_usage(body: dict[str, Any], usage: dict[str, Any] | None) -> dict[str, Any]:
    """Return a body with its usage, where any is told."""
    return body if usage is None else {**body, "usage": usage}
