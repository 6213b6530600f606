"""The schema of an answer as Anthropic takes it: of every object it wants said that nothing else may stand in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OPEN = frozenset({"additionalProperties", "patternProperties", "unevaluatedProperties"})
_MIXED = frozenset({"not", "if", "dependentSchemas", "contains"})
_NAMED = ("properties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema whose objects hold what they list and nothing more, where it does not say otherwise.

    An answer that follows it follows the given one too. So an object that lists nothing stays as it is (only an empty
    one would be left of it), and so does a whole schema in which objects are put together of several (`allOf`: each
    part would exclude the others) or excluded (`not`).
    Source: Anthropic, "Structured outputs", read 2026-11-22 (`additionalProperties` must be `false` for objects).
    """
    try:
        return _closed(schema)
    except (_IsMixed, RecursionError):
        return dict(schema)


class _IsMixed(Exception):
    """A schema says more of an object in another place."""


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(schema)
    whole = found.get("allOf")
    if not _MIXED.isdisjoint(found) or (isinstance(whole, list) and (len(whole) != 1 or "properties" in found)):
        raise _IsMixed
    if found.get("type") == "object" and "properties" in found and _OPEN.isdisjoint(found):
        found["additionalProperties"] = False
    for name in _NAMED:
        inner = found.get(name)
        if isinstance(inner, dict):
            found[name] = {key: _closed_within(value) for key, value in inner.items()}
    for name in _LISTED:
        inner = found.get(name)
        if isinstance(inner, list):
            found[name] = [_closed_within(value) for value in inner]
    if "items" in found:
        found["items"] = _closed_within(found["items"])
    return found


def _closed_within(schema: object) -> object:
    return _closed(schema) if isinstance(schema, dict) else schema
