"""What is read from a client's headers and body, and which headers travel on in either direction."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache, reduce
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ownward.core import EngineError, LedgerError, OwnwardError, UpstreamError
from ownward.gateway.errors import MalformedRequest, Rejected
from ownward.ledger import TaskBasis
from ownward.policy import Label, is_loopback_address
from ownward.upstreams import with_whole_characters

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LONGEST_NAME = 64
"""Of a header, as it is quoted."""
_LONGEST_MODEL = 256
"""It is looked for, quoted and written down; names of the plan have 128 characters at most."""

_STATED_ONCE = frozenset(
    {b"x-ownward-task", b"x-ownward-task-budget", b"x-ownward-tier", b"x-ownward-workload", b"x-task-id"}
)
_OURS = (b"x-ownward", b"x_ownward")
_READ_HERE = (*sorted(_STATED_ONCE - {b"x-task-id"}), b"x-ownward-label")
_SAID_BY_US = (b"request-id", b"attempt", b"attempts", b"upstream", b"hedge", b"reason", b"translated", b"assumed",
               b"left-out", b"total-input-tokens", b"total-output-tokens")  # fmt: skip
_KNOWN = frozenset(_READ_HERE).union([b"x-ownward-" + name for name in _SAID_BY_US])
"""What a gateway of ours sends on or answers changes nothing where it comes in."""

Headers = Iterable[tuple[bytes, bytes]]

# A client's credentials, cookies and addresses stay here: what travels on is listed, the rest does not.
_TO_UPSTREAM = (b"accept", b"anthropic-beta", b"anthropic-user-profile-id", b"anthropic-version", b"openai-beta")
_LISTS = frozenset({b"accept", b"anthropic-beta", b"openai-beta"})
_FORWARDED = frozenset(
    {b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"cf-connecting-ip"}
)
_TO_CLIENT = frozenset({b"retry-after", b"retry-after-ms", b"request-id", b"x-request-id", b"x-should-retry"})
_REQUEST_IDS = frozenset({b"request-id", b"x-request-id"})
_TO_CLIENT_PREFIXES = (b"anthropic-", b"openai-", b"x-ratelimit-")

_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_USD = re.compile(rb"[0-9]{1,9}(?:\.[0-9]{1,12})?")
_NO_TRACE = b"0" * 32


class Peeked(msgspec.Struct, gc=False):
    """What choosing reads of a body; everything else in it is passed over unread.

    As in most parsers the last of several equal members counts.
    """

    model: str | None = None
    stream: bool | None = None
    tools: msgspec.Raw = msgspec.Raw(b"")
    response_format: msgspec.Raw = msgspec.Raw(b"")
    text: msgspec.Raw = msgspec.Raw(b"")
    output_config: msgspec.Raw = msgspec.Raw(b"")
    output_format: msgspec.Raw = msgspec.Raw(b"")
    functions: msgspec.Raw = msgspec.Raw(b"")
    logprobs: msgspec.Raw = msgspec.Raw(b"")
    top_logprobs: msgspec.Raw = msgspec.Raw(b"")
    include: msgspec.Raw = msgspec.Raw(b"")
    modalities: msgspec.Raw = msgspec.Raw(b"")
    n: msgspec.Raw = msgspec.Raw(b"")
    best_of: msgspec.Raw = msgspec.Raw(b"")
    metadata: msgspec.Raw = msgspec.Raw(b"")
    system: msgspec.Raw = msgspec.Raw(b"")
    instructions: msgspec.Raw = msgspec.Raw(b"")
    messages: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    input: msgspec.Raw = msgspec.Raw(b"")
    store: msgspec.Raw = msgspec.Raw(b"")
    thread: msgspec.Raw = msgspec.Raw(b"")

    def needs(self, body: bytes) -> frozenset[str]:
        """Return the capabilities, in the plan's words, that a tier must have for this request."""
        found = _media_needs(body)
        if (self.tools and _is_said(self.tools)) or (self.functions and _is_said(self.functions)):
            found |= {"tools"}
        for form in (self.response_format, self.text, self.output_config, self.output_format):
            if not form:
                continue
            stated = bytes(form)
            if b"json_schema" in stated:
                found |= JSON_SCHEMA
            elif b"json_object" in stated:
                found |= {"json_mode"}
        if self.logprobs and bytes(self.logprobs) not in _NO_LOGPROBS:  # 0 is one logprob a token, of completions
            found |= _LOGPROBS
        if (self.top_logprobs and _is_said(self.top_logprobs)) or (
            self.include and b"output_text.logprobs" in bytes(self.include)
        ):
            found |= _LOGPROBS
        if self.modalities and b'"audio"' in bytes(self.modalities):
            found |= _AUDIO
        if (self.n and bytes(self.n) not in _ONE) or (self.best_of and bytes(self.best_of) not in _ONE):
            found |= {"multiple_choices"}
        if self.thread and _is_said(self.thread):
            found |= {"threads"}
        return found

    def parts_of_prompt(self) -> tuple[bytes, ...]:
        """Return what the answer is computed from, about in the order in which engines read it."""
        parts = (self.tools, self.system, self.instructions, self.messages, self.prompt, self.input)
        return tuple(bytes(part) for part in parts if part)

    def texts_of_metadata(self) -> dict[str, str]:
        """Return the members of `metadata` that are text."""
        try:
            stated = msgspec.json.decode(self.metadata, type=dict[str, Any]) if self.metadata else {}
        except UNREADABLE:
            return {}
        return {name: value for name, value in stated.items() if isinstance(value, str)}


