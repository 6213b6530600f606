"""A request body read at its top level and sent on with at most two values replaced.

Every other value, known or not, stays the bytes it was: numbers keep their
digits, strings their escapes, members their order and white space.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from ownward.core import BadInput
from ownward.upstreams._json import UNREADABLE, RawMembers, decode_members, with_whole_characters

Endpoint = Literal["chat", "completions", "responses", "embeddings", "messages"]
"""Which kind of request: OpenAI chat completions, completions, responses, embeddings; Anthropic messages."""

_T = TypeVar("_T")

_MEMBER = re.compile(rb'[ \t\r\n]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_NEXT = re.compile(rb"[ \t\r\n]*([,}])[ \t\r\n]*")
_OPEN = re.compile(rb"[ \t\r\n]*\{")
_MAX_TOKENS = frozenset({"max_completion_tokens", "max_tokens", "max_output_tokens", "n_predict"})
_MANY = frozenset({"best_of", "n", "prompt"})
_WEIGHTY = _MAX_TOKENS | _MANY | {
    "audio", "chat_template", "container", "context_management", "conversation", "enable_search", "fallbacks",
    "functions", "inference_geo", "input", "instructions", "mcp_servers", "messages", "metadata", "modalities", "model",
    "models", "output_config", "output_format", "plugins", "prediction", "preset", "previous_response_id",
    "response_format", "search_parameters", "service_tier", "speed", "store", "stream", "stream_options", "system",
    "text", "tool_choice", "tools", "web_search_options",
}  # fmt: skip
"""What routing, policy and charging rest on. Servers in Go read members whatever their case, and take the last."""

_ASKS_FOR_USAGE: frozenset[Endpoint] = frozenset({"chat", "completions"})
_LONG_BYTES, _COMPARED_BYTES = 1 << 20, 1 << 16
_HIGHEST_COUNT = 10_000_000_000
_MOST_CHOICES = 100_000
_USUAL_KEYS = (
    "model",
    "messages",
    "stream",
    "stream_options",
    "temperature",
    "max_tokens",
    "tools",
    "input",
    "system",
)


class _Spelled(dict[str, bytes]):
    """What stands before the value of a member: of usual ones known, of any other made, since clients choose them."""

    def __init__(self, form: bytes) -> None:
        super().__init__((key, form % msgspec.json.encode(key)) for key in _USUAL_KEYS)
        self._form = form

    def __missing__(self, key: str) -> bytes:
        return self._form % msgspec.json.encode(key)


_COMPACT, _COMPACT_FIRST = _Spelled(b",%b:"), _Spelled(b"{%b:")
_SPACED, _SPACED_FIRST = _Spelled(b", %b: "), _Spelled(b"{%b: ")
_FIRST_KEY_BYTES = 40  # what it is as a rule shorter than

_decode_count = msgspec.json.Decoder(int | None).decode
_decode_member: Mapping[Any, Callable[[msgspec.Raw], Any]] = {
    bool: msgspec.json.Decoder(bool | None).decode,
    str: msgspec.json.Decoder(str | None).decode,
    RawMembers: msgspec.json.Decoder(RawMembers | None).decode,
}


class Spliced(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks for, and the body to send.

    `model` is what the client asked for; None where it named none. `asked_usage`:
    the client itself asked for usage in the stream. `adds_usage`: the body asks
    for it on our behalf, so that the usage event must be stripped from the answer.
    `max_output_tokens`: the largest of the limits it states, None without one or
    with one that is not above 0, for each of `choices` answers. `top` has its members.
    """

    body: bytes
    model: str | None
    is_stream: bool
    asked_usage: bool
    adds_usage: bool
    choices: int
    max_output_tokens: int | None
    top: Mapping[str, msgspec.Raw]


