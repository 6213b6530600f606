"""A request that continues kept responses, as each upstream is asked: with everything that was said before it.

Upstreams keep nothing of it, so that any of them can go on where another began. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from ownward.gateway.endpoints import RESPONSES
from ownward.gateway.errors import MalformedRequest
from ownward.gateway.json_body import find_members, text_of, written
from ownward.ledger import KeptResponse
from ownward.upstreams import UNREADABLE, RawMembers, decode_members

if TYPE_CHECKING:
    from ownward.gateway.placing.routing import Target

_NOTHING: Final = frozenset({b"", b"null", b"[]", b'""'})
_NAMED_BY_THEIR_WRITER: Final = frozenset({"message", "function_call", "custom_tool_call"})
_TEXT: Final = b'"'
_LIST: Final = b"["

_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.encode


def read_keepable(body: bytes) -> RawMembers:
    """Return the members of a request that can be kept.

    Raises: MalformedRequest.
    """
    try:
        return decode_members(body)
    except UNREADABLE as error:
        raise MalformedRequest(
            f"the request body is not the JSON object it should be: {error}",
            allowed="Whole characters: half a surrogate pair (an emoji cut in two) cannot be kept",
        ) from None


def read_input(top: RawMembers) -> list[msgspec.Raw]:
    """Return the items that a request states as its input; text is one message of the user.

    Raises: MalformedRequest, if it is neither, or one of them is no object.
    """
    stated = written(top, "input")
    if stated in _NOTHING:
        return []
    if stated[:1] == _TEXT:
        return [msgspec.Raw(b'{"type":"message","role":"user","content":' + stated + b"}")]
    try:
        items = _decode_items(stated)
    except UNREADABLE:
        raise MalformedRequest("input is neither text nor a list of items", allowed="Text, or items") from None
    for index, item in enumerate(items):
        if find_members(item) is None:
            raise MalformedRequest(f"input[{index}] is not an item", allowed="An object with a type, or a role")
    return items


def home_of(target: Target) -> str:
    """Return who answers there, for what nobody else can read: an owned tier, or a provider's address."""
    return f"tier:{target.tier.name}" if target.tier.kind == "owned" else target.origin


class Conversation:
    """One request and the kept responses that it continues, the oldest first; none where it begins."""

    __slots__ = ("_bodies", "_most_bytes", "_own", "_said", "_top", "_turns", "is_shortened")

    def __init__(self, turns: Sequence[KeptResponse], top: RawMembers, own: Sequence[msgspec.Raw]) -> None:
        """Compose nothing yet; `own` are the items of `top`, the request as its client sent it."""
        self._turns = tuple(turns)
        self._top = top
        self._own = tuple(own)
        self._said = [_Said(turn) for turn in self._turns]
        self._bodies: dict[tuple[str, bool], bytes] = {}
        self._most_bytes: int | None = None  # of what was said before
        self.is_shortened = text_of(top, "truncation") == "auto"

    @property
    def whole(self) -> bytes:
        """The request with all that was said, whoever can read it: what is looked into, and chosen by."""
        return self._compose("", is_native=False)

    def body_for(self, target: Target, needs: frozenset[str]) -> bytes:
        """Return the request as an upstream is asked, before any translation.

        Reasoning goes back to who wrote it and to nobody else. An upstream that serves responses itself is given names
        of items that it gave, and of its reasoning what holds its words: the rest would name what is kept nowhere.
        """
        return self._compose(home_of(target), is_native=target.substitute(RESPONSES, needs) is None)

    def shorten(self, fraction: float) -> bool:
        """Leave the oldest turns out until about `fraction` of it is left; return whether there was one to leave out.

        What the request itself states stays, and what a call's result answers.
        """
        before = [item for said in self._said for item in said.to("", is_native=False)]
        own_bytes = sum(len(bytes(item)) for item in self._own)
        left = before if self._most_bytes is None else _newest(before, self._own, self._most_bytes)
        left_bytes = sum(len(bytes(item)) for item in left)
        self._most_bytes = max(0, int((left_bytes + own_bytes) * fraction) - own_bytes)
        self._bodies.clear()
        return len(_newest(before, self._own, self._most_bytes)) < len(left)

    def _compose(self, home: str, *, is_native: bool) -> bytes:
        if not (self.is_shortened or any(said.differs(home) for said in self._said)):
            home, is_native = "", False
        body = self._bodies.get((home, is_native))
        if body is None:
            items = [item for said in self._said for item in said.to(home, is_native=is_native)]
            if self._most_bytes is not None:
                items = _newest(items, self._own, self._most_bytes)
            members = {name: value for name, value in self._top.items() if name != "previous_response_id"}
            if self.is_shortened and home and not is_native:
                members.pop("truncation")  # their dialect has no word for it; it is done here
            if self._turns:
                members["input"] = msgspec.Raw(b"[%b]" % b",".join([bytes(item) for item in (*items, *self._own)]))
            members["store"] = msgspec.Raw(b"false")
            body = self._bodies[home, is_native] = _encode(members)
        return body


