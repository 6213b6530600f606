"""How JSON is read: an object at its top, what our decoder raises, and what it does not take that others write."""

from __future__ import annotations

import json
import re

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Bad JSON, text that is not UTF-8, and nesting without end."""

RawMembers = dict[str, msgspec.Raw]
"""One JSON object, each value as it was written."""

decode_members = msgspec.json.Decoder(RawMembers).decode
"""Of several equal names the last counts; raises what is `UNREADABLE`."""

_HALF_A_PAIR = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_NO_CHARACTER = rb"\ufffd"


def with_whole_characters(body: bytes) -> bytes:
    """Return JSON of the same length in which each half of a surrogate pair reads as U+FFFD.

    Half a pair is legal in JSON: who cuts a text between the halves of an emoji writes one. Our decoder refuses it.
    """
    return _HALF_A_PAIR.sub(lambda found: found[0] if found[1] is None else _NO_CHARACTER, body)


def read_leniently(data: bytes) -> object:
    """Return a JSON value as most clients would read it, with halves of surrogate pairs, `NaN` and `Infinity`.

    Raises: ValueError, RecursionError.
    """
    return json.loads(data)
