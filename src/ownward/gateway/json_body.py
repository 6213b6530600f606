"""A body of JSON, whoever wrote it: its members as they were written, one of them left out or put in, or all anew."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec

from ownward.gateway.errors import MalformedRequest
from ownward.upstreams import UNREADABLE, RawMembers, decode_members

LONG_BYTES = 1024 * 1024
"""Reading such a body through takes milliseconds: between two readings others come first."""

_EMPTY = b"{}"
_TEXT = b'"'


def read_members(body: bytes) -> RawMembers:
    """Return the members of a body that `peek` has read; of several equal ones the last counts.

    Raises: MalformedRequest, if a member's name is no text in UTF-8: `peek` passes over members that it does not know.
    """
    try:
        return decode_members(body)
    except UNREADABLE:  # it holds half a surrogate pair, and is spelled anew
        pass
    try:
        members = json.loads(body)
        "".join(members).encode()
    except (ValueError, RecursionError):
        raise MalformedRequest(
            "the request body has a member whose name cannot be read", allowed="Text in UTF-8, of whole characters"
        ) from None
    return {name: msgspec.Raw(write(value)) for name, value in members.items()}


def find_members(raw: bytes | msgspec.Raw) -> RawMembers | None:
    """Return the members of an object; None where it is none that can be read."""
    try:
        return decode_members(raw)
    except UNREADABLE:
        return None


def written(members: Mapping[str, msgspec.Raw], name: str) -> bytes:
    """Return a member as it was written; nothing where it is absent."""
    return bytes(members.get(name, b""))


def text_of(members: Mapping[str, msgspec.Raw], name: str) -> str | None:
    """Return a member that is text; None where it is absent, or anything else."""
    stated = written(members, name)
    if stated[:1] != _TEXT:
        return None
    try:
        return msgspec.json.decode(stated, type=str)
    except UNREADABLE:
        return None


def without_member(body: bytes, name: str) -> bytes:
    """Return a body, of members that each stand once, without one of them, or of `a.b` without `b` of its `a`.

    What is empty without it is left out as a whole.
    """
    members = read_members(body)
    name, _, inner = name.partition(".")
    found = members.pop(name, None)
    if found is None:
        return body
    if inner:
        rest = without_member(bytes(found), inner)
        if rest != _EMPTY:
            members[name] = msgspec.Raw(rest)
    return msgspec.json.encode(members)


def with_member(body: bytes, name: str, value: bytes) -> bytes:
    """Return a body, of members that each stand once, in which one has this value."""
    return msgspec.json.encode({**read_members(body), name: msgspec.Raw(value)})


def write(value: object) -> bytes:
    """Return the JSON of a value; halves of surrogate pairs, which UTF-8 cannot spell, are escaped as they came."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()