def splice(
    body: bytes, *, model: str | None = None, want_stream_usage: bool = False, endpoint: Endpoint = "chat"
) -> Spliced:
    """Return the request with `model` in place of its own and, if wanted, usage asked for in its stream.

    With `model` None or the same, and nothing to ask for, the body is the very
    object that came. Where a key stands twice, its last value counts (as in most
    parsers) and the body is joined anew without the first, so that the upstream
    cannot read the request otherwise than we did.

    Raises: BadInput, if the body is not a JSON object, or a value that routing or
    charging rests on has the wrong type. Values are not shown.
    """
    readable, top = _read_top(body)
    stream = _member(top, "stream", bool)
    asked_model = _member(top, "model", str)
    options = _member(top, "stream_options", RawMembers)
    asked_usage = options is not None and _member(options, "include_usage", bool) is True
    is_stream = stream is True
    adds_usage = want_stream_usage and is_stream and not asked_usage and endpoint in _ASKS_FOR_USAGE

    replaced: dict[str, bytes] = {}
    if model is not None and model != asked_model:
        replaced["model"] = msgspec.json.encode(model)
    if adds_usage:
        replaced["stream_options"] = _join({**(options or {}), "include_usage": msgspec.Raw(b"true")})

    limits = [limit for key in top if key in _MAX_TOKENS and (limit := _count(top, key, lowest=-2)) is not None]
    return Spliced(
        body=_rewrite(body, readable, top, replaced),
        model=asked_model,
        is_stream=is_stream,
        asked_usage=asked_usage,
        adds_usage=adds_usage,
        choices=_count_choices(top, endpoint),
        # 0 and below mean nothing, no end, or what the server is set to: a bound must not rest on which
        max_output_tokens=max(limits) if limits and min(limits) > 0 else None,
        top=top,
    )


_MOST_MEMBERS = 1000
"""Each is looked at; dialects have some sixty."""


def _read_top(body: bytes) -> tuple[bytes, RawMembers]:
    """Return the body that is read, of the same length where this one has halves of characters, and its members."""
    readable = body
    try:
        try:
            top = decode_members(body)
        except UNREADABLE:
            readable = with_whole_characters(body)
            top = decode_members(readable)
    except UNREADABLE as error:
        # Only positions and types are in these messages, never values.
        raise BadInput(
            f"the request's body is not a JSON object ({error})", next_step="Send one JSON object, UTF-8"
        ) from None
    if len(top) > _MOST_MEMBERS:
        raise BadInput(f"the request's body has {len(top)} members", allowed=f"At most {_MOST_MEMBERS}")
    names = "".join(top)
    if not (names.islower() and names.isascii()):
        _refuse_other_case(top)
    return readable, top


def _refuse_other_case(top: RawMembers) -> None:
    """Refuse a request of which an upstream that passes over case could make another one.

    Raises: BadInput.
    """
    for key in top:
        meant = key.casefold()
        if meant != key and meant in _WEIGHTY:
            raise BadInput(
                f"the request has a member {key!r}, which some servers read as {meant!r}",
                allowed=f"{meant!r}, as it is spelled",
                next_step="Rename it, or leave it out",
            )


def _member(top: Mapping[str, msgspec.Raw], key: str, kind: type[_T]) -> _T | None:
    raw = top.get(key)
    if raw is None:
        return None
    try:
        found: _T | None = _decode_member[kind](raw)
    except UNREADABLE:
        names = {bool: "true or false", str: "text"}
        raise BadInput(f'"{key}" has the wrong type', allowed=f"It is {names.get(kind, 'an object')}") from None
    return found


def _count(top: Mapping[str, msgspec.Raw], key: str, *, lowest: int) -> int | None:
    raw = top.get(key)
    if raw is None:
        return None
    try:
        value: int | None = _decode_count(raw)
    except UNREADABLE:
        value = _whole_number(raw)
    if value is not None and not lowest <= value <= _HIGHEST_COUNT:
        raise BadInput(f'"{key}" is not a count', allowed=f"A whole number from {max(lowest, 0)} to {_HIGHEST_COUNT}")
    return value


def _whole_number(raw: msgspec.Raw) -> int:
    """Return a whole number that is spelled as another, such as 5.0; what is none is above every count."""
    try:
        value = msgspec.json.decode(raw, type=float)
    except UNREADABLE:
        return _HIGHEST_COUNT + 1
    return int(value) if value.is_integer() else _HIGHEST_COUNT + 1


def _count_choices(top: Mapping[str, msgspec.Raw], endpoint: Endpoint) -> int:
    """Return how many answers are generated in all."""
    if _MANY.isdisjoint(top):
        return 1
    of_each = max(_count(top, "n", lowest=1) or 1, _count(top, "best_of", lowest=1) or 1)
    choices = of_each * _count_prompts(top, endpoint)
    if choices > _MOST_CHOICES:
        raise BadInput(
            f"the request asks for {choices} answers", allowed=f'At most {_MOST_CHOICES}, by "n", "best_of" and prompts'
        )
    return choices


def _count_prompts(top: Mapping[str, msgspec.Raw], endpoint: Endpoint) -> int:
    """Return how many prompts a completions request carries: each is answered."""
    raw = top.get("prompt") if endpoint == "completions" else None
    if raw is None or not bytes(raw).startswith(b"["):
        return 1
    try:
        prompts = msgspec.json.decode(raw, type=list[msgspec.Raw])
    except UNREADABLE:
        raise BadInput('"prompt" is not readable JSON', next_step="Send UTF-8 without endless nesting") from None
    is_one_of_tokens = all(bytes(prompt)[:1].isdigit() for prompt in prompts)
    return 1 if is_one_of_tokens else len(prompts)