def list_items(turns: Sequence[KeptResponse]) -> list[bytes]:
    """Return what the last of `turns` was computed from: all that was said before it, and its own input, with ids."""
    listed: list[bytes] = []
    for number, turn in enumerate(turns):
        stem = turn.response_id.removeprefix("resp_")
        for index, item in enumerate(_decode_items(turn.items_json)):
            listed.append(_named(find_members(item) or {}, f"{stem}_{index}"))
        if number < len(turns) - 1:
            listed += [bytes(item) for item, _ in _items_of(turn)]
    return listed


def _named(item: RawMembers, stem: str) -> bytes:
    """Return an input item as it is listed: with an id of its own, and text as parts."""
    kind = text_of(item, "type") or "message"
    named: RawMembers = {}
    if kind == "message":
        role = text_of(item, "role") or "user"
        named |= {"id": msgspec.Raw(_encode(f"msg_{stem}")), "type": msgspec.Raw(b'"message"')}
        named |= {"status": msgspec.Raw(b'"completed"'), **item}
        content = written(item, "content")
        if content[:1] == _TEXT:
            part = b'"output_text","annotations":[]' if role == "assistant" else b'"input_text"'
            named["content"] = msgspec.Raw(b'[{"type":%b,"text":%b}]' % (part, content))
    else:
        named |= {"id": msgspec.Raw(_encode(f"{_PREFIXES.get(kind, 'item')}_{stem}")), **item}
        if kind in _WITH_STATUS:
            named.setdefault("status", msgspec.Raw(b'"completed"'))
    return _encode(named)


_PREFIXES: Final[Mapping[str, str]] = {
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
}
_RESULTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
_WITH_STATUS: Final = frozenset({"function_call", "function_call_output"})


def _newest(items: list[msgspec.Raw], own: Sequence[msgspec.Raw], most_bytes: int) -> list[msgspec.Raw]:
    """Return the newest turns of at most so many bytes together, each whole: it begins with a message of the user."""
    read = [find_members(item) or {} for item in items]
    starts = [index for index, members in enumerate(read) if text_of(members, "role") == "user"]
    if not any(text_of(find_members(item) or {}, "type") in _RESULTS for item in own):
        starts.append(len(items))
    sizes = [len(bytes(item)) for item in items]
    left_bytes, left_out = sum(sizes), 0
    for start in starts:
        left_bytes -= sum(sizes[left_out:start])
        left_out = start
        if left_bytes <= most_bytes:
            return items[start:]
    return items[starts[-1] :] if starts else items


class _Said:
    """What one turn adds to those after it: its input, then its answer, read once."""

    __slots__ = ("_answered", "_asked", "_has_reasoning", "_origin")

    def __init__(self, turn: KeptResponse) -> None:
        self._origin = turn.origin
        self._asked = _decode_items(turn.items_json)
        self._answered = [(raw, members, text_of(members, "type")) for raw, members in _items_of(turn)]
        self._has_reasoning = any(kind == "reasoning" for _, _, kind in self._answered)

    def differs(self, home: str) -> bool:
        """Return whether some upstream is told something else than another: reasoning, or somebody else's names."""
        return self._has_reasoning or self._origin != home

    def to(self, home: str, *, is_native: bool) -> list[msgspec.Raw]:
        """Return the items that an upstream is told; without a `home`, all as they are."""
        said = list(self._asked)
        is_home = self._origin == home or not home
        for raw, members, kind in self._answered:
            if kind == "reasoning" and (not is_home or (is_native and not _holds_words(members))):
                continue
            if kind in _NAMED_BY_THEIR_WRITER and not is_home:
                said.append(msgspec.Raw(_encode({name: value for name, value in members.items() if name != "id"})))
            else:
                said.append(raw)
        return said


def _items_of(turn: KeptResponse) -> list[tuple[msgspec.Raw, RawMembers]]:
    """Return what a turn was answered, item by item; what is none was nothing to go on with."""
    stated = written(find_members(turn.answer_json) or {}, "output")
    if stated[:1] != _LIST:
        return []
    try:
        read = [(raw, find_members(raw)) for raw in _decode_items(stated)]
    except UNREADABLE:
        return []
    return [(raw, members) for raw, members in read if members is not None]


def _holds_words(reasoning: RawMembers) -> bool:
    """Return whether reasoning can be read without what its writer would have kept."""
    return any(written(reasoning, name) not in _NOTHING for name in ("encrypted_content", "content"))