JSON_SCHEMA = frozenset({"json_schema"})
_NOTHING = frozenset({b"null", b"[]", b"false", b"0"})
_NO_LOGPROBS = frozenset({b"null", b"false"})
_ONE = frozenset({b"null", b"1"})
_NO_NEEDS: frozenset[str] = frozenset()
_IMAGE_PART = re.compile(rb'(?<!\\)"type"\s*:\s*"(?:image|image_url|input_image)"')
_AUDIO_PART = re.compile(rb'(?<!\\)"type"\s*:\s*"input_audio"')
_VISION = frozenset({"vision"})
_AUDIO = frozenset({"audio"})
_LOGPROBS = frozenset({"logprobs"})

_decode_peeked = msgspec.json.Decoder(Peeked).decode
_decode_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def peek(body: bytes) -> Peeked:
    """Return what choosing needs of a body.

    Raises: MalformedRequest, if it is no JSON object or its model is no text. Values are not shown.
    """
    try:
        try:
            peeked = _decode_peeked(body)
        except UNREADABLE:
            peeked = _decode_peeked(with_whole_characters(body))
    except UNREADABLE as error:
        raise MalformedRequest(
            f"the request body is not the JSON object it should be: {_fault_in(body) or error}",
            allowed='One JSON object in UTF-8 with "model" as text and "stream" as true or false',
            next_step="See docs/reference/gateway.md",
        ) from None
    if peeked.model is not None and len(peeked.model) > _LONGEST_MODEL:
        raise MalformedRequest(
            f"the request's model is a text of {len(peeked.model)} characters", allowed=f"At most {_LONGEST_MODEL}"
        )
    return peeked


def write_json(value: object) -> bytes:
    """Return the JSON of a value; halves of surrogate pairs, which UTF-8 cannot spell, are escaped as they came."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def read_top(body: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of a body that `peek` has read; of several equal ones the last counts.

    Raises: MalformedRequest, if a member's name is no text in UTF-8: `peek` passes over members that it does not know.
    """
    try:
        return _decode_top(body)
    except UNREADABLE:  # it holds half a surrogate pair, and is spelled anew
        pass
    try:
        members = json.loads(body)
        "".join(members).encode()
    except (ValueError, RecursionError):
        raise MalformedRequest(
            "the request body has a member whose name cannot be read", allowed="Text in UTF-8, of whole characters"
        ) from None
    return {name: msgspec.Raw(write_json(value)) for name, value in members.items()}


