"""A request as it is written to an upstream: which of its headers travel on, and its bytes."""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter

from ownward.core import BadInput
from ownward.policy import Origin
from ownward.upstreams.transport import Headers

_OURS = frozenset(
    {
        b"accept-encoding",
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that speak of one connection, which the caller's connection is not: written here or left out."""

_name_of = itemgetter(0)

_REQUEST_LINE_SPACES = 2


def carried_headers(headers: Headers) -> Headers:
    """Return the headers that travel on, without those that speak of one connection."""
    if _all_travel_on(tuple(map(_name_of, headers))):
        return headers
    return [header for header in headers if header[0].lower() not in _OURS]


@lru_cache(maxsize=1024)  # names of headers alone: a gateway's requests have few sets of them
def _all_travel_on(names: tuple[bytes, ...]) -> bool:
    return _OURS.isdisjoint(map(bytes.lower, names))


def compose_request(origin: Origin, method: str, target: str, headers: Headers, body: bytes) -> bytes:
    """Return the request's bytes.

    `host`, `content-length` and `accept-encoding: identity` (usage is read from
    the body as it passes) are written here; connection headers are left out.

    Raises: BadInput, if method, target or a header could end its line early. Values are not shown.
    """
    lines = [_opening(method, target, origin.host_header), *map(b": ".join, carried_headers(headers))]
    if body or method not in {"GET", "HEAD"}:
        lines.append(b"content-length: %d" % len(body))
    lines.append(b"accept-encoding: identity\r\n\r\n")
    head = b"\r\n".join(lines)
    breaks = len(lines) + 2
    # `find`, as `in` raises and catches an exception first
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or head.find(b"\0") >= 0:
        raise _misleading()
    return head + body


@lru_cache(maxsize=1024)  # of a plan's upstreams, which are few
def _opening(method: str, target: str, host: str) -> bytes:
    """Return the first two lines."""
    line = f"{method} {target} HTTP/1.1".encode()
    if line.count(b" ") != _REQUEST_LINE_SPACES:
        raise _misleading()
    return b"%b\r\nhost: %b" % (line, host.encode())


def _misleading() -> BadInput:
    return BadInput(
        "a request's method, target or header holds a line break, a zero byte or a stray space",
        allowed="Header values without control characters; percent-encoded targets",
    )
