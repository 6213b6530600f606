"""Schemas narrowed to what the other provider takes: an answer that follows the narrowed one follows the given one too.

A whole schema stays as it is where it says what an object is not (`not`, `if`), and where it is nested too deeply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_OPEN = frozenset({"additionalProperties", "patternProperties", "unevaluatedProperties"})
_MIXED = frozenset({"not", "if", "dependentSchemas", "contains"})
_NAMED = ("properties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")

_DEFAULT = re.compile(r"\{(?:[^{}]*, )?default: ")
"""How Anthropic's client tells a default, which its dialect's schemas do not hold: within the description."""

_Object = dict[str, Any]


def closed(schema: Mapping[str, Any]) -> _Object:
    """Return a schema whose objects hold what they list and nothing more, where it does not say otherwise.

    Anthropic wants that said of every object. One that lists nothing stays as it is, since only an empty one would be
    left of it; so does a schema with an `allOf` of several, whose parts would exclude each other.
    Source: Anthropic, "Structured outputs", read 2026-11-22.
    """
    return _narrowed(schema, _close)


def stated(schema: Mapping[str, Any]) -> _Object:
    """Return a schema whose objects state each member that says nothing as well as it does by missing.

    OpenAI's strict schemas know no member that may be missing. Null, an empty list and a default that the model is
    told of say nothing; where one member has none of them, its object stays as it is: a model that has to state it
    would make something up.
    Source: OpenAI, "Structured model outputs" (all fields must be required), read 2026-11-22.
    """
    return _narrowed(schema, _state)


class _IsMixed(Exception):
    """A schema says more of an object in another place, so that no object of it can be narrowed alone."""


def _narrowed(schema: Mapping[str, Any], narrow: Callable[[_Object], None]) -> _Object:
    try:
        return _walk(schema, narrow)
    except (_IsMixed, RecursionError):
        return dict(schema)


def _walk(schema: Mapping[str, Any], narrow: Callable[[_Object], None]) -> _Object:
    def within(inner: Any) -> Any:
        return _walk(inner, narrow) if isinstance(inner, dict) else inner

    found = dict(schema)
    if not _MIXED.isdisjoint(found):
        raise _IsMixed
    if isinstance(found.get("properties"), dict):
        narrow(found)
    for name in _NAMED:
        inner = found.get(name)
        if isinstance(inner, dict):
            found[name] = {key: within(value) for key, value in inner.items()}
    for name in _LISTED:
        inner = found.get(name)
        if isinstance(inner, list):
            if name == "allOf" and narrow is _close and (len(inner) > 1 or "properties" in found):
                raise _IsMixed
            found[name] = [within(value) for value in inner]
    if "items" in found:
        found["items"] = within(found["items"])
    return found


def _close(found: _Object) -> None:
    if found.get("type") == "object" and _OPEN.isdisjoint(found):
        found["additionalProperties"] = False


def _state(found: _Object) -> None:
    required = found.get("required", [])
    if not isinstance(required, list):
        return  # no schema at all, which the upstream tells better
    left = [value for name, value in found["properties"].items() if name not in required]
    if left and all(_may_say_nothing(value) for value in left):
        found["required"] = list(found["properties"])


def _may_say_nothing(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    kind, choices, words = schema.get("type"), schema.get("anyOf"), schema.get("description")
    if "default" in schema or (isinstance(words, str) and _DEFAULT.search(words)):
        return True
    if kind == "array":
        return not schema.get("minItems")
    if kind == "null" or (isinstance(kind, list) and "null" in kind):
        return True
    return isinstance(choices, list) and any(_may_say_nothing(choice) for choice in choices)