def without_member(body: bytes, name: str) -> bytes:
    """Return a body, of members that each stand once, without one of them."""
    members = read_top(body)
    if members.pop(name, None) is None:
        return body
    return msgspec.json.encode(members)


def _fault_in(body: bytes) -> str | None:
    """Return what is the matter with a body that is no JSON, where its first bytes tell it better than a parser."""
    if not body.strip():
        return "it is empty"
    if body.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        return "it is compressed; send it as it is, without content-encoding"
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return "it begins with a byte order mark, or is not UTF-8"
    return None


def _is_said(raw: msgspec.Raw) -> bool:
    return bytes(raw) not in _NOTHING


def _media_needs(body: bytes) -> frozenset[str]:
    """Return whether a body carries images or sound as parts of its messages."""
    # `find`: for `in`, bytes try first whether what is looked for is a number, and raise and catch that it is none.
    found = _NO_NEEDS
    if body.find(b"image") >= 0 and _IMAGE_PART.search(body) is not None:
        found = _VISION
    if body.find(b"input_audio") >= 0 and _AUDIO_PART.search(body) is not None:
        found |= _AUDIO
    return found


def read_headers(listed: Sequence[tuple[bytes, bytes]]) -> Mapping[bytes, bytes]:
    """Return a client's headers by their names; of several lines of one the last, but lists as a whole.

    Source: RFC 9110, section 5.3.
    """
    headers = dict(listed)
    if len(headers) < len(listed):
        for name in _LISTS & headers.keys():
            headers[name] = b", ".join([value for other, value in listed if other == name])
    return headers


