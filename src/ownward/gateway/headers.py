"""What is read from a client's headers, and which of them travel on in either direction."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache, reduce
from urllib.parse import urlsplit

from ownward.core import EngineError, LedgerError, OwnwardError, UpstreamError
from ownward.gateway.errors import MalformedRequest, Rejected
from ownward.ledger import TaskBasis
from ownward.policy import Label, is_loopback_address

_LONGEST_NAME = 64
"""Of a header, as it is quoted."""

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
    if b" ".join(headers).find(b"ownward") < 0:
        return
    for name in headers:
        if name.startswith(_OURS) and name not in _KNOWN:
            raise MalformedRequest(
                f"there is no header {name[:_LONGEST_NAME].decode('latin-1')}",
                allowed=f"One of {', '.join(known.decode() for known in _READ_HERE)}",
                next_step="Spell it so, or leave it out: what it was to say would hold for nothing",
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


def task_in(headers: Mapping[bytes, bytes]) -> tuple[str, TaskBasis] | None:
    """Return the task a request belongs to: stated by a header, or inferred from its trace; None where it is alone.

    Raises: MalformedRequest, if it is no name.
    """
    stated = name_in(headers, b"x-ownward-task") or name_in(headers, b"x-task-id")
    if stated is not None:
        return stated, "explicit"
    traceparent = headers.get(b"traceparent")
    if traceparent is not None:
        found = _TRACEPARENT.fullmatch(traceparent)
        if found is not None and found[1] != _NO_TRACE:
            return "trace_" + found[1].decode("ascii"), "inferred"
    return None


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


def headers_for_upstream(
    headers: Mapping[bytes, bytes], *, dialect: str, is_translated: bool = False
) -> list[tuple[bytes, bytes]]:
    """Return the client's headers that an upstream may see; those of its dialect stay where that is another."""
    passed = [
        (name, headers[name]) for name in _TO_UPSTREAM if name in headers and not (is_translated and b"-" in name)
    ]
    if dialect == "anthropic" and (is_translated or b"anthropic-version" not in headers):
        passed.append((b"anthropic-version", b"2023-06-01"))
    return passed


def headers_for_client(headers: Headers, *, translated_to: str | None = None) -> list[tuple[bytes, bytes]]:
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