def _rewrite(body: bytes, readable: bytes, top: RawMembers, replaced: Mapping[str, bytes]) -> bytes:
    pieces = _find_pieces(body, top) if readable is body else None
    if pieces is None:
        return _rewrite_unusual(body, readable, top, replaced)
    if not replaced:
        return body
    keys = list(top)
    for key, value in replaced.items():
        if key in top:
            pieces[2 * keys.index(key) + 1] = value
    added = _spell_added(top, replaced)
    if added:
        pieces[0] = b"{%b,%b" % (added, bytes(pieces[0])[1:])
    return b"".join(pieces)


def _find_pieces(body: bytes, top: RawMembers) -> list[bytes | msgspec.Raw] | None:
    """Return what a body is made of, the value of each member by itself behind what stands before it.

    None where it is not written as clients do, without white space or with a space after each `:` and `,`; where a
    member stands twice; and where there is none.
    """
    if not top:
        return None
    is_spaced = body.find(b'": ', 0, _FIRST_KEY_BYTES) > 0  # if misjudged, the pieces are not the body
    spelled, following = (_SPACED_FIRST, _SPACED) if is_spaced else (_COMPACT_FIRST, _COMPACT)
    pieces: list[bytes | msgspec.Raw] = []
    for key, raw in top.items():
        pieces.append(spelled[key])
        pieces.append(raw)
        spelled = following
    pieces.append(b"}")
    return pieces if _are_all(pieces, body) else None


def _are_all(pieces: Sequence[bytes | msgspec.Raw], body: bytes) -> bool:
    """Tell whether a body is these pieces, one behind the other; copying a long one costs more than reading it."""
    if len(body) < _LONG_BYTES:
        return b"".join(pieces) == body
    at = 0
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), _COMPARED_BYTES):
            part = bytes(view[start : start + _COMPARED_BYTES])
            if not body.startswith(part, at):
                return False
            at += len(part)
    return at == len(body)


def _spell_added(top: RawMembers, replaced: Mapping[str, bytes]) -> bytes:
    """Return the members that were not there: they go first, behind the brace, and nothing else moves."""
    added = [(key, value) for key, value in replaced.items() if key not in top]
    return b",".join([b"%b:%b" % (msgspec.json.encode(key), value) for key, value in added]) if added else b""


def _rewrite_unusual(body: bytes, readable: bytes, top: RawMembers, replaced: Mapping[str, bytes]) -> bytes:
    places = _locate(readable, top)
    if places is None:
        if readable != body:
            raise BadInput(
                "the request's body has a member twice, and half a surrogate pair",
                next_step="Send each member once, and whole characters",
            )
        return _join({**top, **{key: msgspec.Raw(value) for key, value in replaced.items()}})
    if not replaced:
        return body
    parts: list[bytes] = []
    done = 0
    for key in top:
        if key in replaced and key in places:
            start, end = places[key]
            parts += (body[done:start], replaced[key])
            done = end
    added = _spell_added(top, replaced)
    if added:
        brace = body.index(b"{") + 1
        first = added + (b"," if top else b"")
        parts = [body[:brace], first, (parts[0] if parts else body[done:])[brace:], *parts[1:]]
        if not done:
            return b"".join(parts)
    parts.append(body[done:])
    return b"".join(parts)


def _locate(body: bytes, top: RawMembers) -> dict[str, tuple[int, int]] | None:
    """Return where each value stands, or None where the members are not those of `top`, once each.

    The walk passes as many members as `top` has and must end with the body.
    Each value must be the decoded one, byte for byte: so the walk never leaves
    the members' true places, and with a repeated key it ends too early.
    """
    opening = _OPEN.match(body)
    if opening is None or not top:
        return {} if opening is not None else None
    at = opening.end()
    places = {}
    for key, raw in top.items():
        member = _MEMBER.match(body, at)
        if member is None:
            return None
        value = bytes(raw)  # compared at once, where views compare byte by byte
        start, end = member.end(), member.end() + len(value)
        following = _NEXT.match(body, end)
        if following is None or not body.startswith(value, start):
            return None
        places[key] = (start, end)
        at = following.end()
    return places if at == len(body) else None


def _join(members: Mapping[str, msgspec.Raw]) -> bytes:
    inner = (b"%b:%b" % (msgspec.json.encode(key), bytes(raw)) for key, raw in members.items())
    return b"{%b}" % b",".join(inner)