def texts_of(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return the headers as text, for match rules."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}


def name_in(headers: Mapping[bytes, bytes], header: bytes) -> str | None:
    """Return a name that a header states, or None.

    Raises: MalformedRequest, if it is no name.
    """
    value = headers.get(header)
    if value is None:
        return None
    if _NAME.fullmatch(value) is None:
        raise MalformedRequest(
            f"the header {header.decode()} is no name",
            allowed="1 to 128 letters, digits and . _ : / -, starting with a letter or digit",
        )
    return value.decode("ascii")


def check_known(headers: Iterable[bytes]) -> None:
    """Refuse a header that is spelt like ours and is none: what it was to shrink or to name would go anywhere.

    Raises: MalformedRequest.
    """
    for name in headers:
        if name.startswith(_OURS) and name not in _KNOWN:
            raise MalformedRequest(
                f"there is no header {name[:_LONGEST_NAME].decode('latin-1')}",
                allowed=", ".join(known.decode() for known in _READ_HERE),
            )


def check_stated_once(listed: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse headers of ours that stand twice and say different things: who stands before us may have added one.

    Of labels all hold, so that they may.
    Raises: MalformedRequest.
    """
    found: dict[bytes, bytes] = {}
    for name, value in listed:
        if name in _STATED_ONCE and found.setdefault(name, value) != value:
            raise MalformedRequest(f"the header {name.decode()} stands twice, with different values", allowed="One")


def label_in(headers: Mapping[bytes, bytes], listed: Sequence[tuple[bytes, bytes]]) -> Label | None:
    """Return the label that a request asks to be shrunk to, or None; of several, what all of them allow.

    Raises: MalformedRequest, if it is no label.
    """
    if b"x-ownward-label" not in headers:
        return None
    stated = [value.decode("latin-1") for name, value in listed if name == b"x-ownward-label"]
    try:
        return reduce(Label.meet, map(Label.parse, stated))
    except OwnwardError as error:
        raise MalformedRequest(
            "the header x-ownward-label is no label", allowed=error.allowed, next_step=error.next_step
        ) from None


def usd_in(headers: Mapping[bytes, bytes], header: bytes) -> Decimal | None:
    """Return the dollars that a header states, or None.

    Raises: MalformedRequest, if it is no amount above zero.
    """
    value = headers.get(header)
    if value is None:
        return None
    if _USD.fullmatch(value) is None or not Decimal(value.decode("ascii")):
        raise MalformedRequest(
            f"the header {header.decode()} is no amount", allowed="Dollars above 0 in digits, such as 0.50"
        )
    return Decimal(value.decode("ascii"))


def task_of(headers: Mapping[bytes, bytes], request_id: str) -> tuple[str, TaskBasis]:
    """Return the task a request belongs to: stated by a header, inferred from its trace, else itself."""
    stated = name_in(headers, b"x-ownward-task") or name_in(headers, b"x-task-id")
    if stated is not None:
        return stated, "explicit"
    traceparent = headers.get(b"traceparent")
    if traceparent is not None:
        found = _TRACEPARENT.fullmatch(traceparent)
        if found is not None and found[1] != _NO_TRACE:
            return "trace_" + found[1].decode("ascii"), "inferred"
    return request_id, "single"


def is_foreign(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a web page of another place sends the request: no page may use a gateway that asks for no key.

    A browser leaves `origin` out where it takes the gateway for the page's own server, which a name that was made to
    lead here brings about (DNS rebinding): then `host` has that name.
    """
    origin = headers.get(b"origin")
    if origin is not None:
        return not _is_here(origin)
    return headers.get(b"user-agent", b"").startswith(b"Mozilla/") and not _is_here(b"//" + headers.get(b"host", b""))


def is_forwarded(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a proxy passes the request on, and says so: then who asks may be anywhere."""
    return not _FORWARDED.isdisjoint(headers)


def _is_here(url: bytes) -> bool:
    try:
        host = urlsplit(url.decode("latin-1")).hostname or ""
    except ValueError:
        return False
    return host == "localhost" or host.endswith(".localhost") or is_loopback_address(host)


def for_upstream(
    headers: Mapping[bytes, bytes], *, dialect: str, is_translated: bool = False
) -> list[tuple[bytes, bytes]]:
    """Return the client's headers that an upstream may see; those of its dialect stay where that is another."""
    passed = [
        (name, headers[name]) for name in _TO_UPSTREAM if name in headers and not (is_translated and b"-" in name)
    ]
    if dialect == "anthropic" and (is_translated or b"anthropic-version" not in headers):
        passed.append((b"anthropic-version", b"2023-06-01"))
    return passed


def for_client(headers: Headers, *, translated_to: str | None = None) -> list[tuple[bytes, bytes]]:
    """Return an upstream's headers that a client may see, besides the content type.

    Clients find the upstream's id of a request under the name that their dialect has for it: `translated_to`.
    """
    passed = [(name, value) for name, value in headers if name in _TO_CLIENT or name.startswith(_TO_CLIENT_PREFIXES)]
    if translated_to is None:
        return passed
    id_header = b"request-id" if translated_to == "anthropic" else b"x-request-id"
    return [(id_header if name in _REQUEST_IDS else name, value) for name, value in passed]


@lru_cache(maxsize=1024)  # reasons and workloads, which are few
def ascii_of(text: str) -> bytes:
    """Return a text as a header can carry it."""
    return text.encode("ascii", "replace").translate(None, b"\r\n\0")


def check_outcome(score: float | None, human_minutes: float | None) -> None:
    """Refuse an outcome whose numbers cannot be.

    Raises: MalformedRequest.
    """
    if score is not None and not 0 <= score <= 1:
        raise MalformedRequest(f"score is {score}", allowed="0 to 1")
    if human_minutes is not None and not 0 <= human_minutes < float("inf"):
        raise MalformedRequest(f"human_minutes is {human_minutes}", allowed="0 or more")


def retry_after_s(error: OwnwardError) -> float | None:
    """Return how long the client should wait, where that is known."""
    match error:
        case Rejected() | UpstreamError():
            return error.retry_after_s
        case LedgerError() | EngineError():
            return 1.0
        case _:
            return None


def retry_after_value(wait_s: float) -> bytes:
    """Return a wait as `Retry-After` has it: whole seconds, never fewer than it takes.

    >>> retry_after_value(0.2), retry_after_value(59.4)
    (b'1', b'60')
    """
    return b"%d" % max(1, math.ceil(wait_s))
